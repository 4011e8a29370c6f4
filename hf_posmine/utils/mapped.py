"""Numbers on disk: appended, filled in any order, sorted range by range; a block of them is in memory at a time."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import IO, TYPE_CHECKING

import numpy as np

from hf_posmine.utils.upstream import mapped_buffer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from hf_posmine.core.types import Rows

BLOCK = 1 << 18
RANGE = 1 << 18


class Appended:
    """A file of numbers that grows; :meth:`array` maps what was written. It is open only while something is added."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        path.write_bytes(b"")

    def add(self, values: np.ndarray) -> None:
        """Write some more."""
        if len(values):
            with self.path.open("ab") as file:
                file.write(np.ascontiguousarray(values, self.dtype).data)

    def array(self) -> np.ndarray:
        """All that was written so far."""
        return mapped(self.path, self.dtype)


def mapped(path: Path, dtype: npt.DTypeLike) -> np.ndarray:
    """The numbers of a file without a header, memory-mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def preallocate(path: Path, dtype: npt.DTypeLike, length: int) -> np.ndarray:
    """Zeros in a new file, memory-mapped for writing; the space is taken now, so that no write can fail later."""
    if not length:
        return np.empty(0, dtype)
    with path.open("wb") as file:
        size = length * np.dtype(dtype).itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, dtype, "r+")


def scratch(length: int, dtype: npt.DTypeLike) -> np.ndarray:
    """Room for so many numbers, of which only what is touched takes memory; all of it goes back to the system at once."""
    dtype = np.dtype(dtype)
    return np.frombuffer(mmap.mmap(-1, max(1, length) * dtype.itemsize), dtype, length)


def release_pages(array: np.ndarray, start: int = 0, stop: int | None = None) -> None:
    """Let go of the whole pages of rows ``start`` to ``stop`` of an array, if it is mapped from a file.

    They stay in the system's cache, or are written by it in time, and no longer count as this process's memory.
    """
    stop = len(array) if stop is None else stop
    buffer = mapped_buffer(array)
    if buffer is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = array.__array_interface__["data"][0] - np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    begin = -(-(first + start * array.strides[0]) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (first + stop * array.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        buffer.madvise(mmap.MADV_DONTNEED, begin, end - begin)


@contextlib.contextmanager
def npy_file(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A ``.npy`` file of known shape, whose rows are then written one after the other."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def blocks(length: int) -> Iterator[slice]:
    """Slices that cover ``length`` numbers, a block each."""
    for start in range(0, length, BLOCK):
        yield slice(start, min(length, start + BLOCK))


def gathered(array: np.ndarray, at: Rows) -> np.ndarray:
    """``array[at]`` for ascending positions ``at [n]``, block by block, so that no more than a block of a file is in memory.

    >>> gathered(np.arange(5) * 2, np.array([1, 3])).tolist()
    [2, 6]
    """
    found = [array[:0]]
    for span in blocks(len(array)):
        first, last = np.searchsorted(at, [span.start, span.stop])
        if last > first:
            found.append(array[at[first:last]])
            release_pages(array, span.start, span.stop)
    return np.concatenate(found)


def key_ranges(keys: np.ndarray) -> Iterator[Rows]:
    """Positions int64 of the keys (bytes ``[N]``, evenly spread, as hashes are) in one range of values after the other.

    What is to be sorted is sorted range by range: the results one after the other are sorted as a whole.

    >>> RANGE, [at.tolist() for at in key_ranges(np.array([b"7" * 16, b"3" * 16, b"7" * 16]))]
    (262144, [[0, 1, 2]])
    """
    bits = max(0, (len(keys) - 1) // RANGE).bit_length()
    for number in range(1 << bits):
        found = [np.empty(0, np.int64)]
        for span in blocks(len(keys)):
            first = np.ascontiguousarray(keys[span]).view(">u8").reshape(len(keys[span]), -1)[:, 0]
            here = first >> np.uint64(64 - bits) == number if bits else np.ones(len(first), bool)
            found.append(span.start + np.flatnonzero(here))
            release_pages(keys, span.start, span.stop)
        yield np.concatenate(found)
