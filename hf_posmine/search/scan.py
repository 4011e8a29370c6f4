"""The contract of a scan, and the arrays that both scans share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.search.error_bounds import Queries


@dataclass(frozen=True)
class Ceilings:
    """Ceilings as scan values.

    Attributes:
        ceiling: float64 ``[B]``, ``inf`` for none.
        exclude: rows that may not be candidates.
        floor: float64 ``[B]``, what is certainly below it may be left out; ``-inf`` for nothing.
    """

    ceiling: np.ndarray
    exclude: Exclusions
    floor: np.ndarray

    def take(self, at: Rows) -> Ceilings:
        """The limits of some of the queries."""
        return Ceilings(self.ceiling[at], self.exclude.take(at), self.floor[at])


@dataclass(frozen=True)
class ScanResult:
    """The outcome of a scan.

    Every document that is not excluded is either in ``ids``, or certainly at or above the ceiling and counted in
    ``above``, or, where ``complete``, certainly worse than the k-th best below the ceiling or below the floor.

    Attributes:
        ids: int64 ``[B, m]``, document rows in any order, -1 where padded.
        above: int64 ``[B]``.
        complete: bool ``[B]``; False where the query must be scanned again, with more room.
    """

    ids: Rows
    above: Rows
    complete: np.ndarray

    @classmethod
    def empty(cls, queries: int) -> ScanResult:
        """Nothing found yet."""
        return cls(np.full((queries, 0), PADDING, np.int64), np.zeros(queries, np.int64), np.zeros(queries, bool))

    @classmethod
    def joined(cls, parts: Sequence[ScanResult]) -> ScanResult:
        """The results of queries that follow one another; one copy, however many parts."""
        width = max((part.ids.shape[1] for part in parts), default=0)
        wide = [np.pad(p.ids, ((0, 0), (0, width - p.ids.shape[1])), constant_values=PADDING) for p in parts]
        none = cls.empty(0)
        return cls(
            np.concatenate([np.empty((0, width), np.int64), *wide]),
            np.concatenate([none.above, *(part.above for part in parts)]),
            np.concatenate([none.complete, *(part.complete for part in parts)]),
        )

    def put(self, at: Rows, other: ScanResult) -> ScanResult:
        """These results with those of the queries ``at`` replaced."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        ids = np.pad(self.ids, ((0, 0), (0, width - self.ids.shape[1])), constant_values=PADDING)
        ids[at] = np.pad(other.ids, ((0, 0), (0, width - other.ids.shape[1])), constant_values=PADDING)
        above, complete = self.above.copy(), self.complete.copy()
        above[at], complete[at] = other.above, other.complete
        return ScanResult(ids, above, complete)


class Scan(Protocol):
    """One pass over all documents for some queries.

    Attributes:
        least: room per query that costs nothing.
    """

    least: int

    def __call__(self, queries: Queries, k: int, limits: Ceilings, room: int) -> ScanResult:
        """Find the best ``k`` below the ceilings, with room for ``room`` documents per query, or more if it has it."""
