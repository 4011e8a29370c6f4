"""Exact search over parts of the corpus on several GPUs or machines, and the merge of their results."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import PADDING, Exclusions, Floats, Index, Ranking, Rows, Teacher
from hf_posmine.search.exact import CPU_BLOCK, Engine, ExactIndex
from hf_posmine.search.rescore import check_similarity, exact_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.encoding.store import Vectors


class ShardedIndex:
    """An index over parts of the documents; its rankings are those of one :class:`~hf_posmine.search.exact.ExactIndex`.

    Every part returns its best k below the ceiling, scored exactly, so the best k of all parts are the best k of all
    documents, and the counts above the ceiling add up.

    Args:
        parts: an index for each part, searched side by side.
        starts: int64 ``[parts + 1]``, the first document of each part, and the number of candidates.
        vectors: float32 ``[N, d]`` of all documents, memory-mapped, to score single pairs.
        similarity: as of the parts.
    """

    def __init__(self, parts: Sequence[Index], starts: Sequence[int] | Rows, vectors: Vectors, similarity: str) -> None:
        self.parts, self.starts = list(parts), np.asarray(starts, np.int64)
        if len(self.starts) != len(self.parts) + 1 or not len(self.parts):
            raise InputError(
                f"{len(self.parts)} parts and {len(self.starts)} starts; give one start per part and the end"
            )
        self.vectors, self.similarity, self.block_rows = vectors, check_similarity(similarity), CPU_BLOCK

    @classmethod
    def over(
        cls,
        vectors: Vectors,
        similarity: str,
        devices: Sequence[str],
        *,
        num_candidates: int | None = None,
        engine: Engine = "auto",
    ) -> ShardedIndex:
        """An even part of the documents for each device of this process.

        Args:
            vectors: float32 ``[N, d]``.
            similarity: cosine, dot, euclidean or manhattan.
            devices: such as ``["cuda:0", "cuda:1"]``.
            num_candidates: only the first that many rows are searched.
            engine: see :class:`~hf_posmine.search.exact.ExactIndex`.

        >>> from hf_posmine.encoding.store import Vectors
        >>> index = ShardedIndex.over(Vectors((np.eye(5, dtype=np.float32),)), "dot", ["cpu", "cpu"])
        >>> index.search(np.array([[1, 2, 3, 2, 1]], np.float32), 3).doc_ids.tolist()
        [[2, 1, 3]]
        """
        total = len(vectors) if num_candidates is None else num_candidates
        starts = even_starts(total, len(devices))
        parts = [
            ExactIndex(vectors.span(start, stop), similarity, device=device, engine=engine)
            for start, stop, device in zip(starts[:-1].tolist(), starts[1:].tolist(), devices, strict=False)
        ]
        return cls(parts, starts, vectors, similarity)

    @property
    def num_candidates(self) -> int:
        """Documents that are searched."""
        return int(self.starts[-1])

    def search(
        self,
        vectors: Floats,
        k: int,
        *,
        below: Floats | None = None,
        exclude: Exclusions | Sequence[Sequence[int]] | None = None,
    ) -> Ranking:
        """The best ``k`` documents strictly below each query's ceiling, as :meth:`ExactIndex.search` gives them."""
        excluded = Exclusions.given(exclude, len(vectors))

        def one(number: int) -> Ranking:
            start, stop = self.starts[number : number + 2].tolist()
            return self.parts[number].search(vectors, k, below=below, exclude=within(excluded, start, stop))

        with ThreadPoolExecutor(len(self.parts)) as pool:
            return merge(list(pool.map(one, range(len(self.parts)))), self.starts, k)

    def score(self, vectors: Floats, rows: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of document rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        return exact_scores(self.similarity, np.asarray(vectors, np.float32), self.vectors, rows)


def even_starts(total: int, parts: int) -> Rows:
    """Bounds int64 ``[parts + 1]`` of parts of nearly equal size; fewer parts where there are fewer documents.

    >>> even_starts(10, 3).tolist()
    [0, 3, 6, 10]
    """
    parts = max(1, min(parts, total))
    return np.arange(parts + 1, dtype=np.int64) * total // parts


def within(exclude: Exclusions, start: int, stop: int) -> Exclusions:
    """The exclusions among the documents from ``start`` up to ``stop``, numbered from ``start``.

    >>> within(Exclusions.of([[1, 4], [5]], [2, 4]), 4, 6).of_query(0).tolist()
    [0]
    """
    here = (exclude.rows >= start) & (exclude.rows < stop)
    bounds = np.append(0, np.cumsum(here))[exclude.bounds]
    everywhere = exclude.everywhere[(exclude.everywhere >= start) & (exclude.everywhere < stop)]
    return Exclusions(exclude.rows[here] - start, bounds, everywhere - start)


def merge(rankings: Sequence[Ranking], starts: Rows, k: int) -> Ranking:
    """The best ``k`` of several parts: score descending, then document; counts above the ceilings are summed.

    >>> one = Ranking(np.array([[0, 1]]), np.array([[3, 1]], np.float32), np.array([2]))
    >>> two = Ranking(np.array([[1, -1]]), np.array([[3, -np.inf]], np.float32), np.array([0]))
    >>> merged = merge([one, two], np.array([0, 2, 4]), 2)
    >>> merged.doc_ids.tolist(), merged.above.tolist()
    ([[0, 3]], [2])
    """
    # every part gave its k best below the same ceiling, so the k best of all are among these [B, parts * k]
    shifted = [np.where(r.doc_ids >= 0, r.doc_ids + start, PADDING) for r, start in zip(rankings, starts, strict=False)]
    ids = np.concatenate(shifted, axis=1)
    scores = np.concatenate([r.scores for r in rankings], axis=1)
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores), axis=1)[:, :k]
    above = np.stack([r.above for r in rankings]).sum(axis=0)
    return Ranking(np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1), above)


@runtime_checkable
class HasIndex(Protocol):
    """A teacher that is searched by an index of vectors."""

    index: Index


def search_on(teacher: Teacher, devices: Sequence[str]) -> None:
    """Let a dense teacher of this process search an even part of its corpus on each of several devices.

    Args:
        teacher: a :class:`~hf_posmine.teachers.dense.DenseTeacher` that searches exactly.
        devices: such as ``["cuda:0", "cuda:1"]``.

    Raises:
        InputError: a teacher that is searched otherwise.
    """
    if not isinstance(teacher, HasIndex) or not isinstance(index := teacher.index, ExactIndex):
        raise InputError(f"{teacher.name!r} is not searched exactly by vectors, so it cannot be searched by parts")
    teacher.index = ShardedIndex.over(
        index.vectors, index.similarity, devices, num_candidates=index.num_candidates, engine=index.engine
    )
