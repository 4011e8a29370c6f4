"""Exact search below a ceiling: no depth to guess, no query left short while the corpus holds a valid document."""

from __future__ import annotations

import dataclasses
import functools
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.core.types import PADDING, Exclusions, Floats, Ranking, Rows
from hf_posmine.encoding.store import EMBEDDING_SHARD_ROWS, Vectors
from hf_posmine.search import kernels
from hf_posmine.search.axis_bounds import AxisBounds
from hf_posmine.search.axis_codes import Axes
from hf_posmine.search.block_sizes import Sizes, TorchSizes
from hf_posmine.search.coarse import AxisProducts, RoundedProducts
from hf_posmine.search.error_bounds import Queries
from hf_posmine.search.groups import GROUP
from hf_posmine.search.prepared import prepare, prepare_axes
from hf_posmine.search.principal_axes import GPU_FLOAT, GPU_HALF, stored_axes
from hf_posmine.search.product_speed import int16_share, quickest_rounding
from hf_posmine.search.rescore import check_similarity, exact_scores, to_scan
from hf_posmine.search.scan import Ceilings, Scan, ScanResult
from hf_posmine.search.scan_cpu import CpuScan
from hf_posmine.search.scan_int8 import Int8Scan
from hf_posmine.search.scan_torch import TorchScan
from hf_posmine.utils.memory import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.search.coarse import Coarse
    from hf_posmine.search.error_bounds import Documents
    from hf_posmine.search.rounding import Kind

Engine: TypeAlias = Literal["auto", "int8", "bfloat16", "int16", "float32", "torch"]
CPU_BLOCK = Sizes.block_rows
SLOW = 0.9
"""16-bit products that take this share of float32's time are not worth their codes."""
AXIS_SHARE = 8
"""Rows are put along axes in float64, several arrays of them at a time: so many times fewer rows than in a block of products."""
WIDER = 1.5
"""A document on a GPU with its coordinates along axes is at most so many times longer."""
MORE = 8
"""How many times the room a query gets that is scanned once more."""


