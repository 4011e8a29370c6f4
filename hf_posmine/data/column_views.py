"""Views of the rows of whole columns, which is faster than row by row where a layout has a column for each part."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from hf_posmine.data.row_layouts import ListColumns, RowView, as_list, as_text, as_texts
from hf_posmine.data.row_tables import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hf_posmine.data.row_layouts import RowLayout


def views_of(layout: RowLayout, columns: Mapping[str, Sequence[Any]]) -> list[RowView]:
    """What ``layout.read`` makes of each row of some columns."""
    if not isinstance(layout, ListColumns):
        return [layout.read(row) for row in rows_of(columns)]
    parts = (_texts(columns[layout.query]), _lists(columns[layout.positive]), _lists(columns[layout.negatives]))
    scores = (_scores(columns, name) for name in (layout.positive_scores, layout.negative_scores))
    return list(map(RowView, *parts, *scores))


def _texts(cells: Sequence[Any]) -> Sequence[str]:
    """Cells as texts; as they are where all are."""
    return cells if set(map(type, cells)) == {str} else [as_text(cell) for cell in cells]


def _lists(cells: Sequence[Any]) -> Sequence[list[str]]:
    """Cells as lists of texts; as they are where all are."""
    if set(map(type, cells)) == {list} and set(map(type, itertools.chain.from_iterable(cells))) <= {str}:
        return cells
    return [as_texts(cell) for cell in cells]


def _scores(columns: Mapping[str, Sequence[Any]], name: str | None) -> Iterable[list[Any] | None]:
    if name is None:
        return itertools.repeat(None)
    return [None if cell is None else as_list(cell) for cell in columns[name]]
