"""The portable scan: matrix products and a filter in torch, on any device.

On a GPU the products are float16 first, with a proved error bound, then float32 for the queries whose result that
leaves open. Where few principal axes rule out most documents, bounds along them come first (:mod:`.axis_bounds`): full products
are made of the pairs that stay open. Documents stay on the device where they fit, else the next block is copied meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Rows
from hf_posmine.search.axis_bounds import product_gap
from hf_posmine.search.error_bounds import Documents, Queries, float_error, half_error
from hf_posmine.search.gpu_blocks import GpuBlocks
from hf_posmine.search.scan import Ceilings, ScanResult
from hf_posmine.utils.threads import be_forked
from hf_posmine.utils.torch_flags import exact_products

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.axis_bounds import AxisBounds
    from hf_posmine.search.block_sizes import TorchSizes
    from hf_posmine.search.rescore import Similarity

BlockT = TypeVar("BlockT")
PairValues: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
"""Values float32 ``[m]`` of query ``at[i]`` and document ``rows[i]`` of a block."""
GROUP = 64
"""Documents whose highest value is looked at first."""
LEARN, SHARPEN = 4096, 4
"""So many documents are multiplied in full; parts of the first block end where the documents seen have grown so often."""
LOOK = 256
"""Documents of a part by whose bounds it is decided whether these are worth it."""
PAIRS = 8192
"""Pairs gathered at a time."""
SMALLEST = 2.0**-148
LOWEST = float(np.finfo(np.float32).min)


@dataclass
class TorchScan:
    """A scan with blocked matrix products on ``device``, of a 16-bit type ``half`` or float32; bounds by ``axes`` come first."""

    similarity: Similarity
    vectors: Vectors
    documents: Documents
    device: str
    sizes: TorchSizes
    half: str | None = None
    axes: AxisBounds | None = None
    least: int = 512
    _feed: GpuBlocks | None = field(default=None, repr=False)

    def __call__(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        """Scan each block of documents for all spans of queries before the next, so that it is read once."""
        import torch

        be_forked()
        with exact_products(), torch.inference_mode():
            parts = self.sizes.parts(len(queries.vectors), room)
            spans = [self._span(queries.take(part), k, limits.take(part), room) for part in parts]
            return search_spans(spans, self.feed, self._search)

    @property
    def feed(self) -> GpuBlocks:
        """The documents, block by block, as they are multiplied."""
        if self._feed is None:
            scale = 1.0 if self.half is None else 1 / (self.documents.length or 1.0)
            self._feed = GpuBlocks(
                self.vectors, self.documents.scale, scale, self.sizes, self.device, self.half, self.axes
            )
        return self._feed

    def _span(self, queries: Queries, k: int, limits: Ceilings, room: int) -> Span:
        """Queries on the device. For 16-bit products both sides have length 1 at most, so that none overflows."""
        import torch

        vectors, ceiling, floor = queries.vectors, limits.ceiling, limits.floor
        error = float_error(self.similarity, queries, self.documents)
        if self.half is not None:
            lengths = np.sqrt(np.where(queries.squares > 0, queries.squares, 1))
            reach = lengths * (self.documents.length or 1.0)
            vectors, ceiling, floor = (vectors / lengths[:, None]).astype(np.float32), ceiling / reach, floor / reach
            error = half_error(vectors.shape[1], self.half) + SMALLEST / reach  # where final scores vanish, they tie
        on_device = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(self.device)
        if self.half is not None:
            on_device = on_device.to(getattr(torch, self.half))
        thresholds = [torch.from_numpy(v).to(self.device) for v in thresholds_of(ceiling, floor, error)]
        span = Span(on_device, k, room, limits.exclude, *thresholds)
        if self.axes is not None:
            span.along = self.axes.queries(on_device)
            span.gap = torch.from_numpy(_up(self._gap(queries, self.axes.width))).to(self.device)
        return span

    def _gap(self, queries: Queries, width: int) -> np.ndarray:
        """How far a full product may be above its bound along axes, float64 ``[B]``."""
        dimensions = queries.vectors.shape[1] + width
        if self.half is not None:  # vectors of length 1 at most
            return product_gap(dimensions, self.half, np.ones(len(queries.squares)))
        added = self.documents.square if self.similarity == "euclidean" else 0.0
        return product_gap(dimensions, "float32", np.sqrt(queries.squares) * self.documents.length + added)

    def _search(self, span: Span, block: torch.Tensor, start: int) -> None:
        """Take in a block: by full products, or in parts, after the first documents by bounds where these are worth it."""
        dimensions = span.queries.shape[1]
        if self.axes is None:
            span.take(self._values(span.queries, block[:, :dimensions], start), start)
            return
        for first, stop in _parts(start, start + len(block)):
            full, rows = block[first - start : stop - start].tensor_split([dimensions], dim=1)
            if first >= LEARN and self._worth(self.axes, span, rows, first):
                pair_values = partial(self._pair_values, span.queries, full, first)
                span.take(self._values(span.along, rows, first), first, pair_values)
            else:
                span.take(self._values(span.queries, full, first), first)

    def _worth(self, axes: AxisBounds, span: Span, rows: torch.Tensor, start: int) -> bool:
        """Whether bounds, and pairs of what they leave open, are expected to cost less than full products."""
        bounds = self._values(span.along, rows, start, step=-(-len(rows) // LOOK)).float()
        open_share = float((bounds >= (span.low - span.gap)[:, None]).float().mean())
        return open_share * axes.pair < 1 - axes.width / span.queries.shape[1]

    def _values(self, queries: torch.Tensor, block: torch.Tensor, start: int, step: int = 1) -> Any:
        """Scan values ``[B, n]`` of every ``step``-th document, in the type of the products."""
        import torch

        if self.similarity == "manhattan":
            return -torch.cdist(queries, block, p=1)
        products = matrix_product(queries, block[::step])
        if self.similarity == "euclidean":
            products += self._bias(start, len(block))[::step]
        return products

    def _pair_values(
        self, queries: torch.Tensor, block: torch.Tensor, start: int, at: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Scan values float32 ``[m]`` of query ``at[i]`` with row ``rows[i]`` of the block."""
        import torch

        pairs = zip(at.split(PAIRS), rows.split(PAIRS), strict=True)
        values = torch.cat([pair_products(queries[left], block[right]) for left, right in pairs])
        if self.similarity == "euclidean":
            values += self._bias(start, len(block))[rows]
        return values

    def _bias(self, start: int, size: int) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(self.documents.bias[start : start + size])).to(self.device)


