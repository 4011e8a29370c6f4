"""Long documents by their best passage, against all scores of all passages; and texts that a model cuts, counted."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import CutTextWarning, InputError
from hf_posmine.core.types import Exclusions
from hf_posmine.data.passages import Passages, split_passages
from hf_posmine.teachers import BestPassageTeacher, BM25Teacher, MaxP, as_teacher_spec, make_teacher
from tests.conftest import ToyModel

WORDS = "red green blue cat dog bird sky sea tree stone".split()
documents_of_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["a", "b,", "東", "京", "กำ", "x-y"]), max_size=40), st.integers(1, 8), st.integers(0, 7)
)
def test_passages_cover_a_text_in_order_with_the_overlap_that_was_asked_for(units, words, overlap):
    overlap %= words
    text = " ".join(units)
    passages = [passage.split() for passage in split_passages(text, words, overlap)]
    if len(units) <= words:
        assert passages == [units]
        return
    step, last = words - overlap, passages[-1]
    assert all(passage == units[at * step : at * step + words] for at, passage in enumerate(passages))
    assert len(last) > overlap and units[-len(last) :] == last


def by_every_passage(texts, query_scores, words, overlap):
    """Scores of documents as the greatest of all their windows, which are cut anew here."""
    best = []
    for text in texts:
        every, step, at, windows = text.split(), words - overlap, 0, []
        while True:
            windows.append(" ".join(every[at : at + words]))
            if at + words >= len(every):
                break
            at += step
        best.append(max(query_scores[window] for window in windows))
    return np.array(best, np.float32)


@settings(max_examples=40)
@given(
    texts=st.lists(documents_of_words, min_size=2, max_size=12, unique=True),
    outside=st.lists(documents_of_words, max_size=2),
    words=st.integers(1, 4),
    k=st.integers(1, 5),
    share=st.floats(0.2, 1.1),
    excluded=st.lists(st.integers(0, 11), max_size=3),
)
def test_search_below_a_ceiling_is_that_of_sorted_best_passages(texts, outside, words, k, share, excluded):
    corpus = Corpus.from_texts(texts).union(outside, candidates=False)
    passages = Passages.of(corpus, words, words // 2)
    inner = DenseTeacher(ToyModel(dimensions=3), passages.corpus, similarity="dot", fingerprint="toy3")
    teacher, query = BestPassageTeacher(inner, passages), "red sea"
    rows = np.arange(len(passages.corpus))
    known = dict(zip(passages.corpus.texts(rows).to_pylist(), inner.score([query], rows[None])[0], strict=True))
    every = corpus.texts(np.arange(len(corpus))).to_pylist()
    scores = by_every_passage(every, known, words, words // 2)
    assert teacher.score([query], np.arange(len(corpus))[None])[0].tolist() == scores.tolist()
    assert teacher.score_texts([query], [every[0]])[0] == pytest.approx(scores[0], rel=1e-5)

    below = np.float32(scores.min() + share * (scores.max() - scores.min()))
    out = {row for row in excluded if row < len(corpus)}
    allowed = [row for row in range(corpus.num_candidates) if row not in out]
    expected = sorted((row for row in allowed if scores[row] < below), key=lambda row: (-scores[row], row))[:k]
    for exclude in (Exclusions.of([sorted(out)]), Exclusions.of([[]], sorted(out))):
        found = teacher.search([query], k, below=np.array([below]), exclude=exclude)
        assert found.doc_ids[0].tolist() == expected + [-1] * (k - len(expected))
        assert found.scores[0, : len(expected)].tolist() == scores[expected].tolist()
        assert found.above[0] == sum(scores[row] >= below for row in allowed)


def long_documents(number: int = 12) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 60)) for _ in range(number)]


def test_a_mining_by_its_spelling_keeps_below_the_best_passage_of_the_positive(tmp_path):
    texts = long_documents()
    rows = Dataset.from_dict({"query": [" ".join(text.split()[40:44]) for text in texts], "positive": texts})
    rows.to_json(str(tmp_path / "rows.jsonl"))
    main(
        ["mine", str(tmp_path / "rows.jsonl"), "--teacher", 'MaxP("bm25", words=8, overlap=4)', "--filters", "PercPos(0.9)",
         "--output", str(tmp_path / "mined.jsonl"), "--quiet"]
    )  # fmt: skip
    corpus = Corpus.from_texts(texts)
    passages = Passages.of(corpus, 8, 4)
    bm25, every = BM25Teacher(passages.corpus), np.arange(len(passages.corpus))
    of = passages.corpus.texts(every).to_pylist()
    for line, query in zip((tmp_path / "mined.jsonl").read_text().splitlines(), rows["query"], strict=True):
        row = json.loads(line)
        known = dict(zip(of, bm25.score([query], every[None])[0], strict=True))
        scores = by_every_passage(texts, known, 8, 4)
        own = texts.index(row["positive"])
        ceiling = np.float32(scores[own] * np.float32(0.9))
        order = sorted(
            (at for at in range(len(texts)) if at != own and scores[at] < ceiling), key=lambda at: (-scores[at], at)
        )
        assert row["negatives"] == [texts[at] for at in order[:4]]
    record = json.loads((tmp_path / "mined.jsonl.provenance.json").read_text())["teachers"][0]
    assert (record["kind"], record["words"], record["overlap"]) == ("best passage", 8, 4)
    again = make_teacher(record["spelling"], corpus)
    assert again.fingerprint == record["fingerprint"]
    assert again.fingerprint != make_teacher("MaxP('bm25', words=8, overlap=3)", corpus).fingerprint


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("MaxP('bm25', words=4, overlap=4)", "the overlap must be less than the words"),
        ("MaxP(Run('a.run'))", "Run has no scores of passages; give a model"),
        ("MaxP(MaxP('bm25'))", "MaxP has no scores of passages"),
        ("MaxP('bm25', words='8')", "expected int"),
        ("MaxP('')", "give the teacher of the passages"),
    ],
)
def test_what_cannot_score_passages_is_refused(spelling, message):
    with pytest.raises(InputError, match=message):
        as_teacher_spec(spelling)


def test_the_spelling_of_a_teacher_inside_another_is_read_back():
    spec = MaxP(as_teacher_spec("Dense('a/b', query_prompt='q: ')"), words=40, overlap=10)
    assert as_teacher_spec(repr(spec)) == spec


def test_documents_that_a_model_cuts_are_counted_once_named_and_recorded(embedded_model):
    texts = [*long_documents(7), "red cat", "blue sea"]
    longer = sum(len(ids) > 32 for ids in embedded_model.tokenizer(texts, truncation=False)["input_ids"])
    rows = Dataset.from_dict({"query": ["red"] * 9, "positive": texts})
    how = {"num_negatives": 2, "teacher_options": {"max_length": 32}}
    line = (
        f"{longer} of 9 documents are longer than the 32 tokens that embedded reads, and are scored by their beginning"
    )
    with pytest.warns(CutTextWarning, match=line) as found:
        miner = PositiveAwareMiner.from_dataset(rows, "embedded", **how)
        mine(rows, miner)
    assert len([one for one in found if one.category is CutTextWarning]) == 1 and longer == 7
    assert miner.teachers[0].describe()["cut_texts"] == longer
    with warnings.catch_warnings():
        warnings.simplefilter("error", CutTextWarning)
        teacher = make_teacher("MaxP(Dense('embedded', max_length=32), words=20, overlap=5)", miner.corpus)
        known = {"known_positives": miner.known_positives, "positive_column": "positive", "num_negatives": 2}
        mine(rows, PositiveAwareMiner(corpus=miner.corpus, teachers=teacher, **known))
    assert teacher.describe()["cut_texts"] == 0
