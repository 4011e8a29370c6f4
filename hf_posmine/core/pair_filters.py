"""Filters that look at the positive itself: where a candidate lies between query and positive, and whether the pair holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.core.errors import SpecError
from hf_posmine.core.neutral import NeutralFilter, check_number, check_whole

if TYPE_CHECKING:
    import numpy as np

    from hf_posmine.core.types import Floats, Mask, Rows

WIDEST = 2.0
"""The farthest that two cosines are apart."""


@dataclass(frozen=True, repr=False)
class FartherFromPositive(NeutralFilter):
    """Candidates farther from the positive than from the query: ``d(Q, D) + margin < d(PD, D)`` with cosine distances d.

    With a margin of 0 this is the second condition of arXiv 2505.18366, ``d(Q, D) < d(PD, D)``; it leaves out the neighbours
    of the positive. (The first condition there, ``d(Q, D) < d(Q, PD)``, wants candidates above the positive, which is what a
    ceiling leaves out.) A margin below 0 allows candidates that much nearer to the positive. Where a row has several
    positives, that nearest to the candidate counts. It sets a floor of its own for each candidate, and is counted as one.

    Attributes:
        margin: from -2 to 2, on the scale of cosines.

    >>> import numpy as np
    >>> FartherFromPositive(0).keeps(np.array([[0.75, 0.5]]), np.array([[0.5, 0.5]])).tolist()
    [[True, False]]
    """

    margin: float = 0.0

    def __post_init__(self) -> None:
        _check_margin(self)

    def keeps(self, to_query: Floats, to_positive: Floats) -> Mask:
        """Which candidates may be taken, by their cosines with query and nearest positive, float32 ``[B, K]`` each."""
        return _wide(to_query) - self.margin > _wide(to_positive)


@dataclass(frozen=True, repr=False)
class NearerToPositive(NeutralFilter):
    """Candidates nearer to the positive than to the query: ``d(PD, D) + margin < d(Q, D)``, the mirror of the other filter.

    It keeps the neighbours of the positive, which share its subject and are the likeliest false negatives; it exists so
    that both directions can be compared (see docs/mine.md).

    Attributes:
        margin: from -2 to 2, on the scale of cosines.
    """

    margin: float = 0.0

    def __post_init__(self) -> None:
        _check_margin(self)

    def keeps(self, to_query: Floats, to_positive: Floats) -> Mask:
        """Which candidates may be taken, by their cosines with query and nearest positive, float32 ``[B, K]`` each."""
        return _wide(to_positive) - self.margin > _wide(to_query)


@dataclass(frozen=True, repr=False)
class Consistency(NeutralFilter):
    """Consistency filtering of pairs (Promptagator, arXiv 2209.11755; E5, arXiv 2212.03533, with k = 2).

    A row is kept only if its positive is among the teacher's top ``k`` for its query: if fewer than ``k`` candidates score
    above it, not counting what is excluded (other positives of the query, copies). Of several positives of a row the lowest
    counts. Ties are the positive's.

    Attributes:
        k: how many ranks.
    """

    k: int

    def __post_init__(self) -> None:
        check_whole(self, "k", 1)

    def keeps_rows(self, outranked: Rows) -> Mask:
        """Which rows are kept, bool ``[B]``, by the number of candidates above the positive, int64 ``[B]``."""
        return outranked < self.k


def _wide(values: Floats) -> np.ndarray:
    return values.astype("float64")


def _check_margin(filter_: FartherFromPositive | NearerToPositive) -> None:
    check_number(filter_, "margin")
    if abs(filter_.margin) > WIDEST:
        raise SpecError(f"{filter_!r}: cosines are at most {WIDEST:g} apart; give a margin from -2 to 2")
