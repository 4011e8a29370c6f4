"""MaxSim over given vectors of patches, against a loop in numpy, from arrays and from a store on disk."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError
from hf_posmine.data.images import image_name
from hf_posmine.teachers import MultiVectorTeacher, make_teacher
from tests.support.pages import pages

TEXTS = [f"page {number}" for number in range(14)]
QUERIES = [f"query {number}" for number in range(10)]


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def given():
    """Patches of 14 pages, the last in another file of page 0, and tokens of 10 queries."""
    rng = np.random.default_rng(0)
    counts, of_queries = rng.integers(1, 9, len(TEXTS)), rng.integers(1, 5, len(QUERIES))
    documents, queries = (unit(rng.standard_normal((n.sum(), 6))) for n in (counts, of_queries))
    return (documents, counts), (queries, of_queries)


def corpus_of(**_) -> Corpus:
    images = pages(TEXTS[:-1])
    images.append(images[0].copy())
    return Corpus.from_images(images, [f"p{n}" for n in range(len(TEXTS))])


def maxsim(given, mean: bool = False) -> np.ndarray:
    (documents, counts), (queries, of_queries) = given
    pieces = np.split(documents.astype(np.float64), np.cumsum(counts)[:-1])
    asked = np.split(queries.astype(np.float64), np.cumsum(of_queries)[:-1])
    best = [[[max(float(t @ p) for p in page) for t in tokens] for page in pieces] for tokens in asked]
    return np.array([[np.mean(one) if mean else np.sum(one) for one in row] for row in best])


def saved(folder, given, ids):
    folder.mkdir()
    (documents, counts), (queries, of_queries) = given
    for name, array in (
        ("documents", documents),
        ("document_counts", counts),
        ("queries", queries),
        ("query_counts", of_queries),
    ):
        np.save(folder / f"{name}.npy", array)
    (folder / "query_texts.json").write_text(json.dumps(QUERIES))
    (folder / "ids.json").write_text(json.dumps(ids))
    return folder


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
def test_scores_are_those_of_a_loop_and_rows_follow(fresh_home, tmp_path, given, similarity):
    corpus, ids = corpus_of(), [f"p{n}" for n in range(len(TEXTS))]
    assert len(corpus) == len(TEXTS) - 1
    shuffled = np.random.default_rng(1).permutation(len(TEXTS) - 1)
    bounds = np.append(0, np.cumsum(given[0][1]))
    moved = np.concatenate([given[0][0][bounds[n] : bounds[n + 1]] for n in shuffled]), given[0][1][shuffled]
    wanted = maxsim(given, similarity == "meanmaxsim")[:, : len(corpus)].astype(np.float32)
    from_disk = make_teacher(
        f"Vectors({str(saved(tmp_path / 'store', given, ids))!r}, similarity={similarity!r})", corpus
    )
    aligned = MultiVectorTeacher(
        corpus, moved, QUERIES, given[1], ids=[ids[n] for n in shuffled], similarity=similarity
    )
    again = pickle.loads(pickle.dumps(aligned)), pickle.loads(pickle.dumps(from_disk))
    assert from_disk.fingerprint == again[1].fingerprint and aligned.fingerprint == again[0].fingerprint
    everything = np.tile(np.arange(len(corpus)), (len(QUERIES), 1))
    for teacher in (aligned, from_disk, *again):
        assert np.array_equal(teacher.all_scores(QUERIES), wanted)
        assert np.array_equal(teacher.score(QUERIES[::-1], everything), wanted[::-1])
    pairs = Dataset.from_dict({"query": QUERIES, "positive_id": ids[: len(QUERIES)]})
    miner = PositiveAwareMiner.from_dataset(pairs, from_disk, num_negatives=3, filters="MarginPos(0.1)")
    for row, found in enumerate(mine(pairs, miner)["negatives_ids"]):
        below = [
            n
            for n in np.argsort(-wanted[row], kind="stable")
            if wanted[row, n] < wanted[row, row] - np.float32(0.1) and n != row
        ]
        assert found == [ids[n] for n in below[:3]]


def test_queries_may_be_images(fresh_home, given):
    asked, corpus = [image.rotate(90) for image in pages(TEXTS[: len(QUERIES)])], corpus_of()
    teacher = MultiVectorTeacher(corpus, given[0], asked, given[1], ids=[f"p{n}" for n in range(len(TEXTS))])
    features = Features({"query": ImageFeature(), "positive_id": Value("string")})
    pairs = Dataset.from_dict({"query": asked, "positive_id": ["p1"] * len(asked)}, features=features)
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, num_negatives=2, filters=())
    scores = maxsim(given)[:, : len(corpus)].astype(np.float32)
    scores[:, 1] = -np.inf
    assert mine(pairs, miner)["negatives_ids"][:] == [
        [f"p{n}" for n in np.argsort(-row, kind="stable")[:2]] for row in scores
    ]
    assert image_name(asked[0]) in teacher._queries


def test_what_does_not_fit_is_refused(fresh_home, tmp_path, given):
    corpus, ids = corpus_of(), [f"p{n}" for n in range(len(TEXTS))]
    (documents, counts), queries = given
    for bad, message in (
        (((documents[1:], counts), ids), "give each at least one vector"),
        (((documents, counts - counts.min()), ids), "give each at least one vector"),
        (((documents * np.float16(np.nan), counts), ids), "not finite"),
        (((documents[: counts[:3].sum()], counts[:3]), ids[:3]), "10 documents have no vector"),
        (((documents[:, :4], counts), ids), r"have \[4, 6\] dimensions"),
    ):
        with pytest.raises(InputError, match=message):
            MultiVectorTeacher(corpus, bad[0], QUERIES, queries, ids=bad[1])
    with pytest.raises(InputError, match="1 queries have no vectors, such as 'unknown'"):
        MultiVectorTeacher(corpus, given[0], QUERIES, queries, ids=ids).search(["unknown"], 1)
    with pytest.raises(InputError, match=r"needs '.*query_texts\.json'"):
        make_teacher(f"Vectors({str(tmp_path)!r}, similarity='maxsim')", corpus)


@pytest.mark.parametrize("teacher", ["bm25", "cross:x", "sparse:x", "https://host/v1/embeddings#x", "MaxP('bm25')"])
def test_teachers_of_texts_refuse_images(fresh_home, teacher):
    with pytest.raises(InputError, match=r"reads texts, and 13 documents of the corpus are images"):
        make_teacher(teacher, corpus_of())
