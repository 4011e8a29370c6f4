"""Style of figures: colours for the colour-blind (Okabe and Ito 2008), each with a marker and a line style."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
Interval: TypeAlias = "tuple[float, float, float]"
"""A rate, and the lower and the upper end of its interval."""
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 120


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure and its axes ``[rows, columns]``, each of ``size`` inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a figure", "plots") from None
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.tick_params(labelsize=8)
    return figure, axes


def look(number: int) -> dict[str, Any]:
    """Colour, marker and line style of a line."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": LINES[number % len(LINES)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def draw_rates(axis: Axes, x: Sequence[float], rates: Sequence[Interval], number: int, label: str) -> None:
    """A line of rates in per cent, with the band of their intervals, from left to right.

    Args:
        axis: to draw on.
        x: where each rate stands.
        rates: each with the lower and the upper end of its interval.
        number: of the line, which decides its look.
        label: in the legend.
    """
    style, order = look(number), sorted(range(len(x)), key=lambda at: x[at])
    across = [x[at] for at in order]
    rate, low, high = ([100 * rates[at][part] for at in order] for part in range(3))
    axis.fill_between(across, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axis.plot(across, rate, label=label, **style)


def ring(axis: Axes, x: Sequence[float], rates: Sequence[float], label: str) -> None:
    """Ring some of the points."""
    per_cent = [100 * rate for rate in rates]
    axis.scatter(x, per_cent, s=90, facecolors="none", edgecolors="black", linewidths=1.2, zorder=5, label=label)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure atomically; SVG and PDF carry no date, so that equal figures are equal files.

    Raises:
        InputError: another kind of file.
    """
    path = Path(path)
    check_image(path)
    metadata: dict[str, Any] = (
        {"metadata": {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}}
        if path.suffix != ".png"
        else {}
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], dpi=DPI, bbox_inches="tight", pad_inches=0.1, **metadata)
    write_file(path, lambda file: file.write_bytes(drawn.getvalue()))
    return path


def check_image(path: str | Path) -> None:
    """Refuse what could not be drawn, before anything is computed for it.

    Raises:
        InputError: a name that is not an image's.
        MissingExtraError: matplotlib is not installed.
    """
    if Path(path).suffix not in SUFFIXES:
        raise InputError(f"{path}: write a {', '.join(SUFFIXES)} file")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("a figure", "plots")


def shared_legend(figure: Figure, axis: Axes, columns: int, labels: Sequence[str] = ()) -> None:
    """One legend below all panels, where it covers nothing."""
    handles, names = axis.get_legend_handles_labels()
    chosen = [(h, n) for h, n in zip(handles, names, strict=True) if not labels or n in labels]
    figure.legend(
        [h for h, _ in chosen],
        [n for _, n in chosen],
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
