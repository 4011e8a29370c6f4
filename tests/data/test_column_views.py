"""Rows read as whole columns are what each row is by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.data.column_views import views_of
from hf_posmine.data.row_layouts import ListColumns, NamedColumns, layout_of
from hf_posmine.data.row_tables import HoldsColumns, ParquetRows, rows_of, table_of_file
from tests.audit.planted import LAYOUTS, clean_rows

RECORD = st.fixed_dictionaries({"docid": st.text(max_size=3), "text": st.text(max_size=5)})
CELL = st.one_of(st.none(), st.text(max_size=5), st.integers(), RECORD)
CELLS = st.one_of(st.lists(st.text(max_size=5), max_size=4), st.none(), st.text(max_size=5), st.lists(CELL, max_size=4))
SCORES = st.one_of(st.none(), st.lists(st.floats(allow_nan=False), max_size=4), st.floats(allow_nan=False))


@given(
    st.lists(st.tuples(st.one_of(st.text(max_size=5), CELL), CELLS, CELLS, SCORES, SCORES), max_size=6),
    st.booleans(),
)
def test_lists_as_columns(rows, scored):
    names = ("query", "pos", "neg", "pos_scores", "neg_scores")
    columns = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    layout = ListColumns("any", *names[: 5 if scored else 3])
    assert views_of(layout, columns) == [layout.read(row) for row in rows_of(columns)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_as_columns(layout, tmp_path):
    table = table_of_file(LAYOUTS[layout](clean_rows(30), tmp_path))
    assert isinstance(table, HoldsColumns) == isinstance(table, ParquetRows)
    rows = [row for batch in table.batches() for row in batch]
    found = layout_of(rows, NamedColumns())
    columns = (
        table.columns() if isinstance(table, HoldsColumns) else [{name: [r[name] for r in rows] for name in rows[0]}]
    )
    assert [view for batch in columns for view in views_of(found, batch)] == [found.read(row) for row in rows]
