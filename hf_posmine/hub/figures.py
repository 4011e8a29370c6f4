"""The histogram of a card: scores of positives and negatives."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.mining.execution.shards import arrow_table
from hf_posmine.mining.summary import recorded_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hf_posmine.core.types import Floats

BINS = 60
COLOURS = {"positive": "#1f77b4", "negatives": "#d62728"}


def score_histogram(splits: Iterable[Any]) -> bytes | None:
    """A PNG of the scores of positives and of negatives; None without the columns or without matplotlib.

    The same scores give the same bytes with the same matplotlib, so that a push without changes makes no commit.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    scores = _scores(list(splits))
    if scores is None:
        return None
    everything = np.concatenate(list(scores.values()))
    low, high = float(everything.min()), float(everything.max())
    if not np.isfinite([low, high]).all():
        return None
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    figure = Figure(figsize=(7.2, 2.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, values in scores.items():
        label = f"{name} ({len(values):,}), median {np.median(values):.3f}"
        axes.hist(values, edges, density=True, alpha=0.55, color=COLOURS[name], label=label)
        axes.axvline(float(np.median(values)), color=COLOURS[name], linewidth=1, linestyle="--")
    axes.set(xlabel="score by the teacher", ylabel="density", yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


def _scores(splits: list[Any]) -> dict[str, Floats] | None:
    columns = ["positive_score", "negatives_scores"]
    if not all(set(columns) <= set(recorded_columns(split)) for split in splits):
        return None
    table = pa.concat_tables([arrow_table(split, columns) for split in splits])
    negatives = pc.list_flatten(table["negatives_scores"]).to_numpy()
    return {"positive": table["positive_score"].to_numpy(), "negatives": negatives} if len(negatives) else None
