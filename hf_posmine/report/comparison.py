"""Two minings of the same rows side by side: which negatives stayed, which went, which came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.texts import KeyIndex
from hf_posmine.report.reading import ODD, together

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows
    from hf_posmine.data.texts import Numbers
    from hf_posmine.report.numbers import Doubles
    from hf_posmine.report.reading import RowTexts
    from hf_posmine.report.side import Side

LEAST_SHARED = 0.5
"""Share of the smaller dataset's rows that the other must hold, for the two to count as the same data."""


@dataclass(frozen=True)
class MiningComparison:
    """Another mining, row by row.

    Attributes:
        side: the other mining.
        partners: int64 ``[R]``, the other's row of each row; -1 where it has none.
        jaccard: float64 ``[R]``, of the two sets of negatives, NaN without a partner.
        only_there: rows that only the other has.
    """

    side: Side
    partners: Rows
    jaccard: Doubles
    only_there: int

    @property
    def name(self) -> str:
        """Name of the other mining on the page."""
        return self.side.mined.name

    @property
    def matched(self) -> int:
        """Rows that both have."""
        return int((self.partners >= 0).sum())

    @property
    def changed(self) -> Rows:
        """The rows whose sets of negatives differ, int64 ``[m]``, the most different first."""
        rows = np.flatnonzero(self.jaccard < 1)
        return rows[np.argsort(self.jaccard[rows], kind="stable")]


def compare(side: Side, other: Side) -> MiningComparison:
    """Match rows by the texts of query and positive, equal ones in their order, and compare their negatives as sets.

    Raises:
        InputError: too few rows in common; these are minings of different data.
    """
    texts, theirs = side.texts, other.texts
    partners = KeyIndex.build(_numbered(theirs.pairs)).rows(_numbered(texts.pairs))
    matched = np.flatnonzero(partners >= 0)
    if len(matched) < LEAST_SHARED * min(len(texts.pairs), len(theirs.pairs)):
        raise InputError(
            f"{side.mined.name} ({len(texts.pairs):,} rows) and {other.mined.name} ({len(theirs.pairs):,} rows) have "
            f"{len(matched):,} rows of the same query and positive in common; compare two minings of the same data, or name the "
            "columns with --query-column and --positive-column"
        )
    jaccard = np.full(len(partners), np.nan)
    jaccard[matched] = _jaccard(texts, matched, theirs, partners[matched])
    return MiningComparison(other, partners, jaccard, len(theirs.pairs) - len(matched))


def flat_places(counts: Rows, rows: Rows) -> Rows:
    """Positions, int64, of the values of some rows in a flat array with ``counts`` values per row."""
    starts = np.append(0, np.cumsum(counts))[rows]
    wanted = counts[rows]
    before = np.cumsum(wanted) - wanted
    return np.repeat(starts - before, wanted) + np.arange(int(wanted.sum()))


def _numbered(keys: Numbers) -> Numbers:
    """Keys of which equal ones differ by how many came before."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.searchsorted(ordered, ordered)
    number = np.empty(len(keys), np.uint64)
    number[order] = np.arange(len(keys)) - first
    return keys ^ number * ODD


def _jaccard(texts: RowTexts, rows: Rows, other: RowTexts, partners: Rows) -> Doubles:
    """Of the sets of negatives of each pair of rows, float64 ``[m]``; 1 for two empty ones."""
    here, mine = _members(texts, rows)
    there, theirs = _members(other, partners)
    shared, *sizes = (np.bincount(at, minlength=len(rows)) for at in (mine[np.isin(here, there)], mine, theirs))
    union = sizes[0] + sizes[1] - shared
    return np.divide(shared, union, out=np.ones(len(rows)), where=union > 0)


def _members(texts: RowTexts, rows: Rows) -> tuple[Numbers, Rows]:
    """Keys of (position in ``rows``, negative), each once, and the positions."""
    position = np.repeat(np.arange(len(rows)), texts.counts[rows])
    keys = together(position.astype(np.uint64), texts.negatives[flat_places(texts.counts, rows)])
    unique, first = np.unique(keys, return_index=True)
    return unique, position[first]
