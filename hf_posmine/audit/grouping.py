"""Rows as they are checked: where a row holds one document, those of a query that stand together are one row."""

from __future__ import annotations

import itertools
import math
import tempfile
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.data.columns import batched
from hf_posmine.data.row_layouts import RowView
from hf_posmine.data.row_tables import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from datasets import Dataset

    from hf_posmine.data.training_data import TrainingData

MOST_TOGETHER = 1000
"""Rows of one query that are checked together, at most."""


@dataclass(slots=True)
class CheckedRow:
    """A row with its number.

    Attributes:
        number: of the row, the first of them where several are checked together.
        view: of the row.
        members: the row of each negative, where each negative is the only one of a row of its own.
        size: rows of the data that it is.
    """

    number: int
    view: RowView
    members: list[int] | None = None
    size: int = 1

    @property
    def places(self) -> list[tuple[int, int]]:
        """The row and the place in it of each negative."""
        if self.members is not None:
            return [(number, 0) for number in self.members]
        return [(self.number, place) for place in range(len(self.view.negatives))]


def checked_rows(data: TrainingData) -> Iterator[list[CheckedRow]]:
    """All rows, some at a time."""
    numbered = enumerate(view for views in data.batches() for view in views)
    one_by_one = _together(numbered) if data.layout.one_document else map(_alone, numbered)
    return batched(one_by_one, BATCH_ROWS)


def _alone(numbered: tuple[int, RowView]) -> CheckedRow:
    return CheckedRow(*numbered)


def _together(numbered: Iterable[tuple[int, RowView]]) -> Iterator[CheckedRow]:
    for _, group in itertools.groupby(numbered, key=_key):
        while members := list(itertools.islice(group, MOST_TOGETHER)):
            yield _joined(members[0][1].query, members)


def _key(numbered: tuple[int, RowView]) -> str | int:
    """The query; for a row with an empty text its own number, so that what is found there names that row."""
    number, view = numbered
    whole = all(text.strip() for text in (view.query, *view.positives, *view.negatives))
    return view.query if whole else number


def _joined(query: str, members: Sequence[tuple[int, RowView]]) -> CheckedRow:
    view = RowView(
        query,
        [text for _, member in members for text in member.positives],
        [text for _, member in members for text in member.negatives],
    )
    return CheckedRow(members[0][0], view, [n for n, member in members for _ in member.negatives], len(members))


def as_mined(data: TrainingData) -> Dataset:
    """Rows of any layout with the columns that mining writes: ``query``, ``positive`` (a list), ``negatives``, and scores.

    The Dataset is mapped from a temporary file, which goes when the Dataset does.
    """
    from datasets import Dataset, Features, List, Value

    views = (row.view for batch in checked_rows(data) for row in batch)
    first = next(views)
    scored = first.negative_scores is not None
    features = {"query": Value("string"), "positive": List(Value("string")), "negatives": List(Value("string"))}
    if scored:
        features |= {"positive_score": Value("float32"), "negatives_scores": List(Value("float32"))}

    def rows() -> Iterator[dict[str, Any]]:
        for view in itertools.chain((first,), views):
            yield _mined(view) | (_scores(view) if scored else {})

    folder = tempfile.TemporaryDirectory(prefix="posmine-rows-")
    made = Dataset.from_generator(rows, Features(features), cache_dir=folder.name, fingerprint="rows")
    weakref.finalize(made, folder.cleanup)
    return made


def _mined(view: RowView) -> dict[str, Any]:
    return {"query": view.query, "positive": view.positives, "negatives": view.negatives}


def _scores(view: RowView) -> dict[str, Any]:
    """Scores as numbers; of several positives the lowest, and nothing where a score is missing."""
    positives = [one for one in view.positive_scores or () if isinstance(one, (int, float))]
    scores = [one if isinstance(one, (int, float)) else math.nan for one in view.negative_scores or ()]
    whole = scores if len(scores) == len(view.negatives) else [math.nan] * len(view.negatives)
    return {"positive_score": min(positives, default=math.nan), "negatives_scores": whole}
