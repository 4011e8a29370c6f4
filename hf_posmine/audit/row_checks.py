"""Findings that show in one row, looked for in many rows at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.audit.findings import ENTRY
from hf_posmine.audit.kinds import ROW
from hf_posmine.audit.text_facts import NO_SCRIPT, TextFacts, contained_pairs, near_copies
from hf_posmine.core.types import spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from hf_posmine.audit.grouping import CheckedRow
    from hf_posmine.core.types import Rows
    from hf_posmine.data.row_layouts import RowView


@dataclass(frozen=True)
class BatchFacts:
    """Rows ``[R]`` and the facts of their texts, flat: positives ``[P]`` and negatives ``[N]`` of one row after the other.

    Attributes:
        rows: the rows.
        queries: of each row.
        positives: of all rows.
        negatives: of all rows.
        positive_counts: int64 ``[R]``.
        negative_counts: int64 ``[R]``.
    """

    rows: Sequence[CheckedRow]
    queries: TextFacts
    positives: TextFacts
    negatives: TextFacts
    positive_counts: Rows
    negative_counts: Rows

    @classmethod
    def of(cls, rows: Sequence[CheckedRow]) -> BatchFacts:
        """The facts of some rows."""
        return cls(
            rows,
            TextFacts.of([row.view.query for row in rows]),
            TextFacts.of([text for row in rows for text in row.view.positives]),
            TextFacts.of([text for row in rows for text in row.view.negatives]),
            np.array([len(row.view.positives) for row in rows], np.int64),
            np.array([len(row.view.negatives) for row in rows], np.int64),
        )

    @cached_property
    def numbers(self) -> Rows:
        """The number of each row in the data."""
        return np.array([row.number for row in self.rows], np.int64)

    @cached_property
    def places(self) -> np.ndarray:
        """Entries ``[N]``: the row in the data and the place in it of each negative."""
        entries = np.empty(len(self.negatives.texts), ENTRY)
        entries["row"] = np.repeat(self.numbers, self.negative_counts)
        entries["index"] = spans(np.zeros(len(self.rows), np.int64), self.negative_counts)
        if any(row.members is not None for row in self.rows):
            places = [place for row in self.rows for place in row.places]
            entries[:] = np.array(places, ENTRY)
        return entries

    @cached_property
    def negative_rows(self) -> Rows:
        """The position of the row of each negative."""
        return np.repeat(np.arange(len(self.rows)), self.negative_counts)

    @cached_property
    def pairs(self) -> tuple[Rows, Rows]:
        """Each negative with each positive of its row that is not empty: positions of both, ``[K]`` each."""
        starts = np.cumsum(self.positive_counts) - self.positive_counts
        counts = self.positive_counts[self.negative_rows]
        negatives = np.repeat(np.arange(len(counts)), counts)
        positives = spans(starts[self.negative_rows], counts)
        whole = ~(self.negatives.empty[negatives] | self.positives.empty[positives])
        return negatives[whole], positives[whole]

    @cached_property
    def matched(self) -> npt.NDArray[np.bool_]:
        """For each negative whether it is a positive of its row by its normalised text."""
        return self.of_pairs(self.same)

    @cached_property
    def same(self) -> npt.NDArray[np.bool_]:
        """Which pairs ``[K]`` are the same normalised text."""
        negatives, positives = self.pairs
        return self.negatives.numbers[negatives] == self.positives.numbers[positives]

    @cached_property
    def exact(self) -> npt.NDArray[np.bool_]:
        """For each negative whether it is a positive of its row letter by letter."""
        negatives, positives = self.pairs
        exact = self.same.copy()
        for n in np.flatnonzero(exact).tolist():
            exact[n] = self.negatives.texts[negatives[n]] == self.positives.texts[positives[n]]
        return self.of_pairs(exact)

    def of_pairs(self, holds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Negatives ``[N]`` of which one of the pairs ``[K]`` holds something."""
        found = np.zeros(len(self.negatives.texts), np.bool_)
        found[self.pairs[0][holds]] = True
        return found

    def any_positive(self, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Rows ``[R]`` of which one of the positives is marked in ``[P]``."""
        rows = np.zeros(len(self.rows), np.bool_)
        rows[np.repeat(np.arange(len(self.rows)), self.positive_counts)[which]] = True
        return rows

    def in_rows(self, which: npt.NDArray[np.bool_]) -> np.ndarray:
        """Entries of the rows that are marked in ``[R]``."""
        entries = np.full(int(np.count_nonzero(which)), ROW, ENTRY)
        entries["row"] = self.numbers[which]
        return entries


Found = tuple[str, np.ndarray]
"""A kind, and the entries of its findings."""


def check_rows(facts: BatchFacts, texts: bool) -> Iterator[Found]:
    """The findings of rows; ``texts`` is whether documents are texts rather than ids without texts."""
    yield from _empty(facts)
    yield "duplicate_negative", facts.places[_repeated(facts)]
    yield from _same(facts, texts)
    if texts:
        yield "other_script", facts.places[_of_other_script(facts)]
        yield "truncated_text", facts.in_rows(facts.any_positive(facts.positives.cut))
        yield "truncated_text", facts.places[facts.negatives.cut]
    for row in facts.rows:
        if row.view.negative_scores is not None:
            yield from _check_scores(row)


def _empty(facts: BatchFacts) -> Iterator[Found]:
    yield "empty_text", facts.in_rows(facts.queries.empty | facts.any_positive(facts.positives.empty))
    yield "empty_text", facts.places[facts.negatives.empty]


def _repeated(facts: BatchFacts) -> npt.NDArray[np.bool_]:
    """Negatives that stand in their row before."""
    numbers, rows = facts.negatives.numbers, facts.negative_rows
    order = np.lexsort((numbers, rows))
    again = np.zeros(len(numbers), np.bool_)
    first, second = order[:-1], order[1:]
    again[second] = (numbers[first] == numbers[second]) & (rows[first] == rows[second])
    return again


def _same(facts: BatchFacts, texts: bool) -> Iterator[Found]:
    """Negatives that are a positive, in the worst way in which they are, or the query."""
    negatives, positives = facts.pairs
    left = ~facts.matched & ~facts.negatives.empty
    yield "same_text", facts.places[facts.exact]
    yield "same_normalized", facts.places[facts.matched & ~facts.exact]
    for kind, find in (("near_copy", near_copies), ("contained", contained_pairs)) if texts else ():
        open_pairs = np.flatnonzero(left[negatives])
        hits = find(facts.negatives, facts.positives, negatives[open_pairs], positives[open_pairs])
        found = np.unique(negatives[open_pairs[hits]])
        yield kind, facts.places[found]
        left[found] = False
    same = facts.negatives.numbers == facts.queries.numbers[facts.negative_rows]
    yield "query_text", facts.places[left & same]


def _of_other_script(facts: BatchFacts) -> npt.NDArray[np.bool_]:
    """Negatives with letters, in a row whose positives (or query, without any) all have letters of another script."""
    negatives, positives = facts.pairs
    own = facts.negatives.scripts
    if not own.any() and not facts.positives.scripts.any():
        return np.zeros(len(own), np.bool_)
    theirs = facts.positives.scripts[positives]
    agrees = facts.of_pairs((theirs == own[negatives]) | (theirs == NO_SCRIPT))
    alone = (facts.positive_counts == 0)[facts.negative_rows]
    of_query = facts.queries.scripts[facts.negative_rows]
    agrees |= alone & ((of_query == own) | (of_query == NO_SCRIPT))
    return ~agrees & (own != NO_SCRIPT)


def _check_scores(row: CheckedRow) -> Iterator[Found]:
    """Findings in the scores that the data has."""
    for kind, place in check_scores(row.view):
        yield kind, np.array([(row.number, ROW) if place == ROW else row.places[place]], ENTRY)


def check_scores(view: RowView) -> Iterator[tuple[str, int]]:
    """Kinds of findings in scores, and the place among the negatives or ``ROW``."""
    if view.negative_scores is None:
        return
    pairs = [(view.negative_scores, view.negatives)]
    pairs += [(view.positive_scores, view.positives)] if view.positive_scores is not None else []
    if any(not _whole(scores, texts) for scores, texts in pairs):
        yield "bad_scores", ROW
    elif view.positive_scores:
        lowest = min(view.positive_scores)
        for place, score in enumerate(view.negative_scores):
            if score >= lowest:
                yield "above_positive", place


def _whole(scores: Sequence[Any], texts: Sequence[str]) -> bool:
    """A finite number for each text."""
    numbers = all(isinstance(score, (int, float)) and math.isfinite(score) for score in scores)
    return numbers and len(scores) == len(texts)
