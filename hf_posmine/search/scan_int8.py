"""The portable scan with products of int8 codes, which a GPU multiplies at twice the rate of 16-bit numbers; sums are exact.

The codes and their bounds are those of the CPU's scan (:mod:`.rounding`), with the largest distance of a document from its codes in
place of each one's own. float8 would be as quick, but rounds each number by up to 1/16 of itself, and its sums keep about 14
bits on an H800 (DeepSeek-V3, arXiv 2412.19437, section 3.3): its bound would leave more documents open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.search.rounding import rounded, rounding_error
from hf_posmine.search.scan_torch import SMALLEST, Span, search_spans, thresholds_of
from hf_posmine.utils.threads import be_forked
from hf_posmine.utils.upstream import int8_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from hf_posmine.search.block_sizes import TorchSizes
    from hf_posmine.search.error_bounds import Coded, Documents, Queries
    from hf_posmine.search.rescore import Similarity
    from hf_posmine.search.scan import Ceilings, ScanResult

MULTIPLE, LEAST_ROWS = 8, 32
"""cuBLAS multiplies a multiple of 8 documents by at least 17 queries."""


@dataclass
class Int8Scan:
    """A scan by codes of the documents, for cosines and dot products; see :class:`~hf_posmine.search.scan.Scan`."""

    similarity: Similarity
    documents: Documents
    coded: Coded
    device: str
    sizes: TorchSizes
    least: int = 512
    _kept: list[tuple[int, tuple[torch.Tensor, torch.Tensor]]] = field(default_factory=list, repr=False)

    def __call__(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        """Find the best ``k`` below the ceilings."""
        import torch

        be_forked()
        with torch.inference_mode():
            parts = self.sizes.parts(len(queries.vectors), room)
            spans = [self._span(queries.take(part), k, limits.take(part), room) for part in parts]
            return search_spans(spans, self._feed(), self._search)

    def _feed(self) -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor]]]:
        """Codes int8 ``[n, p]`` and steps float32 ``[n]`` of each block, which stay on the device if all fit."""
        if self._kept:
            yield from self._kept
            return
        made = []
        for start in range(0, len(self.coded.codes), self.sizes.block_rows):
            rows = slice(start, start + self.sizes.block_rows)
            block = self._moved(self.coded.codes[rows]), self._moved(self.coded.scale[rows])
            if self.coded.codes.nbytes <= self.sizes.resident:
                made.append((start, block))
            yield start, block
        self._kept = made

    def _span(self, queries: Queries, k: int, limits: Ceilings, room: int) -> Span:
        """Queries as codes, and thresholds in units of their steps: then only documents are scaled."""
        own = rounded("int8", queries.vectors)
        error = rounding_error(self.similarity, queries, own, self.documents) + own.lengths * self.coded.most
        steps, error = own.steps.astype(np.float64), error + SMALLEST
        at = thresholds_of(limits.ceiling / steps, limits.floor / steps, error / steps)
        return Span(self._moved(own.codes), k, room, limits.exclude, *map(self._moved, at))

    def _search(self, span: Span, block: tuple[torch.Tensor, torch.Tensor], start: int) -> None:
        codes, steps = block
        span.take(products(span.queries, codes).float().mul_(steps), start)

    def _moved(self, values: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(values)).to(self.device)


def products(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Products int32 ``[B, n]`` of codes, of any number of either."""
    import torch

    count, size = len(queries), len(documents)
    left, right = max(0, LEAST_ROWS - count), -size % MULTIPLE
    if left or right:
        queries, documents = (
            torch.nn.functional.pad(c, (0, 0, 0, more)) for c, more in ((queries, left), (documents, right))
        )
    return int8_product(queries, documents.T)[:count, :size]
