"""Pages of memory-mapped arrays: let go of those that were read, so that what is resident does not grow with the corpus.

A page that was let go of stays in the system's cache, where it costs no process anything, and comes back at a touch.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hf_posmine.store import Vectors

RESIDENT = 128 << 20
"""Bytes of mapped vectors that may stay resident: below, touching them again costs more than they do."""
STRIDE = 8 << 20


def large(vectors: Vectors) -> bool:
    """Whether the pages of these vectors should be let go of as they are passed."""
    return len(vectors) * vectors.dim * vectors.shards[0].itemsize > RESIDENT


def forget(array: np.ndarray, start: int, stop: int) -> None:
    """Let go of the whole pages of rows ``start`` to ``stop`` of an array, if it is mapped from a file."""
    mapped = getattr(array, "_mmap", None)
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = array.__array_interface__["data"][0] - np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    begin = -(-(first + start * array.strides[0]) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (first + stop * array.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)
