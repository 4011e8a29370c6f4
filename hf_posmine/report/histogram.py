"""A histogram in numbers, and its geometry for SVG.

The template draws it with CSS classes, so that it follows the page into dark mode and print, and puts a table beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows
    from hf_posmine.report.numbers import Doubles

TICKS = 5
TABLE_ROWS = 10
LETTER = 7.5
"""Width of a letter on an axis, about."""
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 44.0, 10.0, 10.0, 40.0, 480.0, 240.0


@dataclass(frozen=True)
class Series:
    """One distribution.

    Attributes:
        name: in the legend.
        style: CSS class: ``positive``, ``negative``, ``plain`` or ``other``.
        counts: int64 ``[b]``, values in each bin.
        total: values in all, also those outside the bins.
        median: None where it means nothing.
    """

    name: str
    style: str
    counts: Rows
    total: int
    median: float | None = None

    @property
    def shares(self) -> Doubles:
        """Share of all values in each bin, float64 ``[b]``."""
        return self.counts / max(1, self.total)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at a place of the drawing."""

    at: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """Distributions over the same bins.

    Attributes:
        name: unique on the page.
        title: heading.
        caption: a sentence that describes the figure; also its text alternative.
        axis: label of the x axis.
        edges: float64 ``[b + 1]``; bins of categories are one wide.
        labels: of the bins, where they are categories.
        series: drawn in this order.
    """

    name: str
    title: str
    caption: str
    axis: str
    edges: Doubles
    series: tuple[Series, ...]
    labels: tuple[str, ...] = ()

    @property
    def top(self) -> float:
        """The share at the upper edge."""
        return max(1e-9, *(float(series.shares.max(initial=0)) for series in self.series)) * 1.05

    def x(self, value: float) -> float:
        """The horizontal position of a value."""
        low, high = float(self.edges[0]), float(self.edges[-1])
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, share: float) -> float:
        """The vertical position of a share."""
        return round(HEIGHT - BOTTOM - share / self.top * (HEIGHT - TOP - BOTTOM), 1)

    def outline(self, series: Series) -> str:
        """The path of a series: steps for bins, bars for categories."""
        shares, edges = series.shares.tolist(), self.edges.tolist()
        if self.labels:
            inset = 0.15 if series.style == "other" else 0.08
            return "".join(
                f"M{self.x(i + inset)} {self.y(0)}V{self.y(share)}H{self.x(i + 1 - inset)}V{self.y(0)}Z"
                for i, share in enumerate(shares)
                if share
            )
        steps = "".join(f"V{self.y(share)}H{self.x(edges[i + 1])}" for i, share in enumerate(shares))
        return f"M{self.x(edges[0])} {self.y(0)}{steps}V{self.y(0)}Z"

    @property
    def x_ticks(self) -> list[Tick]:
        """Marks below, few enough to be read."""
        if self.labels:
            return _apart([Tick(self.x(i + 0.5), label) for i, label in enumerate(self.labels)])
        values = nice_ticks(float(self.edges[0]), float(self.edges[-1]))
        return [Tick(self.x(value), f"{value:g}") for value in values]

    @property
    def y_ticks(self) -> list[Tick]:
        """Marks at the side, as shares."""
        values = [value for value in nice_ticks(0, self.top, 3) if value <= self.top]
        return [Tick(self.y(value), f"{100 * value:g}%") for value in values]

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        """The figure in numbers: quantiles would hide its shape, so at most ten merged bins, or the categories."""
        bins = len(self.edges) - 1
        step = 1 if self.labels else -(-bins // TABLE_ROWS)
        rows = []
        for first in range(0, bins, step):
            last = min(bins, first + step)
            label = self.labels[first] if self.labels else f"{self.edges[first]:.3g} to {self.edges[last]:.3g}"
            counts = [int(series.counts[first:last].sum()) for series in self.series]
            rows.append((label, [f"{count:,}" for count in counts]))
        return rows


def nice_ticks(low: float, high: float, wanted: int = TICKS) -> list[float]:
    """Round numbers from ``low`` to ``high``, about as many as wanted.

    >>> nice_ticks(0.13, 0.97)
    [0.2, 0.4, 0.6, 0.8]
    """
    raw = (high - low) / wanted
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(float(power * m) for m in (1, 2, 5, 10) if power * m >= raw)
    first = int(np.ceil(low / step - 1e-9))
    count = int(np.floor(high / step + 1e-9)) - first + 1
    return [round((first + i) * step, 10) for i in range(count)]


def _apart(ticks: list[Tick]) -> list[Tick]:
    """Those whose labels neither touch the one before nor leave the drawing."""
    kept: list[Tick] = []
    end = 0.0
    for tick in ticks:
        half = LETTER * len(tick.label) / 2
        if tick.at - half > end and tick.at + half <= WIDTH:
            kept.append(tick)
            end = tick.at + half + LETTER
    return kept
