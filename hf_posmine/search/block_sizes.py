"""Block sizes of a search: the fastest ones, or smaller ones that fit the memory budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.utils.memory import Budget, ask_size, show_size

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows
    from hf_posmine.search.rounding import Kind

RECORD_BYTES = 16
LEAST_QUERIES, LEAST_BLOCK = 32, 256
CHUNK = 16_384
"""Documents per copy to a GPU."""
SHARE_OF_GPU = 0.9
FIXED = 8 << 20
"""Bytes of a thread besides its blocks: what comes out, and what numpy makes on the way."""


@dataclass(frozen=True)
class Sizes:
    """Blocks of a search; no choice moves a result.

    Attributes:
        queries: per span, which one thread scans.
        block_rows: documents per block of float32 products.
        coded_rows: the same of products of codes, of four bytes each.
        records: candidates that a span of queries may hold between them.
        held: bytes of prepared columns (:mod:`.prepared`) that may stay in memory.
    """

    queries: int = 512
    block_rows: int = 2048
    coded_rows: int = 1024
    records: int = 1 << 19
    held: int = 16 << 20

    def per_thread(self, dimensions: int) -> int:
        """Bytes that a thread takes at most."""
        scores = 4 * self.queries * max(self.block_rows, self.coded_rows)
        vectors = 8 * dimensions * (self.queries + self.block_rows)
        return scores + vectors + self.records * RECORD_BYTES + FIXED

    def rounded_rows(self, kind: Kind) -> int:
        """Documents per block of products of rounded vectors: those of bfloat16 have two bytes."""
        return 2 * self.coded_rows if kind == "bfloat16" else self.coded_rows

    def halved(self) -> Sizes:
        """Smaller blocks; the same where they are the least that work."""
        return replace(
            self,
            queries=max(LEAST_QUERIES, self.queries // 2),
            block_rows=max(LEAST_BLOCK, self.block_rows // 2),
            coded_rows=max(LEAST_BLOCK, self.coded_rows // 2),
            records=max(1 << 15, self.records // 4),
        )

    @classmethod
    def fit(cls, budget: Budget, dimensions: int, threads: int) -> Sizes:
        """The usual sizes, or smaller ones that fit what is left of a budget.

        Raises:
            InputError: a budget too small for the least sizes, with the least that would do.
        """
        left, sizes = budget.left(), cls()
        if left is None:
            return sizes
        while sizes.per_thread(dimensions) * threads > left:
            smaller = sizes.halved()
            if smaller == sizes:
                raise too_small(budget, sizes.per_thread(dimensions) * threads - left)
            sizes = smaller
        return replace(sizes, held=min(sizes.held, (left - sizes.per_thread(dimensions) * threads) // 2))


@dataclass(frozen=True)
class TorchSizes:
    """Blocks of a scan by torch on a device.

    Attributes:
        queries: per span.
        block_rows: documents per block.
        records: how many candidates the queries of a span may have between them, at their room.
        resident: bytes of documents that may stay on the device.
    """

    queries: int = 1024
    block_rows: int = 2048
    records: int = 1 << 19
    resident: int = 0

    def parts(self, queries: int, room: int) -> list[Rows]:
        """The rows of each span of so many queries, with room for so many candidates each."""
        size = max(1, min(self.queries, self.records // room))
        return [np.arange(start, min(start + size, queries)) for start in range(0, queries, size)]

    def bytes(self, dimensions: int) -> int:
        """Bytes on the device at most, in float32, without documents that stay there."""
        scores = self.queries * self.block_rows * 10  # values, a mask, and once a copy
        documents = 2 * self.block_rows * dimensions * 4 + CHUNK * dimensions * 12
        return scores + documents + self.records * 64

    @classmethod
    def of_gpu(cls, budget: Budget, device: str, dimensions: int) -> TorchSizes:
        """Blocks for the free memory of a GPU, or for what the budget allows of it."""
        import torch

        free = int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_GPU)
        return cls.of_memory(free if budget.gpu_memory is None else min(free, budget.gpu_memory), dimensions)

    @classmethod
    def of_memory(cls, memory: int, dimensions: int) -> TorchSizes:
        """The largest blocks that take half of so many bytes; what is left is for documents that stay.

        Raises:
            InputError: too little for the least blocks.
        """
        sizes, last = cls(16_384, 1 << 18, 1 << 23), None
        while sizes.bytes(dimensions) > memory // 2 and sizes != last:
            last = sizes
            sizes = cls(max(64, sizes.queries // 2), max(2048, sizes.block_rows // 2), max(1 << 15, sizes.records // 2))
        least = sizes.bytes(dimensions)
        if least > memory:
            raise InputError(
                f"{show_size(memory)} of GPU memory are too little for a search in {dimensions} dimensions; it needs "
                f"{show_size(least)}. Free some, allow more with --max-gpu-memory, or search on the CPU"
            )
        return replace(sizes, resident=memory - least)


def too_small(budget: Budget, missing: int) -> InputError:
    """The error of a budget that lacks so many bytes."""
    memory = budget.memory or 0
    taken = memory - (budget.left() or 0)
    return InputError(
        f"a memory limit of {show_size(memory)} is too small: the program and its model take {show_size(taken)}, and the "
        f"search needs {show_size(memory - taken + missing)} more at least; allow {ask_size(memory + missing)}"
    )
