"""Facts about a text that the checks need, computed once while the text comes again and again."""

from __future__ import annotations

import re

import xxhash

from hf_posmine.data.likeness import jaccard, pieces
from hf_posmine.data.texts import normalize

COMPARED = 500
"""Characters of the beginning whose words are compared."""
LEAST_CONTAINED = 30
"""Characters of the shortest text whose appearance inside another one means something."""
KEPT_BYTES = 96 << 20
"""Of facts that are kept, about; then they begin anew, so that memory stays flat."""
BYTES_OF_FACTS, BYTES_OF_CHARACTER = 500, 4
"""A text with its normalised form, its sample of words and its place in the cache."""
FEW_WORDS, SOME_WORDS = 10, 20
"""Below so many words a text is similar to many; the bounds of likeness are higher there."""
BOUNDS = (0.9, 0.8, 0.6)
"""Jaccard similarity of a near copy with few, some and many words."""
SAMPLED, ENOUGH = 4, 6
"""Each so many-th word is in the sample, and from so many words on the sample can rule a pair out."""
OVERLAP = 0.95
"""Share of the words of the shorter of two texts in the longer one that makes a near copy, with many words."""
SCRIPTS = {
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Han or Kana": "\u3040-\u30ff\u3400-\u9fff",
    "Latin": "A-Za-z\u00c0-\u024f",
}
LETTERS = {name: re.compile(f"[{ranges}]") for name, ranges in SCRIPTS.items()}
READ_FOR_SCRIPT = 200
CUT = ("...", "…", "\ufffd")


class TextFacts:
    """A text with its keys, words and script; what not every text needs is computed at first use.

    Attributes:
        text: as it is.
        normalized: in the form in which texts count as the same.
        exact: 64-bit hash of the text.
        number: 64-bit hash of the normalised text.
    """

    __slots__ = ("_sample", "_script", "exact", "normalized", "number", "text")

    def __init__(self, text: str) -> None:
        self.text, self.normalized = text, normalize(text)
        self.exact = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        self.number = xxhash.xxh3_64_intdigest(self.normalized.encode("utf-8", "surrogatepass"))
        self._sample: list[str] | None = None
        self._script: str | None = "Latin" if text.isascii() else ""

    @property
    def sample(self) -> list[str]:
        """Every fourth word of the beginning, split at spaces."""
        if self._sample is None:
            self._sample = self.normalized[:COMPARED].split()[::SAMPLED]
        return self._sample

    @property
    def words(self) -> frozenset[str]:
        """The words of the beginning, split at spaces; they take too much memory to be kept."""
        return frozenset(self.normalized[:COMPARED].split())

    @property
    def script(self) -> str | None:
        """The script of most letters of the beginning; None without letters."""
        if self._script == "":
            self._script = _script_of(self.text[:READ_FOR_SCRIPT])
        return self._script

    @property
    def cut(self) -> bool:
        """Whether the text ends in dots or half a character."""
        return self.text.endswith(CUT)


def _script_of(start: str) -> str | None:
    counts = {name: len(letters.findall(start)) for name, letters in LETTERS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


class FactsCache:
    """Facts of the texts seen last."""

    def __init__(self) -> None:
        self._facts: dict[str, TextFacts] = {}
        self._bytes = 0

    def of(self, text: str) -> TextFacts:
        """The facts of a text."""
        found = self._facts.get(text)
        return self._new(text) if found is None else found

    def _new(self, text: str) -> TextFacts:
        size = BYTES_OF_FACTS + BYTES_OF_CHARACTER * len(text)
        self._bytes += size
        if self._bytes > KEPT_BYTES:
            self._facts.clear()
            self._bytes = size
        found = self._facts[text] = TextFacts(text)
        return found


def near_copy(one: TextFacts, two: TextFacts, words: frozenset[str]) -> bool:
    """Whether two texts share nearly all words of their first 500 characters; ``words`` are those of ``two``.

    A sample of the words rules out most pairs: of a near copy's words at least 60 % are in the other text.

    >>> faust = TextFacts("Goethe wrote Faust.")
    >>> near_copy(TextFacts("Goethe wrote Faust!"), faust, faust.words)
    True
    """
    shorter, longer = len(one.normalized), len(two.normalized)
    if shorter > longer:
        shorter, longer = longer, shorter
    if 2 * shorter < min(longer, COMPARED):
        return False
    sample = one.sample
    if len(sample) >= ENOUGH and 5 * len(words.intersection(sample)) < 2 * len(set(sample)):
        return False
    return _alike(pieces(one.text), pieces(two.text))


def _alike(one: frozenset[str], two: frozenset[str]) -> bool:
    fewest = min(len(one), len(two))
    bound = BOUNDS[(fewest >= FEW_WORDS) + (fewest >= SOME_WORDS)]
    if jaccard(one, two) >= bound:
        return True
    return fewest >= SOME_WORDS and len(one & two) >= OVERLAP * fewest


def contained(one: TextFacts, two: TextFacts) -> bool:
    """Whether one normalised text stands in the other.

    >>> contained(TextFacts("Faust is a play that Goethe wrote."), TextFacts("See: faust is a play that Goethe wrote. End."))
    True
    """
    shorter, longer = one.normalized, two.normalized
    if len(shorter) > len(longer):
        shorter, longer = longer, shorter
    return len(shorter) >= LEAST_CONTAINED and shorter in longer
