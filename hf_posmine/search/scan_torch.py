"""The portable scan: matrix products and a filter in torch, on any device.

On a GPU the products are float16 first, with a proved error bound, then float32 for the queries whose result that
leaves open. Documents stay on the device where they fit, else the next block is copied while this one is searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Rows
from hf_posmine.search.error_bounds import Documents, Queries, float_error, half_error
from hf_posmine.search.gpu_blocks import GpuBlocks
from hf_posmine.search.scan import Ceilings, ScanResult
from hf_posmine.utils.threads import be_forked
from hf_posmine.utils.torch_flags import exact_products

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.block_sizes import TorchSizes
    from hf_posmine.search.rescore import Similarity

GROUP = 64
"""Documents whose highest value is looked at first."""
SMALLEST = 2.0**-148
LOWEST = float(np.finfo(np.float32).min)


@dataclass
class TorchScan:
    """A scan with blocked matrix products on ``device``; ``half`` names a 16-bit type for the products (see the module)."""

    similarity: Similarity
    vectors: Vectors
    documents: Documents
    device: str
    sizes: TorchSizes
    half: str | None = None
    least: int = 512
    _feed: GpuBlocks | None = field(default=None, repr=False)

    def __call__(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        """Scan each block of documents for all spans of queries before the next, so that it is read once."""
        import torch

        be_forked()
        total = len(queries.vectors)
        size = max(1, min(self.sizes.queries, self.sizes.records // room))
        parts = [np.arange(start, min(start + size, total)) for start in range(0, total, size)]
        with exact_products(), torch.inference_mode():
            spans = [self._span(queries.take(part), k, limits.take(part), room) for part in parts]
            # blocks outside, spans inside: a block crosses the bus to the device once, whatever the number of queries
            for start, block in self.feed:
                for span in spans:
                    span.take(self._values(span.queries, block, start), start)
            return ScanResult.joined([span.found() for span in spans])

    @property
    def feed(self) -> GpuBlocks:
        """The documents, block by block, as they are multiplied."""
        if self._feed is None:
            scale = 1.0 if self.half is None else 1 / (self.documents.length or 1.0)
            self._feed = GpuBlocks(self.vectors, self.documents.scale, scale, self.sizes, self.device, self.half)
        return self._feed

    def _span(self, queries: Queries, k: int, limits: Ceilings, room: int) -> _Span:
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
        return _Span(
            on_device if self.half is None else on_device.to(getattr(torch, self.half)),
            k,
            room,
            limits.exclude,
            *(torch.from_numpy(v).to(self.device) for v in _thresholds(ceiling, floor, error)),
        )

    def _values(self, queries: torch.Tensor, block: torch.Tensor, start: int) -> Any:
        """Scan values ``[B, n]``, in the type of the products."""
        import torch

        if self.similarity == "manhattan":
            return -torch.cdist(queries, block, p=1)
        if block.dtype != torch.float32 and self.device == "cpu":  # there, sums of 16-bit products would be 16-bit too
            return (queries.float() @ block.float().T).to(block.dtype)
        products = queries @ block.T
        if self.similarity == "euclidean":
            products += torch.from_numpy(np.array(self.documents.bias[start : start + len(block)])).to(self.device)
        return products


class _Span:
    """Some queries on the device, and the documents found for them: flat lists of query, row and value.

    A value is off by at most half of ``slack``. From ``high`` on it is certainly at or above the ceiling, below
    ``certain`` certainly below it. ``low`` is what a document must reach to be among the best k.
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
        self.high, self.certain, self.slack, self.low = high, certain, slack, low
        size, device = len(queries), queries.device
        self.best = torch.full((size, k), -torch.inf, device=device)  # certainly below the ceiling, best first
        self.above = torch.zeros(size, dtype=torch.int64, device=device)
        self.overflowed = torch.zeros(size, dtype=torch.bool, device=device)
        self.at = torch.empty(0, dtype=torch.int64, device=device)
        self.rows = torch.empty(0, dtype=torch.int64, device=device)
        self.values = torch.empty(0, device=device)

    def take(self, values: torch.Tensor, start: int) -> None:
        """Take in the values ``[B, n]`` of documents from ``start`` on: highest of each group first, then its members."""
        import torch

        _hide(values, self.exclude, start)
        missing = -values.shape[1] % GROUP
        if missing:  # -inf is never a candidate, so the last group can be filled up
            values = torch.nn.functional.pad(values, (0, missing), value=-torch.inf)
        groups = values.view(len(values), -1, GROUP)
        if start == 0:
            self._raise_low(groups)
        # one comparison for 64 documents: after the first blocks hardly any group [B, n / 64] holds a candidate
        hit = groups.amax(dim=2).float() >= self.low[:, None]
        self._give_up(hit.sum(dim=1) > self.room)
        hit &= ~self.overflowed[:, None]
        at, group = hit.nonzero(as_tuple=True)
        members = groups[at, group].float()
        self.above.index_add_(0, at, (members >= self.high[at, None]).sum(dim=1))
        found, member = ((members >= self.low[at, None]) & (members < self.high[at, None])).nonzero(as_tuple=True)
        self._add(at[found], start + group[found] * GROUP + member, members[found, member])

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


def _thresholds(ceiling: np.ndarray, floor: np.ndarray, error: np.ndarray) -> Iterator[np.ndarray]:
    """``high``, ``certain``, ``slack`` and the first ``low`` of a span, float32 ``[B]``, rounded to the safe side."""
    yield np.nextafter((ceiling + error).astype(np.float32), np.float32(np.inf))
    below = np.nextafter((ceiling - error).astype(np.float32), np.float32(-np.inf))
    yield np.where(np.isposinf(ceiling), np.float32(np.inf), below)
    yield np.nextafter((2 * error).astype(np.float32), np.float32(np.inf))
    yield np.maximum(np.nextafter((floor - error).astype(np.float32), np.float32(-np.inf)), np.float32(LOWEST))


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
