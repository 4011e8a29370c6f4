"""The arrays, protocols and settings that everything else is made of: filters, samplers, ensembles. Needs numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.core.ensembles import ENSEMBLES
    from hf_posmine.core.errors import (
        ColumnError,
        CorruptShardError,
        DiskFullError,
        HubError,
        InputError,
        MissingExtraError,
        PosmineError,
        ShortRowError,
        SpecError,
        StoreError,
    )
    from hf_posmine.core.filters import FILTERS, as_filters
    from hf_posmine.core.pair_filters import Consistency, FartherFromPositive, NearerToPositive
    from hf_posmine.core.quotas import PerGroup
    from hf_posmine.core.samplers import SAMPLERS, as_sampler
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Exclusions, Filter, Ranking, Teacher

__all__ = [
    "ENSEMBLES",
    "FILTERS",
    "SAMPLERS",
    "ColumnError",
    "Consistency",
    "CorruptShardError",
    "DiskFullError",
    "Exclusions",
    "FartherFromPositive",
    "Filter",
    "HubError",
    "InputError",
    "MiningSettings",
    "MissingExtraError",
    "NearerToPositive",
    "PerGroup",
    "PosmineError",
    "Ranking",
    "ShortRowError",
    "SpecError",
    "StoreError",
    "Teacher",
    "as_filters",
    "as_sampler",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ensembles": ("ENSEMBLES",),
        "errors": (
            "ColumnError",
            "CorruptShardError",
            "DiskFullError",
            "HubError",
            "InputError",
            "MissingExtraError",
            "PosmineError",
            "ShortRowError",
            "SpecError",
            "StoreError",
        ),
        "filters": ("FILTERS", "as_filters"),
        "pair_filters": ("Consistency", "FartherFromPositive", "NearerToPositive"),
        "quotas": ("PerGroup",),
        "samplers": ("SAMPLERS", "as_sampler"),
        "settings": ("MiningSettings",),
        "types": ("Exclusions", "Filter", "Ranking", "Teacher"),
    },
)
