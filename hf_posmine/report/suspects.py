"""Rows that deserve a look before training, by kind, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.filters import as_filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats, Mask, Rows
    from hf_posmine.mining.record import MiningRecord
    from hf_posmine.report.numbers import Doubles, Numbers
    from hf_posmine.report.reading import RowTexts

NEAR = 0.8
"""Jaccard of words from which a negative counts as a near duplicate of its positive."""
MOST_CLOSE = 500
LEAST_SHARED = 10
SHARED_ROWS = 0.01
WEAK_RANK = 1000
WHOLE_ROW = -1


@dataclass(frozen=True)
class Suspects:
    """Rows of one kind of suspicion.

    Attributes:
        kind: short name, unique.
        title: heading.
        why: what was looked for, and what it may mean.
        wording: of a row's value, such as ``"{:.0%} of the words shared"``; see :meth:`describe`.
        rows: int64 ``[m]``, worst first.
        at: int64 ``[m]``, which of the row's negatives it is; -1 for the row as a whole.
        values: float64 ``[m]``.
        graded: every row has a value and these are the worst, so their number has no meaning.
    """

    kind: str
    title: str
    why: str
    wording: str
    rows: Rows
    at: Rows
    values: Doubles
    graded: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def describe(self, number: int) -> str:
        """Why the row of that number is here."""
        value = float(self.values[number])
        return self.wording.format(abs(value), side="above" if value < 0 else "below")


def find_suspects(numbers: Numbers, texts: RowTexts, n: int, record: MiningRecord | None) -> list[Suspects]:
    """All kinds that the data can tell, also those without any row.

    Args:
        numbers: scores, ranks and so on.
        texts: keys and likeness.
        n: requested negatives per row.
        record: of the mining, for the filters of an ensemble and the rank of a weak positive.
    """
    settings: Any = record.settings if record is not None else {}
    found = [
        _labelled(texts, numbers),
        _judged(numbers),
        _near_duplicates(texts),
        _answers(texts, numbers),
        _close(numbers, settings.get("filters", ())),
        _shared(texts, numbers),
        _weak(numbers, settings.get("weak_rank", WEAK_RANK)),
        _short(numbers, n),
    ]
    return [kind for kind in found if kind is not None]


def flags(kinds: Sequence[Suspects], rows: int) -> Rows:
    """Kinds of suspicion as bits, int64 ``[R]``: bit k is set where a row is among those of kind k."""
    marked = np.zeros(rows, np.int64)
    for bit, kind in enumerate(kinds):
        marked[kind.rows] |= 1 << bit
    return marked


def shared_documents(texts: RowTexts, most: int = 10) -> tuple[Rows, Rows, Rows]:
    """The negatives of the most rows: how many, and the first row and place of each; int64 ``[m]`` each."""
    if not len(texts.negatives):
        return (np.empty(0, np.int64),) * 3
    _, first, counts = np.unique(texts.negatives, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))[:most]
    order = order[counts[order] > 1]
    bounds = np.append(0, np.cumsum(texts.counts))
    rows = np.searchsorted(bounds, first[order], side="right") - 1
    return counts[order], rows, first[order] - bounds[rows]


def bounds_of(numbers: Numbers, filters: Sequence[str]) -> Floats | None:
    """The ceiling of each negative, float32 ``[N]``, its positive's score where there is none; None without scores."""
    reference = numbers.reference
    if reference is None or numbers.scores is None:
        return None
    if numbers.own is not None:  # negatives of a row have ceilings of several teachers
        ceilings = [f.ceiling(reference) for f in as_filters(list(filters))]
        bounds = np.minimum.reduce(ceilings) if ceilings else reference
    else:
        bounds = reference if numbers.ceiling is None else np.repeat(numbers.ceiling, numbers.counts)
    return np.where(np.isfinite(bounds), bounds, reference)


def _close(numbers: Numbers, filters: Sequence[str]) -> Suspects | None:
    bounds = bounds_of(numbers, filters)
    if bounds is None or numbers.scores is None or numbers.reference is None:
        return None
    gaps = (bounds - numbers.scores).astype(np.float64)
    scale = np.abs(numbers.reference)
    relative = np.divide(gaps, scale, out=np.full(len(gaps), np.nan), where=scale > 0)  # teachers differ in scale
    rows, which = least_per_row(relative, numbers)
    rows, which = rows[: _few(len(numbers.counts))], which[: _few(len(numbers.counts))]
    what = "positive" if np.array_equal(bounds, numbers.reference, equal_nan=True) else "ceiling"
    why = (
        f"The negatives that score closest to their {what}, or above it, as a share of the positive's score. These are "
        "the hardest negatives, and some may be false. Every dataset has such rows; read some."
    )
    return Suspects(
        "close", f"Closest to the {what}", why, f"{{:.2g}} {{side}} its {what}", rows, which - numbers.bounds[rows],
        gaps[which], graded=True,
    )  # fmt: skip


def _near_duplicates(texts: RowTexts) -> Suspects | None:
    if texts.likeness is None or texts.most_similar is None:
        return None
    rows = np.flatnonzero(texts.likeness >= NEAR)
    rows = rows[np.argsort(-texts.likeness[rows], kind="stable")]
    why = (
        f"A negative that shares at least {NEAR:.0%} of its words with a positive of the row (Jaccard similarity of the "
        "sets of words in the first 500 characters; of pairs of letters in scripts without spaces). Training would "
        "push apart two texts with the same meaning."
    )
    values = texts.likeness[rows].astype(np.float64)
    return Suspects("duplicate", "Near duplicates of the positive", why, "{:.0%} of the words shared", rows,
                    texts.most_similar[rows], values)  # fmt: skip


