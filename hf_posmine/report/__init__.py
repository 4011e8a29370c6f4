"""``write_report``: one HTML page for whoever decides whether to train on mined data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.report import page
from hf_posmine.report.comparison import compare
from hf_posmine.report.payload import pack
from hf_posmine.report.rows import MinedRows
from hf_posmine.report.sample import TableLimits, choose_rows
from hf_posmine.report.side import read_side
from hf_posmine.report.suspects import flags
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MinedRows", "Report", "TableLimits", "make_report", "write_report"]


@dataclass(frozen=True)
class Report:
    """A page and what it holds.

    Attributes:
        html: the page.
        rows: rows of the data.
        shown: rows of the table.
        suspects: rows by kind of suspicion.
        changed: rows whose negatives differ from the other mining's; None without one.
    """

    html: str
    rows: int
    shown: int
    suspects: dict[str, int]
    changed: int | None = None


def make_report(
    mined: MinedRows,
    against: MinedRows | None = None,
    limits: TableLimits | None = None,
    audit: Mapping[str, str] | None = None,
) -> Report:
    """A page about mined rows.

    Statistics are over all rows. The table holds a sample where there are more rows than ``limits`` allow: the same rows each
    time, and always the worst of each kind of suspicion.

    Args:
        mined: the rows; ``MinedRows.of(dataset)`` or ``MinedRows.load(path)``.
        against: another mining of the same data, for a comparison.
        limits: of the table.
        audit: findings of an audit by title, which the page shows before its own.

    Raises:
        InputError: ``against`` is of other data.
    """
    limits = limits or TableLimits()
    side = read_side(mined)
    other = None if against is None else compare(side, read_side(against))
    worst = [kind.rows for kind in side.suspects] + ([other.changed] if other is not None else [])
    sample = choose_rows(worst, side.texts.pairs, limits.rows)
    payload = pack(mined, side.numbers, flags(side.suspects, len(mined)), sample, limits, other)
    return Report(
        html=page.render(side, payload, limits, other, audit or {}),
        rows=len(mined),
        shown=len(payload.rows),
        suspects={kind.title: len(kind) for kind in side.suspects if not kind.graded},
        changed=None if other is None else len(other.changed),
    )


def write_report(
    mined: MinedRows,
    output: str | Path,
    against: MinedRows | None = None,
    limits: TableLimits | None = None,
    audit: Mapping[str, str] | None = None,
) -> Report:
    """As :func:`make_report`, and write the page atomically."""
    report = make_report(mined, against, limits, audit)
    write_file(Path(output), lambda temporary: temporary.write_text(report.html, "utf8"))
    return report
