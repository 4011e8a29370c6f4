"""Search by an approximate engine, made safe: exact scores decide, and a query that lacks documents is searched deeper.

The engine searches without the ceiling. Most queries have k valid documents among the first
candidates. Those that do not are searched again, deeper and with more effort, and the rest is searched exactly. So no
query gets fewer documents than exact search would give it; it may get others, and the measured recall is how many it keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Mask, Ranking, Rows
from hf_posmine.search.error_bounds import Queries
from hf_posmine.search.scan import ScanResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.search.exact import ExactIndex

FIRST, DEEPER, HARDER, ROUNDS = 128, 8, 4, 2
"""Candidates of the first round, the factors of depth and of effort of the next round, and the number of rounds.

A third round was measured to cost more than the exact search that comes instead.
"""
SURE = 4
"""A query is done if its k-th valid document is among the first quarter of its candidates: the engine's order is not exact."""
EXACT_COSTS = 32
"""Candidates per query beyond this fraction of the corpus cost more to fetch and score than exact search does."""
HELD = 1 << 20
"""Candidates held at a time."""
EXHAUSTIVE = ROUNDS
"""The round of a query that was searched exactly."""


class Searcher(Protocol):
    """A fast source of candidates without guarantees: a FAISS index, a table of a vector database.

    Attributes:
        deepest: the most documents it gives for a query.
    """

    deepest: int

    def candidates(self, vectors: Floats, k: int, effort: int) -> Rows:
        """About the best ``k`` documents of each query, int64 ``[B, k]``, each once, -1 where it finds no more.

        Args:
            vectors: float32 ``[B, d]``, of unit length where the similarity is cosine.
            k: how many.
            effort: how many times the work of a plain search may be spent: 1 or 4.
        """


