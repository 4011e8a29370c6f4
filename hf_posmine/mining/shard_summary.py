"""The summary of rows that do not fit in memory: shard by shard, then added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.mining.summary import MiningSummary, score_quantiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hf_posmine.mining.execution.shards import MinedShards

SCORES = ["negatives_scores", "positive_score"]


def summarize_shards(splits: Sequence[MinedShards], num_negatives: int | None = None) -> MiningSummary:
    """The summary of finished shards, as :meth:`MiningSummary.from_dataset` makes it of the same rows.

    Texts are read a shard at a time; only the scores of all rows are held at once, for their quantiles.

    Args:
        splits: the shards of each split.
        num_negatives: how many were asked for per row; by default the most that a row has.
    """
    from datasets import Dataset

    if num_negatives is None:
        lengths = (
            pc.list_value_length(table["negatives"])
            for s in splits
            for table in s.select_columns(["negatives"]).tables()
        )
        num_negatives = max((pc.max(counts).as_py() or 0 for counts in lengths), default=0)
    tables = (table for split in splits for table in split.tables() if len(table))
    parts = [MiningSummary.from_dataset(Dataset(table), num_negatives) for table in tables]
    if not parts:
        return MiningSummary(0, num_negatives, 0, 0, 0)
    rows, negatives = (sum(getattr(part, name) for part in parts) for name in ("rows", "negatives"))
    removed = _added((part.rows * num_negatives, part.removed) for part in parts)
    replaced = _added((part.negatives, {"": part.replaced}) for part in parts if part.replaced is not None)
    return MiningSummary(
        num_negatives=num_negatives,
        excluded={name: round(count) for name, count in _added((1, part.excluded) for part in parts).items()},
        removed={name: round(count) / (num_negatives * rows) for name, count in removed.items()},
        replaced=round(replaced[""]) / max(1, negatives) if replaced else None,
        quantiles=_score_quantiles(splits),
        **{name: _total(parts, name) for name in ("rows", "negatives", "short_rows", "empty_rows")},
        **{name: _total(parts, name) for name in ("filled", "weak_rows", "rejected")},
    )


def _total(parts: Sequence[MiningSummary], name: str) -> Any:
    values = [getattr(part, name) for part in parts]
    return None if values[0] is None else sum(values)


def _added(parts: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Sums by name of weight times value."""
    totals: dict[str, float] = {}
    for weight, values in parts:
        for name, value in values.items():
            totals[name] = totals.get(name, 0) + weight * value
    return totals


def _score_quantiles(splits: Sequence[MinedShards]) -> dict[str, dict[str, float]]:
    if not all(set(SCORES) <= set(split.column_names) for split in splits):
        return {}
    table = pa.concat_tables([split.select_columns(SCORES).table() for split in splits])
    return score_quantiles(table, pc.list_value_length(table[SCORES[0]]).to_numpy().astype(np.int64))
