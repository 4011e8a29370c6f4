"""What a mining run did, computed from its columns: counters inside a mapped object are lost in workers."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.columns import column_names, splits_of
from hf_posmine.mining.batch import REASONS
from hf_posmine.mining.execution.shards import MinedShards

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class MiningSummary:
    """Counts, shares and score quantiles of a mined dataset.

    Attributes:
        rows: rows of the dataset.
        num_negatives: negatives asked for per row.
        negatives: negatives in all.
        short_rows: rows with fewer than ``num_negatives``, and rows that were filled at random.
        empty_rows: rows without any negative.
        filled: negatives drawn at random for short rows; None if not recorded.
        weak_rows: rows flagged as having a weak positive; None if not recorded.
        rejected: candidates that a second opinion turned down; None without one or without ``keep="stats"``.
        excluded: documents excluded, per reason; empty without ``keep="stats"``.
        removed: per filter, the share of the best ``num_negatives`` candidates of each row, which Naive Top-K would have
            taken, that it removes: at or above its ceiling, else outside the ``rank window``, else below the ``score
            floor``; empty without ``keep="stats"``.
        replaced: share of the negatives that Naive Top-K would not have taken; None without ``keep="ranks"``.
        quantiles: of the scores of positives, of negatives, and of positive minus negative; empty without
            ``keep="scores"``.
    """

    rows: int
    num_negatives: int
    negatives: int
    short_rows: int
    empty_rows: int
    filled: int | None = None
    weak_rows: int | None = None
    rejected: int | None = None
    excluded: dict[str, int] = field(default_factory=dict)
    removed: dict[str, float] = field(default_factory=dict)
    replaced: float | None = None
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def from_dataset(cls, mined: Any, num_negatives: int | None = None) -> MiningSummary:
        """Summarize a Dataset or DatasetDict that a miner mapped, or the result of ``read_shards``.

        Args:
            mined: with the column ``negatives``, and for more detail those of ``keep``.
            num_negatives: how many were asked for; by default the most that a row has.
        """
        if any(isinstance(split, MinedShards) for split in splits_of(mined)):
            from hf_posmine.mining.shard_summary import summarize_shards

            return summarize_shards(splits_of(mined), num_negatives)
        splits = [split for split in splits_of(mined) if len(split)] or splits_of(mined)[:1]
        for split in splits:
            if "negatives" not in column_names(split):
                raise ColumnError(
                    f"no column 'negatives' among {column_names(split)}; map the dataset with a miner first"
                )
        tables = [_columns(split) for split in splits if len(split)]
        table = pa.concat_tables(tables) if tables else pa.table({"negatives": pa.array([], pa.list_(pa.string()))})
        counts = pc.list_value_length(table["negatives"]).to_numpy().astype(np.int64)
        n = num_negatives or int(counts.max(initial=0))
        filled = table["negatives_filled"].to_numpy() if "negatives_filled" in table.column_names else None
        short = counts < n if filled is None else (counts < n) | (filled > 0)
        return cls(
            rows=len(counts),
            num_negatives=n,
            negatives=int(counts.sum()),
            short_rows=int(short.sum()),
            empty_rows=int((counts == 0).sum()),
            filled=None if filled is None else int(filled.sum()),
            weak_rows=int(pc.sum(table["weak_positive"]).as_py() or 0)
            if "weak_positive" in table.column_names
            else None,
            rejected=int(pc.sum(table["second_rejected"]).as_py() or 0)
            if "second_rejected" in table.column_names
            else None,
            excluded=_excluded(table),
            removed=_removed(table, n),
            replaced=_replaced(table, n),
            quantiles=score_quantiles(table, counts),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """The summary as indented JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        """The tables that the terminal shows."""
        from rich.console import Console

        stream = io.StringIO()
        console = Console(file=stream, width=96)
        for table in self.tables():
            console.print(table)
        return stream.getvalue().rstrip()

    def tables(self) -> list[Any]:
        """The summary as rich tables: counts, then quantiles."""
        from rich.table import Table

        counts = Table(title="Mining summary", show_header=False, title_justify="left")
        counts.add_column(min_width=44)
        counts.add_column(justify="right", min_width=10)
        for name, value in self._lines():
            counts.add_row(name, value)
        if not self.quantiles:
            return [counts]
        scores = Table(title="Scores, by quantile", title_justify="left")
        scores.add_column("")
        for quantile in QUANTILES:
            scores.add_column(f"{quantile:.0%}", justify="right")
        for name, values in self.quantiles.items():
            scores.add_row(name, *(f"{values[str(q)]:.3f}" for q in QUANTILES))
        return [counts, scores]

    def _lines(self) -> list[tuple[str, str]]:
        lines = [
            ("rows", f"{self.rows:,}"),
            ("negatives", f"{self.negatives:,}"),
            (f"rows with fewer than {self.num_negatives}", f"{self.short_rows:,}"),
            ("rows without any", f"{self.empty_rows:,}"),
        ]
        if self.filled is not None:
            lines.append(("negatives drawn at random for short rows", f"{self.filled:,}"))
        if self.weak_rows is not None:
            lines.append(("rows with a weak positive", f"{self.weak_rows:,}"))
        if self.rejected is not None:
            lines.append(("candidates turned down by the second opinion", f"{self.rejected:,}"))
        lines += [(f"excluded: {_words(reason)}", f"{count:,}") for reason, count in self.excluded.items() if count]
        lines += [
            (f"naive top {self.num_negatives} removed by {_filter_words(name)}", f"{share:.1%}")
            for name, share in self.removed.items()
        ]
        if self.replaced is not None:
            lines.append((f"negatives that are not in the naive top {self.num_negatives}", f"{self.replaced:.1%}"))
        return lines


