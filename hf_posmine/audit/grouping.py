"""Rows as they are checked: where a row holds one document, those of a query that stand together are one row."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.data.columns import batched
from hf_posmine.data.row_layouts import RowView
from hf_posmine.data.row_tables import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hf_posmine.data.training_data import TrainingData

MOST_TOGETHER = 1000
"""Rows of one query that are checked together, at most."""


@dataclass(slots=True)
class CheckedRow:
    """A row with its number.

    Attributes:
        number: of the row, the first of them where several are checked together.
        view: of the row.
        members: the row of each negative, where each negative is the only one of a row of its own.
        size: rows of the data that it is.
    """

    number: int
    view: RowView
    members: list[int] | None = None
    size: int = 1

    @property
    def places(self) -> list[tuple[int, int]]:
        """The row and the place in it of each negative."""
        if self.members is not None:
            return [(number, 0) for number in self.members]
        return [(self.number, place) for place in range(len(self.view.negatives))]


def checked_rows(data: TrainingData) -> Iterator[list[CheckedRow]]:
    """All rows, some at a time."""
    numbered = enumerate(view for views in data.batches() for view in views)
    one_by_one = _together(numbered) if data.layout.one_document else map(_alone, numbered)
    return batched(one_by_one, BATCH_ROWS)


def _alone(numbered: tuple[int, RowView]) -> CheckedRow:
    return CheckedRow(*numbered)


def _together(numbered: Iterable[tuple[int, RowView]]) -> Iterator[CheckedRow]:
    for _, group in itertools.groupby(numbered, key=_key):
        while members := list(itertools.islice(group, MOST_TOGETHER)):
            yield _joined(members[0][1].query, members)


def _key(numbered: tuple[int, RowView]) -> str | int:
    """The query; for a row with an empty text its own number, so that what is found there names that row."""
    number, view = numbered
    whole = all(text.strip() for text in (view.query, *view.positives, *view.negatives))
    return view.query if whole else number


def _joined(query: str, members: Sequence[tuple[int, RowView]]) -> CheckedRow:
    view = RowView(
        query,
        [text for _, member in members for text in member.positives],
        [text for _, member in members for text in member.negatives],
    )
    return CheckedRow(members[0][0], view, [n for n, member in members for _ in member.negatives], len(members))
