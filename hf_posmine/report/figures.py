"""The figures of the page: scores, margins, ranks, negatives per row, and the overlap with another mining."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.report.histogram import Histogram, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.report.comparison import MiningComparison
    from hf_posmine.report.numbers import Doubles, Numbers

BINS = 40
MOST_BARS = 33
OUTLIERS = 0.001
"""Share of values at either end that may be left out where they would squeeze the rest into a corner."""
SQUEEZED = 2.0
SINGLE_RANKS = 7
MOST_TEACHERS = 6
OVERLAP_EDGES = (-0.1, 1e-9, 0.25 + 1e-9, 0.5 + 1e-9, 0.75 + 1e-9, 1 - 1e-9, 1.1)
"""Nothing shared, quarters with their upper ends, and the same."""


def histograms(numbers: Numbers, other: MiningComparison | None) -> list[Histogram]:
    """All figures that the data have numbers for; another mining is drawn as an outline."""
    theirs, name = (None, "") if other is None else (other.side.numbers, other.name)
    found = [
        *_scores(numbers, theirs, name),
        *_margins(numbers, theirs, name),
        _second(numbers),
        _ranks(numbers, theirs, name),
    ]
    found.append(_counts(numbers, theirs, name))
    if other is not None:
        found.insert(0, _overlap(other))
    return [figure for figure in found if figure is not None]


def binned(
    series: Sequence[tuple[str, str, Floats]], name: str, title: str, caption: str, axis: str
) -> Histogram | None:
    """Distributions of continuous values (name, style, values) over common bins; None without any finite value."""
    finite = [(label, style, values[np.isfinite(values)]) for label, style, values in series]
    finite = [held for held in finite if len(held[2])]
    if not finite:
        return None
    edges = _edges([values for _, _, values in finite])
    outside = sum(int(((v < edges[0]) | (v > edges[-1])).sum()) for _, _, v in finite)
    if outside:
        caption += f" {outside:,} extreme values are outside the figure."
    made = [
        Series(label, style, np.histogram(values, edges)[0], len(values), float(np.median(values)))
        for label, style, values in finite
    ]
    medians = ", ".join(f"{s.name} {s.median:.3f}" for s in made)
    return Histogram(name, title, f"{caption} Medians: {medians}.", axis, edges, tuple(made))


def _edges(values: list[Floats]) -> Doubles:
    joined = np.concatenate(values).astype(np.float64)
    low, high = float(joined.min()), float(joined.max())
    inner = np.quantile(joined, [OUTLIERS, 1 - OUTLIERS])
    if high - low > SQUEEZED * (inner[1] - inner[0]) > 0:
        low, high = inner.tolist()
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _scores(numbers: Numbers, theirs: Numbers | None, name: str) -> list[Histogram | None]:
    if numbers.scores is None or numbers.reference is None:
        return []
    caption = "Scores of the positives and of the negatives by the teacher, each as shares of their own number."
    figures = []
    for teacher, label in enumerate(numbers.teacher_names or ("",)):
        mine = slice(None) if numbers.teachers is None else numbers.teachers == teacher
        positives = numbers.reference[mine] if numbers.positive is None or label else numbers.positive
        series = [("positives", "positive", positives), ("negatives", "negative", numbers.scores[mine])]
        if theirs is not None and theirs.scores is not None and not label and not theirs.teacher_names:
            series.append((f"negatives of {name}", "other", theirs.scores))
        title = f"Scores by {label}" if label else "Scores"
        figures.append(binned(series, f"scores-{teacher}", title, caption, "score by the teacher"))
    return figures[:MOST_TEACHERS]


def _margins(numbers: Numbers, theirs: Numbers | None, name: str) -> list[Histogram | None]:
    margins = numbers.margins
    if margins is None:
        return []
    figures = []
    for teacher, label in enumerate(numbers.teacher_names or ("",)):
        mine = margins if numbers.teachers is None else margins[numbers.teachers == teacher]
        above = float((mine <= 0).mean()) if len(mine) else 0.0
        caption = (
            f"Positive's score less negative's; {above:.1%} of the negatives score at least as high as their positive."
        )
        series = [("positive − negative", "plain", mine)]
        if theirs is not None and theirs.margins is not None and not label and not theirs.teacher_names:
            series.append((name, "other", theirs.margins))
        title = f"Margin to the positive by {label}" if label else "Margin to the positive"
        figures.append(binned(series, f"margins-{teacher}", title, caption, "positive − negative"))
    return figures[:MOST_TEACHERS]


def _second(numbers: Numbers) -> Histogram | None:
    if numbers.second is None or numbers.second_positive is None:
        return None
    scored = np.isfinite(numbers.second)
    caption = f"Scores of the second opinion, computed for {int(scored.sum()):,} of {len(scored):,} negatives."
    series = [("positives", "positive", numbers.second_positive), ("negatives", "negative", numbers.second)]
    return binned(series, "second", "Scores by the second opinion", caption, "score by the second opinion")


def _ranks(numbers: Numbers, theirs: Numbers | None, name: str) -> Histogram | None:
    if numbers.ranks is None or not (numbers.ranks >= 0).any():
        return None
    others = theirs.ranks if theirs is not None and theirs.ranks is not None else np.empty(0, np.int64)
    edges = _rank_edges(int(max(numbers.ranks.max(), others.max(initial=0))))
    labels = tuple(_span(low, high - 1) for low, high in itertools.pairwise(edges))
    series = [_categories("negatives", "plain", numbers.ranks[numbers.ranks >= 0], edges)]
    if len(others):
        series.append(_categories(name, "other", others[others >= 0], edges))
    caption = (
        "Ranks among the candidates that were not excluded, from 0; a step in rank is a candidate that the filters or the sampler "
        f"skipped. Median {int(np.median(numbers.ranks[numbers.ranks >= 0])):,}, greatest {int(numbers.ranks.max()):,}."
    )
    return Histogram("ranks", "Ranks", caption, "rank", np.arange(len(edges), dtype=np.float64), tuple(series), labels)


def _rank_edges(highest: int) -> list[int]:
    """0, 1, ..., 8, then doubling."""
    edges = list(range(min(highest, SINGLE_RANKS) + 2))
    while edges[-1] <= highest:
        edges.append(edges[-1] * 2)
    return edges


def _counts(numbers: Numbers, theirs: Numbers | None, name: str) -> Histogram:
    highest = int(max(numbers.counts.max(), theirs.counts.max() if theirs is not None else 0))
    step = -(-(highest + 1) // MOST_BARS)
    edges = [*range(0, highest + 1, step), (highest // step + 1) * step]
    labels = tuple(_span(low, high - 1) for low, high in itertools.pairwise(edges))
    series = [_categories("rows", "plain", numbers.counts, edges)]
    if theirs is not None:
        series.append(_categories(f"rows of {name}", "other", theirs.counts, edges))
    caption = f"Mean {numbers.counts.mean():.2f}, from {int(numbers.counts.min())} to {int(numbers.counts.max())}."
    across = np.arange(len(edges), dtype=np.float64)
    return Histogram("counts", "Negatives per row", caption, "negatives", across, tuple(series), labels)


def _overlap(other: MiningComparison) -> Histogram:
    values = other.jaccard[np.isfinite(other.jaccard)]
    counts = np.histogram(values, OVERLAP_EDGES)[0]
    labels = ("0", "to 1/4", "to 1/2", "to 3/4", "below 1", "1")
    caption = (
        f"Jaccard overlap of the two sets of negatives, row by row: shared negatives over all of both. Mean {values.mean():.3f}; "
        f"{int((values == 1).sum()):,} rows are the same, {int((values == 0).sum()):,} share nothing."
    )
    series = (Series("rows", "plain", counts, len(values)),)
    return Histogram("overlap", f"Overlap with {other.name}", caption, "Jaccard", np.arange(7.0), series, labels)


def _categories(label: str, style: str, values: Rows, edges: list[int]) -> Series:
    inner = np.array(edges, np.float64) - 0.5
    return Series(label, style, np.histogram(values, inner)[0], len(values))


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}–{high}"
