"""Several teachers for one row: the paper's two ensembles (section 4.2 and Table 2).

Each teacher is filtered by its own score of the positive before anything is merged, and merging goes by rank, because
scores of different teachers cannot be compared (semantics 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import SpecError
from hf_posmine.core.types import PADDING

if TYPE_CHECKING:
    from hf_posmine.core.types import Candidates, Mask, RowGenerators, Rows


@dataclass(frozen=True)
class CrossSample:
    """Cross-sample ensembling: one teacher, drawn per row, gives all its negatives."""

    def pool(self, n: int) -> int:
        """``n`` candidates are enough."""
        return n

    def draw(self, rows: int, teachers: int, rngs: RowGenerators) -> Rows:
        """The teacher of each row, int64 ``[B]``, all with the same chance."""
        return np.array([rngs(row).integers(teachers) for row in range(rows)], np.int64)

    def __repr__(self) -> str:
        return "CrossSample()"


@dataclass(frozen=True)
class IntraSample:
    """Intra-sample ensembling: every teacher gives its best, then its second best, until there are ``n``.

    Attributes:
        dedup: a document that another teacher gave already is replaced by the teacher's next one; teachers choose in
            the order given, so put the best first. Without it such a document appears twice, as in the paper's better
            variant.
    """

    dedup: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.dedup, bool):
            raise SpecError(f"IntraSample: dedup must be True or False, got {self.dedup!r}")

    def pool(self, n: int) -> int:
        """``n`` candidates of each teacher are enough, even if all others are exhausted or give the same."""
        return n

    def merge(self, candidates: Candidates, keep: Mask, n: int) -> Rows:
        """Columns int64 ``[B, n]`` of the chosen candidates, by rank and then by teacher, -1 where the row is short.

        Args:
            candidates: the teachers side by side, each best first.
            keep: bool ``[B, K]``, which candidates may be chosen.
            n: negatives per row.
        """
        # By rank, never by score: the scales of two teachers cannot be compared (semantics 10).
        chosen = np.full((len(keep), n), PADDING, np.int64)
        teachers = [np.flatnonzero(candidates.teacher == t) for t in np.unique(candidates.teacher)]
        for row in range(len(keep)):
            queues = [columns[keep[row, columns]].tolist() for columns in teachers]
            picked = _take_turns(queues, candidates.doc_ids[row], n, dedup=self.dedup)
            chosen[row, : len(picked)] = picked
        return chosen

    def __repr__(self) -> str:
        return f"IntraSample(dedup={self.dedup})"


ENSEMBLES = {cls.__name__: cls for cls in (CrossSample, IntraSample)}


def _take_turns(queues: list[list[int]], documents: Rows, n: int, *, dedup: bool) -> list[int]:
    """Columns in the order in which the teachers give them, one at each turn while they have any."""
    picked: list[int] = []
    taken: set[int] = set()
    while len(picked) < n and any(queues):
        for queue in queues:
            while dedup and queue and int(documents[queue[0]]) in taken:
                queue.pop(0)
            if queue and len(picked) < n:
                taken.add(int(documents[queue[0]]))
                picked.append(queue.pop(0))
    return picked
