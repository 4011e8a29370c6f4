"""Documents that were cut at a number of characters: many different texts end exactly at the greatest length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.kinds import ROW
from hf_posmine.utils.mapped import Appended, blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.audit.findings import FindingFiles
    from hf_posmine.audit.row_checks import RowFacts
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

    def add(self, rows: Sequence[RowFacts]) -> None:
        """A batch."""
        for row in rows:
            for one in (*row.positives, *row.negatives):
                self._note(one)
        self._negatives.add(np.array([len(one.text) for row in rows for one in row.negatives], np.int32))
        longest = [max((len(one.text) for one in row.positives), default=0) for row in rows]
        self._positives.add(np.array(longest, np.int32))

    def _note(self, one: TextFacts) -> None:
        length = len(one.text)
        if length > self.greatest:
            self.greatest, self._texts = length, {one.exact}
        elif length == self.greatest and len(self._texts) < LEAST_ALIKE:
            self._texts.add(one.exact)

    def find(self, rows: np.ndarray, places: np.ndarray, found: FindingFiles) -> None:
        """Texts of the greatest length, if it is a cut; ``rows`` and ``places`` are where the texts are."""
        positives, negatives = self._positives.array(), self._negatives.array()
        if len(self._texts) < LEAST_ALIKE or self.greatest < LEAST_LENGTH:
            return
        for span in blocks(len(positives)):
            hits = rows[span][positives[span] == self.greatest]
            found.add("truncated_text", hits, np.full(len(hits), ROW))
        for span in blocks(len(negatives)):
            at = places[span][negatives[span] == self.greatest]
            found.add("truncated_text", at["row"], at["index"])
