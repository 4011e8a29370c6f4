"""Many ceilings from one scan of dense vectors: what makes a sweep of thresholds cost less than a second search."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Ranking, Rows, SearchRequest
from hf_posmine.search.rescore import exact_scores
from hf_posmine.teachers.multi_search import placed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.search.exact import ExactIndex

LITTLE_ENDIAN = sys.byteorder == "little"
DOCUMENT = np.uint64(0xFFFF_FFFF)
BLOCK_SCORES = 1 << 22
"""Coarse scores held at a time: 16 MB, and 32 MB sorted."""
SLACK = (12, 64)
"""Documents scored exactly beyond those wanted, so that the coarse order need not be the exact one: at first, and in doubt."""


def search_ladder(
    index: ExactIndex, vectors: Floats, wants: Sequence[SearchRequest], exclude: Exclusions
) -> list[Ranking]:
    """The rankings of several searches, exactly as ``index.search`` gives them one by one.

    All documents of a query are scored in float32 and sorted once. The documents around each ceiling are scored again as
    the index scores them; where the rounding of the coarse scores leaves a doubt, the index itself searches.

    Args:
        index: the documents.
        vectors: float32 ``[B, d]``, of the queries.
        wants: which of them, how deep and below which ceilings.
        exclude: documents that may not be candidates.
    """
    if index.similarity not in ("cosine", "dot"):
        return [_alone(index, vectors, want, exclude) for want in wants]
    rows = np.unique(np.concatenate([want.rows for want in wants]))
    parts: list[list[tuple[Rows, Ranking]]] = [[] for _ in wants]
    norms = _norms(index)
    size = max(1, BLOCK_SCORES // max(1, index.num_candidates))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        ladder = _Ladder(index, vectors[block], norms, exclude.take(block))
        for want, part in zip(wants, parts, strict=True):
            mine = np.flatnonzero((want.rows >= block[0]) & (want.rows <= block[-1]))
            at = np.searchsorted(block, want.rows[mine])
            part.append((mine, ladder.below(SearchRequest(at, want.k, want.below[mine]))))
    return [placed(part, want) for part, want in zip(parts, wants, strict=True)]


class _Ladder:
    """All documents of some queries by coarse score."""

    def __init__(self, index: ExactIndex, vectors: Floats, norms: Floats, exclude: Exclusions) -> None:
        self.index, self.vectors, self.exclude = index, vectors, exclude
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        queries = vectors if index.similarity == "dot" else vectors / np.where(lengths == 0, 1, lengths)[:, None]
        coarse = np.empty((len(vectors), index.num_candidates), np.float32)
        for start, part in index.vectors.blocks(index.block_rows, index.num_candidates):
            span = slice(start, start + len(part))
            np.matmul(queries.astype(np.float32), part.astype(np.float32, copy=False).T, out=coarse[:, span])
        if index.similarity == "cosine":
            coarse /= np.where(norms == 0, 1, norms)
        owners = np.repeat(np.arange(len(vectors)), np.diff(exclude.bounds))
        here = exclude.rows < index.num_candidates
        coarse[owners[here], exclude.rows[here]] = -np.inf
        coarse[:, exclude.everywhere[exclude.everywhere < index.num_candidates]] = -np.inf
        self.ranked = _ranked(coarse)
        # a sum of d products of float32 is off by at most about d ulps of the product of the lengths
        longest = float(norms.max(initial=0)) * lengths if index.similarity == "dot" else np.ones(len(vectors))
        self.error = longest * (vectors.shape[1] + 8) * 2.0**-23

    def below(self, want: SearchRequest) -> Ranking:
        """The best ``k`` below the ceilings of some of the queries."""
        whole, open_ = Ranking.nothing(len(want.rows), want.k), np.arange(len(want.rows))
        for slack in SLACK:
            if len(open_):
                ranking, doubtful = self._scored(SearchRequest(want.rows[open_], want.k, want.below[open_]), slack)
                whole.put(open_, ranking)
                open_ = open_[doubtful]
        if len(open_):
            again = SearchRequest(want.rows[open_], want.k, want.below[open_])
            whole.put(open_, _alone(self.index, self.vectors, again, self.exclude))
        return whole

    def _scored(self, want: SearchRequest, slack: int) -> tuple[Ranking, Rows]:
        """The best ``k`` of some documents around each ceiling, and where it may take more of them to be sure."""
        ceilings, error = want.below.astype(np.float64), self.error[want.rows]
        lowest = np.finfo(np.float32).min  # excluded ones are at -inf
        first = self._count(want.rows, np.maximum(ceilings + error, lowest))
        columns = first[:, None] + np.arange(want.k + slack)
        inside = columns < self.ranked.shape[1]
        ranked = self.ranked[want.rows[:, None], np.minimum(columns, self.ranked.shape[1] - 1)]
        coarse = _scores_of(ranked)
        inside &= coarse > -np.inf
        ids = np.where(inside, (ranked & DOCUMENT).astype(np.int64), PADDING)
        scores = exact_scores(self.index.similarity, self.vectors[want.rows], self.index.vectors, ids)
        high = inside & (scores >= want.below[:, None])
        ids, scores = _sorted(np.where(high, PADDING, ids), np.where(high, -np.inf, scores).astype(np.float32), want.k)
        doubtful = np.flatnonzero(inside[:, -1] & ~(coarse[:, -1] < scores[:, -1] - error))
        return Ranking(ids, scores, first + high.sum(axis=1)), doubtful

    def _count(self, rows: Rows, bounds: np.ndarray) -> Rows:
        """How many coarse scores of each row are at or above a bound, by bisection in all rows at once."""
        least = bounds.astype(np.float32)
        least = np.where(least < bounds, np.nextafter(least, np.float32(np.inf)), least)
        behind = (_turned(least.view(np.int32)).view(np.uint32).astype(np.uint64) + np.uint64(1)) << np.uint64(32)
        low, high = np.zeros(len(rows), np.int64), np.full(len(rows), self.ranked.shape[1])
        while (low < high).any():
            middle = (low + high) // 2
            above = self.ranked[rows, np.minimum(middle, self.ranked.shape[1] - 1)] < behind
            low, high = np.where(above & (low < high), middle + 1, low), np.where(above, high, middle)
        return low


def _ranked(coarse: Floats) -> np.ndarray:
    """Scores and documents, the best first, uint64 ``[B, N]``: one number each, whose sort is many times an argsort's speed.

    The upper half is the score with its bits turned so that a larger score is a smaller number, the lower the document.
    """
    ranked = np.empty(coarse.shape, np.uint64)
    document, score = np.moveaxis(ranked.view(np.uint32).reshape(*coarse.shape, 2), -1, 0)[
        :: 1 if LITTLE_ENDIAN else -1
    ]
    document[:] = np.arange(coarse.shape[1], dtype=np.uint32)
    score[:] = _turned(coarse.view(np.int32)).view(np.uint32)
    ranked.sort(axis=1)
    return ranked


def _scores_of(ranked: np.ndarray) -> Floats:
    """The float32 scores of what :func:`_ranked` holds."""
    return _turned((ranked >> np.uint64(32)).astype(np.uint32).view(np.int32)).view(np.float32)


def _turned(bits: np.ndarray) -> np.ndarray:
    """The bits of float32 as int32, so turned that as unsigned numbers they fall as the scores rise; its own inverse."""
    flips = bits >> 31
    np.invert(flips, out=flips)
    flips &= np.iinfo(np.int32).max
    flips ^= bits
    return flips


def _sorted(ids: Rows, scores: Floats, k: int) -> tuple[Rows, Floats]:
    """The first ``k`` by score, then by document; padding last."""
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores), axis=1)[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _alone(index: ExactIndex, vectors: Floats, want: SearchRequest, exclude: Exclusions) -> Ranking:
    if not len(want.rows):
        return Ranking.nothing(0, want.k)
    return index.search(vectors[want.rows], want.k, below=want.below, exclude=exclude.take(want.rows))


def _norms(index: ExactIndex) -> Floats:
    blocks = index.vectors.blocks(index.block_rows, index.num_candidates)
    return np.concatenate([np.linalg.norm(part.astype(np.float32), axis=1) for _, part in blocks])
