"""Figures that stay legible: few ticks, no label over another, and a table beside every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.evaluation.plots.style import look, new_figure, save_figure, shared_legend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from pandas import DataFrame

MEASURES = {
    "yield": "share of negatives found",
    "hardness": "hardness (negative / positive score)",
    "removed": "share of the naive top n removed",
    "false_negative_rate": "false-negative rate",
}
MOST_LABELS = 12
LEAST_SCALE = 0.1
"""The darkest colour stands for an overlap of at least this."""
DARK = 0.6
"""Where on the scale numbers turn white."""


def plot_sweep(table: DataFrame, path: str | Path) -> Path:
    """Yield, hardness, share removed and false negatives against the first number of each method, one line each.

    Args:
        table: what :func:`~hf_posmine.evaluation.negatives.sweep.sweep` gave.
        path: image file, such as ``sweep.png``.
    """
    rows = list(table)
    measures = [name for name in MEASURES if any(row[name] is not None for row in rows)]
    lines = _lines(rows)
    figure, (axes,) = new_figure(1, len(measures), (3.8, 3.8))
    for axis, measure in zip(axes, measures, strict=True):
        for number, (label, points) in enumerate(lines.items()):
            at = sorted((x, row[measure]) for x, row in points)
            axis.plot([x for x, _ in at], [y for _, y in at], label=label, **look(number))
        axis.set_xlabel("parameter of the method", fontsize=9)
        axis.set_title(MEASURES[measure], fontsize=10)
    shared_legend(figure, axes[0], columns=4)
    return save_figure(figure, path)


def plot_overlap(names: Sequence[str], matrix: npt.ArrayLike, path: str | Path) -> Path:
    """A heat map of overlaps with the numbers in it (paper, Tables 6 to 8); what overlaps with itself is left blank.

    Args:
        names: of rows and columns.
        matrix: float ``[S, S]``.
        path: image file.
    """
    values = np.array(matrix, np.float64)
    np.fill_diagonal(values, np.nan)
    largest = max(LEAST_SCALE, float(np.nanmax(values, initial=0)))
    side = max(2.6, 0.62 * min(len(names), 2 * MOST_LABELS))
    figure, ((axis,),) = new_figure(1, 1, (side + 2.4, side + 1.2))
    axis.grid(visible=False)
    axis.set_facecolor("0.92")
    image = axis.imshow(values, vmin=0, vmax=largest, cmap="Blues")
    shown = range(0, len(names), max(1, len(names) // MOST_LABELS))
    labels = [names[i].replace(", ", ",\n", 1) for i in shown]
    axis.set_xticks(list(shown), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(list(shown), labels, fontsize=8)
    if len(names) <= MOST_LABELS:
        for i, j in np.argwhere(np.isfinite(values)).tolist():
            colour = "white" if values[i, j] > DARK * largest else "black"
            axis.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8, color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.set_label("mean Jaccard overlap", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return save_figure(figure, path)


def _lines(rows: list[dict[str, Any]]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Rows by method and sampler, each with the number it is drawn at; Naive Top-K stands at 0."""
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    several = len({row["sampler"] for row in rows}) > 1
    for row in rows:
        method, _, rest = row["filters"].partition("(")
        number = rest.split(",")[0].split(")")[0]
        label = f"{method}, {row['sampler'].partition('(')[0]}" if several else method
        lines.setdefault(label, []).append((float(number) if number else 0.0, row))
    return lines