class ExactIndex:
    """Every query against every document, in blocks, with the ceiling and the exclusions inside the block.

    Candidates found in int8, bfloat16 or float32 are scored again in float64 and rounded once, so neither the engine nor block
    sizes, batch sizes or order move a result (semantics 7). Ties are in document order.

    Args:
        vectors: float32 ``[N, d]``, in memory or memory-mapped.
        similarity: cosine, dot, euclidean or manhattan; distances are negated.
        num_candidates: only the first that many rows are searched; all can be scored.
        device: where to multiply.
        engine: ``auto`` searches with torch alone until so many pairs were compared that compiled loops are worth their
            compilation (:data:`~hf_posmine.search.kernels.WORTH_COMPILING`). Then, on a CPU with numba, it takes products of int8
            or bfloat16 where the processor has instructions for them, whichever is quicker, else 16-bit codes where these are
            quicker than float32, along as many principal axes as decide most documents. A GPU multiplies float16, or what is named:
            int8, bfloat16 (both for cosines and dot products) or float32. No choice changes a result.
        block_rows: documents per block; by default what suits the device and the budget.
        budget: memory it may take, by default that of the environment (:mod:`hf_posmine.utils.memory`).

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
        budget: Budget | None = None,
    ) -> None:
        self.vectors = vectors if isinstance(vectors, Vectors) else _pieces(vectors)
        self.similarity = check_similarity(similarity)
        self.num_candidates = len(self.vectors) if num_candidates is None else num_candidates
        self.device, self.engine = str(device), engine
        self.block_rows, self._block_rows = block_rows or Sizes.block_rows, block_rows
        self.budget = Budget.current() if budget is None else budget
        if engine not in get_args(Engine):
            raise InputError(f"engine={engine!r}; choose one of {', '.join(map(repr, get_args(Engine)))}")
        if engine == "int16" and self.device != "cpu":
            raise InputError(
                f"engine='int16' searches on the CPU, not on device={self.device!r}; leave one of them out"
            )
        if engine not in ("auto", "torch") and not kernels.AVAILABLE:
            raise MissingExtraError(f"engine={engine!r}", "fast")

    def search(
        self,
        vectors: Floats,
        k: int,
        *,
        below: Floats | None = None,
        exclude: Exclusions | Sequence[Sequence[int]] | None = None,
        at_least: Floats | None = None,
    ) -> Ranking:
        """The best ``k`` documents strictly below each query's ceiling.

        Args:
            vectors: float32 ``[B, d]``.
            k: depth.
            below: float32 ``[B]``, ``inf`` for no ceiling.
            exclude: documents that may not be candidates, a list of rows per query or :class:`Exclusions`; they are
                not counted in ``above`` either.
            at_least: float32 ``[B]``, below the ceilings: documents with a lower score may be left out, which spares their
                scores in float64.

        Returns:
            Fewer than ``k`` documents only where the corpus has no more below the ceiling.
        """
        vectors = self.check(vectors, k)
        below = np.full(len(vectors), np.inf, np.float32) if below is None else np.asarray(below, np.float32)
        exclude = Exclusions.given(exclude, len(vectors))
        queries = Queries.of(self.similarity, vectors)
        floor = np.full(len(vectors), -np.inf)
        if at_least is not None:  # a score is rounded, so it may have been a little less
            floor = to_scan(self.similarity, np.nextafter(at_least, np.float32(-np.inf)), queries.squares)
        limits = Ceilings(to_scan(self.similarity, below, queries.squares), exclude, floor)
        return self.decide(vectors, k, below, self._find(queries, k, limits))

    def score(self, vectors: Floats, rows: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of document rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        return exact_scores(self.similarity, self.check(vectors, 1), self.vectors, rows)

    def _find(self, queries: Queries, k: int, limits: Ceilings) -> ScanResult:
        """Scan; then scan again, with more room, the queries whose result is not certain."""
        # Most queries are certain after the first, cheapest scan. Only the others are scanned again: first by the next, more
        # precise scan, and then with more and more room, which ends because `_most_room` can hold every document.
        found = ScanResult.empty(len(queries.vectors))
        passes = list(self._compiled_scans if self._compiles(len(queries.vectors)) else self._portable_scans)
        scan, room = passes[0], 0
        while not found.complete.all():
            scan, room = (passes.pop(0), max(scan.least, 4 * k)) if passes else (scan, MORE * room)
            open_ = np.flatnonzero(~found.complete)
            found = found.put(open_, scan(queries.take(open_), k, limits.take(open_), min(room, self._most_room(k))))
        return found

    def _most_room(self, k: int) -> int:
        """Room in which a buffer of all documents never overflows."""
        return 2 * max(self.num_candidates, k) + 512

    def decide(self, vectors: Floats, k: int, below: Floats, found: ScanResult) -> Ranking:
        """Score what was found exactly, apply the ceiling, and order by score, then by document."""
        # The scan's values only chose what to look at, and its margins may hold a few documents too many. The float64 scores
        # decide: documents at the ceiling or above move from the candidates [B, m] to the count, the k best stay [B, k].
        scores = self.score(vectors, found.ids)
        here = found.ids >= 0
        valid = here & (scores < below[:, None])
        above = found.above + (here & ~valid).sum(axis=1)
        scores = np.where(valid, scores, -np.inf).astype(np.float32)
        ids = np.where(valid, found.ids, PADDING)
        # ties in document order, so that no block size or device moves a result; padding sorts last
        order = np.lexsort((np.where(valid, ids, np.iinfo(np.int64).max), -scores), axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
        missing = ((0, 0), (0, k - ids.shape[1]))
        return Ranking(
            np.pad(ids, missing, constant_values=PADDING), np.pad(scores, missing, constant_values=-np.inf), above
        )

    def _compiles(self, queries: int) -> bool:
        """Whether the compiled scans search so many queries."""
        if self.engine == "torch" or self.device != "cpu":
            return False
        return self.engine != "auto" or kernels.worth(queries * self.num_candidates)

    @cached_property
    def _compiled_scans(self) -> list[Scan]:
        """The scans of a CPU to try in turn: each is certain of more queries than the one before, and slower."""
        products = self.similarity != "manhattan"
        rounding = self._rounding if products else None
        documents = self._prepared(rounding)
        plain = CpuScan(self.similarity, self.vectors, documents, self._sizes)
        coarse: Coarse | None = None
        if rounding is not None and documents.coded is not None:
            coarse = RoundedProducts(rounding, documents.coded, documents.bias, self._sizes.rounded_rows(rounding))
        elif products and self.engine in ("auto", "int16"):
            coarse = self._along_axes(documents)
        return [plain] if coarse is None else [dataclasses.replace(plain, coarse=coarse), plain]

    @cached_property
    def _portable_scans(self) -> list[Scan]:
        """The same with torch alone."""
        by_codes = self.engine == "int8" and self.similarity in ("cosine", "dot")
        documents, blocks = self._prepared("int8" if by_codes else None), self._torch_blocks
        scan = functools.partial(TorchScan, self.similarity, self.vectors, documents, device=self.device)
        if documents.coded is not None:
            first = Int8Scan(self.similarity, documents, documents.coded, self.device, blocks)
            return [first, scan(sizes=dataclasses.replace(blocks, resident=0))]
        halves = [scan(sizes=blocks, half=half) for half in self._halves]
        passes = [*halves, scan(sizes=dataclasses.replace(blocks, resident=0) if halves else blocks)]
        if self._first_axes is None:
            return list(passes)
        along = dataclasses.replace(passes[0], axes=self._first_axes)
        full = dataclasses.replace(along, axes=None, _feed=along.feed)  # of the same blocks
        return [along, full, *passes[1:]]

    @cached_property
    def _first_axes(self) -> AxisBounds | None:
        """Principal axes whose bounds a GPU computes first, where these are expected to be worth it.

        The documents must stay on the device, since the pairs that bounds leave open are gathered there.
        """
        if not self.device.startswith("cuda") or self.similarity == "manhattan":
            return None
        costs, size = (GPU_HALF, 2) if self._halves else (GPU_FLOAT, 4)
        if self.num_candidates * self.vectors.dim * size * WIDER > self._torch_blocks.resident:
            return None
        basis = stored_axes(self.similarity, self.vectors, self.num_candidates, costs)
        return None if basis is None else AxisBounds.of(basis, self.device, costs.pair)

    @property
    def _rounding(self) -> Kind | None:
        """What vectors are rounded to for the products of torch."""
        if self.engine == "auto":
            return quickest_rounding(self.vectors.dim)
        return self.engine if self.engine in ("int8", "bfloat16") else None

    def _prepared(self, rounding: Kind | None) -> Documents:
        """Scale, bias and lengths of the documents, and codes if they are wanted."""
        sizes = self._sizes
        return prepare(
            self.similarity,
            self.vectors,
            self.num_candidates,
            rounding=rounding,
            rows=sizes.block_rows,
            held=sizes.held,
        )

    def _along_axes(self, documents: Documents) -> AxisProducts | None:
        """Products of 16-bit codes, unless neither they nor the axes make anything quicker."""
        product = int16_share(self.vectors.dim)
        axes = Axes(self.vectors.dim, stored_axes(self.similarity, self.vectors, self.num_candidates))
        if axes.basis is None and product > SLOW and self.engine == "auto":
            return None
        sizes = self._sizes
        coded = prepare_axes(
            self.similarity,
            self.vectors,
            self.num_candidates,
            axes,
            rows=-(-sizes.block_rows // AXIS_SHARE),
            held=sizes.held,
        )
        return AxisProducts(coded, documents.bias, -(-sizes.coded_rows // GROUP) * GROUP, product)

    @cached_property
    def _halves(self) -> tuple[str, ...]:
        """The 16-bit types in which a GPU finds candidates."""
        if not self.device.startswith("cuda") or self.similarity not in ("cosine", "dot") or self.engine == "float32":
            return ()
        return ("bfloat16",) if self.engine == "bfloat16" else ("float16",)

    @cached_property
    def _torch_blocks(self) -> TorchSizes:
        if not self.device.startswith("cuda"):
            fitting = self._sizes
            return TorchSizes(fitting.queries, fitting.block_rows, fitting.records)
        sizes = TorchSizes.of_gpu(self.budget, self.device, self.vectors.dim)
        return sizes if self._block_rows is None else dataclasses.replace(sizes, block_rows=self._block_rows)

    @cached_property
    def _sizes(self) -> Sizes:
        """The block sizes that fit the budget, or those given by the caller."""
        import torch

        sizes = Sizes.fit(self.budget, self.vectors.dim, torch.get_num_threads())
        rows = self._block_rows or sizes.block_rows
        return dataclasses.replace(sizes, block_rows=rows, coded_rows=min(rows, sizes.coded_rows))

    def check(self, vectors: Floats, k: int) -> Floats:
        """Query vectors as float32 ``[B, d]``, if they can be searched."""
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


def _pieces(vectors: np.ndarray) -> Vectors:
    """An array in pieces that fit a cache, each checked."""
    array = vectors if isinstance(vectors, np.ndarray) else np.asarray(vectors)
    if array.ndim != 2:  # noqa: PLR2004 - [N, d]
        raise InputError(f"document vectors have shape {array.shape}; expected [documents, dimensions]")
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, np.float32)
    pieces = Vectors(
        tuple(array[at : at + EMBEDDING_SHARD_ROWS] for at in range(0, max(1, len(array)), EMBEDDING_SHARD_ROWS))
    )
    bad = [
        start + np.flatnonzero(~np.isfinite(piece).all(axis=1))
        for start, piece in pieces.blocks(EMBEDDING_SHARD_ROWS, once=True)
    ]
    lost = np.concatenate([np.empty(0, np.int64), *bad])
    if len(lost):
        raise InputError(f"{len(lost)} document vectors are not finite, first row {lost[0]}")
    return pieces
