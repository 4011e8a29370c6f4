"""The figure of a trade-off: false negatives against hardness, a line and a band for every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.evaluation.plots.style import draw_rates, new_figure, ring, save_figure, shared_legend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.evaluation.negatives.trade_off import TradeOff

PANELS = {
    "mean_score": "mean score of the negatives (right: harder)",
    "mean_rank": "mean rank of the negatives, from 1 (right: harder)",
}


def plot_trade_off(curve: TradeOff, path: str | Path, *, title: str = "", marked: Sequence[str] = ()) -> Path:
    """Draw the false-negative rate against both kinds of hardness.

    Args:
        curve: the rates.
        path: image file.
        title: of the figure.
        marked: methods whose points are ringed, such as the paper's best.
    """
    figure, (axes,) = new_figure(1, len(PANELS), (5.0, 4.2))
    rows = curve.rows()
    families = list(dict.fromkeys(curve.families))
    for axis, (measure, label) in zip(axes, PANELS.items(), strict=True):
        for number, family in enumerate(families):
            mine = [row for row in rows if row["family"] == family and row["negatives"]]
            rates = [(row["rate"], row["low"], row["high"]) for row in mine]
            draw_rates(axis, [_at(row, measure) for row in mine], rates, number, family)
        ringed = [row for row in rows if row["method"] in marked]
        ring(axis, [_at(row, measure) for row in ringed], [row["rate"] for row in ringed], "compared in the table")
        axis.set_xlabel(label, fontsize=9)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("false negatives, % of the negatives", fontsize=9)
    axes[1].set_xscale("log")
    axes[1].invert_xaxis()
    axes[1].set_xticks(*_rank_ticks([_at(row, "mean_rank") for row in rows]))
    axes[1].minorticks_off()
    figure.suptitle(title, fontsize=10)
    shared_legend(figure, axes[0], columns=4)
    return save_figure(figure, path)


def _at(row: dict[str, Any], measure: str) -> float:
    """Ranks count from 1 on an axis of logarithms."""
    return float(row[measure]) + (1 if measure == "mean_rank" else 0)


def _rank_ticks(ranks: Sequence[float]) -> tuple[list[float], list[str]]:
    decades = [10.0**power for power in range(int(np.floor(np.log10(max(1.0, *ranks)))) + 1)]
    ticks = [tick * step for tick in decades for step in (1, 3) if min(ranks) <= tick * step <= max(ranks)]
    return ticks, [f"{tick:,.0f}" for tick in ticks]
