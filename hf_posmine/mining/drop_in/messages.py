"""The report that ``mine_hard_negatives`` prints: scores of positives and negatives, what was skipped, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hf_posmine.core.types import Floats
    from hf_posmine.mining.drop_in.arguments import Arguments, Window
    from hf_posmine.mining.drop_in.formats import MinedPairs
    from hf_posmine.mining.drop_in.pairs import Pairs

CROSS_ENCODER = "cross_encoder"
"""Among the counts of skipped candidates: those that the scores of the cross-encoder put out of the bounds."""
ROW = "{:<6} {:>14} {:>14} {:>14}"


def _or_infinity(measure: Callable[[Floats], float], empty: float = np.inf) -> Callable[[Floats], float]:
    return lambda scores: measure(scores) if len(scores) else empty


METRICS: Mapping[str, Callable[[Floats], float]] = {
    "Mean": _or_infinity(lambda scores: float(scores.mean(dtype=np.float64)), np.nan),
    "Median": _or_infinity(lambda scores: float(np.sort(scores)[(len(scores) - 1) // 2]), np.nan),
    "Std": lambda scores: float(scores.std(ddof=1, dtype=np.float64)) if len(scores) > 1 else np.nan,
    "Min": _or_infinity(lambda scores: float(scores.min())),
    "25%": _or_infinity(lambda scores: float(np.quantile(scores, 0.25))),
    "50%": _or_infinity(lambda scores: float(np.quantile(scores, 0.5))),
    "75%": _or_infinity(lambda scores: float(np.quantile(scores, 0.75))),
    "Max": _or_infinity(lambda scores: float(scores.max()), -np.inf),
}
"""Of one column of scores float32 ``[m]``. The median is the lower of the middle two, as torch has it."""


def before(pairs: Pairs, window: Window, arguments: Arguments) -> list[str]:
    """The window and the duplicates, before the mining."""
    deeper = "" if arguments.reranks else " Queries without enough negatives in it are searched deeper."
    lines = [] if window.given else [f"Setting range_max to {window.last} based on the provided parameters.{deeper}"]
    if arguments.use_faiss:
        lines.append("use_faiss=True has no effect: the search is exact without an index.")
    queries = len(pairs.queries)
    if queries != pairs.total:
        lines.append(f"Found {queries} unique queries out of {pairs.total} total queries.")
    if len(pairs.positives) > queries:
        lines.append(f"Found an average of {pairs.total / queries:.3f} positives per query.")
    return lines


def table(mined: MinedPairs, output_format: str) -> list[str]:
    """Statistics of the scores of the pairs, of their negatives, and of the differences."""
    kept = mined.complete(output_format)
    negatives = mined.scores[mined.pairs.query_of][kept]
    differences = np.repeat(mined.positive_scores, kept.sum(axis=1)) - negatives
    columns = (mined.positive_scores, negatives, differences)
    lines = [
        ROW.format("Metric", "Positive", "Negative", "Difference"),
        ROW.format("Count", f"{len(columns[0]):,}", f"{len(negatives):,}", ""),
    ]
    return lines + [ROW.format(name, *(f"{of(scores):.4f}" for scores in columns)) for name, of in METRICS.items()]


def skipped(counts: Mapping[str, int], considered: int, arguments: Arguments) -> list[str]:
    """How many candidates each bound rejected."""
    lines = [
        f"Skipped {counts[name]:,} potential negatives ({counts[name] / considered:.2%}) due to the {name} of {value}."
        for name, value in arguments.bounds.items()
        if counts.get(name)
    ]
    if by := counts.get(CROSS_ENCODER):
        lines.append(f"Skipped {by:,} potential negatives ({by / considered:.2%}) due to the cross-encoder's scores.")
    return lines


def missing(rows: int, possible: int, arguments: Arguments) -> list[str]:
    """How many output rows could not be filled, and which parameters decide that."""
    if rows >= possible:
        return []
    solutions = ["range_max", *(["range_min"] if arguments.range_min > 0 else [])]
    solutions += [name for name in arguments.bounds if name != "min_score"]
    listed = ", ".join(solutions[:-1]) + " and " + solutions[-1] if len(solutions) > 1 else solutions[0]
    return [
        f"Could not find enough negatives for {possible - rows} samples ({(possible - rows) / possible:.2%}). Consider "
        f"adjusting the {listed} parameter{'s' if len(solutions) > 1 else ''} if you'd like to find more valid negatives."
    ]
