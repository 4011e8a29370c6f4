"""The compiled CPU scan: matrix products on each core, filtered by numba while they are in its cache.

Products are int8 (``torch._int_mm``, VNNI instructions) where the processor is faster at them, else float32. Both come
with a proved error bound, so the documents left over include the true best k; int8 ones are refined in float32 first.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.parallel import one_torch_thread_each
from hf_posmine.search import kernels
from hf_posmine.search.geometry import PAD, Documents, Int8, Queries, float_error, int8_error
from hf_posmine.search.scan import Found, Limits
from hf_posmine.types import PADDING, Floats, Rows

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator

    from hf_posmine.search.similarity import Similarity
    from hf_posmine.store import Vectors

QUERY_ROWS = 256


@dataclass
class CpuScan:
    """A scan over memory-mapped vectors with numba; ``int8`` chooses the products (see the module)."""

    similarity: Similarity
    vectors: Vectors
    documents: Documents
    block_rows: int
    int8: bool
    spare: int = 8

    def __call__(self, queries: Queries, k: int, limits: Limits, room: int) -> Found:
        """Scan spans of queries side by side, one per core."""
        import torch

        documents = self.documents.hide(limits.exclude.everywhere)
        total, threads = len(queries.vectors), torch.get_num_threads()
        size = min(QUERY_ROWS, -(-total // threads))
        spans = [np.arange(start, min(start + size, total)) for start in range(0, total, size)]
        found = Found.empty(total)
        threads = min(threads, len(spans))
        scan = self._scan_int8 if self.int8 else self._scan_float

        def one(span: Rows) -> Found:
            return scan(queries.take(span), k, limits.take(span), room, documents)

        with _one_blas_thread():
            if threads <= 1:
                results = [one(span) for span in spans]
            else:
                with one_torch_thread_each(threads) as pool:
                    results = list(pool.map(one, spans))
        for span, result in zip(spans, results, strict=True):
            found = found.put(span, result)
        return found

    @cached_property
    def coded(self) -> Int8:
        """The documents as int8: one byte per dimension, in memory."""
        stop = len(self.documents.scale)
        blocks = (np.asarray(b, np.float32) for _, b in self.vectors.blocks(self.block_rows, stop, once=True))
        return Int8.of(blocks, stop, self.vectors.dim)

    @cached_property
    def moved(self) -> float:
        """The largest distance between a document and its int8 form, after scaling."""
        return float((self.coded.moved * self.documents.scale).max(initial=0.0))

    def _scan_float(self, queries: Queries, k: int, limits: Limits, room: int, documents: Documents) -> Found:
        buffer = _Buffer.of(k, limits, float_error(self.similarity, queries, documents), room)
        ones = np.ones(len(queries.vectors), np.float32)
        for start, block in self._products(queries.vectors):
            buffer.collect(block, ones, documents, start)
        return buffer.found()

    def _products(self, queries: Floats) -> Iterator[tuple[int, Floats]]:
        """First document row and products float32 ``[B, block]`` of each block (negated distances for Manhattan)."""
        out = np.empty((len(queries), self.block_rows), np.float32)
        for start, block in self.vectors.blocks(self.block_rows, len(self.documents.scale)):
            block = np.asarray(block, np.float32)
            if self.similarity == "manhattan":
                import torch

                yield start, -torch.cdist(torch.from_numpy(queries), torch.from_numpy(np.array(block)), p=1).numpy()
            elif len(block) == self.block_rows:
                yield start, np.matmul(queries, block.T, out=out)
            else:
                yield start, np.matmul(queries, block.T)

    def _scan_int8(self, queries: Queries, k: int, limits: Limits, room: int, documents: Documents) -> Found:
        import torch

        coded = self.coded
        q = Int8.of([queries.vectors], len(queries.vectors), self.vectors.dim)
        codes, documents_codes = torch.from_numpy(q.codes), torch.from_numpy(coded.codes)
        coarse = Documents(coded.steps * documents.scale, documents.bias, documents.length, documents.square)
        buffer = _Buffer.of(k, limits, int8_error(self.similarity, queries, q, documents, self.moved), room)
        out = torch.empty((len(q.codes), self.block_rows), dtype=torch.int32)
        for start in range(0, len(coded.codes), self.block_rows):
            block = documents_codes[start : start + self.block_rows]
            full = len(block) == self.block_rows
            products = torch._int_mm(codes, block.t(), out=out) if full else torch._int_mm(codes, block.t())
            buffer.collect(products.numpy(), q.steps, coarse, start)
        buffer.count[buffer.full] = 0  # they are scanned again, in float32
        buffer.prune()
        ones = np.ones(len(queries.vectors), np.float32)
        for start, shard in zip(self.vectors.starts, self.vectors.shards, strict=False):
            shard = shard if shard.dtype == np.float32 else np.asarray(shard, np.float32)
            kernels.refine(
                queries.vectors,
                ones,
                shard,
                self.documents.scale,
                documents.bias,
                int(start),
                buffer.ids,
                buffer.values,
                buffer.count,
            )
        return buffer.tighten(float_error(self.similarity, queries, documents)).found()


@dataclass
class _Buffer:
    """Documents that may still matter, per query: what :mod:`~hf_posmine.search.kernels` fills and prunes."""

    k: int
    limits: Limits
    low: Floats
    high: Floats
    certain: Floats
    slack: Floats
    excluded: Rows
    bounds: Rows
    ids: Rows
    values: Floats
    count: Rows
    above: Rows
    full: np.ndarray

    @classmethod
    def of(cls, k: int, limits: Limits, error: np.ndarray, room: int) -> _Buffer:
        queries = len(limits.ceiling)
        return cls(
            k,
            limits,
            np.full(queries, -np.inf, np.float32),
            *_thresholds(limits.ceiling, error),
            limits.exclude.rows,
            limits.exclude.bounds,
            np.empty((queries, room), np.int64),
            np.empty((queries, room), np.float32),
            np.zeros(queries, np.int64),
            np.zeros(queries, np.int64),
            np.zeros(queries, bool),
        )

    def collect(self, products: np.ndarray, factor: Floats, documents: Documents, start: int) -> None:
        span = slice(start, start + products.shape[1])
        kernels.collect(
            products,
            factor,
            documents.scale[span],
            documents.bias[span],
            start,
            self.k,
            self.low,
            self.high,
            self.certain,
            self.slack,
            self.excluded,
            self.bounds,
            self.ids,
            self.values,
            self.count,
            self.above,
            self.full,
        )

    def tighten(self, error: np.ndarray) -> _Buffer:
        """Values are now off by at most ``error``."""
        self.high, self.certain, self.slack = _thresholds(self.limits.ceiling, error)
        return self

    def prune(self) -> None:
        kernels.prune(self.k, self.high, self.certain, self.slack, self.ids, self.values, self.count, self.above)

    def found(self) -> Found:
        self.prune()
        width = int(self.count.max(initial=0))
        ids = np.where(np.arange(width) < self.count[:, None], self.ids[:, :width], PADDING)
        return Found(ids, self.above, ~self.full)


def _thresholds(ceiling: np.ndarray, error: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """At or above the first a value is certainly not below the ceiling; below the second it certainly is.

    The third is how far apart two values must be for their order to be certain. All are rounded to the safe side.
    """
    high = np.nextafter((ceiling + error).astype(np.float32), np.float32(np.inf))
    certain = np.nextafter((ceiling - error).astype(np.float32), np.float32(-np.inf))
    certain = np.where(np.isposinf(ceiling), np.float32(np.inf), certain)
    return high, certain.astype(np.float32), np.nextafter((2 * error).astype(np.float32), np.float32(np.inf))


def _one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread per call while our own threads run side by side."""
    from threadpoolctl import ThreadpoolController

    global _controller  # noqa: PLW0603 - finding the libraries takes milliseconds, so it is done once
    _controller = _controller or ThreadpoolController()
    return _controller.limit(limits=1, user_api="blas")


_controller: Any = None


@functools.cache
def int8_is_faster(dimensions: int) -> bool:
    """Whether this processor multiplies int8 faster than float32: measured once per process, in milliseconds.

    The choice moves no result, since both scans are exact.
    """
    import torch

    padded = -(-dimensions // PAD) * PAD
    a8, b8 = torch.ones((256, padded), dtype=torch.int8), torch.ones((2048, padded), dtype=torch.int8)
    a, b = np.ones((256, dimensions), np.float32), np.ones((2048, dimensions), np.float32)
    try:
        with _one_blas_thread(), one_torch_thread_each(1) as pool:
            seconds = [
                pool.submit(_best_of, run).result() for run in (lambda: torch._int_mm(a8, b8.t()), lambda: a @ b.T)
            ]
    except (RuntimeError, AttributeError):  # a private operator of torch: absent or refused on some builds
        return False
    return seconds[0] < 0.7 * seconds[1]


def _best_of(action: Callable[[], object], times: int = 5) -> float:
    """The least CPU seconds of this thread, which other work on the machine disturbs little."""
    best = float("inf")
    for _ in range(times):
        start = time.thread_time()
        action()
        best = min(best, time.thread_time() - start)
    return best
