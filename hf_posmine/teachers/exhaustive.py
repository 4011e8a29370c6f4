"""Teachers that score a query with every document anyway: lexical, sparse, random; selection below a ceiling for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows, SearchRequest
from hf_posmine.data.images import named_images
from hf_posmine.teachers.multi_search import placed, stored_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hf_posmine.data.corpus import Corpus

BLOCK_SCORES = 1 << 23
"""Scores held at a time (32 MB): the queries of a block times the documents."""


def select_below(scores: Floats, k: int, below: Floats | None = None, exclude: Exclusions | None = None) -> Ranking:
    """The best ``k`` documents strictly below each query's ceiling, where all scores are there.

    Args:
        scores: float32 ``[B, N]``, finite, of all candidates.
        k: depth.
        below: float32 ``[B]``, ``inf`` for no ceiling.
        exclude: documents that may not be candidates; they are not counted in ``above`` either.

    >>> scores = np.array([[4, 3, 2, 3]], np.float32)
    >>> found = select_below(scores, 2, np.array([4], np.float32), Exclusions.of([[2]]))
    >>> found.doc_ids.tolist(), found.scores.tolist(), found.above.tolist()
    ([[1, 3]], [[3.0, 3.0]], [1])
    """
    size, documents = scores.shape
    if k < 1:
        raise InputError(f"k={k}; ask for at least one document")
    below = np.full(size, np.inf, np.float32) if below is None else below
    exclude = Exclusions.given(exclude, size)
    ranking = Ranking.nothing(size, k)
    everywhere = exclude.everywhere[exclude.everywhere < documents]
    for row in range(size):
        mine = exclude.of_query(row)
        left = scores[row].copy()
        left[everywhere] = left[mine[mine < documents]] = -np.inf
        high = left >= below[row]
        ranking.above[row] = (
            high.sum() if np.isfinite(below[row]) else np.isneginf(below[row]) * np.isfinite(left).sum()
        )
        left[high] = -np.inf
        ids = _best(left, k)
        ranking.doc_ids[row, : len(ids)], ranking.scores[row, : len(ids)] = ids, left[ids]
    return ranking


def _best(scores: Floats, k: int) -> Rows:
    """The documents of the ``k`` highest scores above ``-inf``, best first, ties in document order."""
    least = np.partition(scores, len(scores) - k)[len(scores) - k] if k < len(scores) else -np.inf
    better = np.flatnonzero(scores > least)
    ties = np.flatnonzero(scores == least)[: k - len(better)] if np.isfinite(least) else better[:0]
    ids = np.concatenate([better, ties])
    return ids[np.lexsort((ids, -scores[ids]))]


class FullScores:
    """Search and scoring of a teacher whose ``all_scores`` gives float32 ``[B, N]`` for some queries.

    Attributes:
        corpus: the documents.
    """

    corpus: Corpus

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document of the corpus."""
        raise NotImplementedError

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        exclude = Exclusions.given(exclude, len(queries))
        found = []
        for at, scores in self._blocks(queries):
            ceilings = None if below is None else below[at]
            found.append(select_below(scores[:, : self.corpus.num_candidates], k, ceilings, exclude.take(at)))
        return joined(found, k)

    def search_many(self, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions) -> list[Ranking]:
        """Several searches from one scoring and one sort of each query's documents."""
        rows = np.unique(np.concatenate([want.rows for want in wants]))
        parts: list[list[tuple[Rows, Ranking]]] = [[] for _ in wants]
        for at, scores in self._blocks([queries[i] for i in rows.tolist()]):
            found, values = rows[at], scores[:, : self.corpus.num_candidates]
            ids = np.argsort(-values, axis=1, kind="stable")
            values = np.take_along_axis(values, ids, axis=1)
            everything = np.ones(len(found), bool)
            inside = [np.flatnonzero((w.rows >= found[0]) & (w.rows <= found[-1])) for w in wants]
            local = [
                SearchRequest(np.searchsorted(found, w.rows[mine]), w.k, w.below[mine])
                for w, mine in zip(wants, inside, strict=True)
            ]
            rankings = stored_prefix(ids, values, local, exclude.take(found), complete=True, known=everything)
            for part, mine, (ranking, _) in zip(parts, inside, rankings, strict=True):
                part.append((mine, ranking))
        return [placed(part, want) for part, want in zip(parts, wants, strict=True)]

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        out = np.full(doc_ids.shape, -np.inf, np.float32)
        for at, scores in self._blocks(queries):
            rows = doc_ids[at]
            out[at] = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), axis=1), -np.inf)
        return out

    def _blocks(self, queries: Sequence[str]) -> Iterator[tuple[Rows, Floats]]:
        """Positions of some queries and their scores, bounded in memory."""
        size = max(1, BLOCK_SCORES // max(1, len(self.corpus)))
        for start in range(0, len(queries), size):
            at = np.arange(start, min(len(queries), start + size))
            yield at, self.all_scores([queries[i] for i in at.tolist()])


def joined(parts: Sequence[Ranking], k: int) -> Ranking:
    """Rankings of depth ``k``, one batch after the other."""
    every = (Ranking.nothing(0, k), *parts)
    doc_ids, scores, above = zip(*((part.doc_ids, part.scores, part.above) for part in every), strict=True)
    return Ranking(np.concatenate(doc_ids), np.concatenate(scores), np.concatenate(above))


def as_texts(values: Iterable[object], what: str) -> list[str]:
    """``values`` if they are texts."""
    members = named_images(values)
    texts = [text for text in members if isinstance(text, str)]
    if isinstance(values, str) or len(texts) != len(members):
        raise InputError(f"{what} must be texts, got {values!r:.60}")
    return texts
