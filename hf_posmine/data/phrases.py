"""Find the documents that contain any of many texts, word for word, in one pass over the documents.

A text is the sequence of its words, as :func:`words` gives them; a document contains it if these words are in it one after
the other. Words are hashed by a rolling polynomial, so that the hash of any run of words costs one subtraction. Each text is
found by an anchor, its first or last 1, 2, 4 or 8 words, and then compared as a whole by the hash of all its bytes. Memory
depends on the texts (about 50 bytes each) and the hits, not on the documents.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import spans
from hf_posmine.data.texts import loosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hf_posmine.core.types import Rows

CROWDED = 5000
"""A text that more documents contain than this does not identify any of them, such as ``two``."""
BLOCK_LETTERS = 1 << 19
WIDTHS = (1, 2, 4, 8)
BITS = 22
NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Scripts that are written without spaces (Thai, Lao, Burmese, Khmer, Japanese, Chinese): each letter is a word."""
MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0f00-\u0fff"
"""Signs that are part of a word, and no letters by themselves."""
WORD = re.compile(f"[{NO_SPACES}]|(?:[^\\W{NO_SPACES}]|[{MARKS}])+")
BASE = 0x9E3779B97F4A7C15
LETTERS = np.random.default_rng(2407_15831).integers(1, 1 << 64, 256, np.uint64)
"""A random number for each byte, so that no structure of a text survives in its hash."""


def words(text: str) -> list[str]:
    """The words of a text without punctuation, case, invisible characters or width.

    >>> words("Who wrote “Faust”?"), words("東京へ")
    (['who', 'wrote', 'faust'], ['東', '京', 'へ'])
    """
    return WORD.findall(loosen(text))


@functools.lru_cache(maxsize=2)
def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of the base and of its inverse modulo 2**64, uint64 ``[length]`` each."""
    made = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        powers = np.full(length, base, np.uint64)
        powers[0] = 1
        made.append(np.cumprod(powers, dtype=np.uint64))
    return made[0], made[1]


class HashedWords:
    """Texts side by side as words, and the hash of any run of them.

    Attributes:
        letters: uint8 ``[L]``, the words in UTF-8, a space between words and a newline after each text.
        starts: int64 ``[W]``, first byte of each word.
        ends: int64 ``[W]``, the byte after it.
        bounds: int64 ``[T + 1]``, first byte of each text, and the number of bytes.
        text_of: int64 ``[W]``, the text of each word.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "".join(" ".join(words(text)) + "\n" for text in texts)
        self.letters = np.frombuffer(joined.encode("utf-8", "surrogatepass"), np.uint8)
        between = (self.letters == ord(" ")) | (self.letters == ord("\n"))
        before = np.append(True, between[:-1])
        self.starts, self.ends = np.flatnonzero(~between & before), np.flatnonzero(between & ~before)
        self.bounds = np.append(0, np.flatnonzero(self.letters == ord("\n")) + 1)
        self.text_of = np.searchsorted(self.bounds, self.starts, side="right") - 1
        length = 1 << max(16, len(self.letters).bit_length())
        self._up, down = _powers(length)
        self._sums = np.append(
            np.uint64(0), np.cumsum(LETTERS[self.letters] * down[: len(self.letters)], dtype=np.uint64)
        )

    def hashes(self, starts: Rows, ends: Rows) -> np.ndarray:
        """Hash uint64 of each run of bytes; equal for equal bytes wherever they are."""
        return (self._sums[ends] - self._sums[starts]) * self._up[starts]

    def runs(self, width: int) -> tuple[Rows, np.ndarray]:
        """The first word of every run of so many words within one text, and its hash."""
        first = np.arange(max(0, len(self.starts) - width + 1))
        first = first[self.text_of[first] == self.text_of[first + width - 1]]
        return first, self.hashes(self.starts[first], self.ends[first + width - 1])


@dataclass
class Anchors:
    """Texts that are found by runs of one width.

    Attributes:
        hashes: uint64 ``[P]``, of the anchors, sorted.
        phrases: int64 ``[P]``, the text of each.
        seen: bool ``[2 ** BITS]``, whether an anchor begins with these bits.
    """

    hashes: np.ndarray
    phrases: Rows
    seen: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, phrases: Rows) -> Anchors:
        """Sort the anchors of some texts."""
        order = np.argsort(hashes, kind="stable")
        seen = np.zeros(1 << BITS, bool)
        seen[(hashes >> np.uint64(64 - BITS)).astype(np.int64)] = True
        return cls(hashes[order], phrases[order], seen)

    def find(self, runs: np.ndarray) -> tuple[Rows, Rows]:
        """Positions of runs that are anchors, and the text of each."""
        at = np.flatnonzero(self.seen[(runs >> np.uint64(64 - BITS)).astype(np.int64)])
        left = np.searchsorted(self.hashes, runs[at], side="left")
        counts = np.searchsorted(self.hashes, runs[at], side="right") - left
        return np.repeat(at, counts), self.phrases[spans(left, counts)]


