"""Rows that cannot be mined: without a query, or without a positive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.columns import ArrayLike, iter_columns, text_of_record
from hf_posmine.data.images import UnreadableImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

Fault: TypeAlias = Literal["an empty query", "no positive", "an empty positive", "an unreadable image"]
EXAMPLES = 3
"""Numbers of rows that a line names for each fault."""


def faults_of(queries: Sequence[Any], positives: Sequence[Any] | None) -> list[Fault | None]:
    """The fault of each row; None where nothing is missing, whatever the type of the values.

    >>> faults_of(["q", " ", "q", "q", "q"], ["p", "p", None, ["p", ""], []])
    [None, 'an empty query', 'no positive', 'an empty positive', 'no positive']
    """
    if positives is None:
        return [_fault_of_query(query) for query in queries]
    return [_fault_of_query(q) or _fault_of(p) for q, p in zip(queries, positives, strict=True)]


def _fault_of_query(query: object) -> Fault | None:
    if isinstance(query, UnreadableImage):
        return "an unreadable image"
    return "an empty query" if _is_blank(query) else None


def _fault_of(positive: object) -> Fault | None:
    if isinstance(positive, str):
        return None if positive and not positive.isspace() else "an empty positive"
    if _is_missing(positive):
        return "no positive"
    if not isinstance(positive, (list, tuple)) and isinstance(positive, ArrayLike):
        positive = positive.tolist()
    if isinstance(positive, UnreadableImage):
        return "an unreadable image"
    if isinstance(positive, (list, tuple)):
        if not positive:
            return "no positive"
        if any(isinstance(member, UnreadableImage) for member in positive):
            return "an unreadable image"
        return "an empty positive" if any(_is_blank(text_of_record(member)) for member in positive) else None
    return "an empty positive" if isinstance(positive, Mapping) and _is_blank(text_of_record(positive)) else None


def _is_missing(value: object) -> bool:
    """Whether a value is None, or a DataFrame's NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_blank(value: object) -> bool:
    return _is_missing(value) or (isinstance(value, str) and (not value or value.isspace()))


@dataclass
class BadRows:
    """The bad rows of a dataset, counted batch by batch.

    Attributes:
        rows: the numbers of the rows, by fault.
    """

    rows: dict[Fault, list[int]] = field(default_factory=dict)

    def good(self, queries: Sequence[Any], positives: Sequence[Any], start: int) -> list[bool]:
        """Which rows of a batch, which begins at row ``start``, are good; the others are noted."""
        faults = faults_of(queries, positives)
        for row, fault in enumerate(faults, start):
            if fault is not None:
                self.rows.setdefault(fault, []).append(row)
        return [fault is None for fault in faults]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each fault."""
        return {fault: len(rows) for fault, rows in self.rows.items()}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        """Each fault with its count and some rows."""
        return ", ".join(f"{len(rows):,} with {fault} ({_numbers(rows)})" for fault, rows in self.rows.items())

    def require_none(self, query: str, positive: str) -> None:
        """Refuse bad rows.

        Raises:
            ColumnError: there are some; the message names the columns, the counts and some rows.
        """
        if self:
            many = f"{len(self):,} row{'s' * (len(self) > 1)}"
            raise ColumnError(
                f"columns {query!r} and {positive!r}: {many} cannot be mined, {self}; repair them, or leave them out with "
                "skip_bad_rows=True"
            )


def without_bad_rows(
    dataset: Dataset, columns: tuple[str, str | None, str | None], *, skip: bool = True
) -> tuple[Any, BadRows]:
    """A dataset without its bad rows, and which they are.

    Args:
        dataset: with numbered rows.
        columns: of queries, and of positives as texts or ids.
        skip: leave them out; else they are an error, as they are where no good row is left.

    Raises:
        ColumnError: bad rows, with their count and some numbers.
    """
    query, column = columns[0], str(columns[1] or columns[2])
    bad, good = BadRows(), []
    for start, batch in iter_columns(dataset, list(dict.fromkeys([query, column]))):
        good += bad.good(batch[query], batch[column], start)
    if not skip or not any(good):
        bad.require_none(query, column)
    return (dataset.select([row for row, fine in enumerate(good) if fine]) if bad else dataset), bad


def _numbers(rows: Sequence[int]) -> str:
    more = ", ..." if len(rows) > EXAMPLES else ""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:EXAMPLES]))}{more}"