def _answers(texts: RowTexts, numbers: Numbers) -> Suspects | None:
    if texts.answers is None:
        return None
    rows, at, values = _marked(texts.answers, numbers)
    why = (
        "A negative that holds an answer of the row as whole words. Common answers, such as a year, occur in many "
        "unrelated texts; a long one in a negative close to the positive is probably an unlabelled positive."
    )
    return Suspects("answer", "The answer is in a negative", why, "in {:.0f} of its negatives", rows, at, values)


def _labelled(texts: RowTexts, numbers: Numbers) -> Suspects | None:
    if texts.likeness is None:  # no texts of positives
        return None
    rows, at, values = _marked(texts.labelled(), numbers)
    why = (
        "A negative whose text some row of the same query labels as its positive. The miner excludes these; there "
        "should be none."
    )
    return Suspects(
        "labelled", "Labelled positives among the negatives", why, "{:.0f} of its negatives", rows, at, values
    )


def _judged(numbers: Numbers) -> Suspects | None:
    if numbers.judged is None:
        return None
    rows, at, values = _marked(numbers.judged, numbers)
    why = "Negatives that a language model took for positives (hf-posmine judge --action flag)."
    return Suspects("judged", "Suspects by the judge", why, "{:.0f} of its negatives", rows, at, values)


def _marked(marks: Mask, numbers: Numbers) -> tuple[Rows, Rows, Doubles]:
    """Rows with a marked negative, those first whose closest one is closest to the positive; which it is, and how many."""
    margins = numbers.margins
    closeness = np.zeros(len(marks)) if margins is None else np.nan_to_num(margins.astype(np.float64), nan=np.inf)
    rows, which = least_per_row(np.where(marks, closeness, np.nan), numbers)
    many = np.bincount(numbers.row_of[marks], minlength=len(numbers.counts))
    return rows, which - numbers.bounds[rows], many[rows].astype(np.float64)


def _shared(texts: RowTexts, numbers: Numbers) -> Suspects | None:
    if not len(texts.negatives):
        return None
    least = max(LEAST_SHARED, int(np.ceil(SHARED_ROWS * len(numbers.counts))))
    _, inverse, counts = np.unique(texts.negatives, return_inverse=True, return_counts=True)
    uses = counts[inverse].astype(np.float64)
    rows, which = least_per_row(np.where(uses >= least, -uses, np.nan), numbers)
    why = (
        f"A text that is a negative at least {least:,} times in this dataset. Such hubs score high for many queries, "
        "and a student learns little from them."
    )
    return Suspects("shared", "Shared by very many rows", why, "a negative {:,.0f} times", rows,
                    which - numbers.bounds[rows], uses[which])  # fmt: skip


def _weak(numbers: Numbers, rank: int) -> Suspects | None:
    bounded = numbers.ceiling is not None and bool(np.isfinite(numbers.ceiling).any())
    if numbers.weak is None and not bounded:  # without a ceiling nothing is above it
        return None
    above = numbers.above if numbers.above is not None else np.zeros(len(numbers.counts), np.int64)
    marked = above >= rank if numbers.weak is None else numbers.weak
    rows = np.flatnonzero(marked)
    rows = rows[np.argsort(-above[rows], kind="stable")]
    wording = "{:,.0f} candidates above its ceiling" if numbers.above is not None else "flagged when mined"
    why = (
        f"At least {rank:,} candidates score above the ceiling of the row, so its labelled positive is probably "
        "wrong, or the teacher fails on the query."
    )
    return Suspects("weak", "Weak positives", why, wording, rows, np.full(len(rows), WHOLE_ROW),
                    above[rows].astype(np.float64))  # fmt: skip


def _short(numbers: Numbers, n: int) -> Suspects:
    filled = numbers.filled if numbers.filled is not None else np.zeros(len(numbers.counts), np.int64)
    own = numbers.counts - np.maximum(filled, 0)
    rows = np.flatnonzero(own < n)
    rows = rows[np.argsort(own[rows], kind="stable")]
    why = (
        f"Rows with fewer than {n} negatives of their own: the corpus has no more candidates below their "
        "ceiling. Random fills do not count."
    )
    return Suspects("short", "Too few negatives", why, f"{{:.0f}} of {n} negatives", rows,
                    np.full(len(rows), WHOLE_ROW), own[rows].astype(np.float64))  # fmt: skip


def least_per_row(values: Doubles, numbers: Numbers) -> tuple[Rows, Rows]:
    """Rows by their least value, ascending, with the negative (of all N) that has it; NaN counts as missing."""
    there = np.flatnonzero(~np.isnan(values))
    order = there[np.lexsort((values[there], numbers.row_of[there]))]
    rows, first = np.unique(numbers.row_of[order], return_index=True)
    which = order[first]
    by_value = np.argsort(values[which], kind="stable")
    return rows[by_value], which[by_value]


def _few(rows: int) -> int:
    """How many of the closest rows are shown: a twentieth, but some of a small dataset and not too many of a large one."""
    return min(MOST_CLOSE, max(10, rows // 20))
