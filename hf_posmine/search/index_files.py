"""Folders of approximate indexes: beside the embeddings, addressed by their content and by the index's settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.search.prepared import content_digest, scan_folders
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.search.exact import ExactIndex

BLOCK_BYTES = 32 << 20
"""Vectors held at a time."""


def index_folder(exact: ExactIndex, made: Sequence[Any]) -> Path:
    """The folder of an index over the documents of ``exact``.

    Args:
        exact: the documents.
        made: plain values that say how the index is made.
    """
    content = content_digest(exact.similarity, exact.vectors, exact.num_candidates)
    beside = scan_folders(exact.vectors)[0].parent
    name = json_digest([content, *made])
    readable = (beside / "indexes" / name).is_dir() or os.access(beside, os.W_OK)
    return (beside if readable else cache_root()) / "indexes" / name


def blocks_of(exact: ExactIndex, start: int, stop: int) -> Iterator[Floats]:
    """Vectors from row ``start`` up to ``stop``; blocks begin at the same rows after any interruption."""
    rows = rows_in(exact, BLOCK_BYTES)
    for first in range(start, stop, rows):
        yield vectors_of(exact, np.arange(first, min(stop, first + rows)))
        exact.vectors.release()


def rows_in(exact: ExactIndex, size: int) -> int:
    """Rows of float32 vectors in ``size`` bytes."""
    return max(1, size // (4 * exact.vectors.dim))


def vectors_of(exact: ExactIndex, rows: Rows) -> Floats:
    """Vectors float32 ``[m, d]`` as an engine takes them: of unit length where the similarity is cosine."""
    vectors = exact.vectors[rows]
    if exact.similarity == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        vectors /= np.where(lengths > 0, lengths, 1)[:, None].astype(np.float32)
    return vectors
