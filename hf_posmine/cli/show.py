"""All that commands print; control characters of data, records and services are written out."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from hf_posmine.utils.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console


def show(*parts: object, error: bool = False) -> None:
    """Print the parts with a space between them, to stderr if it is an error."""
    text = printable(" ".join(map(str, parts)))
    print(text, file=sys.stderr if error else sys.stdout, flush=error)


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Sequence[str] = (),
    width: int = 120,
    sections: Iterable[int] = (),
) -> None:
    """Print a table.

    Args:
        title: above it.
        columns: their heads.
        rows: cells, as texts.
        left: heads of the columns that are aligned at the left; numbers stand at the right.
        width: of the table where stdout is not a terminal.
        sections: numbers of the rows above which a line is drawn.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left")
    lines = set(sections)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for number, row in enumerate(rows):
        if number in lines:
            table.add_section()
        table.add_row(*(Text(printable(cell)) for cell in row))
    screen(width).print(table)


def screen(width: int | None = None) -> Console:
    """A console as wide as the screen.

    Args:
        width: where stdout is not a terminal; by default what ``COLUMNS`` has, or 80.
    """
    from rich.console import Console

    columns, lines = shutil.get_terminal_size()  # rich takes 80 columns on a terminal that calls itself dumb
    return Console(width=width if width is not None and not sys.stdout.isatty() else columns, height=lines)
