"""A teacher's scores of all rows: negatives above their positive or ceiling, and scores of the data that are not its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.grouping import checked_rows
from hf_posmine.audit.kinds import ROW
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import lowest_ceiling, refuse_beyond_scores
from hf_posmine.core.types import PADDING
from hf_posmine.data.corpus import Corpus
from hf_posmine.teachers.capabilities import prepare
from hf_posmine.teachers.factory import make_teacher
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.audit.findings import FindingFiles
    from hf_posmine.audit.grouping import CheckedRow
    from hf_posmine.core.types import Filter, Floats, Rows, Teacher
    from hf_posmine.data.training_data import TrainingData


class TeacherChecks:
    """A teacher over the documents of the data.

    Args:
        data: whose rows are scored.
        teacher: its spelling, such as ``BM25("english")`` or a Hub id.
        filters: whose ceilings no negative may reach.
        tolerance: of a score of the data: a difference relative to the teacher's score, or to 1 if that is greater.
        device: for teachers that compute on one.

    Raises:
        InputError: filters none of which sets a ceiling, so that nothing would be checked.
    """

    def __init__(
        self,
        data: TrainingData,
        teacher: str,
        filters: Sequence[Filter] = (),
        tolerance: float = 0.02,
        device: str | None = None,
    ) -> None:
        refuse_beyond_scores(filters, "an audit")
        self.data, self.filters, self.tolerance = data, tuple(filters), tolerance
        if self.filters and lowest_ceiling(self.filters, np.ones(1, np.float32))[1] < 0:
            raise InputError(
                f"--filters {' '.join(map(repr, self.filters))}: none sets a ceiling, which is what an audit compares negatives "
                "with; add one, such as PercPos(0.95)"
            )
        self.corpus = Corpus.from_texts(_documents(data), match="exact")
        queries = Corpus.from_texts(
            (view.query for batch in data.batches() for view in batch if view.query), match="exact"
        )
        self.teacher: Teacher = make_teacher(teacher, self.corpus, queries=queries, device=device)
        for one in self.filters:
            one.check(self.teacher.score_kind)

    def find(self, found: FindingFiles) -> None:
        """Score all rows."""
        prepare(self.teacher)
        with progress_bar(None, f"Scoring with {self.teacher.name}", "row") as bar:
            for batch in checked_rows(self.data):
                rows = [row for row in batch if row.view.query.strip() and _any_text(row.view.positives)]
                if rows:
                    self._check(rows, found)
                bar.update(len(batch))

    def _check(self, rows: Sequence[CheckedRow], found: FindingFiles) -> None:
        queries = [row.view.query for row in rows]
        positives = self._scores(queries, [row.view.positives for row in rows])
        negatives = self._scores(queries, [row.view.negatives for row in rows])
        lowest = np.array([scores[np.isfinite(scores)].min() for scores in positives], np.float32)
        ceilings, _ = lowest_ceiling(self.filters, lowest)
        for row, own, others, bound, ceiling in zip(rows, positives, negatives, lowest, ceilings, strict=True):
            _add(row, np.flatnonzero(others >= bound), "teacher_above", found)
            _add(row, np.flatnonzero(others >= ceiling), "above_ceiling", found)
            if self._stale(row.view.positive_scores, own) or self._stale(row.view.negative_scores, others):
                found.add("stale_scores", [row.number], [ROW])

    def _scores(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Floats]:
        """The scores of each query with its texts; -inf for empty ones."""
        found = np.full((len(texts), max(1, *map(len, texts))), PADDING, np.int64)
        for row, members in enumerate(texts):
            found[row, : len(members)] = self._rows(members)
        scores = self.teacher.score(queries, found)
        return [scores[row, : len(members)] for row, members in enumerate(texts)]

    def _rows(self, texts: Sequence[str]) -> Rows:
        return np.array(
            [
                row if text.strip() else PADDING
                for row, text in zip(self.corpus.rows_of_texts(texts), texts, strict=True)
            ],
            np.int64,
        )

    def _stale(self, given: Sequence[object] | None, scores: Floats) -> bool:
        """Whether one of the numbers that the data gives is not the teacher's."""
        if given is None or len(given) != len(scores):
            return False
        pairs = [(one, float(score)) for one, score in zip(given, scores, strict=True) if isinstance(one, (int, float))]
        return any(
            abs(one - score) > self.tolerance * max(1.0, abs(score)) for one, score in pairs if np.isfinite(score)
        )


def _add(row: CheckedRow, places: Rows, kind: str, found: FindingFiles) -> None:
    if len(places):
        at = [row.places[place] for place in places.tolist()]
        found.add(kind, [number for number, _ in at], [index for _, index in at])


def _documents(data: TrainingData) -> Iterator[str]:
    for batch in data.batches():
        for view in batch:
            yield from (text for text in (*view.positives, *view.negatives) if text.strip())


def _any_text(texts: Sequence[str]) -> bool:
    return any(text.strip() for text in texts)
