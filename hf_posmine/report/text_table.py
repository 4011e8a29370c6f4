"""Texts of the page, each once, compressed as they come, and thumbnails of those that name images."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hf_posmine.data.images import NAME_LENGTH, NamedImage, thumbnail
from hf_posmine.data.texts import text_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_TEXTS = 1000
"""Texts per line of JSON; the page reads only the lines it shows."""
MOST_IMAGES = 2000
"""Thumbnails on a page, some 10 MB; further images go by their names."""
REFERENCE_BYTES = 8
"""What a text of a row takes beside itself, compressed: its number, score, rank and id, about."""


@dataclass
class TextTable:
    """Numbers texts, each once, and compresses them as they come."""

    characters: int
    numbers: dict[bytes, int] = field(default_factory=dict)
    cut: int = 0
    written: int = 0
    references: int = 0
    images: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compress = zlib.compressobj(6)
        self._pieces: list[bytes] = []
        self._line: list[str] = []

    def add(self, texts: Sequence[str]) -> list[int]:
        """The numbers of texts."""
        self.references += len(texts)
        numbers = []
        for text, key in zip(texts, text_keys(texts, "exact").tolist(), strict=True):
            if key not in self.numbers:
                self.numbers[key] = len(self.numbers)
                self._append(text)
            numbers.append(self.numbers[key])
            name = text[:NAME_LENGTH]
            if isinstance(text, NamedImage) and name not in self.images and len(self.images) < MOST_IMAGES:
                self.images[name] = thumbnail(text)
                self.written += len(self.images[name]) * 3 // 4
        return numbers

    @property
    def size(self) -> int:
        """Bytes of the texts so far and of the rows that name them, about, before base64."""
        return self.written + REFERENCE_BYTES * self.references

    def finish(self) -> str:
        """All texts, in base64."""
        self._write_line()
        self._pieces.append(self._compress.flush())
        return base64.b64encode(b"".join(self._pieces)).decode()

    def _append(self, text: str) -> None:
        if len(text) > self.characters:
            text, self.cut = text[: self.characters] + " …", self.cut + 1
        self._line.append(text)
        if len(self._line) == LINE_TEXTS:
            self._write_line()

    def _write_line(self) -> None:
        line = json.dumps(self._line, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._pieces.append(self._compress.compress(line.encode()))
        self.written += len(self._pieces[-1])
        self._line = []
