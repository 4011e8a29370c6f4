"""BM25: against the formula in float64, against bm25s's own search, languages, the stored index."""

from __future__ import annotations

import math
import pickle
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError, MissingExtraError, NoSharedWordWarning
from hf_posmine.hub.teacher_inputs import recorded_spec
from hf_posmine.mining.record import TeacherRecord
from hf_posmine.teachers import BM25Teacher
from hf_posmine.teachers.bm25 import word_pattern
from hf_posmine.teachers.factory import make_teacher, make_teachers, open_teacher
from hf_posmine.teachers.postings import Postings
from hf_posmine.teachers.spellings import BM25, TeacherContext, as_teacher_spec

TEXTS = [
    "the cat sat on the mat",
    "a dog and a cat and another dog",
    "dogs chase cats",
    "nothing of the kind here",
    "the the the",
    "cat cat cat cat dog",
]
QUERIES = ["cat dog", "the cat the", "unheard of", "mat"]


def formula(query: str, text: str, k1: float, b: float) -> float:
    """Lucene's BM25 by hand, words of two letters or more."""
    documents = [re.findall(r"\w\w+", t) for t in TEXTS]
    words, average = re.findall(r"\w\w+", text), sum(map(len, documents)) / len(documents)
    total = 0.0
    for word in re.findall(r"\w\w+", query):
        having = sum(word in d for d in documents)
        if having:
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            total += idf * words.count(word) / (words.count(word) + k1 * (1 - b + b * len(words) / average))
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 0.0), (1.2, 1.0)])
def test_scores_are_those_of_the_formula(k1, b, tmp_path):
    teacher = BM25Teacher(Corpus.from_texts(TEXTS), language=None, k1=k1, b=b, store=tmp_path)
    expected = [[formula(q, t, k1, b) for t in TEXTS] for q in QUERIES]
    np.testing.assert_allclose(teacher.all_scores(QUERIES), expected, rtol=1e-6)
    outside = "a mat for the dog, unlisted words included"
    assert teacher.score_texts([QUERIES[0]], [outside])[0] == pytest.approx(formula(QUERIES[0], outside, k1, b))


def test_the_ranking_is_that_of_bm25s(tmp_path, sample_corpus, sample_pairs):
    import bm25s
    import Stemmer

    texts, queries = sample_corpus.texts(np.arange(len(sample_corpus))).to_pylist(), sample_pairs["query"][:40]
    options = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "show_progress": False}
    options["token_pattern"] = word_pattern()
    theirs = bm25s.BM25(method="lucene")
    theirs.index(bm25s.tokenize(texts, **options), show_progress=False)
    asked = bm25s.tokenize(queries, **options)
    expected = theirs.retrieve(asked, k=5, show_progress=False).scores
    found = BM25Teacher(sample_corpus, store=tmp_path).search(queries, 5)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "मधुमक्खियाँ नाचकर फूलों का रास्ता",
        "தேனீக்கள் ஆடி பூக்களின்",
        "مَدْرَسَة النَّحل",
        "می\u200cخواهم برو",
        "ප්‍රශ්නය කුමක්ද",
        "cafe\u0301 bar",
        "מְלָכִים אֶל",
    ],
)
def test_words_of_any_script_with_spaces_are_whole(text):
    assert re.findall(word_pattern(), text) == text.split()


@given(st.text("ab1_ -.'é蜂"))
def test_words_without_marks_are_those_of_the_plain_pattern(text):
    assert re.findall(word_pattern(), text) == re.findall(r"\b\w\w+\b|\b\w(?=-\w)|(?<=\w-)\w\b", text)


def test_words_that_differ_in_their_vowels_differ(tmp_path):
    """Bat, hair, strength and ear: one consonant frame or two, told apart by signs that are marks."""
    texts = ["बल्ला", "बाल", "बल", "कान"]
    scores = BM25Teacher(Corpus.from_texts(texts), language=None, store=tmp_path).all_scores(texts)
    assert ((scores > 0) == np.eye(4, dtype=bool)).all()