class ApproximateIndex:
    """An engine's candidates, scored as exact search scores them, with the ceiling and the exclusions applied to those scores.

    What a query gets does not depend on the other queries of its batch.

    ``above`` of a ranking counts the candidates at or above the ceiling: where the engine missed some, it is too low. It is
    never too high.

    Args:
        exact: the same documents, searched exactly.
        searcher: the engine.

    >>> from hf_posmine.search.exact import ExactIndex
    >>> class Nearsighted:
    ...     deepest = 2
    ...     def candidates(self, vectors, k, effort):
    ...         return np.tile(np.arange(min(k, self.deepest)), (len(vectors), 1))
    >>> index = ApproximateIndex(ExactIndex(np.eye(4, dtype=np.float32), "dot"), Nearsighted())
    >>> query, below = np.array([[4, 3, 2, 1]], np.float32), np.array([3], np.float32)
    >>> index.search(query, 2, below=below).doc_ids.tolist()  # the engine knows documents 0 and 1 only
    [[2, 3]]
    """

    def __init__(self, exact: ExactIndex, searcher: Searcher) -> None:
        self.exact, self.searcher = exact, searcher

    def search(
        self,
        vectors: Floats,
        k: int,
        *,
        below: Floats | None = None,
        exclude: Exclusions | Sequence[Sequence[int]] | None = None,
    ) -> Ranking:
        """About the best ``k`` documents strictly below each query's ceiling; see :meth:`ExactIndex.search`."""
        return self.search_in_rounds(vectors, k, below=below, exclude=exclude)[0]

    def search_in_rounds(
        self,
        vectors: Floats,
        k: int,
        *,
        below: Floats | None = None,
        exclude: Exclusions | Sequence[Sequence[int]] | None = None,
    ) -> tuple[Ranking, Rows]:
        """As :meth:`search`, with the round int64 ``[B]`` in which each query was done, :data:`EXHAUSTIVE` for exactly."""
        vectors = self.exact.check(vectors, k)
        below = np.full(len(vectors), np.inf, np.float32) if below is None else np.asarray(below, np.float32)
        exclude = Exclusions.given(exclude, len(vectors))
        found, rounds = Ranking.nothing(len(vectors), k), np.full(len(vectors), EXHAUSTIVE)
        # Depths double per query, not per batch: the result of a query must not depend on its neighbours, and one hard query
        # must not make all others pay for its depth.
        depths, most = self._first_depths(k, exclude), self._most
        enough = 0 < min(k * SURE, self.exact.num_candidates) <= most
        open_ = np.arange(len(vectors) if enough else 0)
        for number in range(ROUNDS):
            for depth, at in _by_depth(depths, open_):
                ranking, sure = self._round(vectors[at], k, below[at], exclude.take(at), depth, HARDER**number)
                found.put(at[sure], ranking.take(sure))
                rounds[at[sure]] = number
            deeper = np.minimum(depths * DEEPER, most)
            open_ = open_[(rounds[open_] == EXHAUSTIVE) & (deeper > depths)[open_]]
            depths = deeper
        left = np.flatnonzero(rounds == EXHAUSTIVE)
        if len(left):
            found.put(left, self.exact.search(vectors[left], k, below=below[left], exclude=exclude.take(left)))
        self.exact.vectors.release()
        return found, rounds

    def score(self, vectors: Floats, rows: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of document rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        return self.exact.score(vectors, rows)

    @property
    def _most(self) -> int:
        """The greatest depth of a request to the engine."""
        documents = self.exact.num_candidates
        return min(self.searcher.deepest, max(FIRST, documents // EXACT_COSTS), documents)

    def _first_depths(self, k: int, exclude: Exclusions) -> Rows:
        """Candidates int64 ``[B]`` of the first round: room for what is excluded, and powers of two, which make few groups."""
        documents = self.exact.num_candidates
        open_share = 1 - np.searchsorted(exclude.everywhere, documents) / max(1, documents)
        wanted = np.maximum(FIRST, SURE * k + np.diff(exclude.bounds)) / max(open_share, 1 / max(1, documents))
        return np.minimum(2 ** np.ceil(np.log2(wanted)), self._most).astype(np.int64)

    def _round(
        self, vectors: Floats, k: int, below: Floats, exclude: Exclusions, depth: int, effort: int
    ) -> tuple[Ranking, Mask]:
        """One search, and which queries it is enough for."""
        queries = Queries.of(self.exact.similarity, vectors)
        ids = self.searcher.candidates(queries.vectors, depth, effort)
        complete = (ids >= 0).sum(axis=1) == self.exact.num_candidates  # the engine gave every document there is
        ids = _without(ids, exclude, self.exact.num_candidates)
        found = ScanResult(ids, np.zeros(len(ids), np.int64), complete)
        ranking = self.exact.decide(vectors, k, below, found)
        # The engine's order is approximate near the end of its list, so a query is done only with room behind its k-th document.
        full = ranking.doc_ids[:, -1] >= 0
        return ranking, complete | (full & (SURE * (ranking.above + k) <= (ids >= 0).sum(axis=1)))


def _by_depth(depths: Rows, open_: Rows) -> Iterator[tuple[int, Rows]]:
    """The open queries of each depth, so many at a time that their candidates fit."""
    for depth in np.unique(depths[open_]).tolist():
        at = open_[depths[open_] == depth]
        yield from ((depth, at[i : i + max(1, HELD // depth)]) for i in range(0, len(at), max(1, HELD // depth)))


def _without(ids: Rows, exclude: Exclusions, documents: int) -> Rows:
    """The candidates int64 ``[B, m]`` with -1 in the place of those that are excluded."""
    queries = np.arange(len(ids))
    owners = np.repeat(queries, np.diff(exclude.bounds))
    inside = exclude.rows < documents
    # (query, document) as one number, so that one isin serves all rows
    mine = (owners * documents + exclude.rows)[inside]
    hidden = np.isin(queries[:, None] * documents + ids, mine) & (ids >= 0)
    return np.where(hidden | np.isin(ids, exclude.everywhere), PADDING, ids)