def search_spans(
    spans: Sequence[Span], feed: Iterable[tuple[int, BlockT]], search: Callable[[Span, BlockT, int], None]
) -> ScanResult:
    """Take in all blocks of documents, each with its first row.

    Blocks are the outer loop, so that each crosses the bus to the device once, whatever the number of queries.
    """
    for start, block in feed:
        for span in spans:
            if not span.overflowed.all():
                search(span, block, start)
    return ScanResult.joined([span.found() for span in spans])


def matrix_product(queries: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Products ``[B, n]``, in the type of the vectors."""
    if block.device.type == "cpu":  # there, sums of 16-bit products would be 16-bit too
        return (queries.float() @ block.float().T).to(block.dtype)
    return queries @ block.T


def pair_products(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Products float32 ``[m]`` of vectors ``[m, d]``, row by row."""
    return (queries.float() * documents.float()).sum(dim=1)


class Span:
    """Some queries on the device, and the documents found for them: flat lists of query, row and value.

    A value is off by at most half of ``slack``. From ``high`` on it is certainly at or above the ceiling, below
    ``certain`` certainly below it. ``low`` is what a document must reach to be among the best k.
    With axes, ``along`` are the queries' rows along them, and a value is at most ``gap`` above its bound.
    """

    def __init__(
        self,
        queries: torch.Tensor,
        k: int,
        room: int,
        exclude: Exclusions,
        high: torch.Tensor,
        certain: torch.Tensor,
        slack: torch.Tensor,
        low: torch.Tensor,
    ) -> None:
        import torch

        self.queries, self.k, self.room, self.exclude = queries, k, room, exclude
        self.along = queries
        self.high, self.certain, self.slack, self.low = high, certain, slack, low
        self.gap = torch.zeros_like(low)
        size, device = len(queries), queries.device
        self.best = torch.full((size, k), -torch.inf, device=device)  # certainly below the ceiling, best first
        self.above = torch.zeros(size, dtype=torch.int64, device=device)
        self.overflowed = torch.zeros(size, dtype=torch.bool, device=device)
        self.at = torch.empty(0, dtype=torch.int64, device=device)
        self.rows = torch.empty(0, dtype=torch.int64, device=device)
        self.values = torch.empty(0, device=device)

    def take(self, values: torch.Tensor, start: int, pair_values: PairValues | None = None) -> None:
        """Take in the values ``[B, n]`` of documents from ``start`` on: highest of each group first, then its members.

        With ``pair_values`` they are bounds along axes, and those that stay open get their values from it.
        """
        import torch

        _hide(values, self.exclude, start)
        missing = -values.shape[1] % GROUP
        if missing:  # -inf is never a candidate, so the last group can be filled up
            values = torch.nn.functional.pad(values, (0, missing), value=-torch.inf)
        groups = values.view(len(values), -1, GROUP)
        if start == 0:
            self._raise_low(groups)
        # one comparison for 64 documents: after the first blocks hardly any group [B, n / 64] holds a candidate
        bar = self.low if pair_values is None else (self.low - self.gap).clamp(min=LOWEST)
        hit = groups.amax(dim=2).float() >= bar[:, None]
        self._give_up(hit.sum(dim=1) > self.room)
        hit &= ~self.overflowed[:, None]
        at, group = hit.nonzero(as_tuple=True)
        members = groups[at, group].float()
        if pair_values is not None:
            members = self._scored(members >= bar[at, None], at, group, pair_values)
        self.above.index_add_(0, at, (members >= self.high[at, None]).sum(dim=1))
        found, member = ((members >= self.low[at, None]) & (members < self.high[at, None])).nonzero(as_tuple=True)
        self._add(at[found], start + group[found] * GROUP + member, members[found, member])

    def _scored(
        self, open_: torch.Tensor, at: torch.Tensor, group: torch.Tensor, pair_values: PairValues
    ) -> torch.Tensor:
        """Values ``[m, 64]`` of the documents that bounds leave open, and -inf of the others."""
        import torch

        self._give_up(torch.zeros_like(self.above).index_add_(0, at, open_.sum(dim=1)) > self.room)
        found, member = (open_ & ~self.overflowed[at, None]).nonzero(as_tuple=True)
        members = torch.full(open_.shape, -torch.inf, device=at.device)
        members[found, member] = pair_values(at[found], group[found] * GROUP + member)
        return members

    def _raise_low(self, groups: torch.Tensor) -> None:
        """From the first block: the k-th of the groups' best documents certainly below the ceiling."""
        import torch

        if groups.shape[1] >= self.k:
            sure = groups.masked_fill(groups >= self.certain[:, None, None], -torch.inf).amax(dim=2).float()
            self._raise(sure.topk(self.k, dim=1).values[:, -1])

    def _raise(self, kth: torch.Tensor) -> None:
        self.low = self.low.maximum((kth - self.slack).clamp(min=LOWEST))

    def _add(self, at: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Take in candidates, and drop those that can no longer be among the best k."""
        import torch

        # The k best of each query so far [B, k] and the new values as one flat list, sorted by query and then by value:
        # the rank within a query is the position less the query's first position. No loop over queries, no ragged arrays.
        sure = values < self.certain[at]
        owners = torch.arange(len(self.queries), device=at.device)
        all_at = torch.cat([owners.repeat_interleave(self.k), at[sure]])
        all_values = torch.cat([self.best.flatten(), values[sure]])
        order = all_values.argsort(descending=True, stable=True)
        order = order[all_at[order].argsort(stable=True)]
        all_at = all_at[order]
        rank = torch.arange(len(order), device=at.device) - torch.searchsorted(all_at, owners)[all_at]
        first = rank < self.k
        self.best[all_at[first], rank[first]] = all_values[order][first]
        self._raise(self.best[:, -1])
        self.at, self.rows = torch.cat([self.at, at]), torch.cat([self.rows, rows])
        self.values = torch.cat([self.values, values])
        self._keep(self.values >= self.low[self.at])
        self._give_up(torch.bincount(self.at, minlength=len(self.queries)) > self.room)

    def _give_up(self, overflowed: torch.Tensor) -> None:
        """Stop looking for queries with too many candidates: they are scanned again."""
        self.overflowed |= overflowed
        self._keep(~self.overflowed[self.at])

    def _keep(self, mask: torch.Tensor) -> None:
        self.at, self.rows, self.values = self.at[mask], self.rows[mask], self.values[mask]

    def found(self) -> ScanResult:
        """The remaining candidates, on the host."""
        at, rows = self.at.cpu().numpy(), self.rows.cpu().numpy()
        order = np.lexsort((rows, at))
        counts = np.bincount(at, minlength=len(self.queries))
        ids = np.full((len(counts), int(counts.max(initial=0))), PADDING, np.int64)
        ids[np.arange(ids.shape[1]) < counts[:, None]] = rows[order]
        return ScanResult(ids, self.above.cpu().numpy(), ~self.overflowed.cpu().numpy())


def thresholds_of(ceiling: np.ndarray, floor: np.ndarray, error: np.ndarray) -> Iterator[np.ndarray]:
    """``high``, ``certain``, ``slack`` and the first ``low`` of a span, float32 ``[B]``, rounded to the safe side."""
    yield _up(ceiling + error)
    below = np.nextafter((ceiling - error).astype(np.float32), np.float32(-np.inf))
    yield np.where(np.isposinf(ceiling), np.float32(np.inf), below)
    yield _up(2 * error)
    yield np.maximum(np.nextafter((floor - error).astype(np.float32), np.float32(-np.inf)), np.float32(LOWEST))


def _up(values: np.ndarray) -> np.ndarray:
    """Float32, rounded up."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def _parts(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Documents from ``start`` to ``stop`` in parts: thresholds are learned from few, then from ever more of them."""
    end = LEARN
    while start < stop:
        while end <= start:
            end *= SHARPEN
        yield start, min(stop, end)
        start = min(stop, end)


def _hide(values: torch.Tensor, exclude: Exclusions, start: int) -> None:
    """Set the excluded documents of the block to -inf."""
    import torch

    first, last = np.searchsorted(exclude.everywhere, [start, start + values.shape[1]])
    if last > first:
        values[:, torch.from_numpy(exclude.everywhere[first:last] - start).to(values.device)] = -torch.inf
    inside = np.flatnonzero((exclude.rows >= start) & (exclude.rows < start + values.shape[1]))
    if len(inside):
        queries: Rows = np.searchsorted(exclude.bounds, inside, side="right") - 1
        at = (torch.from_numpy(queries), torch.from_numpy(exclude.rows[inside] - start))
        values[at[0].to(values.device), at[1].to(values.device)] = -torch.inf
