"""Documents that hold a positive which the corpus lacks: found as a slow comparison of all pairs finds them."""

from __future__ import annotations

import warnings

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import OutsideCorpusWarning
from hf_posmine.data import phrases
from hf_posmine.data.lookalikes import CONTAINER, VARIANT, Lookalikes
from hf_posmine.data.phrases import Phrases, blocks_of, words
from hf_posmine.data.qrels import Qrels

PIECES = [
    "a",
    "b",
    "the",
    "Elbe",
    "“Elbe”",
    "1969",
    "x-y",
    "東京",
    "へ",
    "\u200b",
    "\u00ad",
    "é",
    "E\u0301",
    "\n",
    ".",
    "क",
    "की",
]
texts_of_pieces = st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)
PASSAGES = [
    "Hamburg lies where the Alster meets the Elbe, and its harbour is the largest of Germany.",
    "The lighthouse on the red cliff was built in 1906 and guides ships into the strait.",
    "A ferry crosses the river every twenty minutes, also in winter when the ice is thin.",
    "Sandstone was cut in the quarries above Pirna and shipped down the river for centuries.",
    "The dykes were raised after the flood of 1962, which broke them in more than sixty places.",
    "Salmon came back to the river once the paper mills had to clean their water.",
]
TITLES = ["Hamburg", "Lighthouses", "Ferries of the Elbe", "Pirna", "The flood", "Salmon"]
QUESTIONS = [
    "Which city lies where the Alster meets the Elbe?",
    "When was the lighthouse on the red cliff built?",
    "How often does the ferry cross the river?",
    "Where was sandstone cut and shipped down the river?",
    "When were the dykes raised after the flood?",
    "Why did salmon come back to the river?",
]
ANSWERS = ["Hamburg", "1906", "every twenty minutes", "the quarries above Pirna", "1962", "the paper mills"]


def contains(document: str, text: str) -> bool:
    """Whether the words of a text are in a document one after the other."""
    wanted = words(text)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(words(document))} "


