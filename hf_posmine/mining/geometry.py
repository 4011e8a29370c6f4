"""Candidates between query and positive: filters on cosines of the teacher's vectors, searched as deep as they need.

A ceiling is known before the search, where a candidate lies is not. So a row whose first candidates fall away is searched
deeper, until it has enough or the corpus ends.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import by_position
from hf_posmine.core.types import PADDING
from hf_posmine.search.approximate import ApproximateIndex
from hf_posmine.search.rescore import exact_scores
from hf_posmine.teachers.capabilities import vectors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hf_posmine.core.types import Filter, Floats, Mask, Ranking, Rows, Scorer
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.mining.batch import Batch
    from hf_posmine.teachers.capabilities import SearchesVectors

DEEPER, HELD = 4, 1 << 22
"""How many times the depth of a search the next one has, and candidates held at a time."""


def require_vectors(filters: Sequence[Filter], teacher: Scorer) -> SearchesVectors | None:
    """The vectors of a teacher whose candidates are filtered by their place; None where none are.

    Raises:
        InputError: the teacher has none.
    """
    placed = by_position(filters)
    if not placed:
        return None
    found = vectors_of(teacher)
    if found is None:
        raise InputError(
            f"{placed[0]!r} compares candidates with the positive, and the teacher has no vectors of documents; take a dense one"
        )
    return found


@dataclass(frozen=True)
class Positions:
    """Where the candidates of a batch lie between its queries and positives, as one teacher sees them.

    Attributes:
        filters: those that look at it.
        queries: vectors float32 ``[B, d]``.
        positives: vectors float32 ``[B, m, d]`` of the rows' own positives.
        there: bool ``[B, m]``, which of them exist.
        documents: vectors of the corpus.
    """

    filters: Sequence[Filter]
    queries: Floats
    positives: Floats
    there: Mask
    documents: Vectors

    @classmethod
    def of(cls, batch: Batch, teacher: Scorer, filters: Sequence[Filter]) -> Positions | None:
        """Of a batch; None without filters that need it."""
        vectors = require_vectors(filters, teacher)
        if vectors is None:
            return None
        index, queries = vectors.index, vectors.embed_queries(batch.queries)
        documents = index.exact.vectors if isinstance(index, ApproximateIndex) else index.vectors
        codes, own = batch.positives()
        order = np.argsort(~own, axis=1, kind="stable")[:, : own.sum(axis=1).max(initial=1)]
        codes, own = np.take_along_axis(codes, order, axis=1), np.take_along_axis(own, order, axis=1)
        positives = np.zeros((*codes.shape, queries.shape[1]), np.float32)
        inside, outside = own & (codes >= 0), own & (codes < 0)
        if inside.any():
            positives[inside] = documents[codes[inside]]
        if outside.any():
            positives[outside] = vectors.embed_documents([batch.texts[code] for code in codes[outside].tolist()])
        return cls(filters, queries, positives, own, documents)

    def keep(self, rows: Rows, doc_ids: Rows) -> Mask:
        """Which candidates int64 ``[b, K]`` of some rows pass all filters, bool ``[b, K]``."""
        to_query = exact_scores("cosine", self.queries[rows], self.documents, doc_ids)
        to_positive = np.full(doc_ids.shape, -np.inf, np.float32)
        for at in range(self.there.shape[1]):
            ids = np.where(self.there[rows, at, None], doc_ids, PADDING)
            cosines = exact_scores("cosine", self.positives[rows, at], self.documents, ids)
            np.maximum(to_positive, cosines, out=to_positive)
        passed = [f.keeps(to_query, to_positive) for f in by_position(self.filters)]
        return np.logical_and.reduce(passed) & (doc_ids >= 0)


@dataclass(frozen=True)
class FoundBelow:
    """The candidates of a search.

    Attributes:
        ranking: ``[B, K]``.
        ranks: int64 ``[B, K]``, positions among the candidates that are not excluded.
        inside: bool ``[B, K]``, which are in the window of ranks.
        keep: bool ``[B, K]``, which of these pass all filters.
        more: bool ``[B]``, whether a deeper search can find others.
    """

    ranking: Ranking
    ranks: Rows
    inside: Mask
    keep: Mask
    more: Mask

    def put(self, rows: Rows, deep: FoundBelow) -> None:
        """Write the kept candidates of a deeper search of some rows into the room that there is."""
        order = np.argsort(~deep.keep, axis=1, kind="stable")[:, : self.ranks.shape[1]]
        kept = np.take_along_axis(deep.keep, order, axis=1)
        self.ranking.doc_ids[rows] = np.where(kept, np.take_along_axis(deep.ranking.doc_ids, order, axis=1), PADDING)
        self.ranking.scores[rows] = np.where(kept, np.take_along_axis(deep.ranking.scores, order, axis=1), -np.inf)
        self.ranks[rows], self.keep[rows] = np.take_along_axis(deep.ranks, order, axis=1), kept


def deepen(found: FoundBelow, wanted: int, most: int, search: Callable[[Rows, int], FoundBelow]) -> FoundBelow:
    """The first search, with the rows that have too few candidates searched deeper and deeper.

    Args:
        found: the first search, at least ``wanted`` deep.
        wanted: kept candidates per row.
        most: the deepest search.
        search: some rows, to a depth.
    """
    found = copy.deepcopy(found)  # whoever searched may keep what it found
    depth = found.ranks.shape[1]
    open_ = np.flatnonzero(found.more & (found.keep.sum(axis=1) < wanted))
    while len(open_) and depth < most:
        depth, left = min(DEEPER * depth, most), []
        for rows in _parts(open_, max(1, HELD // depth)):
            deep = search(rows, depth)
            found.put(rows, deep)
            left.append(rows[deep.more & (deep.keep.sum(axis=1) < wanted)])
        open_ = np.concatenate(left)
    return found


def _parts(rows: Rows, size: int) -> Iterator[Rows]:
    yield from (rows[start : start + size] for start in range(0, len(rows), size))
