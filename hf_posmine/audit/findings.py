"""Findings on disk: a file per kind, so that memory does not grow with the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.kinds import KINDS
from hf_posmine.utils.mapped import Appended, blocks, preallocate, release_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.core.types import Rows

ENTRY = np.dtype([("row", np.int64), ("index", np.int32)])
"""The row, and the place among its negatives or ``ROW``."""


class FindingFiles:
    """Takes findings, and maps them when all are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = {name: Appended(folder / f"found-{name}", ENTRY) for name in KINDS}
        self._done: dict[str, np.ndarray] = {}

    def add(self, kind: str, rows: Rows | Sequence[int], indexes: Rows | Sequence[int]) -> None:
        """Findings of a kind, ``[n]`` each."""
        entries = np.empty(len(rows), ENTRY)
        entries["row"], entries["index"] = rows, indexes
        self._files[kind].add(entries)

    def add_entries(self, kind: str, entries: np.ndarray) -> None:
        """Findings of a kind, as entries ``[n]``."""
        self._files[kind].add(entries)

    def of(self, kind: str) -> np.ndarray:
        """The findings of a kind, memory-mapped; none can be added after."""
        if kind not in self._done:
            self._done[kind] = self._files[kind].array()
        return self._done[kind]

    def count_rows(self, kind: str, num_rows: int) -> int:
        """How many rows have a finding of this kind."""
        found = self.of(kind)
        if not len(found):
            return 0
        seen = preallocate(self.folder / "seen", np.bool_, num_rows)
        for span in blocks(len(found)):
            seen[found["row"][span]] = True
            release_pages(found, span.start, span.stop)
        count = sum(int(np.count_nonzero(seen[span])) for span in blocks(num_rows))
        release_pages(seen)
        return count
