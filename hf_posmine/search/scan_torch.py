"""The portable scan: float32 torch on any device, with a running top-k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.search.geometry import Documents, Queries, float_error
from hf_posmine.search.scan import Found, Limits
from hf_posmine.types import PADDING, Exclusions, Rows

if TYPE_CHECKING:
    from hf_posmine.search.similarity import Similarity
    from hf_posmine.store import Vectors

QUERY_ROWS = 1024


@dataclass
class TorchScan:
    """A scan with blocked matrix products on ``device``; memory is bounded by the blocks in both directions."""

    similarity: Similarity
    vectors: Vectors
    documents: Documents
    block_rows: int
    device: str
    spare: int = 1

    def __call__(self, queries: Queries, k: int, limits: Limits, room: int) -> Found:
        """Scan spans of queries one after the other."""
        documents = self.documents.hide(limits.exclude.everywhere)
        found = Found.empty(len(queries.vectors))
        for start in range(0, len(queries.vectors), QUERY_ROWS):
            span = np.arange(start, min(start + QUERY_ROWS, len(queries.vectors)))
            found = found.put(span, self._scan(queries.take(span), k, limits.take(span), room, documents))
        return found

    def _scan(self, queries: Queries, k: int, limits: Limits, room: int, documents: Documents) -> Found:
        import torch

        device = self.device
        error = float_error(self.similarity, queries, documents)
        q = torch.from_numpy(queries.vectors).to(device)
        high = torch.from_numpy(limits.ceiling + error).to(device, torch.float32)
        high = torch.nextafter(high, torch.full_like(high, float("inf")))[:, None]
        best = torch.full((len(q), 0), -torch.inf, device=device)
        ids = torch.full((len(q), 0), PADDING, dtype=torch.int64, device=device)
        above = torch.zeros(len(q), dtype=torch.int64, device=device)
        for start, block in self.vectors.blocks(self.block_rows, len(documents.scale)):
            values = self._values(q, block, documents, start)
            _hide(values, limits.exclude, start)
            too_high = values >= high
            above += too_high.sum(dim=1)
            values.masked_fill_(too_high, -torch.inf)
            rows = torch.arange(start, start + len(block), device=device).expand(len(q), -1)
            best, where = torch.cat([best, values], 1).topk(min(room, best.shape[1] + len(block)), dim=1)
            ids = torch.cat([ids, rows], 1).gather(1, where)
        ids = ids.masked_fill(torch.isneginf(best), PADDING)
        complete = _complete(best.cpu().numpy().astype(np.float64), limits.ceiling, error, k, room)
        return Found(ids.cpu().numpy(), above.cpu().numpy(), complete)

    def _values(self, q: Any, block: np.ndarray, documents: Documents, start: int) -> Any:
        import torch

        d = torch.from_numpy(np.array(block, np.float32)).to(self.device)
        scale = torch.from_numpy(documents.scale[start : start + len(block)]).to(self.device)
        bias = torch.from_numpy(documents.bias[start : start + len(block)]).to(self.device)
        products = -torch.cdist(q, d, p=1) if self.similarity == "manhattan" else _matmul(q, d)
        values = products * scale + bias
        return values.masked_fill_(torch.isnan(scale), -torch.inf)


def _matmul(q: Any, d: Any) -> Any:
    """A float32 product: TF32, which a user may have switched on, would break the error bound."""
    import torch

    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return q @ d.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _hide(values: Any, exclude: Exclusions, start: int) -> None:
    """Set the excluded documents of the block to -inf."""
    import torch

    inside = np.flatnonzero((exclude.rows >= start) & (exclude.rows < start + values.shape[1]))
    if len(inside):
        queries = np.searchsorted(exclude.bounds, inside, side="right") - 1
        at = (torch.from_numpy(queries), torch.from_numpy(exclude.rows[inside] - start))
        values[at[0].to(values.device), at[1].to(values.device)] = -torch.inf


def _complete(best: np.ndarray, ceiling: np.ndarray, error: np.ndarray, k: int, room: int) -> np.ndarray:
    """Whether everything dropped from the running top is certainly worse than the k-th certain candidate."""
    if best.shape[1] < room:
        return np.ones(len(best), bool)
    sure = np.where(best < (ceiling - error)[:, None], best, -np.inf)
    kth = -np.partition(-sure, k - 1, axis=1)[:, k - 1] if best.shape[1] >= k else np.full(len(best), -np.inf)
    worst: Rows = best[:, -1]
    return np.isneginf(worst) | (worst < kth - 2 * error)
