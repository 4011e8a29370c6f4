"""Vectors of texts that a store holds in another part: a corpus that grew encodes its new texts alone."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import CorruptFileError, CorruptShardError
from hf_posmine.core.types import PADDING
from hf_posmine.data.images import NamedImage
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.utils.cache import read_json
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.texts import TextPart

TEXTS = "texts.npy"


def _keys(texts: Iterable[str]) -> np.ndarray:
    """Exact keys; that of an image is not that of a text which reads like its name."""
    return text_keys((f"\0{text}" if isinstance(text, NamedImage) else text for text in texts), "exact")


def note_texts(folder: Path, part: TextPart) -> None:
    """Write the exact keys of a part's texts beside its vectors, unless they are there."""
    if not (folder / TEXTS).is_file():
        starts = range(0, len(part), 8192)
        blocks = (part.items(np.arange(start, min(start + 8192, len(part)))) for start in starts)
        keys = _keys(text for texts in (blocks if part.num_images else part.iter_texts()) for text in texts)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, keys)

        write_file(folder / TEXTS, write)


class OtherParts:
    """The parts beside one, by the same model.

    Args:
        folder: of the part.
        open_shard: shard number of a folder -> its vectors, checked.
    """

    def __init__(self, folder: Path, open_shard: Callable[[Path, int], np.ndarray]) -> None:
        self.folder, self._open_shard = folder, open_shard

    @cached_property
    def _parts(self) -> list[tuple[Path, KeyIndex, int]]:
        """Folder, lookup and rows per shard of each part that has noted its texts."""
        found = []
        for file in sorted(self.folder.parent.glob(f"*/{TEXTS}")):
            if file.parent != self.folder:
                try:
                    rows = int(read_json(file.parent / "manifest.json")["shard_rows"])
                    found.append((file.parent, KeyIndex.build(np.load(file)), rows))
                except (OSError, CorruptFileError, ValueError, EOFError):
                    continue  # a part that is damaged is of no use here, and reported where it is read
        return found

    def encode(
        self,
        texts: Sequence[str],
        encode: Callable[[Sequence[str], Callable[[int], object]], Floats],
        progress: Callable[[int], object],
    ) -> Floats:
        """Vectors float32 ``[m, d]``: those that another part has, and the rest from ``encode``."""
        found = self._find(_keys(texts)) if self._parts else {}
        if not found:
            return encode(texts, progress)
        progress(len(found))
        rest = [row for row in range(len(texts)) if row not in found]
        vectors = np.empty((len(texts), len(next(iter(found.values())))), np.float32)
        vectors[list(found)] = np.stack(list(found.values()))
        if rest:
            vectors[rest] = encode([texts[row] for row in rest], progress)
        return vectors

    def _find(self, keys: np.ndarray) -> dict[int, Floats]:
        """Position of a text -> its vector."""
        found: dict[int, Floats] = {}
        for folder, index, shard_rows in self._parts:
            rows = index.rows(keys)
            rows[list(found)] = PADDING
            for number in np.unique(rows[rows >= 0] // shard_rows).tolist():
                at = np.flatnonzero((rows >= 0) & (rows // shard_rows == number))
                found |= self._of_shard(folder, number, at, rows[at] - number * shard_rows)
        return found

    def _of_shard(self, folder: Path, number: int, at: Rows, rows: Rows) -> dict[int, Floats]:
        try:
            shard = self._open_shard(folder, number)
        except CorruptShardError:
            return {}  # not filled yet, or damaged, which its own part reports
        return dict(zip(at.tolist(), np.asarray(shard[rows], np.float32), strict=True))
