"""The filter that limits nothing, from which the others start, and checks of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.check import is_number, is_whole
from hf_posmine.core.errors import SpecError
from hf_posmine.core.spec import spell

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats, ScoreKind

MOST_RANKS = 1 << 40
"""More documents than any corpus has."""


class NeutralFilter:
    """A filter that limits nothing; the others override what they limit."""

    def ceiling(self, positive_scores: Floats) -> Floats:
        """None: infinity for each, float32 ``[B]``."""
        return np.full(len(positive_scores), np.inf, np.float32)

    def floor(self, positive_scores: Floats) -> Floats:
        """None: minus infinity for each, float32 ``[B]``."""
        return np.full(len(positive_scores), -np.inf, np.float32)

    @property
    def window(self) -> tuple[int, int | None]:
        """All ranks."""
        return (0, None)

    def check(self, score_kind: ScoreKind) -> None:
        """Any scores will do."""

    def __repr__(self) -> str:
        return spell(self)


def check_number(filter_: object, field: str) -> None:
    """Check a finite number, and keep it as a plain float, which spells the same from any source."""
    value = vars(filter_)[field]
    if not is_number(value):
        raise SpecError(f"{type(filter_).__name__}({value!r}): {field} must be a finite number")
    object.__setattr__(filter_, field, float(value))


def check_whole(filter_: object, field: str, least: int) -> None:
    """Check a whole number of at least ``least``, and keep it as a plain int."""
    value = vars(filter_)[field]
    if not is_whole(value, least):
        raise SpecError(f"{type(filter_).__name__}: {field} must be a whole number of at least {least}, got {value!r}")
    if int(value) > MOST_RANKS:
        raise SpecError(f"{type(filter_).__name__}: {field} is larger than any corpus; at most {MOST_RANKS:,}")
    object.__setattr__(filter_, field, int(value))
