"""Recall of an approximate index against exact search, on a sample of rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hf_posmine.utils.tables import table_text


@dataclass(frozen=True)
class ApproximateReport:
    """Negatives by an approximate index beside those by exact search.

    Attributes:
        index: its spelling.
        rows: rows that were compared.
        recall: share of the negatives of exact search that the index gives too, or gives with an equal score; before a sampler
            draws, of the candidates it draws from.
        unchanged: share of the rows that get all of them.
        deepened: share of the queries that were searched again, deeper.
        exhausted: share of the queries that were searched exactly in the end.
        counted: share of the documents at or above the ceilings that were counted, which is what ranks and weak positives
            rest on; 1 where there are none.
    """

    index: str
    rows: int
    recall: float
    unchanged: float
    deepened: float
    exhausted: float
    counted: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """The table that the terminal shows."""
        from rich.table import Table

        table = Table(show_header=False)
        table.add_column(min_width=44)
        table.add_column(justify="right", min_width=10)
        table.add_row("rows compared with exact search", f"{self.rows:,}")
        for name, share in (
            ("negatives of exact search that were found", self.recall),
            ("rows with all of them", self.unchanged),
            ("queries searched deeper", self.deepened),
            ("queries searched exactly in the end", self.exhausted),
            ("documents above the ceilings counted", self.counted),
        ):
            table.add_row(name, f"{share:.1%}")
        return f"Approximate search by {self.index}\n{table_text(table, width=96)}"
