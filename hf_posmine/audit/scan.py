"""One pass over all rows: findings that show in a row, and the hashes for those that show in several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.findings import FindingFiles
from hf_posmine.audit.lengths import TextLengths
from hf_posmine.audit.row_checks import BatchFacts, check_rows
from hf_posmine.audit.row_numbers import RowNumbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hf_posmine.audit.grouping import CheckedRow
    from hf_posmine.audit.languages import Languages
    from hf_posmine.audit.leakage import JudgedTexts
    from hf_posmine.audit.row_checks import Found
    from hf_posmine.audit.row_numbers import NumbersOnDisk
    from hf_posmine.core.types import Filter
    from hf_posmine.data.training_data import TrainingData

AS_LABELS = dict.fromkeys(("same_text", "same_normalized", "labelled_elsewhere"), "contradicting_labels")
"""Kinds that are one where each document of a query has a row with a label of its own."""


@dataclass(frozen=True)
class AuditSettings:
    """What an audit goes by.

    Attributes:
        num_negatives: negatives that a row should have; None for as many as most rows have.
        shared: share of the rows from which on a negative is in too many.
        examples: of each kind, at most.
        collection: a judged collection whose test queries no training row may have; relevant documents are counted, too.
        collection_split: of its judgements.
        teacher: whose scores negatives and the scores of the data are compared with, by its spelling; None for none.
        filters: whose ceilings no negative may reach, with a teacher.
        tolerance: from the teacher's score, from which on a score of the data is stale.
        device: of the teacher.
        languages: whether to look for negatives in another language, which takes one to two milliseconds a row.
    """

    num_negatives: int | None = None
    shared: float = 0.01
    examples: int = 3
    collection: str | Path | None = None
    collection_split: str = "test"
    teacher: str | None = None
    filters: tuple[Filter, ...] = ()
    tolerance: float = 0.02
    device: str | None = None
    languages: bool = False


class RowScan:
    """Takes rows, batch by batch."""

    def __init__(
        self, data: TrainingData, folder: Path, judged: JudgedTexts | None = None, languages: Languages | None = None
    ) -> None:
        self.judged, self.languages = judged, languages
        self.one_document, self.has_texts = data.layout.one_document, data.holds_texts
        self.found = FindingFiles(folder)
        self.numbers, self.lengths = RowNumbers(folder), TextLengths(folder)
        self.rows = self.negatives = 0

    def add(self, batch: Sequence[CheckedRow]) -> None:
        """Check a batch."""
        facts = BatchFacts.of(batch)
        self.numbers.add(facts)
        if self.has_texts:
            self.lengths.add(facts)
        for kind, entries in self._check(facts):
            if len(entries):
                self.found.add_entries(self._kind(kind), entries)
        self.rows += sum(one.size for one in batch)
        self.negatives += len(facts.negatives.texts)

    def _check(self, facts: BatchFacts) -> Iterator[Found]:
        yield from check_rows(facts, self.has_texts)
        if self.judged is not None:
            leaked = np.isin(facts.positives.numbers, self.judged.documents)
            yield "leaked_positive", facts.in_rows(facts.any_positive(leaked))
        if self.languages is not None and self.has_texts:
            yield "other_language", self.languages.find(facts)
        if not self.one_document:
            yield "no_negatives", facts.in_rows(facts.negative_counts == 0)
            yield "no_positive", facts.in_rows(facts.positive_counts == 0)

    def _kind(self, kind: str) -> str:
        return AS_LABELS.get(kind, kind) if self.one_document else kind

    def finish(self, settings: AuditSettings) -> AuditSettings:
        """Look at all rows together; returns the settings with the number of negatives that was taken."""
        numbers = self.numbers.finish()
        numbers.find_labelled(self._kind("labelled_elsewhere"), self.found)
        numbers.find_shared(settings.shared, self.found)
        least = self._find_few(numbers, settings.num_negatives)
        self.lengths.find(numbers.arrays["rows"], numbers.arrays["places"], self.found)
        if self.judged is not None:
            numbers.find_queries(self.judged.queries, self.found)
        return replace(settings, num_negatives=least)

    def _find_few(self, numbers: NumbersOnDisk, least: int | None) -> int | None:
        if self.one_document:
            numbers.find_without("no_negatives", "counts", self.found)
            numbers.find_without("no_positive", "positive_counts", self.found)
            return least
        least = least or numbers.usual_count()
        numbers.find_few(least, self.found)
        return least
