"""Tables of rich as text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def table_text(*tables: RenderableType, width: int) -> str:
    """Tables one below the other as plain text, whatever the terminal is or the environment forces.

    Args:
        tables: what rich prints.
        width: most characters of a line.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)  # FORCE_COLOR would write escapes
    for table in tables:
        console.print(table)
    return stream.getvalue().rstrip()
