"""Figures of evaluations, and how they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.evaluation.plots.calibration import plot_calibration
    from hf_posmine.evaluation.plots.settings import plot_overlap, plot_sweep
    from hf_posmine.evaluation.plots.style import COLOURS, look, new_figure, save_figure, shared_legend
    from hf_posmine.evaluation.plots.trade_off import plot_trade_off

__all__ = [
    "COLOURS",
    "look",
    "new_figure",
    "plot_calibration",
    "plot_overlap",
    "plot_sweep",
    "plot_trade_off",
    "save_figure",
    "shared_legend",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "calibration": ("plot_calibration",),
        "settings": ("plot_overlap", "plot_sweep"),
        "style": ("COLOURS", "look", "new_figure", "save_figure", "shared_legend"),
        "trade_off": ("plot_trade_off",),
    },
)
