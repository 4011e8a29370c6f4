"""Facts about many texts at once: keys, words, scripts, and whether two of them are near copies."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from hf_posmine.audit.forms import same_forms
from hf_posmine.audit.word_bits import WordBits
from hf_posmine.data.images import NamedImage
from hf_posmine.data.likeness import COMPARED, jaccard, pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from hf_posmine.core.types import Rows
    from hf_posmine.data.texts import Numbers

LEAST_CONTAINED = 30
"""Characters of the shortest text whose appearance inside another one means something."""
FEW_WORDS, SOME_WORDS = 10, 20
"""Below so many words a text is similar to many; the bounds of likeness are higher there."""
BOUNDS = (0.9, 0.8, 0.6)
"""Jaccard similarity of a near copy with few, some and many words."""
OVERLAP = 0.95
"""Share of the words of the shorter of two texts in the longer one that makes a near copy, with many words."""
SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Han or Kana": "\u3040-\u30ff\u3400-\u9fff",
}
RARER_SCRIPTS = {
    "Armenian": "\u0530-\u058f",
    "Bengali": "\u0980-\u09ff",
    "Gurmukhi": "\u0a00-\u0a7f",
    "Gujarati": "\u0a80-\u0aff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Kannada": "\u0c80-\u0cff",
    "Malayalam": "\u0d00-\u0d7f",
    "Sinhala": "\u0d80-\u0dff",
    "Lao": "\u0e80-\u0eff",
    "Burmese": "\u1000-\u109f",
    "Georgian": "\u10a0-\u10ff",
    "Ethiopic": "\u1200-\u139f",
    "Khmer": "\u1780-\u17ff",
}
LETTERS, RARER_LETTERS = (
    tuple(re.compile(f"[{ranges}]") for ranges in scripts.values()) for scripts in (SCRIPTS, RARER_SCRIPTS)
)
RARER_LETTER = re.compile(f"[{''.join(RARER_SCRIPTS.values())}]")
LATIN, NO_SCRIPT = 0, -1
READ_FOR_SCRIPT = 200
CUT = ("...", "…", "\ufffd")


@dataclass(frozen=True)
class TextFacts:
    """Texts ``[T]`` with their keys; what not every audit needs is computed at first use.

    Attributes:
        texts: as they are.
        normalized: in the form in which texts count as the same; see :mod:`hf_posmine.audit.forms`.
        encoded: the normalised texts in UTF-8.
        numbers: 64-bit hashes of the normalised texts.
    """

    texts: list[str]
    normalized: list[str]
    encoded: list[bytes]
    numbers: Numbers

    @classmethod
    def of(cls, texts: list[str]) -> TextFacts:
        """The facts of some texts."""
        normalized, encoded = same_forms(texts)
        numbers = np.fromiter(map(xxhash.xxh3_64_intdigest, encoded), np.uint64, len(texts))
        return cls(texts, normalized, encoded, numbers)

    @cached_property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Which texts hold nothing but white space."""
        return self.lengths == 0

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Characters of the normalised texts."""
        return np.fromiter(map(len, self.normalized), np.int32, len(self.normalized))

    @cached_property
    def words(self) -> WordBits:
        """The words of the beginnings."""
        return WordBits.of(self.normalized, self.encoded)

    @cached_property
    def scripts(self) -> npt.NDArray[np.int8]:
        """The script of most letters of each beginning, as places in both tables of scripts; ``NO_SCRIPT`` without letters."""
        found = [
            NO_SCRIPT
            if isinstance(text, NamedImage)
            else LATIN
            if text.isascii() and text[:1].isalpha()
            else _script_of(text)
            for text in self.texts
        ]  # most are
        return np.array(found, np.int8)

    @cached_property
    def cut(self) -> npt.NDArray[np.bool_]:
        """Which texts end in dots or half a character."""
        return np.fromiter(map(str.endswith, self.texts, itertools.repeat(CUT)), np.bool_, len(self.texts))


def _script_of(text: str) -> int:
    start = text[:READ_FOR_SCRIPT]
    if start.isascii():  # one search instead of a count of every script
        return LATIN if LETTERS[LATIN].search(start) else NO_SCRIPT
    every = (*LETTERS, *RARER_LETTERS) if RARER_LETTER.search(start) else LETTERS
    counts = [len(letters.findall(start)) for letters in every]
    most = max(counts)
    return counts.index(most) if most else NO_SCRIPT


def near_copies(ones: TextFacts, twos: TextFacts, at: Rows, with_: Rows) -> Rows:
    """Which pairs of texts share nearly all words of their first 500 characters.

    Args:
        ones: texts.
        twos: texts.
        at: positions ``[K]`` in ``ones``.
        with_: positions ``[K]`` in ``twos``, of the other text of each pair.

    >>> faust, copy = TextFacts.of(["Goethe wrote Faust."]), TextFacts.of(["Goethe wrote Faust!", "Soup."])
    >>> near_copies(copy, faust, np.array([0, 1]), np.array([0, 0])).tolist()
    [0]
    """
    shorter, longer = np.sort([ones.lengths[at], twos.lengths[with_]], axis=0)
    similar = np.flatnonzero(2 * shorter >= np.minimum(longer, COMPARED))
    similar = similar[ones.words.may_be_alike(twos.words, at[similar], with_[similar])]
    hits = [n for n in similar.tolist() if _alike(pieces(ones.normalized[at[n]]), pieces(twos.normalized[with_[n]]))]
    return np.array(hits, np.int64)


def _alike(one: frozenset[str], two: frozenset[str]) -> bool:
    fewest = min(len(one), len(two))
    bound = BOUNDS[(fewest >= FEW_WORDS) + (fewest >= SOME_WORDS)]
    if jaccard(one, two) >= bound:
        return True
    return fewest >= SOME_WORDS and len(one & two) >= OVERLAP * fewest


def contained_pairs(ones: TextFacts, twos: TextFacts, at: Rows, with_: Rows) -> Rows:
    """Which pairs are a text and one that stands in it, by their normalised forms; see :func:`near_copies`.

    >>> part = TextFacts.of(["Faust is a play that Goethe wrote."])
    >>> contained_pairs(part, TextFacts.of([f"See: {part.texts[0]} End."]), np.array([0]), np.array([0])).tolist()
    [0]
    """
    shorter, longer = np.sort([ones.lengths[at], twos.lengths[with_]], axis=0)
    long = np.flatnonzero(shorter >= LEAST_CONTAINED)
    possible = long[(longer[long] > COMPARED) | ones.words.may_be_contained(twos.words, at[long], with_[long])]
    hits = [n for n in possible.tolist() if _contained(ones.normalized[at[n]], twos.normalized[with_[n]])]
    return np.array(hits, np.int64)


def _contained(one: str, two: str) -> bool:
    return one in two if len(one) <= len(two) else two in one
