"""Teachers without a model: given vectors, and random scores."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine import Corpus
from hf_posmine.core.errors import InputError
from hf_posmine.teachers import RandomTeacher, VectorTeacher
from hf_posmine.teachers.exhaustive import joined, select_below

DOCUMENTS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)


def test_vectors_by_id_come_in_the_order_of_the_corpus(tmp_path):
    corpus = Corpus.from_texts(["x", "y", "both"], ids=["A", "B", "C"])
    np.save(tmp_path / "vectors.npy", DOCUMENTS[[2, 0, 1]])
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    by_id = VectorTeacher(corpus, mapped, ["q"], [[2, 1]], ids=["C", "A", "B"], similarity="dot")
    assert by_id.score(["q"], np.array([[0, 1, 2]])).tolist() == [[2, 1, 3]]
    assert by_id.fingerprint == VectorTeacher(corpus, DOCUMENTS, ["q"], [[2, 1]], similarity="dot").fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": DOCUMENTS[:2]}, r"\(2, 2\); expected \[3, dimensions\]"),
        ({"query_vectors": [[1, 2, 3]]}, "2 dimensions, queries of 3"),
        ({"vectors": DOCUMENTS * np.nan}, "3 vectors of documents are not finite, first row 0"),
        ({"ids": ["A", "B", "B"]}, "1 documents have no vector, such as document 'C'"),
        ({"ids": ["A", "B", "Z"]}, "no document with id 'Z'"),
        ({"queries": "q"}, "queries must be texts"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_vectors_that_do_not_fit_are_refused(options, message):
    corpus = Corpus.from_texts(["x", "y", "both"], ids=["A", "B", "C"])
    with pytest.raises(InputError, match=message):
        VectorTeacher(corpus, **{"vectors": DOCUMENTS, "queries": ["q"], "query_vectors": [[1, 2]]} | options)


def test_a_query_without_a_vector_is_named():
    teacher = VectorTeacher(Corpus.from_texts(["x", "y", "both"]), DOCUMENTS, ["q"], [[1, 2]])
    with pytest.raises(InputError, match="1 queries have no vector, such as 'Q'"):
        teacher.search(["q", "Q"], 1)


def test_random_scores_are_uniform_and_do_not_depend_on_the_corpus():
    texts = [f"document {i}" for i in range(2000)]
    teacher = RandomTeacher(Corpus.from_texts(texts))
    scores = teacher.all_scores([f"query {i}" for i in range(50)])
    assert scores.min() >= 0 and scores.max() < 1
    assert np.histogram(scores, bins=10, range=(0, 1))[0] == pytest.approx(10_000, rel=0.05)
    assert abs(np.corrcoef(scores[0], scores[1])[0, 1]) < 0.1 and abs(np.corrcoef(scores.T[0], scores.T[1])[0, 1]) < 0.5
    other = RandomTeacher(Corpus.from_texts(texts[::-1]))
    np.testing.assert_array_equal(other.all_scores(["query 7"])[0][::-1], scores[7])
    again = RandomTeacher(Corpus.from_texts(texts), seed=1)
    assert again.fingerprint != teacher.fingerprint and (again.all_scores(["query 7"])[0] != scores[7]).mean() > 0.99
    with pytest.raises(InputError, match="seed=-1"):
        RandomTeacher(Corpus.from_texts(texts), seed=-1)


def test_no_queries_give_no_rows():
    teacher = RandomTeacher(Corpus.from_texts(["a"]))
    assert teacher.search([], 3).doc_ids.shape == (0, 3) == joined([], 3).scores.shape
    with pytest.raises(InputError, match="k=0"):
        select_below(np.zeros((1, 2), np.float32), 0)