def _filter_words(name: str) -> str:
    return f"the {name}" if name in ("rank window", "score floor") else f"the ceiling of {name}"


def _words(reason: str) -> str:
    return {
        "positive": "the row's positive",
        "sibling": "other positives of the query",
        "unknown": "unknown by the judgements",
        "query": "the query's own text",
        "near_duplicate": "near duplicates of a positive",
    }[reason]


def _columns(split: Any) -> pa.Table:
    """The columns that matter, as one Arrow table in row order."""
    named = ("positive_score", "weak_positive", "second_rejected")
    wanted = [c for c in split.column_names if c.startswith("negatives") or c in named]
    return split.select_columns(wanted).with_format("arrow")[:]


def _excluded(table: pa.Table) -> dict[str, int]:
    if "negatives_stats" not in table.column_names:
        return {}
    stats = table["negatives_stats"].combine_chunks()
    return {reason: int(pc.sum(pc.struct_field(stats, f"excluded_{reason}")).as_py() or 0) for reason in REASONS}


def _removed(table: pa.Table, n: int) -> dict[str, float]:
    if "negatives_stats" not in table.column_names or not n or not len(table):
        return {}
    stats = table["negatives_stats"].combine_chunks()
    above = np.minimum(pc.struct_field(stats, "above").to_numpy(), n)
    by = pc.struct_field(stats, "ceiling_by").to_pylist()
    totals: dict[str, float] = {}
    for name, count in zip(by, above.tolist(), strict=True):
        if name is not None:
            totals[name] = totals.get(name, 0) + count
    for name, column in (("rank window", "skipped"), ("score floor", "floored")):
        total = pc.sum(pc.struct_field(stats, column)).as_py()
        if total:
            totals[name] = total
    return {name: total / (n * len(table)) for name, total in totals.items()}


def _replaced(table: pa.Table, n: int) -> float | None:
    if "negatives_ranks" not in table.column_names:
        return None
    ranks = pc.list_flatten(table["negatives_ranks"]).to_numpy()
    return float(((ranks >= n) | (ranks < 0)).mean()) if len(ranks) else 0.0


def score_quantiles(table: pa.Table, counts: np.ndarray) -> dict[str, dict[str, float]]:
    """Quantiles of positive scores, negative scores and their differences; empty if the scores were not kept."""
    if not {"negatives_scores", "positive_score"} <= set(table.column_names):
        return {}
    positives = table["positive_score"].to_numpy()
    negatives = pc.list_flatten(table["negatives_scores"]).to_numpy()
    if not len(negatives):
        return {}
    differences = np.repeat(positives, counts) - negatives  # not a number where a run does not hold the positive
    series = {"positive": positives, "negative": negatives, "positive - negative": differences}
    return {
        name: {str(q): float(v) for q, v in zip(QUANTILES, np.nanquantile(values, QUANTILES), strict=True)}
        for name, values in series.items()
        if not np.isnan(values).all()
    }
