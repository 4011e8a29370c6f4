"""How figures look: colours that the colour-blind tell apart (Okabe and Ito 2008), a marker and a line style for each too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.errors import InputError, MissingExtraError
from hf_posmine.paths import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
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


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a figure, whole or not at all; SVG and PDF without a date, so that the same figure is the same file.

    Raises:
        InputError: another kind of file.
    """
    path = Path(path)
    check_image(path)
    said = (
        {"metadata": {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}}
        if path.suffix != ".png"
        else {}
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], dpi=DPI, **said)
    write_file(path, lambda file: file.write_bytes(drawn.getvalue()))
    return path


def check_image(path: str | Path) -> None:
    """Refuse a name that is no image's.

    Raises:
        InputError: it is not.
    """
    if Path(path).suffix not in SUFFIXES:
        raise InputError(f"{path}: write a {', '.join(SUFFIXES)} file")


def shared_legend(figure: Any, axis: Any, columns: int, labels: Sequence[str] = ()) -> None:
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
