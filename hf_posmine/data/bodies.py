"""The texts of a corpus without their titles: which documents have the same body as a given text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import Match, Rows, spans
from hf_posmine.data.texts import KEY, text_keys
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.files import staging_folder
from hf_posmine.utils.mapped import Appended, key_ranges, npy_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class BodyKeys:
    """Collects the keys of texts without their titles while a corpus is written; a context manager of its temporary files."""

    def __init__(self, root: Path, match: Match) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.match = root, match
        self._staging = staging_folder(root)
        self._keys, self._whole = (Appended(Path(self._staging.name) / n, KEY) for n in ("bodies", "texts"))

    def __enter__(self) -> BodyKeys:
        return self

    def __exit__(self, *_: object) -> None:
        self._staging.cleanup()

    def add(self, bodies: Sequence[str], texts: Sequence[str]) -> None:
        """Some documents, without and with their titles."""
        self._keys.add(text_keys(bodies, self.match))
        self._whole.add(text_keys(texts, self.match))

    def rows_in(self, rows_of_keys: Callable[[np.ndarray], Rows]) -> KeyRows:
        """The rows of each body in the corpus that was written meanwhile, by its lookup of whole texts."""
        keys, whole = self._keys.array(), self._whole.array()
        digest = hashlib.sha256()
        files = [Path(self._staging.name) / f"{name}.npy" for name in ("keys", "rows")]
        with npy_file(files[0], KEY, keys.shape) as key_file, npy_file(files[1], np.int64, keys.shape) as row_file:
            for at in key_ranges(keys):
                rows = rows_of_keys(whole[at])
                order = np.lexsort((rows, keys[at]))
                for file, array in ((key_file, keys[at][order]), (row_file, rows[order])):
                    digest.update(array.tobytes())
                    file.write(array.tobytes())

        def build(folder: Path) -> None:
            for file in files:
                file.rename(folder / file.name)

        return KeyRows(build_once(self.root / f"bodies-{digest.hexdigest()[:32]}", build))


@dataclass(frozen=True)
class KeyRows:
    """The corpus rows of each key, several for one key where documents share it; on disk by content."""

    path: Path

    @cached_property
    def _arrays(self) -> list[np.ndarray]:
        return [np.load(checked(self.path) / f"{name}.npy", mmap_mode="r") for name in ("keys", "rows")]

    def of(self, wanted: np.ndarray) -> tuple[Rows, Rows]:
        """Positions of the wanted keys, ``[m]``, and the row of each document that has it."""
        keys, rows = self._arrays
        left = np.searchsorted(keys, wanted, side="left")
        counts = np.searchsorted(keys, wanted, side="right") - left
        return np.repeat(np.arange(len(wanted)), counts), np.asarray(rows[spans(left, counts)])

    def pairs(self) -> tuple[np.ndarray, Rows]:
        """All keys, sorted, and the row of each."""
        keys, rows = self._arrays
        return keys, rows

    def counts(self) -> tuple[np.ndarray, Rows]:
        """The different keys, and how many rows each has."""
        return np.unique(self._arrays[0], return_counts=True)

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        object.__setattr__(self, "path", state["path"])


def write_pairs(keys: Rows, rows: Rows, root: Path) -> KeyRows:
    """Store pairs that are sorted by key, on disk by content."""
    digest = hashlib.sha256(keys.tobytes() + rows.tobytes()).hexdigest()[:32]

    def build(folder: Path) -> None:
        np.save(folder / "keys.npy", keys)
        np.save(folder / "rows.npy", rows)

    return KeyRows(build_once(root / f"pairs-{digest}", build))
