"""Exact search below a ceiling: no depth to guess, no query left short while the corpus holds a valid document."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from hf_posmine.errors import InputError, MissingExtraError
from hf_posmine.search import kernels
from hf_posmine.search.geometry import Documents, Queries
from hf_posmine.search.scan import Found, Limits, Scan
from hf_posmine.search.scan_cpu import CpuScan, int8_is_faster
from hf_posmine.search.scan_torch import TorchScan
from hf_posmine.search.similarity import check_similarity, exact_scores, to_scan
from hf_posmine.store import Vectors
from hf_posmine.types import PADDING, Exclusions, Floats, Ranking, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

Engine: TypeAlias = Literal["auto", "int8", "float32", "torch"]
CPU_BLOCK, ACCELERATOR_BLOCK = 4096, 65_536
MIN_ROOM = 512


class ExactIndex:
    """Every query against every document, in blocks, with the ceiling and the exclusions inside the block.

    Candidates found in int8 or float32 are scored again in float64 and rounded once, so neither the engine nor block
    sizes, batch sizes or order move a result (semantics 7). Ties are in document order.

    Args:
        vectors: float32 ``[N, d]``, in memory or memory-mapped.
        similarity: cosine, dot, euclidean or manhattan; distances are negated.
        num_candidates: only the first that many rows are searched; all can be scored.
        device: where to multiply; a CPU uses the compiled scan if numba is there.
        engine: ``auto`` takes int8 products where the CPU is faster at them. No choice changes a result.
        block_rows: documents per block.

    >>> index = ExactIndex(np.eye(4, dtype=np.float32), "dot")
    >>> ranking = index.search(np.array([[4, 3, 2, 1]], np.float32), 2, below=np.array([4], np.float32))
    >>> ranking.doc_ids.tolist(), ranking.scores.tolist(), ranking.above.tolist()
    ([[1, 2]], [[3.0, 2.0]], [1])
    >>> index.search(np.array([[4, 3, 2, 1]], np.float32), 2, exclude=[[0, 1]]).doc_ids.tolist()
    [[2, 3]]
    """

    def __init__(
        self,
        vectors: np.ndarray | Vectors,
        similarity: str = "cosine",
        *,
        num_candidates: int | None = None,
        device: str = "cpu",
        engine: Engine = "auto",
        block_rows: int | None = None,
    ) -> None:
        self.vectors = vectors if isinstance(vectors, Vectors) else Vectors((_checked(vectors),))
        self.similarity = check_similarity(similarity)
        self.num_candidates = len(self.vectors) if num_candidates is None else num_candidates
        self.device, self.engine = str(device), engine
        self.block_rows = block_rows or (CPU_BLOCK if self.device == "cpu" else ACCELERATOR_BLOCK)
        if engine not in ("auto", "int8", "float32", "torch"):
            raise InputError(f"engine={engine!r}; choose 'auto', 'int8', 'float32' or 'torch'")
        if engine in ("int8", "float32") and not kernels.AVAILABLE:
            raise MissingExtraError(f"engine={engine!r}", "fast")

    def search(
        self,
        vectors: Floats,
        k: int,
        *,
        below: Floats | None = None,
        exclude: Exclusions | Sequence[Sequence[int]] | None = None,
    ) -> Ranking:
        """The best ``k`` documents strictly below each query's ceiling.

        Args:
            vectors: float32 ``[B, d]``.
            k: depth.
            below: float32 ``[B]``, ``inf`` for no ceiling.
            exclude: documents that may not be candidates, a list of rows per query or :class:`Exclusions`; they are
                not counted in ``above`` either.

        Returns:
            Fewer than ``k`` documents only where the corpus has no more below the ceiling.
        """
        vectors = self._check(vectors, k)
        below = np.full(len(vectors), np.inf, np.float32) if below is None else np.asarray(below, np.float32)
        if exclude is None:
            exclude = Exclusions.none(len(vectors))
        elif not isinstance(exclude, Exclusions):
            exclude = Exclusions.of(exclude)
        queries = Queries.of(self.similarity, vectors)
        limits = Limits(to_scan(self.similarity, below, queries.squares), exclude)
        ranking = self._decide(vectors, k, below, self._find(queries, k, limits))
        self.vectors.release()
        return ranking

    def score(self, vectors: Floats, rows: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of document rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        return exact_scores(self.similarity, np.asarray(vectors, np.float32), self.vectors, rows)

    def _find(self, queries: Queries, k: int, limits: Limits) -> Found:
        """Scan; then scan again, with more room, the queries whose result is not certain."""
        found = Found.empty(len(queries.vectors))
        room = max(MIN_ROOM, 4 * k)
        passes = [(scan, scan.spare * room) for scan in self._scans]
        while not found.complete.all():
            scan, room = passes.pop(0) if passes else (self._scans[-1], 4 * room)
            open_ = np.flatnonzero(~found.complete)
            found = found.put(open_, scan(queries.take(open_), k, limits.take(open_), min(room, self._most_room(k))))
        return found

    def _most_room(self, k: int) -> int:
        """Room in which a buffer of all documents never overflows."""
        return 2 * max(self.num_candidates, k) + MIN_ROOM

    def _decide(self, vectors: Floats, k: int, below: Floats, found: Found) -> Ranking:
        """Score what was found exactly, apply the ceiling, and order by score, then by document."""
        scores = self.score(vectors, found.ids)
        here = found.ids >= 0
        valid = here & (scores < below[:, None])
        above = found.above + (here & ~valid).sum(axis=1)
        scores = np.where(valid, scores, -np.inf).astype(np.float32)
        ids = np.where(valid, found.ids, PADDING)
        order = np.lexsort((np.where(valid, ids, np.iinfo(np.int64).max), -scores), axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
        missing = ((0, 0), (0, k - ids.shape[1]))
        return Ranking(
            np.pad(ids, missing, constant_values=PADDING), np.pad(scores, missing, constant_values=-np.inf), above
        )

    @cached_property
    def _scans(self) -> list[Scan]:
        documents = Documents.of(self.similarity, self.vectors, self.num_candidates, self.block_rows)
        common = (self.similarity, self.vectors, documents, self.block_rows)
        if self.engine == "torch" or self.device != "cpu" or not kernels.AVAILABLE:
            return [TorchScan(*common, self.device)]
        int8 = self.engine == "int8" or (self.engine == "auto" and int8_is_faster(self.vectors.dim))
        coarse = [CpuScan(*common, int8=True)] if int8 and self.similarity != "manhattan" else []
        return [*coarse, CpuScan(*common, int8=False)]

    def _check(self, vectors: Floats, k: int) -> Floats:
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.vectors.dim:  # noqa: PLR2004 - [B, d]
            raise InputError(
                f"query vectors have shape {vectors.shape}, the documents have {self.vectors.dim} dimensions"
            )
        if not np.isfinite(vectors).all():
            raise InputError(f"query vector {np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]} is not finite")
        if k < 1:
            raise InputError(f"k={k}; ask for at least one document")
        return vectors


def _checked(vectors: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(vectors, np.float32)
    if array.ndim != 2:  # noqa: PLR2004 - [N, d]
        raise InputError(f"document vectors have shape {array.shape}; expected [documents, dimensions]")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(f"{len(bad)} document vectors are not finite, first row {bad[0]}")
    return array
