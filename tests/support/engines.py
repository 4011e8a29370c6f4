"""Documents and queries for tests of engines, and what an engine with the loop around it has to give."""

from __future__ import annotations

import numpy as np

from hf_posmine.core.types import Exclusions
from hf_posmine.search.approximate import ApproximateIndex
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.index_factory import as_index, open_index
from tests.contracts.test_index import oracle_scores, oracle_search
from tests.search.test_approximate import assert_sound

ROWS, DIMENSIONS = 600, 16


def clustered(rows: int = ROWS, dimensions: int = DIMENSIONS, seed: int = 0) -> np.ndarray:
    """Vectors float32 ``[rows, dimensions]`` around 20 centres, with copies and a zero vector."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((20, dimensions)) * 2
    vectors = centres[rng.integers(0, 20, rows)] + rng.standard_normal((rows, dimensions))
    vectors[rows // 2 : rows // 2 + 5] = vectors[0]
    vectors[3] = 0
    return vectors.astype(np.float32)


def make_index(spec: object, similarity: str = "cosine", vectors: np.ndarray | None = None) -> ApproximateIndex:
    exact = ExactIndex(clustered() if vectors is None else vectors, similarity)
    kind = as_index(spec)
    assert kind is not None
    return ApproximateIndex(exact, open_index(kind, exact))


def assert_engine_is_sound(spec: object, similarity: str, least_recall: float) -> None:
    """Weak positives, all documents above, exclusions: sound rankings, and a recall that says the engine works."""
    index, queries = make_index(spec, similarity), clustered(12, seed=1)
    scores = oracle_scores(similarity, queries, index.exact.vectors[np.arange(ROWS)]).astype(np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")
    below = np.full(12, np.inf, np.float32)
    for row, rank in ((1, 0), (2, 5), (3, 40), (4, 300), (5, ROWS - 3)):
        below[row] = scores[row, best[row, rank]]
    below[6] = -np.inf
    exclude = Exclusions.of([best[i, :i] for i in range(12)], np.arange(0, ROWS, 9))
    for k in (1, 30, 10):
        found, rounds = index.search_in_rounds(queries, k, below=below, exclude=exclude)
        assert_sound(found, rounds, scores, k, below, exclude)
    exact = oracle_search(scores, 10, below, exclude)
    hits = [np.isin(a[a >= 0], b).sum() for a, b in zip(exact.doc_ids, found.doc_ids, strict=True)]
    assert sum(hits) >= least_recall * (exact.doc_ids >= 0).sum()
    assert (rounds == 0).sum() >= 5, "the engine did nothing"
