"""The figure of a calibration: what each family of thresholds costs in false negatives, at what hardness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.evaluation.plots.style import draw_rates, new_figure, ring, save_figure, shared_legend

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.evaluation.negatives.calibration import Calibration, Point

LABELS = (
    "hardness: mean score of the negatives / of their positives",
    "mean score of the positives minus of the negatives",
)


def plot_calibration(
    found: Calibration, path: str | Path, *, chosen: Point | None = None, wanted: float | None = None, title: str = ""
) -> Path:
    """Draw the false-negative rate against both kinds of hardness, a line and a band for each family.

    Args:
        found: the rates.
        path: image file.
        chosen: a setting to ring.
        wanted: a rate to draw a line at.
        title: of the figure.
    """
    figure, (axes,) = new_figure(1, 2, (5.0, 4.2))
    points = [point for point in found.points if point.found > 0]
    for axis, measure, label in zip(axes, ("hardness", "gap"), LABELS, strict=True):
        for number, family in enumerate(dict.fromkeys(point.family for point in points)):
            mine = [point for point in points if point.family == family]
            rates = [(point.rate, point.low, point.high) for point in mine]
            draw_rates(axis, [vars(point)[measure] for point in mine], rates, number, family)
        if chosen is not None:
            ring(axis, [vars(chosen)[measure]], [chosen.rate], f"proposed: {chosen.method}")
        if wanted is not None:
            axis.axhline(
                100 * wanted, color="black", linewidth=0.8, linestyle="--", label=f"wanted: at most {wanted:.1%}"
            )
        axis.set_xlabel(f"{label} (right: harder)", fontsize=9)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("false negatives, % of the negatives", fontsize=9)
    axes[1].invert_xaxis()
    figure.suptitle(title, fontsize=10)
    shared_legend(figure, axes[0], columns=4)
    return save_figure(figure, path)
