"""Findings that show in one row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.audit.kinds import ROW
from hf_posmine.audit.text_facts import contained, near_copy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.audit.grouping import CheckedRow
    from hf_posmine.audit.text_facts import FactsCache, TextFacts
    from hf_posmine.data.row_layouts import RowView


@dataclass(slots=True)
class RowFacts:
    """A row and the facts of its texts.

    Attributes:
        view: the row.
        query: of its query.
        positives: of its positives.
        negatives: of its negatives.
        matched: for each negative whether it is a positive of the row by its normalised text.
        number: of the row in the data.
        places: the row in the data and the place in it of each negative: its own, unless a row holds one document.
        size: rows of the data that it is.
    """

    view: RowView
    query: TextFacts
    positives: list[TextFacts]
    negatives: list[TextFacts]
    matched: list[bool]
    number: int
    places: list[tuple[int, int]]
    size: int = 1

    @classmethod
    def of(cls, row: CheckedRow, cache: FactsCache) -> RowFacts:
        """The facts of a row."""
        view = row.view
        positives, negatives = list(map(cache.of, view.positives)), list(map(cache.of, view.negatives))
        numbers = {one.number for one in positives}
        matched = [one.number in numbers for one in negatives]
        return cls(view, cache.of(view.query), positives, negatives, matched, row.number, row.places, row.size)


Found = tuple[str, int]
"""A kind, and the place among the negatives or ``ROW``."""


def check_row(row: RowFacts, texts: bool) -> Iterator[Found]:
    """The findings of a row; ``texts`` is whether documents are texts rather than ids without texts."""
    yield from _empty(row)
    if row.negatives:
        yield from _repeated(row)
        yield from _same(row, texts)
        if texts:
            yield from _scripts(row)
    if texts:
        yield from _cut(row)
    yield from check_scores(row.view)


def _empty(row: RowFacts) -> Iterator[Found]:
    if not row.query.normalized or any(not one.normalized for one in row.positives):
        yield "empty_text", ROW
    for place, one in enumerate(row.negatives):
        if not one.normalized:
            yield "empty_text", place


def _repeated(row: RowFacts) -> Iterator[Found]:
    numbers = [one.number for one in row.negatives]
    if len(set(numbers)) == len(numbers):
        return
    seen: set[int] = set()
    for place, number in enumerate(numbers):
        if number in seen:
            yield "duplicate_negative", place
        seen.add(number)


def _same(row: RowFacts, texts: bool) -> Iterator[Found]:
    """Negatives that are a positive, in the worst way in which they are, or the query."""
    exact = {one.exact for one in row.positives}
    positives = [(one, one.words) for one in row.positives if one.normalized] if texts else []
    for place, (one, matched) in enumerate(zip(row.negatives, row.matched, strict=True)):
        if not one.normalized:
            continue
        if matched:
            yield "same_text" if one.exact in exact else "same_normalized", place
        elif any(near_copy(one, positive, words) for positive, words in positives):
            yield "near_copy", place
        elif any(contained(one, positive) for positive, _ in positives):
            yield "contained", place
        elif one.number == row.query.number:
            yield "query_text", place


def _scripts(row: RowFacts) -> Iterator[Found]:
    scripts = {one.script for one in row.positives or [row.query]}
    if None in scripts:
        return
    for place, one in enumerate(row.negatives):
        if one.script not in scripts and one.script is not None:
            yield "other_script", place


def _cut(row: RowFacts) -> Iterator[Found]:
    if any(one.cut for one in row.positives):
        yield "truncated_text", ROW
    for place, one in enumerate(row.negatives):
        if one.cut:
            yield "truncated_text", place


def check_scores(view: RowView) -> Iterator[Found]:
    """Findings in the scores that the data has."""
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
