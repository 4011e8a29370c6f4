"""The result of an audit: counts and examples by kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hf_posmine.audit.kinds import KINDS

if TYPE_CHECKING:
    from hf_posmine.audit.repair import Repair

VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True)
class FindingExample:
    """One finding with its texts.

    Attributes:
        row: its number, from 0, through all files or splits.
        index: place among the negatives; -1 where the finding concerns the row.
        query: text.
        positive: the first positive.
        negative: the negative; None where the finding concerns the row.
    """

    row: int
    index: int
    query: str
    positive: str | None
    negative: str | None


@dataclass(frozen=True)
class KindFindings:
    """The findings of a kind.

    Attributes:
        name: of the kind.
        rows: rows with at least one.
        found: findings.
        examples: the first of them.
    """

    name: str
    rows: int
    found: int
    examples: tuple[FindingExample, ...] = ()

    @property
    def title(self) -> str:
        """The kind for people."""
        return KINDS[self.name].title


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes:
        name: of the data.
        layout: whose layout it is, and the columns.
        rows: rows read.
        negatives: negatives read.
        assumptions: lines about what was taken for granted.
        findings: by kind, those that were found.
        repair: of the mended copy; None without one.
        num_negatives: that a row should have; None where rows hold one document.
        languages: of each language of positives, the negatives by their language; empty unless they were asked for.
    """

    name: str
    layout: str
    rows: int
    negatives: int
    assumptions: tuple[str, ...]
    findings: dict[str, KindFindings]
    repair: Repair | None = None
    num_negatives: int | None = None
    languages: dict[str, dict[str, int]] = field(default_factory=dict)

    def rows_with(self, kind: str) -> int:
        """Rows with a finding of this kind."""
        return self.findings[kind].rows if kind in self.findings else 0

    def rate(self, kind: str) -> float:
        """Their share of all rows."""
        return self.rows_with(kind) / self.rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--output`` writes them."""
        kinds = {
            name: {"title": one.title, "rate": self.rate(name)} | asdict(one) for name, one in self.findings.items()
        }
        return {"version": VERSION} | asdict(self) | {"findings": kinds}
