"""The sorted scores behind a sweep: their one-number form against numpy's sort, and their rankings against single searches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_posmine.core.types import Exclusions, SearchRequest
from hf_posmine.search.exact import ExactIndex
from hf_posmine.teachers import dense_sweep
from hf_posmine.teachers.dense_sweep import DOCUMENT, _ranked, _scores_of, search_ladder

FLOATS = st.floats(width=32, allow_nan=False, allow_subnormal=True)


@given(arrays(np.float32, (2, 9), elements=FLOATS))
def test_scores_and_documents_as_one_number_sort_best_first_and_come_back(scores):
    ranked = _ranked(scores.copy())
    ids = (ranked & DOCUMENT).astype(np.int64)
    back = _scores_of(ranked)
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(9), (2, 1)))
    assert np.array_equal(back, np.take_along_axis(scores, ids, axis=1))
    assert np.array_equal(back, -np.sort(-scores, axis=1))


@pytest.mark.parametrize("slack", [(0, 1), (12, 64)], ids=["always in doubt", "as shipped"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_every_ceiling_gives_what_a_search_of_its_own_gives(similarity, slack, monkeypatch):
    monkeypatch.setattr(dense_sweep, "SLACK", slack)
    monkeypatch.setattr(dense_sweep, "BLOCK_SCORES", 700)
    rng = np.random.default_rng(0)
    documents = np.repeat(rng.normal(size=(60, 8)), 5, axis=0).astype(np.float32)  # ties of five
    documents += 1e-7 * rng.normal(size=documents.shape).astype(np.float32)
    index, queries = ExactIndex(documents, similarity), rng.normal(size=(7, 8)).astype(np.float32)
    exclude = Exclusions.of(
        [sorted(rng.choice(300, size, replace=False).tolist()) for size in (0, 3, 290, 300, 1, 0, 9)]
    )
    everyone, all_scores = np.arange(7), index.score(queries, np.tile(np.arange(300), (7, 1)))
    ceilings = [np.full(7, np.inf), np.quantile(all_scores, 0.5, axis=1), all_scores[:, 17], all_scores.min(axis=1)]
    wants = [SearchRequest(everyone, k, below.astype(np.float32)) for below in ceilings for k in (1, 12)]
    wants.append(SearchRequest(np.array([1, 4, 6]), 5, np.zeros(3, np.float32)))
    for want, ranking in zip(wants, search_ladder(index, queries, wants, exclude), strict=True):
        alone = index.search(queries[want.rows], want.k, below=want.below, exclude=exclude.take(want.rows))
        for field in ("doc_ids", "scores", "above"):
            assert np.array_equal(getattr(ranking, field), getattr(alone, field)), field
