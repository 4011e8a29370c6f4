"""Tables as text are plain, whatever the environment forces on terminals."""

from __future__ import annotations

import pytest
from rich.table import Table

from hf_posmine.utils.tables import table_text


@pytest.mark.parametrize(
    "environment", [{}, {"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "dumb"}, {"COLUMNS": "9"}]
)
def test_a_table_is_text_of_the_width_that_was_given(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    table = Table("name", "value", title="A title")
    table.add_row("a name of some length, with words", "1")
    found = table_text(table, table, width=40)
    assert "\x1b" not in found
    assert {len(line) for line in found.splitlines() if line.startswith("│")} == {max(map(len, found.splitlines()))}
    assert found.count("A title") == 2 and 30 < max(map(len, found.splitlines())) <= 40
