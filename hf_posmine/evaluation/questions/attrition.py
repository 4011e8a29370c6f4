"""The account of a run: how many documents, answers and questions there were at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Attrition:
    """How many there were at each step.

    Attributes:
        documents: in the corpus, each text once.
        asked: documents that were asked about, those without text left out.
        cut: of these, longer than the model was given.
        requests: a document and a kind each.
        empty: answers without a text, such as refusals.
        unreadable: answers without a list of questions.
        nothing: answers with an empty list.
        written: questions, by kind.
        dropped: questions, by reason.
        kept: questions, by kind.
        documents_kept: documents with a question left.
    """

    documents: int
    asked: int
    cut: int
    requests: int
    empty: int
    unreadable: int
    nothing: int
    written: Mapping[str, int]
    dropped: Mapping[str, int]
    kept: Mapping[str, int]
    documents_kept: int

    def lines(self) -> list[tuple[str, int]]:
        """Every count in the order of the steps."""
        return [
            ("documents", self.documents),
            ("asked about", self.asked),
            ("longer than the model was given", self.cut),
            ("requests", self.requests),
            ("answers without text", self.empty),
            ("answers that could not be read", self.unreadable),
            ("answers without questions", self.nothing),
            *((f"questions, {kind}", count) for kind, count in self.written.items()),
            *((f"dropped: {reason.replace('_', ' ')}", count) for reason, count in self.dropped.items()),
            *((f"kept, {kind}", count) for kind, count in self.kept.items()),
            ("documents with a question", self.documents_kept),
        ]
