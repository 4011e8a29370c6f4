"""The miner: candidates of the teachers, selection, the columns it writes, and the record of how it was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.mining.by_id import with_texts
    from hf_posmine.mining.labels import to_margin_mse
    from hf_posmine.mining.presets import ragatouille
    from hf_posmine.mining.second_opinion import SecondOpinion
    from hf_posmine.mining.training_formats import NegativesCollator

__all__ = ["NegativesCollator", "SecondOpinion", "ragatouille", "to_margin_mse", "with_texts"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "by_id": ("with_texts",),
        "labels": ("to_margin_mse",),
        "presets": ("ragatouille",),
        "second_opinion": ("SecondOpinion",),
        "training_formats": ("NegativesCollator",),
    },
)
