"""Documents that were cut at a number of characters: many different texts end exactly at the greatest length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.kinds import ROW
from hf_posmine.utils.mapped import Appended, blocks, release_pages

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.audit.findings import FindingFiles
    from hf_posmine.audit.row_checks import BatchFacts
    from hf_posmine.audit.text_facts import TextFacts

LEAST_ALIKE = 10
"""Different texts of exactly the greatest length that make it a cut."""
LEAST_LENGTH = 100
"""Characters below which no length is a cut."""


class TextLengths:
    """The lengths of all documents, and how many different ones have the greatest."""

    def __init__(self, folder: Path) -> None:
        self.greatest, self._texts = 0, set[int]()
        self._negatives = Appended(folder / "negative_lengths", np.int32)
        self._positives = Appended(folder / "positive_lengths", np.int32)

    def add(self, facts: BatchFacts) -> None:
        """A batch."""
        positives, negatives = (_lengths(one) for one in (facts.positives, facts.negatives))
        self._note(facts.positives, positives)
        self._note(facts.negatives, negatives)
        self._negatives.add(negatives)
        longest = np.zeros(len(facts.rows), np.int32)
        np.maximum.at(longest, np.repeat(np.arange(len(longest)), facts.positive_counts), positives)
        self._positives.add(longest)

    def _note(self, facts: TextFacts, lengths: np.ndarray) -> None:
        greatest = int(lengths.max(initial=0))
        if greatest > self.greatest:
            self.greatest, self._texts = greatest, set()
        if greatest == self.greatest and len(self._texts) < LEAST_ALIKE:
            self._texts.update(facts.numbers[lengths == greatest].tolist())

    def find(self, rows: np.ndarray, places: np.ndarray, found: FindingFiles) -> None:
        """Texts of the greatest length, if it is a cut; ``rows`` and ``places`` are where the texts are."""
        positives, negatives = self._positives.array(), self._negatives.array()
        if len(self._texts) < LEAST_ALIKE or self.greatest < LEAST_LENGTH:
            return
        for span in blocks(len(positives)):
            hits = rows[span][positives[span] == self.greatest]
            found.add("truncated_text", hits, np.full(len(hits), ROW))
            release_pages(rows)
        for span in blocks(len(negatives)):
            at = places[span][negatives[span] == self.greatest]
            found.add("truncated_text", at["row"], at["index"])
            release_pages(places)


def _lengths(facts: TextFacts) -> np.ndarray:
    return np.fromiter(map(len, facts.texts), np.int32, len(facts.texts))
