"""Documents on the device that multiplies them, block by block."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.search import resident
from hf_posmine.search.block_sizes import CHUNK
from hf_posmine.utils.mapped import release_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from hf_posmine.core.types import Floats
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.axis_bounds import AxisBounds
    from hf_posmine.search.block_sizes import TorchSizes


class GpuBlocks:
    """Blocks of scaled documents on ``device``, each with its first row; iterate as often as needed.

    On CUDA they are kept there if that fits. Otherwise a thread reads the next block into pinned memory and copies it on
    a stream of its own while the caller works on this one.

    Args:
        vectors: the documents.
        scale: float32 ``[N]``, of each document; only so many are fed.
        factor: of all documents.
        sizes: of the blocks, and how much may be kept.
        device: where to.
        half: a 16-bit type, or None for float32.
        axes: where given, a block has the documents' rows along them behind the documents, ``[n, d + width]``.
    """

    def __init__(
        self,
        vectors: Vectors,
        scale: Floats,
        factor: float,
        sizes: TorchSizes,
        device: str,
        half: str | None,
        axes: AxisBounds | None = None,
    ) -> None:
        self.vectors, self.scale, self.factor, self.sizes = vectors, scale, factor, sizes
        self.device, self.half, self.axes = device, half, axes
        self._width = vectors.dim + (axes.width if axes is not None else 0)
        self._kept: list[tuple[int, Any]] = []
        self._complete = False
        self._lanes: _Lanes | None = None

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if self._complete:
            yield from self._kept
            return
        self._kept = []
        starts = range(0, len(self.scale), self.sizes.block_rows)
        keep = self._bytes() <= self.sizes.resident
        for start, block in self._ahead(starts) if self.device.startswith("cuda") else self._now(starts):
            if keep:
                self._kept.append((start, block))
            yield start, block
        self._complete = keep

    def _bytes(self) -> int:
        return len(self.scale) * self._width * (4 if self.half is None else 2)

    def _now(self, starts: range) -> Iterator[tuple[int, Any]]:
        for start in starts:
            yield start, self._load(start)

    def _ahead(self, starts: range) -> Iterator[tuple[int, Any]]:
        """Load a block ahead; the caller's stream waits for the copies of the block it is given."""
        import torch

        self._lanes = _Lanes(self.vectors.dim, self.device)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._load, starts[0])
            for start in starts:
                block = coming.result()
                if start + self.sizes.block_rows < len(self.scale):
                    coming = reader.submit(self._load, start + self.sizes.block_rows)
                current = torch.cuda.current_stream(self.device)
                current.wait_event(self._lanes.done(start))
                block.record_stream(current)
                yield start, block
        self._lanes = None

    def _load(self, start: int) -> Any:
        """The block from ``start`` on: scaled in float32, then rounded."""
        import torch

        stop = min(len(self.scale), start + self.sizes.block_rows)
        dtype = torch.float32 if self.half is None else getattr(torch, self.half)
        lanes = self._lanes
        with contextlib.nullcontext() if lanes is None else lanes.stream():
            block = torch.empty((stop - start, self._width), dtype=dtype, device=self.device)
            for at in range(start, stop, CHUNK):
                end = min(stop, at + CHUNK)
                scale = torch.from_numpy(np.asarray(self.scale[at:end]) * np.float32(self.factor))
                if lanes is None:
                    rows = torch.from_numpy(self._rows(at, end, np.empty((end - at, self.vectors.dim), np.float32)))
                    rows, scale = rows.to(self.device), scale.to(self.device)
                else:
                    rows, scale = lanes.send(partial(self._rows, at, end), end - at, scale)
                part = block[at - start : end - start]
                part[:, : self.vectors.dim] = rows.mul_(scale[:, None])
                if self.axes is not None:
                    part[:, self.vectors.dim :] = self.axes.documents(part[:, : self.vectors.dim])
            if lanes is not None:
                lanes.mark(start)
        return block

    def _rows(self, start: int, stop: int, out: np.ndarray) -> np.ndarray:
        """Rows ``start`` to ``stop``, written to ``out`` float32 ``[stop - start, d]``."""
        starts, shards = self.vectors.starts, self.vectors.shards
        at, number = start, int(np.searchsorted(starts, start, side="right")) - 1
        while at < stop:
            end = min(stop, int(starts[number + 1]))
            local = slice(at - int(starts[number]), end - int(starts[number]))
            out[at - start : end - start] = shards[number][local]
            if resident.large(self.vectors):
                release_pages(shards[number], local.start, local.stop)
            at, number = end, number + 1
        return out


class _Lanes:
    """Two pinned buffers and a stream, so that a buffer is filled while the other is copied to the GPU."""

    def __init__(self, dimensions: int, device: str) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._buffers = [torch.empty((CHUNK, dimensions), pin_memory=True) for _ in range(2)]
        self._free = [torch.cuda.Event() for _ in range(2)]
        self._turn = 0
        self._marks: dict[int, Any] = {}

    def stream(self) -> Any:
        """Everything inside runs on the stream of the copies."""
        import torch

        return torch.cuda.stream(self._stream)

    def send(self, fill: Callable[[np.ndarray], object], rows: int, scale: torch.Tensor) -> tuple[Any, Any]:
        """Fill a buffer once its last copy has left, and copy it."""
        self._turn = 1 - self._turn
        buffer, free = self._buffers[self._turn][:rows], self._free[self._turn]
        free.synchronize()
        fill(buffer.numpy())
        sent = buffer.to(self._device, non_blocking=True)
        free.record(self._stream)
        return sent, scale.to(self._device)

    def mark(self, start: int) -> None:
        """The block from ``start`` on is on its way."""
        import torch

        self._marks[start] = torch.cuda.Event()
        self._marks[start].record(self._stream)

    def done(self, start: int) -> Any:
        """The event after the copies of a block."""
        return self._marks.pop(start)
