"""One pass over all texts, in batches: which are the same, which negatives are near duplicates or hold an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.data.likeness import answers_of, holds_answer, jaccard, pieces
from hf_posmine.data.texts import text_numbers
from hf_posmine.report.rows import as_texts
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats, Mask, Rows
    from hf_posmine.data.texts import Numbers
    from hf_posmine.report.rows import MinedRows, TextColumns

ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class RowTexts:
    """Results of one pass over all texts; no text stays in memory.

    Attributes:
        queries: uint64 ``[R]``, keys of the queries.
        pairs: uint64 ``[R]``, keys of query and positives together.
        positives: uint64 ``[P]``, keys of the positives, row after row.
        positive_counts: int64 ``[R]``, positives of each row.
        negatives: uint64 ``[N]``, keys of the negatives, row after row.
        counts: int64 ``[R]``, negatives of each row.
        likeness: float32 ``[R]``, of the negative most like a positive of its row (Jaccard of words); None without texts
            of positives.
        most_similar: int64 ``[R]``, which of the row's negatives that is.
        answers: bool ``[N]``, negatives that hold an answer of their row; None without a column of answers.
        has_answer: bool ``[R]``, rows with an answer long enough to be looked for.
        answered: bool ``[R]``, those of them whose positive holds it.
    """

    queries: Numbers
    pairs: Numbers
    positives: Numbers
    positive_counts: Rows
    negatives: Numbers
    counts: Rows
    likeness: Floats | None = None
    most_similar: Rows | None = None
    answers: Mask | None = None
    has_answer: Mask | None = None
    answered: Mask | None = None

    def labelled(self) -> Mask:
        """Negatives that a row of the same query labels as its positive, bool ``[N]``."""
        known = together(np.repeat(self.queries, self.positive_counts), self.positives)
        return np.isin(together(np.repeat(self.queries, self.counts), self.negatives), known)

    def repeated(self) -> int:
        """How many negatives are in their row already."""
        rows = np.repeat(np.arange(len(self.counts), dtype=np.uint64), self.counts)
        return len(self.negatives) - len(np.unique(together(rows, self.negatives)))


def read_texts(mined: MinedRows) -> RowTexts:
    """Read every query, positive, negative and answer once."""
    columns = mined.columns
    wanted = [c for c in (columns.query, columns.positive, columns.answer, "negatives") if c is not None]
    parts: list[dict[str, Any]] = []
    with progress_bar(len(mined), f"Reading {mined.name}", "row") as bar:
        for batch in mined.batches(wanted):
            parts.append(_read(batch, columns))
            bar.update(len(batch["negatives"]))
    return RowTexts(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _read(batch: dict[str, list[Any]], columns: TextColumns) -> dict[str, Any]:
    queries = [text or "" for text in batch[columns.query]]
    negatives = [[text or "" for text in row or ()] for row in batch["negatives"]]
    positives = [as_texts(value) for value in batch[columns.positive]] if columns.positive else [[] for _ in queries]
    read: dict[str, Any] = {
        "queries": text_numbers(queries, "exact"),
        "pairs": text_numbers(["\x1f".join([q, *p]) for q, p in zip(queries, positives, strict=True)], "exact"),
        "positives": text_numbers([text for row in positives for text in row], "exact"),
        "positive_counts": np.array([len(row) for row in positives], np.int64),
        "negatives": text_numbers([text for row in negatives for text in row], "exact"),
        "counts": np.array([len(row) for row in negatives], np.int64),
    }
    if columns.positive and columns.positive_is_text:
        read["likeness"], read["most_similar"] = _likeness(positives, negatives)
    if columns.answer:
        answers = [answers_of(value) for value in batch[columns.answer]]
        rows = list(zip(answers, positives, negatives, strict=True))
        read["answers"] = np.array([bool(a) and holds_answer(text, a) for a, _, n in rows for text in n], bool)
        read["has_answer"] = np.array([bool(a) for a in answers], bool)
        read["answered"] = np.array([any(holds_answer(text, a) for text in p) for a, p, _ in rows], bool)
    return read


def _likeness(positives: Sequence[list[str]], negatives: Sequence[list[str]]) -> tuple[Floats, Rows]:
    """The greatest likeness of a negative to a positive of its row, and which negative it is; 0 for no negatives."""
    seen: dict[str, frozenset[str]] = {}

    def of(text: str) -> frozenset[str]:
        if text not in seen:
            seen[text] = pieces(text)
        return seen[text]

    likeness, most_similar = np.zeros(len(negatives), np.float32), np.zeros(len(negatives), np.int64)
    for row, (wanted, found) in enumerate(zip(positives, negatives, strict=True)):
        sets = [of(text) for text in wanted]
        values = [max((jaccard(one, of(text)) for one in sets), default=0.0) for text in found]
        if values:
            most_similar[row] = int(np.argmax(values))
            likeness[row] = values[most_similar[row]]
    return likeness, most_similar


def together(one: Numbers, two: Numbers) -> Numbers:
    """A key of each pair of keys."""
    return one * ODD ^ two