class Phrases:
    """Many texts, to be found in documents.

    Args:
        texts: the texts, read once; one without a word is in no document.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        pieces = [_measure(block) for block in blocks_of(texts)] or [_measure([])]
        self._whole, self._bytes, self._width, first, last, last_offset = map(np.concatenate, zip(*pieces, strict=True))
        rarer = _shares(last) < _shares(first)
        self._anchor, self._offset = np.where(rarer, last, first), np.where(rarer, last_offset, 0)
        self.counts = np.zeros(len(self._whole), np.int64)
        self._index()

    def _index(self) -> None:
        wanted = (self._width > 0) & (self.counts <= CROWDED)
        self._anchors = {
            width: Anchors.of(self._anchor[at], at)
            for width in WIDTHS
            if len(at := np.flatnonzero(wanted & (self._width == width)))
        }

    @property
    def crowded(self) -> np.ndarray:
        """Which of the texts are in too many documents to identify any, bool ``[P]``."""
        return self.counts > CROWDED

    def find(self, documents: Sequence[str]) -> tuple[Rows, Rows]:
        """Text and position of the document of each containment, sorted by text; every pair once.

        Texts that become crowded are not looked for any more.
        """
        hashed = HashedWords(documents)
        found = [self._found_by(width, hashed) for width in self._anchors]
        phrases = np.concatenate([np.empty(0, np.int64), *(phrases for phrases, _ in found)])
        inside = np.concatenate([np.empty(0, np.int64), *(inside for _, inside in found)])
        phrases, inside = np.divmod(np.unique(phrases * len(documents) + inside), len(documents))
        before = self.crowded
        self.counts += np.bincount(phrases, minlength=len(self.counts))
        if (self.crowded != before).any():
            self._index()
        return phrases, inside

    def _found_by(self, width: int, hashed: HashedWords) -> tuple[Rows, Rows]:
        first, runs = hashed.runs(width)
        at, phrases = self._anchors[width].find(runs)
        text = hashed.text_of[first[at]]
        start = hashed.starts[first[at]] - self._offset[phrases]
        end = start + self._bytes[phrases]
        inside = (start >= hashed.bounds[text]) & (end < hashed.bounds[text + 1])
        phrases, text, start, end = phrases[inside], text[inside], start[inside], end[inside]
        letters = hashed.letters
        begins = (start == hashed.bounds[text]) | (letters[start - 1] == ord(" "))
        ends = (letters[end] == ord(" ")) | (letters[end] == ord("\n"))
        same = begins & ends & (hashed.hashes(start, end) == self._whole[phrases])
        return phrases[same], text[same]


def _measure(texts: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Of each text: hash, bytes, width of its anchors, hash of the first, hash and offset of the last."""
    hashed = HashedWords(texts)
    starts, ends = hashed.bounds[:-1], hashed.bounds[1:] - 1
    counts = np.bincount(hashed.text_of, minlength=len(texts))
    width = np.where(counts, 1 << np.minimum(3, np.log2(np.maximum(counts, 1)).astype(np.int64)), 0)
    first_word = np.minimum(np.cumsum(counts) - counts, max(0, len(hashed.starts) - 1))
    if not len(hashed.starts):
        nothing = np.zeros(len(texts), np.uint64)
        return nothing, ends - starts, width, nothing, nothing, np.zeros(len(texts), np.int64)
    last_word = np.maximum(first_word + counts - 1, 0)
    some = np.maximum(width, 1)
    first = hashed.hashes(starts, hashed.ends[np.minimum(first_word + some - 1, len(hashed.ends) - 1)])
    begin = hashed.starts[np.maximum(last_word - some + 1, 0)]
    there = counts > 0
    last = np.where(there, hashed.hashes(np.where(there, begin, 0), np.where(there, ends, 0)), np.uint64(0))
    return hashed.hashes(starts, ends), ends - starts, width, first, last, np.where(there, begin - starts, 0)


def _shares(hashes: np.ndarray) -> np.ndarray:
    """How many texts have each anchor."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return counts[inverse]


def blocks_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of a bounded number of letters; one of more letters is alone."""
    block: list[str] = []
    letters = 0
    for text in texts:
        if block and letters + len(text) > BLOCK_LETTERS:
            yield block
            block, letters = [], 0
        block.append(text)
        letters += len(text) + 1
    if block:
        yield block
