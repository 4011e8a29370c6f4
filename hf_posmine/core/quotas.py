"""Quotas: so many negatives of a row from each group of documents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import SpecError
from hf_posmine.core.neutral import NeutralFilter, check_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.core.types import Filter, Mask, Rows


@dataclass(frozen=True, repr=False)
class PerGroup(NeutralFilter):
    """At most ``most`` candidates of a row from each group: those that share a value of a column of the corpus.

    The best of each group stay, after all other filters. Documents without a value are one more group; one with several
    values belongs to that which comes first in the corpus. What falls away is counted as below the score floor.

    Attributes:
        column: such as a language, a source or a topic.
        most: candidates of each group.

    >>> PerGroup("lang", 1)
    PerGroup('lang', 1)
    >>> PerGroup("lang", 1).within(np.array([[4, 4, 7, 4]]), np.array([[False, True, True, True]])).tolist()
    [[False, True, True, False]]
    """

    column: str
    most: int
    _positional = True

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise SpecError(f"PerGroup({self.column!r}, {self.most!r}): give the name of a column of the corpus first")
        check_whole(self, "most", 1)

    def within(self, groups: Rows, keep: Mask) -> Mask:
        """Which of the candidates that other filters keep stay, bool ``[B, K]``, by the group of each, int64 ``[B, K]``."""
        rows, columns = np.nonzero(keep)
        members = groups[rows, columns]
        order = np.lexsort((columns, members, rows))
        fresh = np.ones(len(order), bool)
        fresh[1:] = (np.diff(rows[order]) != 0) | (np.diff(members[order]) != 0)
        place = np.arange(len(order))
        before = np.empty(len(order), np.int64)
        before[order] = place - np.maximum.accumulate(np.where(fresh, place, 0))
        kept = np.zeros_like(keep)
        kept[rows, columns] = before < self.most
        return kept


def quotas_of(filters: Sequence[Filter]) -> tuple[PerGroup, ...]:
    """The quotas among filters."""
    return tuple(f for f in filters if isinstance(f, PerGroup))


def within_all(groups: Mapping[PerGroup, Rows], keep: Mask) -> Mask:
    """As :meth:`PerGroup.within`, for quotas that hold together: what one of them refuses counts in none."""
    if len(groups) < 2:  # noqa: PLR2004 - one alone
        for quota, of in groups.items():
            keep = quota.within(of, keep)
        return keep
    kept = np.zeros_like(keep)
    for row in range(len(keep)):
        taken: Counter[tuple[PerGroup, int]] = Counter()
        for column in np.flatnonzero(keep[row]).tolist():
            mine = [(quota, int(of[row, column])) for quota, of in groups.items()]
            if all(taken[one] < one[0].most for one in mine):
                kept[row, column] = True
                taken.update(mine)
    return kept
