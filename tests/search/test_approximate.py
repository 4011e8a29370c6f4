"""The loop around an approximate engine, with engines that lose documents on purpose, against a slow oracle."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, Ranking
from hf_posmine.search import approximate
from hf_posmine.search.approximate import EXHAUSTIVE, ApproximateIndex
from hf_posmine.search.exact import ExactIndex
from tests.contracts.test_index import assert_same, oracle_scores, oracle_search

SIMILARITIES = ("cosine", "dot", "euclidean")


@dataclass
class Lossy:
    """Orders documents with noise, hides a share of them, and hides fewer the more effort it may spend."""

    documents: np.ndarray
    hidden: float = 0.0
    noise: float = 0.0
    deepest: int = 1 << 16
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def candidates(self, vectors: np.ndarray, k: int, effort: int) -> np.ndarray:
        self.asked.append((len(vectors), k, effort))
        assert k <= self.deepest
        rng = np.random.default_rng(5)
        noise = rng.standard_normal(len(self.documents)) * self.noise
        hidden = rng.random(len(self.documents)) < self.hidden / effort
        out = np.full((len(vectors), k), -1, np.int64)
        for row, vector in enumerate(vectors):
            order = np.argsort(-(self.documents @ vector + noise), kind="stable")
            found = order[~hidden[order]][:k]
            out[row, : len(found)] = rng.permutation(found)
        return out


@contextlib.contextmanager
def ladder(first: int = 4, deeper: int = 2, exact_costs: int = 1, held: int = 1 << 20):
    """Few candidates at first, so that small corpora need several rounds."""
    with mock.patch.multiple(approximate, FIRST=first, DEEPER=deeper, EXACT_COSTS=exact_costs, HELD=held):
        yield


def assert_sound(found: Ranking, rounds: np.ndarray, scores: np.ndarray, k: int, below, exclude: Exclusions) -> None:
    """What an approximate ranking promises, checked document by document."""
    best = oracle_search(scores, k, below, exclude)
    assert found.doc_ids.shape == found.scores.shape == (len(scores), k)
    for row in range(len(scores)):
        ids = [i for i in found.doc_ids[row].tolist() if i >= 0]
        assert found.doc_ids[row].tolist() == ids + [-1] * (k - len(ids))
        assert len(ids) == (best.doc_ids[row] >= 0).sum(), "fewer documents than exact search"
        assert len(set(ids)) == len(ids)
        assert not set(ids) & {*exclude.of_query(row).tolist(), *exclude.everywhere.tolist()}
        assert found.scores[row].tolist() == scores[row, ids].tolist() + [-np.inf] * (k - len(ids))
        assert all(scores[row, i] < below[row] for i in ids)
        assert ids == sorted(ids, key=lambda i: (-scores[row, i], i))
        assert (found.scores[row] <= best.scores[row]).all()
        assert found.above[row] <= best.above[row]
        if rounds[row] == EXHAUSTIVE:
            assert ids == [i for i in best.doc_ids[row].tolist() if i >= 0]
            assert found.above[row] == best.above[row]


@st.composite
def searches(draw):
    """Tiny corpora with zero vectors and duplicates, ceilings anywhere, exclusions of up to everything."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, count, dimensions = draw(st.integers(1, 60)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 8]))
    reach = draw(st.sampled_from([1, 3]))
    documents = rng.integers(-reach, reach + 1, (rows, dimensions)).astype(np.float32)
    documents = documents[rng.integers(0, rows, rows)] if draw(st.booleans()) else documents
    queries = rng.integers(-reach, reach + 1, (count, dimensions)).astype(np.float32)
    share = draw(st.sampled_from([0, 0.3, 0.95, 1]))
    exclude = Exclusions.of(
        [np.flatnonzero(rng.random(rows) < share) for _ in range(count)],
        np.flatnonzero(rng.random(rows) < draw(st.sampled_from([0, 0.2, 0.98]))),
    )
    rank = draw(
        st.lists(st.sampled_from([0, rows // 9, rows // 2, rows - 1, None, -np.inf]), min_size=count, max_size=count)
    )
    return queries, documents, draw(st.integers(1, 70)), rank, exclude


def ceilings(scores: np.ndarray, rank: list) -> np.ndarray:
    """The score at a rank: a weak positive's, where the rank is deep; inf for None, and all documents above for -inf."""
    best = -np.sort(-scores, axis=1)
    values = [np.inf if r is None else r if r == -np.inf else best[i, r] for i, r in enumerate(rank)]
    return np.array(values, np.float32)


@settings(max_examples=150, deadline=None)
@given(
    searches(),
    st.sampled_from(SIMILARITIES),
    st.sampled_from([(0, 0), (0.3, 0.5), (0.9, 3), (1, 0), (15, 1)]),
    st.sampled_from([1, 7, 1 << 16]),
    st.booleans(),
)
def test_never_fewer_than_exact_search_whatever_the_engine_loses(search, similarity, loss, deepest, small_steps):
    queries, documents, k, rank, exclude = search
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    below = ceilings(scores, rank)
    searcher = Lossy(documents, *loss, deepest=deepest)
    index = ApproximateIndex(ExactIndex(documents, similarity, engine="torch"), searcher)
    with ladder() if small_steps else contextlib.nullcontext():
        found, rounds = index.search_in_rounds(queries, k, below=below, exclude=exclude)
        assert_sound(found, rounds, scores, k, below, exclude)
        for row in range(len(queries)):  # the other queries of a batch do not matter
            alone = index.search(queries[[row]], k, below=below[[row]], exclude=exclude.take(np.array([row])))
            assert_same(alone, Ranking(found.doc_ids[[row]], found.scores[[row]], found.above[[row]]))
    if loss == (0, 0) and deepest > len(documents) and not small_steps:
        assert_same(found, oracle_search(scores, k, below, exclude))  # it gave every document


def made(rows: int = 400, queries: int = 5, **options):
    """Random documents, queries, all scores, and an index over an engine."""
    rng = np.random.default_rng(1)
    documents = rng.standard_normal((rows, 6)).astype(np.float32)
    asked = rng.standard_normal((queries, 6)).astype(np.float32)
    scores = oracle_scores("dot", asked, documents).astype(np.float32)
    searcher = Lossy(documents, **options)
    return documents, asked, scores, searcher, ApproximateIndex(ExactIndex(documents, "dot", engine="torch"), searcher)


def test_only_the_queries_that_lack_documents_are_searched_again_deeper_and_harder():
    _, queries, scores, searcher, index = made()
    below = np.full(5, np.inf, np.float32)
    for row, rank in ((1, 3), (3, 70), (4, 390)):
        below[row] = -np.sort(-scores[row])[rank]
    best = np.argsort(-scores, axis=1)
    exclude = Exclusions.of([best[0, :1], [], [], best[3, 71:73], best[4, 391:392]])
    with ladder(first=16, deeper=4, exact_costs=1):
        found, rounds = index.search_in_rounds(queries, 2, below=below, exclude=exclude)
    # query 1 has its 2 behind 4 others, beyond the first quarter of 16; query 3 behind 71, beyond that of 64
    assert searcher.asked == [(5, 16, 1), (3, 64, 4)]
    assert rounds.tolist() == [0, 1, 0, EXHAUSTIVE, EXHAUSTIVE]
    assert_same(found, oracle_search(scores, 2, below, exclude))
    assert found.above.tolist() == [0, 4, 0, 71, 391]


def test_exclusions_make_room_for_themselves():
    _, queries, scores, searcher, index = made()
    best = np.argsort(-scores, axis=1, kind="stable")
    exclude = Exclusions.of([best[i, : 100 * (i > 2)] for i in range(5)])
    with ladder(first=16, deeper=2, exact_costs=1):
        found, rounds = index.search_in_rounds(queries, 4, exclude=exclude)
    assert searcher.asked == [(3, 16, 1), (2, 128, 1)]
    assert not rounds.any()
    assert_same(found, oracle_search(scores, 4, None, exclude))


def test_documents_that_no_query_may_get_are_reckoned_with_by_their_share():
    _, queries, scores, searcher, index = made()
    everywhere = np.flatnonzero(np.arange(400) % 4)
    with ladder(first=16, deeper=2, exact_costs=1):
        found = index.search(queries, 4, exclude=Exclusions.of([[]] * 5, everywhere))
    assert searcher.asked[0] == (5, 64, 1)
    assert_same(found, oracle_search(scores, 4, None, Exclusions.of([[]] * 5, everywhere)))


def test_more_than_the_engine_can_give_is_searched_exactly_at_once():
    _, queries, scores, searcher, index = made(deepest=32)
    found, rounds = index.search_in_rounds(queries, 9)
    assert searcher.asked == []
    assert (rounds == EXHAUSTIVE).all()
    assert_same(found, oracle_search(scores, 9))


def test_it_does_not_go_so_deep_that_exact_search_costs_less():
    _, queries, scores, searcher, index = made(rows=8192, queries=1)
    below = -np.sort(-scores, axis=1)[:, 5000]
    found = index.search(queries, 4, below=below)
    assert searcher.asked == [(1, 128, 1), (1, 256, 4)]  # 8192 / 32
    assert_same(found, oracle_search(scores, 4, below))


def test_an_engine_that_gave_every_document_needs_no_exact_search():
    _, queries, _, _, index = made(rows=100)
    below = np.full(5, -1e9, np.float32)
    found, rounds = index.search_in_rounds(queries, 4, below=below)
    assert (found.doc_ids == -1).all()
    assert found.above.tolist() == [100] * 5
    assert not rounds.any()


def test_candidates_are_held_a_few_queries_at_a_time():
    _, queries, scores, searcher, index = made()
    with ladder(first=16, held=33):
        found = index.search(queries, 4)
    assert searcher.asked == [(2, 16, 1), (2, 16, 1), (1, 16, 1)]
    assert_same(found, oracle_search(scores, 4))


def test_above_is_a_lower_bound_where_documents_are_missed():
    documents, queries, scores, _, _ = made(rows=100)
    best = np.argsort(-scores[0])
    below = scores[[0], best[10]]
    missing = np.isin(np.arange(100), best[[2, 5]])

    class Misses:
        deepest = 100

        def candidates(self, vectors, k, effort):
            return np.flatnonzero(~missing)[None]

    index = ApproximateIndex(ExactIndex(documents, "dot", engine="torch"), Misses())
    found, rounds = index.search_in_rounds(queries[:1], 4, below=below)
    assert rounds.tolist() == [0]
    assert found.above.tolist() == [9]  # of 11
    assert found.doc_ids[0].tolist() == best[11:15].tolist()


def test_no_candidates():
    documents, queries, _, searcher, _ = made()
    index = ApproximateIndex(ExactIndex(documents, "dot", engine="torch", num_candidates=0), searcher)
    found, _ = index.search_in_rounds(queries, 3)
    assert searcher.asked == []
    assert (found.doc_ids == -1).all() and not found.above.any()


def test_no_queries():
    *_, index = made()
    found, rounds = index.search_in_rounds(np.empty((0, 6), np.float32), 3)
    assert (found.doc_ids.shape, found.scores.shape, found.above.shape, rounds.shape) == ((0, 3), (0, 3), (0,), (0,))


@pytest.mark.parametrize(
    ("search", "says"),
    [
        (lambda index: index.search(np.ones((1, 5)), 1), r"shape \(1, 5\), the documents have 6"),
        (lambda index: index.search(np.full((1, 6), np.nan), 1), "query vector 0 is not finite"),
        (lambda index: index.search(np.ones((1, 6)), 0), "k=0; ask for at least one"),
    ],
)
def test_wrong_input_says_what_and_the_cure(search, says):
    with pytest.raises(InputError, match=says):
        search(made()[-1])
