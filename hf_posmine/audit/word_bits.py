"""The words of many texts as bits, by which most pairs that are not alike are ruled out without a look at the texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.data.likeness import COMPARED, LONG_WORD
from hf_posmine.data.words import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from hf_posmine.core.types import Rows

BITS = 256
NO_WORD = re.compile(r"[^\w\x00-\x7f]")
"""Characters beyond ASCII that are between words, in texts without marks."""
MAY_BE_MARK = re.compile("[^\x00-\u02ff]")
ODD, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(56)
WORD_BYTES = 8
"""Of a word, by which it is known."""
PAIRS = 8192
"""Compared at a time, so that a query with a thousand rows does not fill the memory."""
UNLIKE, SPARE = 0.3, 0.06
"""Share of the words that may differ in both texts together, and in one of them: a little more than in near copies."""
ENOUGH = 20


def _letters() -> bytes:
    """Bytes as they are compared: ASCII in lower case, those between words 0; words are letters, digits, "_" and all non-ASCII."""
    word = [byte >= 0x80 or chr(byte).isalnum() or chr(byte) == "_" for byte in range(256)]  # noqa: PLR2004
    return bytes(byte if is_word else 0 for byte, is_word in zip(bytes(range(256)).lower(), word, strict=True))


LETTERS = _letters()
ONES, HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
TEXTS = 1000
"""Whose words are looked for at a time, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class WordBits:
    """Words of the first 500 characters of texts ``[T]``.

    Attributes:
        counts: int64 ``[T]``, words of each text.
        bits: bool ``[T, BITS]``, one set for each word.
        unspaced: bool ``[T]``, texts without spaces between words, about which the words tell nothing.
    """

    counts: Rows
    bits: npt.NDArray[np.bool_]
    unspaced: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[str], encoded: Sequence[bytes]) -> WordBits:
        """The words of some normalised texts, which are given as bytes, too."""
        starts = [raw[:COMPARED] for raw in encoded]
        other = [] if all(map(str.isascii, texts)) else [n for n, text in enumerate(texts) if not text.isascii()]
        for n in other:
            starts[n] = _words_alone(texts[n][:COMPARED]).encode("utf-8", "surrogatepass")
        parts = [_words(starts[n : n + TEXTS]) for n in range(0, len(texts), TEXTS)]
        words = np.concatenate([np.empty(0, np.uint64), *(words for words, _ in parts)])
        counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in parts)])
        bits = np.zeros((len(texts), BITS), np.bool_)
        bits.reshape(-1)[np.repeat(np.arange(len(texts)) * BITS, counts) + (words * ODD >> SHIFT).astype(np.int64)] = (
            True
        )
        lengths = np.minimum(COMPARED, np.fromiter(map(len, texts), np.int64, len(texts)))
        return cls(counts, bits, lengths > LONG_WORD * np.maximum(1, counts))

    @cached_property
    def set(self) -> Rows:
        """How many bits are set for each text, ``[T]``."""
        return _set(self.bits)

    def may_be_contained(self, others: WordBits, at: Rows, with_: Rows) -> npt.NDArray[np.bool_]:
        """Which pairs of short texts can be one in the other: but for the words at its ends, one has no words of its own."""
        only_mine, only_theirs = self._differences(others, at, with_)
        return np.minimum(only_mine, only_theirs) <= 2  # noqa: PLR2004 - cut words at both ends

    def _differences(self, others: WordBits, at: Rows, with_: Rows) -> tuple[Rows, Rows]:
        both = _set(self.bits[at] & others.bits[with_])
        return self.set[at] - both, others.set[with_] - both

    def may_be_alike(self, others: WordBits, at: Rows, with_: Rows) -> npt.NDArray[np.bool_]:
        """Which pairs of these texts ``at [K]`` and ``others`` ``with_ [K]`` can be near copies.

        As many bits as differ, as many words at least differ; a near copy of many words has a Jaccard similarity of 0.6,
        so that at most a quarter of all words differ, or 95 % of the words of one text are in the other.
        """
        parts = [self._may(others, at[n : n + PAIRS], with_[n : n + PAIRS]) for n in range(0, len(at), PAIRS)]
        return np.concatenate([np.empty(0, np.bool_), *parts])

    def _may(self, others: WordBits, at: Rows, with_: Rows) -> npt.NDArray[np.bool_]:
        only_mine, only_theirs = self._differences(others, at, with_)
        counts, other_counts = self.counts[at], others.counts[with_]
        alike = only_mine + only_theirs <= UNLIKE * (counts + other_counts)
        within = (only_mine <= SPARE * counts) | (only_theirs <= SPARE * other_counts)
        within &= np.minimum(counts, other_counts) >= ENOUGH
        return alike | within | self.unspaced[at] | others.unspaced[with_]


def _words_alone(text: str) -> str:
    """A text in which no character beyond ASCII is outside a word; words are those of ``pieces``."""
    return " ".join(words_of(text)) if MAY_BE_MARK.search(text) else NO_WORD.sub(" ", text)


def _set(bits: npt.NDArray[np.bool_]) -> Rows:
    """How many bits of each row ``[K, BITS]`` are set: eight are added at a time, and no byte overflows."""
    sums = np.ascontiguousarray(bits.view(np.uint64).sum(axis=1, dtype=np.uint64))
    return sums.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)


def _words(encoded: Sequence[bytes]) -> tuple[npt.NDArray[np.uint64], Rows]:
    """The first bytes of each word of texts as a number, text by text, and how many words each text has."""
    letters = b"\0".join([b"", *encoded, bytes(WORD_BYTES)]).translate(LETTERS)
    inside = np.frombuffer(letters, np.uint8) != 0
    at = np.flatnonzero(inside[1:] > inside[:-1]) + 1
    windows = np.ndarray(len(letters) - WORD_BYTES + 1, np.dtype("<u8"), letters, strides=(1,))[at]
    ends = (windows - ONES) & ~windows & HIGH  # of a byte 0 the highest bit, the first such byte is exact
    last = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1)
    return windows & ((ends & (~ends + np.uint64(1))) - np.uint64(1)), np.diff(np.searchsorted(at, last), prepend=0)
