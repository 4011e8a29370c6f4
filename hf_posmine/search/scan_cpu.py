"""The compiled CPU scan: matrix products on each core, filtered by numba while they are in its cache.

Products are coarse at first where that is cheaper (:mod:`.coarse`): int8 or bfloat16 where the processor is faster at them, else
coordinates along the first principal axes. They come with a proved error bound, so the documents left over include the true
best k; those are scored in float32 next.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Rows, spans
from hf_posmine.search import kernels, resident
from hf_posmine.search.error_bounds import Documents, Queries, float_error
from hf_posmine.search.rescore import in_shards
from hf_posmine.search.rounding import rounded
from hf_posmine.search.scan import Ceilings, ScanResult
from hf_posmine.utils.mapped import release_pages, scratch
from hf_posmine.utils.threads import one_blas_thread, one_torch_thread_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.block_sizes import Sizes
    from hf_posmine.search.coarse import Coarse, CoarseQueries
    from hf_posmine.search.rescore import Similarity
    from hf_posmine.search.rounding import Kind

SHARPEN = 4
"""The best candidates are scored in float32 after the first block, and when the documents seen have grown so often."""
SPARE_PICKS = 2
BESIDE = np.array([*range(-8, 0), *range(1, 9)])
"""Places of documents beside another."""
CANDIDATE = np.dtype([("row", np.int64), ("lower", np.float32), ("upper", np.float32)])


@dataclass
class CpuScan:
    """A scan over memory-mapped vectors with numba; ``coarse`` products, if given, come first (see the module)."""

    similarity: Similarity
    vectors: Vectors
    documents: Documents
    sizes: Sizes
    coarse: Coarse | None = None
    least: int = 64

    def __call__(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        """Scan spans of queries side by side, one per core."""
        import torch

        # A span of queries is one thread's work: small enough that its records fit, and as many spans as divide evenly
        # among the threads, so that none waits for the last one.
        total, threads = len(queries.vectors), torch.get_num_threads()
        most = max(1, min(self.sizes.queries, self.sizes.records // room))
        size = -(-total // (threads * -(-total // (threads * most)))) if total else 1
        parts = [np.arange(start, min(start + size, total)) for start in range(0, total, size)]
        threads = min(threads, len(parts))
        scan = self._scan_float
        if self.coarse is not None:
            scan = functools.partial(self._scan_coarse, self.coarse)
            self.coarse.open()  # here, not by several threads at once

        def one(span: Rows) -> ScanResult:
            return scan(queries.take(span), k, limits.take(span), room)

        with one_blas_thread():
            if threads <= 1:
                results = [one(span) for span in parts]
            else:
                with one_torch_thread_each(threads) as pool:
                    results = list(pool.map(one, parts))
        return ScanResult.joined(results)

    def _scan_float(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        candidates = _Candidates.of(k, limits, room, self.sizes.records)
        error = float_error(self.similarity, queries, self.documents)
        self._collect_full(candidates, queries, error, limits, 0, len(self.documents.scale))
        candidates.prune()
        return candidates.rows()

    def _collect_full(
        self, candidates: _Candidates, queries: Queries, error: np.ndarray, limits: Ceilings, start: int, stop: int
    ) -> None:
        """Collect some documents with products of all dimensions."""
        block_of = _Blocks(self.documents, self.documents.scale, None, limits.exclude)
        ones, zeros = np.ones(len(queries.vectors), np.float32), np.zeros(len(queries.vectors), np.float32)
        for first, products in self._products(queries.vectors, start, stop):
            candidates.collect(products, ones, zeros, _up(error), block_of(first, products.shape[1]))

    def _products(self, queries: Floats, first: int, stop: int) -> Iterator[tuple[int, Floats]]:
        """First row and products float32 ``[B, block]`` of each block of a span (negated distances for Manhattan)."""
        out = np.empty((len(queries), self.sizes.block_rows), np.float32)
        vectors = self.vectors.span(first, stop) if first else self.vectors
        blocks = vectors.blocks(self.sizes.block_rows, stop - first, once=resident.large(self.vectors))
        for local, block in blocks:
            start, block = first + local, np.asarray(block, np.float32)
            if self.similarity == "manhattan":
                import torch

                yield start, -torch.cdist(torch.from_numpy(queries), torch.from_numpy(np.array(block)), p=1).numpy()
            elif len(block) == self.sizes.block_rows:
                yield start, np.matmul(queries, block.T, out=out)
            else:
                yield start, np.matmul(queries, block.T)

    def _scan_coarse(self, coarse: Coarse, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        settled = float_error(self.similarity, queries, self.documents)
        candidates = _Candidates.of(k, limits, room, self.sizes.records)
        in_reach = coarse.span(self.similarity, queries, self.documents)
        candidates.raise_low(self._beside_excluded(queries, settled, candidates))
        # Wide intervals prune little. The best few candidates are therefore scored in float32 early, and again each time the
        # documents seen have quadrupled: each look costs k + 2 products and cuts the candidates of all later blocks. The better
        # the bound, the coarser the next products may be.
        start, documents, wide = 0, len(self.documents.scale), False
        while start < documents:
            stop = min(documents, max(SHARPEN * start, coarse.rows))
            q = in_reach(candidates.low)
            if q is None:
                self._collect_full(candidates, queries, settled, limits, start, stop)
            else:
                self._collect_coarse(candidates, coarse, q, limits, start, stop)
            if q is None or q.narrow:
                candidates.prune()
            else:
                wide = True
                self._settle(candidates, queries, settled, k + SPARE_PICKS)
            start = stop
        candidates.give_up_full()
        if wide:  # the best were scored, so most others drop out unscored
            self._settle(candidates, queries, settled, 0)
        return candidates.rows()

    def _collect_coarse(
        self, candidates: _Candidates, coarse: Coarse, q: CoarseQueries, limits: Ceilings, start: int, stop: int
    ) -> None:
        """Collect some documents with coarse products."""
        block_of = _Blocks(self.documents, coarse.coded.scale, q.distance, limits.exclude)
        for first, products in coarse.products(q, start, stop):
            candidates.collect(products, q.factor, _up(q.spread), _up(q.error), block_of(first, products.shape[1]))

    def _settle(self, candidates: _Candidates, queries: Queries, error: np.ndarray, want: int) -> None:
        """Score candidates in float32: the ``want`` best of each query, or with 0 all; then prune with those scores."""
        at, places = candidates.pick(want, _up(4 * error))
        values = self._values(queries.vectors, at, candidates.found["row"][places])
        candidates.settle(places, values, _up(error)[at])

    def _beside_excluded(self, queries: Queries, error: np.ndarray, candidates: _Candidates) -> Floats:
        """A value float32 ``[B]`` that k documents beside an excluded one certainly reach; ``-inf`` where there are fewer.

        The excluded documents are a query's positives, and passages of one source often stand together.
        """
        exclude, documents, k = candidates.limits.exclude, len(self.documents.scale), candidates.k
        at = np.flatnonzero(np.diff(exclude.bounds) > 0).astype(np.int32)
        rows = exclude.rows[exclude.bounds[at]][:, None] + BESIDE
        here = (rows >= 0) & (rows < documents)
        hidden = np.repeat(np.arange(len(exclude.bounds) - 1), np.diff(exclude.bounds)) * documents + exclude.rows
        here &= ~np.isin(at[:, None] * documents + rows, hidden) & ~np.isin(rows, exclude.everywhere)
        lowest = np.full((len(queries.vectors), len(BESIDE)), -np.inf, np.float32)
        values = self._values(queries.vectors, np.repeat(at, here.sum(axis=1)), rows[here])
        ends = np.full(rows.shape, -np.inf, np.float32)
        margin = np.broadcast_to(_up(error)[at, None], rows.shape)[here]
        below = np.broadcast_to(candidates.below[at, None], rows.shape)[here]
        ends[here] = np.where(values + margin < below, values - margin, -np.inf)
        lowest[at] = ends
        return np.sort(lowest, axis=1)[:, -k] if k <= len(BESIDE) else np.full(len(lowest), -np.inf, np.float32)

    def _values(self, queries: Floats, at: np.ndarray, rows: Rows) -> Floats:
        """Scan values float32 ``[m]`` of query ``at[i]``, int32, with document ``rows[i]``."""
        out = np.empty(len(rows), np.float32)
        for chosen, shard, local in in_shards(self.vectors, rows):
            if shard.dtype != np.float32:
                shard, local = shard[local].astype(np.float32), np.arange(len(local))
            out[chosen] = kernels.pair_products(queries, at[chosen], np.asarray(shard), local)
        out *= self.documents.scale[rows]
        out += self.documents.bias[rows]
        for column in (self.documents.scale, self.documents.bias):
            release_pages(column)
        return out


@dataclass(frozen=True)
class _Blocks:
    """The columns of a block that the filter reads; documents that no query may get are hidden."""

    documents: Documents
    scale: Floats
    distance: Floats | None
    exclude: Exclusions

    def __call__(self, start: int, size: int) -> tuple[Floats, Floats, Floats, int]:
        """Scale, bias and distance, float32 ``[size]``, and the first row."""
        span = slice(start, start + size)
        scale = np.asarray(self.scale[span])
        first, last = np.searchsorted(self.exclude.everywhere, [start, start + size])
        if last > first:
            scale = scale.copy()  # NaN makes every comparison false, so the filter needs no test of its own
            scale[self.exclude.everywhere[first:last] - start] = np.nan
        distance = np.zeros(size, np.float32) if self.distance is None else np.asarray(self.distance[span])
        return scale, np.asarray(self.documents.bias[span]), distance, start


@dataclass
class _Candidates:
    """Documents that may still matter, per query, each with an interval that certainly holds its value.

    :mod:`~hf_posmine.search.kernels` fills and prunes ``found``, records that all queries share.
    """

    k: int
    limits: Ceilings
    above_from: Floats
    below: Floats
    found: np.ndarray
    starts: Rows
    rooms: Rows
    free: Rows
    count: Rows
    low: Floats
    above: Rows
    full: np.ndarray

    @classmethod
    def of(cls, k: int, limits: Ceilings, room: int, records: int) -> _Candidates:
        """With ``room`` records for each query to begin with, of at least ``records`` in all."""
        queries = len(limits.ceiling)
        # float32 neighbours on the safe side: a document counts as above, or as below, only where no rounding can change it
        ceiling = limits.ceiling.astype(np.float32)
        below = np.nextafter(ceiling, np.float32(-np.inf))
        return cls(
            k,
            limits,
            np.nextafter(ceiling, np.float32(np.inf)),
            np.where(np.isposinf(ceiling), ceiling, below),
            scratch(max(records, queries * room), CANDIDATE),
            np.arange(queries) * room,
            np.full(queries, room),
            np.array([queries * room]),
            np.zeros(queries, np.int64),
            np.nextafter(limits.floor.astype(np.float32), np.float32(-np.inf)),
            np.zeros(queries, np.int64),
            np.zeros(queries, bool),
        )

    def collect(
        self,
        products: np.ndarray,
        factor: Floats,
        spread: Floats,
        error: Floats,
        block: tuple[Floats, Floats, Floats, int],
    ) -> None:
        """Take in a block of products; see the kernel."""
        hidden = self.limits.exclude
        kernels.collect(
            products,
            factor,
            spread,
            error,
            *block,
            self.k,
            self.above_from,
            self.below,
            hidden.rows,
            hidden.bounds,
            self.found,
            self.starts,
            self.rooms,
            self.free,
            self.count,
            self.low,
            self.above,
            self.full,
        )

    def raise_low(self, low: Floats) -> None:
        """Take note of a value float32 ``[B]`` that k documents certainly reach."""
        np.maximum(self.low, low, out=self.low)

    def give_up_full(self) -> None:
        """Forget the queries whose records overflowed: they are scanned again."""
        self.count[self.full] = 0

    def pick(self, want: int, settled: Floats) -> tuple[np.ndarray, np.ndarray]:
        """Queries and places, int32, of candidates whose intervals are wider than ``settled``; see the kernel."""
        most = int(self.count.sum() if want == 0 else np.minimum(self.count, 2 * want).sum())
        at, places = np.empty(most, np.int32), np.empty(most, np.int32)
        ceiling = self.limits.ceiling.astype(np.float32)
        number = kernels.pick(want, ceiling, settled, self.found, self.starts, self.count, at, places)
        return at[:number], places[:number]

    def settle(self, places: np.ndarray, values: Floats, error: Floats) -> None:
        """Narrow the intervals of some candidates around their values, and prune."""
        self.found["lower"][places], self.found["upper"][places] = values - error, values + error
        self.prune()

    def prune(self) -> None:
        kernels.prune(self.k, self.above_from, self.below, self.found, self.starts, self.count, self.low, self.above)

    def rows(self) -> ScanResult:
        """The remaining candidates."""
        ids = np.full((len(self.count), int(self.count.max(initial=0))), PADDING, np.int64)
        here = np.arange(ids.shape[1]) < self.count[:, None]
        ids[here] = self.found["row"][spans(self.starts, self.count)]
        return ScanResult(ids, self.above, ~self.full)


def warm_up(rounding: Kind | None) -> None:
    """Compile the loops, or load them from disk, for the arrays that scans pass to them.

    Args:
        rounding: what scans multiply, or None for 16-bit codes. Loops for other products take seconds, and are not called.
    """
    one, at, ones = np.ones((1, kernels.GROUP), np.float32), np.zeros(1, np.int64), np.ones(kernels.GROUP, np.float32)
    kernels.pair_products(one, at.astype(np.int32), one, at)
    kernels.pair_scores("dot", one, at, one, at)
    if rounding is None:
        codes = np.zeros((kernels.GROUP, kernels.GROUP), np.int16)
        kernels.int16_products(codes, codes, kernels.GROUP, np.empty(codes.shape, np.int32))
    else:
        rounded(rounding, one)
    for products in (one, one.astype(np.uint16 if rounding == "bfloat16" else np.int32)):
        limits = Ceilings(np.full(1, np.inf), Exclusions.given(None, 1), np.full(1, -np.inf))
        candidates = _Candidates.of(1, limits, kernels.GROUP, kernels.GROUP)
        candidates.collect(products, ones[:1], ones[:1], ones[:1], (ones, ones, ones, 0))
        _, places = candidates.pick(1, ones[:1])
        candidates.settle(places, ones[: len(places)], ones[: len(places)])


def _up(values: np.ndarray) -> Floats:
    """Float32, rounded up."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