def test_language_sets_stop_words_and_stemmer(tmp_path):
    corpus = Corpus.from_texts(["die Häuser der Stadt", "ein Haus", "die die die", "Städte"])
    german = BM25Teacher(corpus, language="german", store=tmp_path)
    assert (german.all_scores(["die Stadt"])[0] > 0).tolist() == [True, False, False, True]
    plain = BM25Teacher(corpus, language=None, store=tmp_path)
    assert (plain.all_scores(["die Stadt"])[0] > 0).tolist() == [True, False, True, False]
    unstemmed = BM25Teacher(corpus, language="german", stem=False, store=tmp_path)
    assert (unstemmed.all_scores(["die Stadt"])[0] > 0).tolist() == [True, False, False, False]
    assert len({teacher.fingerprint for teacher in (german, plain, unstemmed)}) == 3


def test_the_index_is_built_once_and_shared(tmp_path, monkeypatch):
    corpus = Corpus.from_texts(TEXTS)
    expected = BM25Teacher(corpus, store=tmp_path).all_scores(QUERIES)
    monkeypatch.setattr(BM25Teacher, "_build", lambda *_: pytest.fail("built again"))
    np.testing.assert_array_equal(BM25Teacher(corpus, store=tmp_path).all_scores(QUERIES), expected)


def test_errors_say_what_is_wrong(tmp_path, monkeypatch):
    corpus = Corpus.from_texts(TEXTS)
    with pytest.raises(InputError, match=r"language='klingon'; choose None or one of .*'danish', 'dutch'"):
        BM25Teacher(corpus, language="klingon")
    with pytest.raises(InputError, match="b between 0 and 1"):
        BM25Teacher(corpus, b=2)
    with pytest.raises(InputError, match="no document has a word"):
        BM25Teacher(Corpus.from_texts(["the", "? !"]), store=tmp_path).prepare()
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r"hf-posmine\[bm25\]"):
        BM25Teacher(corpus)


def test_postings_multiply_like_the_matrix_they_stand_for(tmp_path):
    rng = np.random.default_rng(0)
    dense = rng.random((7, 5)).astype(np.float32) * (rng.random((7, 5)) < 0.5)
    terms, documents = np.nonzero(dense.T)
    starts = np.append(0, np.cumsum(np.bincount(terms, minlength=5)))
    Postings(dense.T[terms, documents], documents.astype(np.int32), starts, 7).save(tmp_path)
    queries = [{0: 1.0, 3: 0.5}, {}, {4: 2.0}]
    expected = [[sum(w * float(row[t]) for t, w in q.items()) for row in dense] for q in queries]
    np.testing.assert_array_equal(Postings.load(tmp_path).scores(queries), np.float32(expected))


