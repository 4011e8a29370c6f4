"""Negatives in another language than their positives, by py3langid (extra ``language``)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.audit.row_checks import BatchFacts

READ, LEAST = 300, 50
"""Characters of a text that are read, and that it must have: languages of shorter texts are a guess."""
SURE = 0.8
"""Probability from which on a language counts."""
UNKNOWN, UNDETERMINED = "", "und"


class Languages:
    """Names the languages of texts.

    Raises:
        MissingExtraError: py3langid is not installed.
    """

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            raise MissingExtraError("the check of languages", "language") from None
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._pairs: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Of each language of positives, the negatives by their language, of all rows that were looked at."""
        found: dict[str, dict[str, int]] = {}
        for (positive, negative), count in sorted(self._pairs.items()):
            found.setdefault(positive or UNDETERMINED, {})[negative or UNDETERMINED] = count
        return found

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """ISO 639 codes ``[T]`` of texts; ``UNKNOWN`` for short texts and where the language is not sure."""
        starts = [text[:READ] for text in texts]
        known = {start: self._of_start(start) for start in set(starts)}
        return np.array([known[start] for start in starts], dtype=np.str_)

    def _of_start(self, start: str) -> str:
        if len(start) < LEAST:
            return UNKNOWN
        language, probability = self._identifier.classify(start)
        return str(language) if probability >= SURE else UNKNOWN

    def find(self, facts: BatchFacts) -> np.ndarray:
        """Entries of the negatives whose language is not that of any positive of their row, where all of these are known."""
        negatives, positives = facts.pairs
        theirs, own = self.of(facts.positives.texts)[positives], self.of(facts.negatives.texts)
        _, first = np.unique(negatives, return_index=True)  # each negative once, with the first positive of its row
        self._pairs.update(zip(theirs[first].tolist(), own[negatives[first]].tolist(), strict=True))
        agrees = facts.of_pairs((theirs == own[negatives]) | (theirs == UNKNOWN))
        compared = facts.of_pairs(np.ones(len(negatives), np.bool_))
        return facts.places[compared & ~agrees & (own != UNKNOWN)]
