"""The ceiling within a batch over the course of training: from which step it holds, and what it becomes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import SpecError

if TYPE_CHECKING:
    from hf_posmine.core.types import Filter


@dataclass(frozen=True)
class BatchCeiling:
    """Which documents of other rows count as false negatives, by how far training is.

    Attributes:
        filter: a filter with a ceiling, such as ``PercPos(0.95)``.
        until: the filter of the last step, of the same kind; its number moves linearly, as ``PercPos(0.95)`` to
            ``PercPos(0.99)`` in Arctic-Embed 2.0.
        warmup: share of the steps without a ceiling, for a student that cannot judge yet.

    Raises:
        SpecError: filters without a ceiling or of two kinds, or a share outside of 0 to 1.
    """

    filter: Filter
    until: Filter | None = None
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for chosen in (self.filter, self.until):
            if chosen is not None:
                check_ceiling(chosen)
        if self.until is not None and type(self.until) is not type(self.filter):
            raise SpecError(
                f"the ceiling cannot move from {self.filter!r} to {self.until!r}; give two of the same kind"
            )
        if not (is_number(self.warmup) and 0 <= self.warmup < 1):
            raise SpecError(f"warm-up of the ceiling {self.warmup!r} must be a share of the steps, from 0 to below 1")

    def at(self, progress: float) -> Filter | None:
        """The filter after this share of the steps, 0 to 1; None where none holds yet."""
        if progress < self.warmup:
            return None
        if self.until is None:
            return self.filter
        share = (progress - self.warmup) / (1 - self.warmup)
        first, last = vars(self.filter), vars(self.until)
        names = [entry.name for entry in fields(self.filter)]  # type: ignore[arg-type]
        return type(self.filter)(**{name: first[name] + share * (last[name] - first[name]) for name in names})


def check_ceiling(chosen: Filter) -> None:
    """Refuse a filter that cannot tell a false negative by its score alone.

    Raises:
        SpecError: it sets no ceiling.
    """
    chosen.check("cosine")
    if not np.isfinite(chosen.ceiling(np.array([0.5], np.float32))).all():
        raise SpecError(
            f"{chosen!r} sets no ceiling and cannot tell false negatives in a batch; use PercPos, MarginPos or MaxScore"
        )