def test_codes_that_differ_by_one_letter_beside_a_hyphen_differ(tmp_path):
    teacher = BM25Teacher(Corpus.from_texts(["pump K-20 seal", "pump M-20 seal", "valve 20-M"]), store=tmp_path)
    scores = teacher.all_scores(["seal of the M-20"])[0]
    assert scores.argmax() == 1 and scores[2] > 0


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """A tokenizer of single Chinese characters, as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    every = {chr(code): at for at, code in enumerate(range(0x4E00, 0x9FFF), 1)}
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, **every}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = tmp_path_factory.mktemp("characters")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(folder)
    return folder


CHINESE = ["长江是亚洲最长的河流", "黄河流经九个省区", "泰山位于山东省", "XYZ?"]


@pytest.mark.parametrize(
    "run",
    [mine, lambda pairs, miner, batch_size: pairs.map(miner, batched=True, batch_size=batch_size)],
    ids=["mine", "map without prepare"],
)
def test_queries_without_a_shared_word_are_counted_over_the_run_and_warned_of_once(run):
    """The first batch has none, two later ones have; a second run over the same teacher repeats nothing."""
    pairs = Dataset.from_dict(
        {
            "query": ["which town", "which river", "何処ですか", "which lake", "qqq", "which town", "誰が"],
            "positive": [f"{word} number {n}" for n, word in enumerate("town river sea lake hill town book".split())],
        }
    )
    miner = PositiveAwareMiner.from_dataset(pairs, "bm25", num_negatives=1)
    fingerprint = Hasher.hash(miner)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in (2, 3):
            run(pairs, miner, batch_size=number)
    assert Hasher.hash(miner) == fingerprint
    lines = [str(warning.message) for warning in told if warning.category is NoSharedWordWarning]
    assert len(lines) == 1 and lines[0].startswith("3 of 6 queries share no word with any document")  # 6 unique ones


def test_a_tokenizer_gives_scores_in_a_script_without_spaces(characters, tmp_path):
    corpus = Corpus.from_texts(CHINESE)
    plain = BM25Teacher(corpus, store=tmp_path)
    with pytest.warns(NoSharedWordWarning, match="1 of 1 queries share no word with any document"):
        assert not plain.all_scores(["亚洲的长江"]).any()
    spelled = repr(BM25(tokenizer=str(characters)))
    teacher = open_teacher(as_teacher_spec(spelled), corpus, TeacherContext(store=tmp_path))
    scores = teacher.all_scores(["亚洲的长江", "黄河"])
    assert scores.argmax(1).tolist() == [0, 1] and not scores[:, 3].any()  # unknown characters match nothing
    assert teacher.describe()["spelling"] == spelled and teacher.fingerprint != plain.fingerprint
    assert pickle.loads(pickle.dumps(teacher)).fingerprint == teacher.fingerprint
    record = TeacherRecord(teacher.name, "bm25", teacher.fingerprint, teacher.describe())
    assert recorded_spec(record, allow_local=True) == as_teacher_spec(spelled)
    with pytest.raises(InputError):
        recorded_spec(record)  # the record of a stranger reaches no local file


def test_chinese_questions_find_their_paragraphs(characters, tmp_path):
    folder = Path(__file__).parents[3] / "shared" / "data" / "xquad" / "zh"
    if not folder.is_dir():
        pytest.skip("needs xquad/zh beside the project")
    documents, questions = (pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("corpus", "queries"))
    relevant = {str(r["query_id"]): str(r["doc_id"]) for r in pq.read_table(folder / "qrels.parquet").to_pylist()}
    corpus = Corpus.from_texts([d["text"] for d in documents], ids=[str(d["id"]) for d in documents])
    asked = questions[:100]
    teacher = BM25Teacher(corpus, tokenizer=str(characters), store=tmp_path)
    best = teacher.all_scores([q["text"] for q in asked]).argmax(1)
    found = [
        corpus.ids(np.array([row])).to_pylist()[0] == relevant[str(q["id"])] for q, row in zip(asked, best, strict=True)
    ]
    assert np.mean(found) > 0.8


def test_a_tokenizer_that_cannot_be_used_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        BM25Teacher(Corpus.from_texts(TEXTS), tokenizer=str(tmp_path)).prepare()
    with pytest.raises(InputError, match="language='german' has no effect"):
        BM25Teacher(Corpus.from_texts(TEXTS), language="german", tokenizer="a")


def test_the_revision_of_a_model_is_not_taken_for_that_of_a_tokenizer():
    corpus = Corpus.from_texts(TEXTS)
    with pytest.raises(InputError, match="the teacher 'bm25' has no option 'revision'"):
        make_teacher("bm25", corpus, revision="main")
    with pytest.raises(InputError, match="revision='main' is that of a tokenizer; give tokenizer=, too"):
        BM25Teacher(corpus, revision="main")
    both = make_teachers(["bm25", "embedded"], corpus, revision="main")
    assert [teacher.score_kind for teacher in both] == ["bm25", "cosine"]
