"""The rate that settings ask for, and which of them evidence can be mined with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import MaxFNRate

if TYPE_CHECKING:
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Filter

PASSED_ON = (
    "sampler",
    "num_negatives",
    "ceiling_from",
    "near_duplicates",
    "exclude_lookalikes",
    "exclude_same",
    "seed",
)
"""Settings that the evidence is mined with, too."""


@dataclass(frozen=True)
class Promise:
    """What is to hold, of mining with which settings.

    Attributes:
        wanted: rate and confidence.
        more: the other filters, which every setting of a ladder has.
        options: the rest of the settings.
    """

    wanted: MaxFNRate
    more: tuple[Filter, ...]
    options: dict[str, Any]

    @classmethod
    def of(cls, settings: MiningSettings) -> Promise | None:
        """The promise of settings with the filter ``MaxFNRate``; None without.

        Raises:
            InputError: two rates, or settings that leave rows out by their negatives or give others than the evidence.
        """
        filters = () if settings.filters is None else settings.all_filters
        wanted = [f for f in filters if isinstance(f, MaxFNRate)]
        if not wanted:
            return None
        if len(wanted) > 1:
            raise InputError(f"{wanted[0]!r} and {wanted[1]!r}: ask for one rate")
        for name, value in (("on_short", settings.on_short), ("weak_positive", settings.weak_positive)):
            if value in ("drop", "random"):
                raise InputError(f"{name}={value!r} changes which negatives count for {wanted[0]!r}; use 'keep'")
        if settings.exclude_other_positives:
            raise InputError(
                f"exclude_other_positives=True has no part in the evidence for {wanted[0]!r}; leave one of them out"
            )
        more = tuple(f for f in filters if not isinstance(f, MaxFNRate))
        return cls(wanted[0], more, {name: vars(settings)[name] for name in PASSED_ON})

    @classmethod
    def required(cls, settings: MiningSettings) -> Promise:
        """As :meth:`of`; settings without a rate are an error."""
        promise = cls.of(settings)
        if promise is None:
            raise InputError("settings without a rate; give filters='MaxFNRate(0.05)', with others if you like")
        return promise
