"""The choice of rows for the table of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Rows
    from hf_posmine.data.texts import Numbers

ALWAYS = 200
"""The worst rows of each kind are in the table, however small it is."""


@dataclass(frozen=True)
class TableLimits:
    """Limits on what the page holds.

    Attributes:
        rows: rows of the table at most.
        characters: of one text at most.
        megabytes: of the table's data in the file, about; fewer rows are taken where it would be more.

    Raises:
        InputError: a limit that is not positive.
    """

    rows: int = 100_000
    characters: int = 1000
    megabytes: float = 25.0

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("characters", self.characters), ("megabytes", self.megabytes)):
            if not value > 0:
                raise InputError(f"{name}={value}; a report needs more than 0")


@dataclass(frozen=True)
class Sample:
    """Rows in the order in which they are taken, int64 ``[m]``; the first ``least`` are taken whatever their size."""

    order: Rows
    least: int


def choose_rows(worst: Sequence[Rows], pairs: Numbers, most: int) -> Sample:
    """The worst rows of each kind, then others as the digest of their texts decides.

    The same rows of two minings are chosen, in any order of the dataset.

    Args:
        worst: rows of each kind, worst first.
        pairs: uint64 ``[R]``, keys of query and positives.
        most: rows in all.
    """
    first = np.unique(np.concatenate([rows[:ALWAYS] for rows in worst]))
    others = np.argsort(pairs, kind="stable")
    others = others[~np.isin(others, first)]
    return Sample(np.concatenate([first, others])[: max(most, len(first))], len(first))
