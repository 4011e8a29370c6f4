"""Splits by group: nothing of one split is in another, whatever holds pairs together."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine import Corpus
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.judged_pairs import JudgedPairs
from hf_posmine.data.near_queries import near_pairs, trigrams
from hf_posmine.data.split import SPLITS, GroupedSplit, SplitSettings
from hf_posmine.data.texts import normalize

WORDS = "river stone bridge lamp winter copper garden violin harbour paper engine mirror valley ticket".split()


def rows_of(count: int, seed: int = 0) -> Dataset:
    """Queries with up to three positives; some queries, passages and articles come again in other words or cases."""
    draw = random.Random(seed)
    queries = [f"what of the {' '.join(draw.sample(WORDS, 4))} in {number}" for number in range(count)]
    for at in range(0, count, 9):
        queries[at] = queries[draw.randrange(count)].upper() + "?"
    passages = [f"passage {number} {' '.join(draw.choices(WORDS, k=9))}" for number in range(3 * count)]
    return Dataset.from_dict(
        {
            "question": queries,
            "answer": [draw.choices(passages, k=draw.choice((1, 1, 1, 2))) for _ in queries],
            "article": [f"Article {draw.randrange(3 * count)}" for _ in queries],
        }
    )


def jaccard(left: str, right: str) -> float:
    a, b = trigrams(left), trigrams(right)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("least", [0.5, 0.8, 1.0])
def test_no_pair_of_near_queries_is_missed(least):
    queries = rows_of(80)["question"][:]
    queries += [query.replace("e", "a") for query in queries[:20]] + ["", "?", "何時ですか", "何時ですか?"]
    wanted = {
        (a, b) for a, b in itertools.combinations(range(len(queries)), 2) if jaccard(queries[a], queries[b]) >= least
    }
    found = near_pairs(queries, least)
    assert len(found) == len(set(found)) and set(found) == wanted and wanted


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_in_two_splits(seed):
    pairs = JudgedPairs.of(rows_of(120, seed), "question", "answer", None, by="article")
    split = GroupedSplit.of(pairs, SplitSettings(seed=seed))
    by_split = [split.rows(name).tolist() for name in SPLITS]
    assert sorted(itertools.chain.from_iterable(by_split)) == list(range(len(pairs.queries)))
    for left, right in itertools.combinations(by_split, 2):
        assert not {pairs.positives[row] for row in left} & {pairs.positives[row] for row in right}
        assert not {pairs.groups[row] for row in left} & {pairs.groups[row] for row in right}
        assert all(jaccard(pairs.queries[a], pairs.queries[b]) < 0.8 for a in left for b in right)


def test_shares_are_kept_and_the_seed_decides():
    rows = Dataset.from_dict(
        {"question": [f"{a} {b} {c}" for a, b, c in itertools.permutations(WORDS[:8], 3)][:200],
         "answer": [f"text {number}" for number in range(200)]}
    )  # fmt: skip
    pairs = JudgedPairs.of(rows, "question", "answer", None)
    splits = [GroupedSplit.of(pairs, SplitSettings(0.15, 0.25, near=1, seed=seed)) for seed in (5, 5, 6)]
    assert (splits[0].split == splits[1].split).all() and (splits[0].split != splits[2].split).any()
    for split in splits:
        assert [counts["pairs"] for counts in split.counts().values()] == [120, 30, 50]


def test_few_groups_are_an_error_that_names_them():
    rows = Dataset.from_dict(
        {"question": [f"{a} {b}" for a, b in itertools.permutations(WORDS[:5], 2)],
         "answer": [f"text {number}" for number in range(20)], "source": ["one"] * 17 + ["two"] * 3}
    )  # fmt: skip
    pairs = JudgedPairs.of(rows, "question", "answer", None, by="source")
    with pytest.raises(
        InputError, match=r"2 groups of pairs .* the largest with 17 of 20 pairs, and none is left for dev"
    ):
        GroupedSplit.of(pairs, SplitSettings(near=1))
    without = GroupedSplit.of(pairs, SplitSettings(dev=0, near=1))
    assert [counts["groups"] for counts in without.counts().values()] == [1, 0, 1]


@pytest.mark.parametrize("shares", [{"dev": 0.5, "test": 0.5}, {"test": 0}, {"dev": -0.1}, {"near": 0}, {"near": 1.5}])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(InputError):
        SplitSettings(**shares)


def test_what_is_written_is_one_collection(tmp_path):
    corpus = Corpus.from_texts([f"text {number}" for number in range(60)], ids=[f"{number:03}" for number in range(60)])
    rows = Dataset.from_dict(
        {"q": [f"{a} {b} ü" for a, b in itertools.permutations(WORDS[:7], 2)][:40], "d": [f"{n:03}" for n in range(40)]}
    )
    pairs = JudgedPairs.of(rows, "q", None, "d", corpus=corpus)
    split = GroupedSplit.of(pairs, SplitSettings(near=1))
    split.write(tmp_path / "s", {"seed": 0})
    lines = {name: (tmp_path / "s" / name).read_text("utf8").splitlines() for name in
             ("corpus.jsonl", "train/corpus.jsonl", "train/pairs.jsonl", "queries.jsonl")}  # fmt: skip
    judged = {name: (tmp_path / "s" / "qrels" / f"{name}.tsv").read_text().splitlines()[1:] for name in SPLITS}
    held = {line.split("\t")[1] for name in ("dev", "test") for line in judged[name]}
    assert [len(judged[name]) for name in SPLITS] == [28, 4, 8] and len(lines["queries.jsonl"]) == 40
    assert {json.loads(line)["_id"] for line in lines["corpus.jsonl"]} == {f"{n:03}" for n in range(60)}
    assert {json.loads(line)["_id"] for line in lines["train/corpus.jsonl"]} == {f"{n:03}" for n in range(60)} - held
    assert not {json.loads(line)["positive_id"] for line in lines["train/pairs.jsonl"]} & held
    assert " ü" in lines["queries.jsonl"][0]


def test_positives_that_a_corpus_lacks_are_added_and_counted():
    rows = Dataset.from_dict({"q": ["red", "green"], "p": ["A stone.", "a RIVER."]})
    pairs = JudgedPairs.of(rows, "q", "p", None, corpus=Corpus.from_texts(["A river.", "A bridge."], ids="xy"))
    assert (pairs.in_corpus, len(pairs.corpus), pairs.corpus.ids(np.array([0])).to_pylist()) == (1, 3, ["x"])
    assert pairs.corpus.texts(pairs.positives).to_pylist() == ["A stone.", "A river."]


def test_groups_of_the_documents():
    documents = Dataset.from_dict({"id": ["1", "2", "3"], "text": ["a", "b", "c"], "title": ["T", "t ", None]})
    rows = Dataset.from_dict({"q": ["red", "green", "blue"], "d": ["1", "2", "3"]})
    pairs = JudgedPairs.of(rows, "q", None, "d", corpus=Corpus.from_dataset(documents, "text", "id"))
    assert pairs.with_groups_of(documents, "id", "title").groups == (normalize("T"), "t", "")


def test_a_group_is_one_value_and_ids_need_a_corpus():
    rows = Dataset.from_dict({"q": ["red"], "p": ["x"], "g": [["a", "b"]]})
    with pytest.raises(ColumnError, match=r"column 'g', row 0: a group is one value"):
        JudgedPairs.of(rows, "q", "p", None, by="g")
    with pytest.raises(InputError, match=r"ids of column 'p'; give the corpus"):
        JudgedPairs.of(rows, "q", None, "p")


def titled(count: int = 40):
    """Passages that the corpus has with their titles, a page that contains two of them, and queries about the bare texts."""
    bodies = [
        f"the {WORDS[n % 12]} of number {n} stands {n + 3} miles from the {WORDS[(n + 5) % 12]}" for n in range(count)
    ]
    documents = [{"id": f"d{n}", "title": f"Chapter {n}", "text": body} for n, body in enumerate(bodies)]
    extracts = [
        f"Here one reads about {n}: {' '.join(draw)}" for n, draw in enumerate(zip(WORDS, reversed(WORDS), strict=True))
    ]
    pages = [
        {"id": f"p{n}", "title": "", "text": f"Before. {text} and then more of it."} for n, text in enumerate(extracts)
    ]
    rows = [
        {"q": f"where is {''.join(chr(97 + int(d)) for d in f'{n:03}')}", "p": text}
        for n, text in enumerate([*bodies, *extracts])
    ]
    return Corpus.from_dataset(Dataset.from_list([*documents, *pages])), Dataset.from_list(rows), bodies, extracts


def test_a_positive_that_the_corpus_has_with_a_title_is_that_document():
    """As in mining: else the passage would be a negative in train, and a document that nobody judged in test."""
    corpus, rows, bodies, extracts = titled()
    pairs = JudgedPairs.of(rows, "q", "p", None, corpus=corpus)
    ids = pairs.corpus.ids(pairs.positives).to_pylist()
    assert ids[: len(bodies)] == [f"d{n}" for n in range(len(bodies))] and pairs.in_corpus == len(bodies)
    assert pairs.corpus.texts(pairs.positives[len(bodies) :]).to_pylist() == extracts
    within = [pairs.inside[row] for row in pairs.positives[len(bodies) :].tolist()]
    assert pairs.corpus.ids(np.array(within)).to_pylist() == [f"p{n}" for n in range(len(extracts))]


def test_no_document_that_holds_a_test_passage_is_a_candidate_of_train(tmp_path):
    corpus, rows, bodies, extracts = titled()
    more = [
        {"q": f"another {WORDS[n]} question", "p": f"Before. {text} and then more of it."}
        for n, text in enumerate(extracts)
    ]
    rows = Dataset.from_list([*rows.to_list(), *more])
    split = GroupedSplit.of(JudgedPairs.of(rows, "q", "p", None, corpus=corpus), SplitSettings(0.2, 0.3, near=1.0))
    split.write(tmp_path, {})
    candidates = [json.loads(line)["text"] for line in (tmp_path / "train" / "corpus.jsonl").open(encoding="utf8")]
    held = [rows["p"][at] for name in ("dev", "test") for at in split.rows(name).tolist()]
    assert len(held) > 10 and any(text in extracts for text in held) and any(text in bodies for text in held)
    assert not [(text, found) for text in held for found in candidates if text in found]
    sides = {rows["p"][at]: split.split[at] for at in range(len(rows))}
    assert all(sides[text] == sides[f"Before. {text} and then more of it."] for text in extracts)