@settings(max_examples=150, deadline=None)
@given(st.lists(texts_of_pieces, max_size=8), st.lists(texts_of_pieces, min_size=1, max_size=8))
def test_containment_is_that_of_every_pair(texts, documents):
    found, inside = Phrases(texts).find(documents)
    expected = [(t, d) for t, text in enumerate(texts) for d, doc in enumerate(documents) if contains(doc, text)]
    assert list(zip(found.tolist(), inside.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("document", "text", "inside"),
    [
        ("It was built in 1906, by hand.", "1906", True),
        ("It was built in 19061.", "1906", False),
        ("The “paper mills” had to go.", "the paper mills", True),
        ("paper the mills", "the paper mills", False),
        ("京都から東京へ行く", "東京", True),
        ("ÉCOLE normale", "école", True),
        ("so\u00adft hy\u200bphens", "soft hyphens", True),
        ("की", "क", False),
        ("any", "!?", False),
    ],
)
def test_containment_by_words(document, text, inside):
    assert contains(document, text) is inside
    assert len(Phrases([text]).find([document])[0]) == inside


def test_long_texts_with_the_same_beginning_are_told_apart():
    start = "one two three four five six seven eight nine ten "
    texts = [f"{start}{number} and the rest" for number in range(50)]
    found, inside = Phrases(texts).find([f"before {texts[7]} after", f"{start} 11"])
    assert (found.tolist(), inside.tolist()) == ([7], [0])


def test_a_text_in_too_many_documents_says_nothing(monkeypatch):
    monkeypatch.setattr(phrases, "CROWDED", 3)
    many = Phrases(["two", "two of three"])
    for block in (["two", "two of three"], ["one two"], ["two"], ["two of three two"]):
        many.find(block)
    assert many.crowded.tolist() == [True, False]


def test_blocks_keep_all_texts_in_order(monkeypatch):
    monkeypatch.setattr(phrases, "BLOCK_LETTERS", 10)
    texts = ["abc", "d" * 25, "", "efgh", "ij"]
    assert [text for block in blocks_of(texts) for text in block] == texts
    assert len(list(blocks_of(texts))) > 1


def lookalikes(documents: Dataset, positives: list[str], **how) -> tuple[list[list[int]], list[list[int]]]:
    """The variants and the containers of each positive, as rows of the documents."""
    corpus = Corpus.from_dataset(documents, **how)
    known = Qrels.from_columns([f"q{i}" for i in range(len(positives))], positives, match=corpus.match)
    whole = corpus.union(known.documents, candidates=False)
    found = Lookalikes.find(whole, known, known.resolve(whole))
    at, rows, kinds = found.of(whole.rows_of_texts(positives))
    return tuple(
        [rows[(at == number) & (kinds == kind)].tolist() for number in range(len(positives))]
        for kind in (VARIANT, CONTAINER)
    )  # type: ignore[return-value]


TITLED = Dataset.from_dict({"docid": list("abcdef"), "title": TITLES, "body": PASSAGES})
BODIES = Dataset.from_dict({"docid": list("abcdef"), "body": PASSAGES})


def test_a_body_under_titles_is_a_variant_of_each():
    twice = Dataset.from_dict({"title": [*TITLES, "Another"], "text": [*PASSAGES, PASSAGES[2]]})
    assert lookalikes(twice, [PASSAGES[2], PASSAGES[0].upper()]) == ([[2, 6], [0]], [[], []])


def test_a_positive_with_a_title_is_a_variant_of_the_bare_document():
    positives = [f"{title}\n{body}" for title, body in zip(TITLES, PASSAGES, strict=True)]
    assert lookalikes(BODIES, positives)[0] == [[row] for row in range(6)]
    other = [f"A chapter of rivers: {body}" for body in PASSAGES]
    assert lookalikes(TITLED, other)[0] == [[row] for row in range(6)]


@pytest.mark.parametrize("mark", ["\u200b", "\u00ad", "\ufeff", "\u2060", "\ufe0f"])
def test_invisible_characters_make_a_variant_on_either_side(mark):
    marked = [text[:9] + mark + text[9:] for text in PASSAGES]
    assert lookalikes(BODIES, marked)[0] == [[row] for row in range(6)]
    assert lookalikes(Dataset.from_dict({"text": marked}), PASSAGES)[0] == [[row] for row in range(6)]


def test_loose_matching_needs_no_variants():
    marked = [text[:9] + "\u200b" + text[9:] for text in PASSAGES]
    corpus = Corpus.from_texts(PASSAGES, match="loose")
    assert corpus.rows_of_texts(marked).tolist() == list(range(6))
    assert Corpus.from_texts([*PASSAGES, *marked], match="loose").duplicates == 6
    assert Corpus.from_texts([*PASSAGES, *marked]).duplicates == 0


def test_documents_that_hold_themselves_are_no_lookalikes():
    assert lookalikes(BODIES, [PASSAGES[1]]) == ([[]], [[]])


@pytest.mark.parametrize(
    ("corpus", "positives"),
    [
        (TITLED, PASSAGES),
        (BODIES, [f"{title}: {body}" for title, body in zip(TITLES, PASSAGES, strict=True)]),
        (BODIES, ANSWERS),
        (TITLED, ANSWERS),
        (BODIES, [[answer, passage[:40]] for answer, passage in zip(ANSWERS, PASSAGES, strict=True)]),
    ],
    ids=["titles", "bodies alone", "short answers", "short answers under titles", "lists"],
)
@pytest.mark.parametrize("teacher", ["embedded", "bm25"])
def test_no_row_gets_its_own_passage(corpus, positives, teacher, fresh_home):
    rows = Dataset.from_dict({"question": QUESTIONS, "positive": positives, "gold": list("abcdef")})
    how = {"corpus": Corpus.from_dataset(corpus), "num_negatives": 5, "filters": (), "keep": ("ids", "stats")}
    miner = PositiveAwareMiner.from_dataset(rows, teacher, **how)
    with pytest.warns(OutsideCorpusWarning, match="6 of 6|12 of 12"):
        mined = mine(rows, miner)
    assert not any(gold in ids for gold, ids in zip(mined["gold"], mined["negatives_ids"], strict=True))
    stats = mined["negatives_stats"]
    held = ("excluded_variant", "excluded_container", "excluded_near_duplicate")
    assert all(sum(row[name] for name in held) >= 1 for row in stats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideCorpusWarning)
        back = mine(rows, PositiveAwareMiner.from_dataset(rows, teacher, exclude_lookalikes=False, **how))
    assert all(gold in ids for gold, ids in zip(back["gold"], back["negatives_ids"], strict=True))


def test_the_line_and_the_notice_count_what_is_there(fresh_home):
    rows = Dataset.from_dict({"question": QUESTIONS, "answer": [*PASSAGES[:3], "1906", "no such words", "1962"]})
    corpus = Corpus.from_dataset(TITLED)
    miner = PositiveAwareMiner.from_dataset(rows, "bm25", corpus=corpus.union(PASSAGES[:1]))
    assert str(miner.data) == (
        "query: question · positive: answer · corpus: 7 documents by docid (title + body) · positives in corpus: 1 of 6"
    )
    assert miner.data.notice.startswith(
        "5 of 6 known positives are not documents of the corpus: 4 are contained in a document, 2 of them differ only by a "
        "title or invisible characters, 1 are like none."
    )
    assert "positive_id_column=" in miner.data.notice


def test_by_ids_and_by_own_positives_there_is_nothing_to_say(fresh_home):
    ids = Dataset.from_dict({"question": QUESTIONS, "positive_id": list("abcdef")})
    miner = PositiveAwareMiner.from_dataset(ids, "bm25", corpus=Corpus.from_dataset(TITLED))
    assert miner.data.notice is None and str(miner.data).endswith("positives in corpus: 6 of 6")
    own = PositiveAwareMiner.from_dataset(Dataset.from_dict({"question": QUESTIONS, "answer": PASSAGES}), "bm25")
    assert own.data.notice is None and str(own.data) == "query: question · positive: answer · corpus: the 6 positives"


def test_near_duplicates_are_excluded_where_the_corpus_lacks_the_positive(fresh_home):
    documents = [text.replace(" and ", " & ").replace(" the ", " this ", 1) for text in PASSAGES]
    rows = Dataset.from_dict({"question": QUESTIONS, "positive": PASSAGES})
    corpus = Corpus.from_texts(documents)
    miner = PositiveAwareMiner.from_dataset(rows, "embedded", corpus=corpus, filters=(), keep=("stats",))
    one_by_one = rows.map(miner, batched=True, batch_size=2)
    at_once = mine(rows, miner)
    assert at_once["negatives"][:] == one_by_one["negatives"][:]
    near = [row["excluded_near_duplicate"] for row in at_once["negatives_stats"]]
    assert miner.data.near == sum(count > 0 for count in near) > 0
    assert all(
        not count or document not in found
        for count, document, found in zip(near, documents, at_once["negatives"], strict=True)
    )
