"""Figures that stay legible: few ticks, no label over another, and a table beside every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

MEASURES = {
    "yield": "share of negatives found",
    "hardness": "hardness (negative / positive score)",
    "removed": "share of the naive top n removed",
    "false_negative_rate": "false-negative rate",
}
MOST_LABELS = 12
LIGHT = 0.6


def plot_sweep(table: Any, path: str | Path) -> None:
    """Yield, hardness, share removed and false negatives against the first number of each method, one line each.

    Args:
        table: what :func:`~hf_posmine.analysis.sweep.sweep` gave.
        path: image file, such as ``sweep.png``.
    """
    rows = list(table)
    measures = [name for name in MEASURES if any(row[name] is not None for row in rows)]
    lines = _lines(rows)
    figure, axes = _figure(len(measures))
    for axis, measure in zip(axes, measures, strict=True):
        for label, points in lines.items():
            at = sorted((x, row[measure]) for x, row in points)
            axis.plot([x for x, _ in at], [y for _, y in at], marker="o", markersize=3, label=label)
        axis.set_xlabel("parameter of the method")
        axis.set_title(MEASURES[measure], fontsize=10)
        axis.grid(alpha=0.3)
    if lines:
        axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def plot_overlap(names: list[str], matrix: Any, path: str | Path) -> None:
    """A heat map of overlaps with the numbers in it (paper, Tables 6 to 8).

    Args:
        names: of rows and columns.
        matrix: float ``[S, S]``.
        path: image file.
    """
    values = np.asarray(matrix, np.float64)
    figure, (axis,) = _figure(1, side=max(3.5, 0.8 * len(names) + 2))
    image = axis.imshow(values, vmin=0, vmax=1, cmap="viridis")
    step = max(1, len(names) // MOST_LABELS)
    shown = range(0, len(names), step)
    axis.set_xticks(list(shown), [names[i] for i in shown], rotation=40, ha="right", fontsize=8)
    axis.set_yticks(list(shown), [names[i] for i in shown], fontsize=8)
    if len(names) <= MOST_LABELS:
        for i, j in np.ndindex(values.shape):
            axis.text(
                j,
                i,
                f"{values[i, j]:.2f}",
                ha="center",
                va="center",
                color="white" if values[i, j] < LIGHT else "black",
            )
    figure.colorbar(image, ax=axis, label="mean Jaccard overlap", shrink=0.8)
    figure.savefig(path, dpi=150)


def _figure(panels: int, side: float = 3.8) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "plots") from None
    figure = Figure(figsize=(side * panels, side), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


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
