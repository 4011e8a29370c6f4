"""The summary of a mining, computed from its columns: counters inside a mapped object are lost in workers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.columns import column_names, splits_of
from hf_posmine.mining.batch import EXCLUSION_REASONS
from hf_posmine.mining.columns import list_column, output_columns, written_columns
from hf_posmine.mining.execution.shards import MinedShards
from hf_posmine.mining.languages import MOST_LANGUAGES
from hf_posmine.utils.tables import table_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCORES = ["negatives_scores", "positive_score"]


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
        bad_rows: rows without a query or a positive that were left out; None if nobody counted them.
        dropped_rows: rows that the settings dropped, such as ``Consistency(2)`` or ``on_short="drop"``; None where none do, or
            nobody counted them.
        rejected: candidates that a second opinion rejected; None without one or without ``keep="stats"``.
        excluded: documents excluded, per reason; empty without ``keep="stats"``.
        removed: per filter, the share of the best ``num_negatives`` candidates of each row, which Naive Top-K would have
            taken, that it removes: at or above its ceiling, else outside the ``rank window``, else below the ``score
            floor``; empty without ``keep="stats"``.
        replaced: share of the negatives that Naive Top-K would not have taken; None without ``keep="ranks"``.
        languages: of each language of queries, the negatives by their language; empty without ``language_column=``.
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
    bad_rows: int | None = None
    dropped_rows: int | None = None
    rejected: int | None = None
    excluded: dict[str, int] = field(default_factory=dict)
    removed: dict[str, float] = field(default_factory=dict)
    replaced: float | None = None
    languages: dict[str, dict[str, int]] = field(default_factory=dict)
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def from_dataset(cls, mined: AnyDataset, num_negatives: int | None = None) -> MiningSummary:
        """Summarize a Dataset or DatasetDict that a miner mapped, or the result of ``read_shards``.

        Args:
            mined: with the column ``negatives``, and for more detail those of ``keep``.
            num_negatives: how many were asked for; by default the most that a row has.
        """
        splits = [split for split in splits_of(mined) if len(split)] or splits_of(mined)[:1]
        for split in splits:
            if list_column(column_names(split)) is None:
                raise ColumnError(
                    f"no column 'negatives' among {column_names(split)}; map the dataset with a miner first"
                )
        if num_negatives is None:
            lists = (_lists(table) for split in splits for table in _tables(split, recorded_columns(split)))
            num_negatives = max((pc.max(pc.list_value_length(column)).as_py() or 0 for column in lists), default=0)
        tables = (table for split in splits for table in _tables(split, recorded_columns(split)))
        return cls.of_tables(tables, num_negatives, _score_quantiles(splits))

    @classmethod
    def of_tables(
        cls, tables: Iterable[pa.Table], num_negatives: int, quantiles: dict[str, dict[str, float]]
    ) -> MiningSummary:
        """Summarize mined rows table by table, so that texts are held for one table at a time.

        Args:
            tables: the columns ``negatives``, and those of ``keep`` where they were kept.
            num_negatives: how many were asked for per row.
            quantiles: of the scores of all rows; they cannot be added up.
        """
        parts = [_part(table, num_negatives) for table in tables if len(table)]
        if not parts:
            return cls(0, num_negatives, 0, 0, 0)
        rows, negatives = sum(part.rows for part in parts), sum(part.negatives for part in parts)
        removed = _added((part.rows * num_negatives, part.removed) for part in parts)
        replaced = _added((part.negatives, {"": part.replaced}) for part in parts if part.replaced is not None)
        return cls(
            rows=rows,
            num_negatives=num_negatives,
            negatives=negatives,
            short_rows=sum(part.short_rows for part in parts),
            empty_rows=sum(part.empty_rows for part in parts),
            filled=_total([part.filled for part in parts]),
            weak_rows=_total([part.weak_rows for part in parts]),
            rejected=_total([part.rejected for part in parts]),
            excluded={name: round(count) for name, count in _added((1, part.excluded) for part in parts).items()},
            removed={name: round(count) / (num_negatives * rows) for name, count in removed.items()},
            replaced=round(replaced[""]) / max(1, negatives) if replaced else None,
            languages=_joined_languages(parts),
            quantiles=quantiles,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """The summary as indented JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        """The tables that the terminal shows."""
        return table_text(*self.tables(), width=96)

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
        if self.bad_rows:
            lines.append(("rows left out, without a query or a positive", f"{self.bad_rows:,}"))
        if self.dropped_rows is not None:
            lines.append(("rows dropped, as the settings ask", f"{self.dropped_rows:,}"))
        if self.rejected is not None:
            lines.append(("candidates rejected by the second opinion", f"{self.rejected:,}"))
        lines += [(f"excluded: {_words(reason)}", f"{count:,}") for reason, count in self.excluded.items() if count]
        lines += [
            (f"naive top {self.num_negatives} removed by {_filter_words(name)}", f"{share:.1%}")
            for name, share in self.removed.items()
        ]
        lines += [
            (f"languages of the negatives of queries in {query}", shares)
            for query, shares in language_shares(self.languages).items()
        ]
        if self.replaced is not None:
            lines.append((f"negatives that are not in the naive top {self.num_negatives}", f"{self.replaced:.1%}"))
        return lines


def _filter_words(name: str) -> str:
    return f"the {name}" if name in ("rank window", "score floor") else f"the ceiling of {name}"


def _words(reason: str) -> str:
    return {
        "variant": "a positive with another title or invisible characters",
        "container": "documents that contain a positive",
        "same_source": "documents from the same source as a positive",
        "positive": "the row's positive",
        "sibling": "other positives of the query",
        "unknown": "unknown by the judgements",
        "query": "the query's own text",
        "near_duplicate": "near duplicates of a positive",
    }[reason]


def recorded_columns(split: Dataset | MinedShards) -> list[str]:
    """The output columns of a split that hold something; shards have no others."""
    return output_columns(column_names(split)) if isinstance(split, MinedShards) else written_columns(split)


def _tables(split: Dataset | MinedShards, columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of a split as Arrow tables in row order: one of a dataset, one of each shard on disk."""
    if isinstance(split, MinedShards):
        yield from split.select_columns(columns).tables()
    else:
        yield split.select_columns(columns).with_format("arrow")[:]


def _lists(table: pa.Table) -> pa.ChunkedArray:
    """The negatives of each row, in whichever form."""
    return table[list_column(table.column_names)]


def _part(table: pa.Table, n: int) -> MiningSummary:
    """The summary of one table without its score quantiles."""
    counts = pc.list_value_length(_lists(table)).to_numpy().astype(np.int64)
    filled = table["num_random"].to_numpy() if "num_random" in table.column_names else None
    short = counts < n if filled is None else (counts < n) | (filled > 0)
    return MiningSummary(
        rows=len(counts),
        num_negatives=n,
        negatives=int(counts.sum()),
        short_rows=int(short.sum()),
        empty_rows=int((counts == 0).sum()),
        filled=None if filled is None else int(filled.sum()),
        weak_rows=_sum_of(table, "weak_positive"),
        rejected=_sum_of(table, "second_rejected"),
        excluded=_excluded(table),
        removed=_removed(table, n),
        replaced=_replaced(table, n),
        languages=_languages(table, counts),
    )


def _languages(table: pa.Table, counts: np.ndarray) -> dict[str, dict[str, int]]:
    if not {"query_language", "negatives_languages"} <= set(table.column_names):
        return {}
    queries = table["query_language"].take(pa.array(np.repeat(np.arange(len(counts)), counts)))
    pairs = pa.table({"query": queries, "negative": pc.list_flatten(table["negatives_languages"])})
    found: dict[str, dict[str, int]] = {}
    for row in pairs.group_by(["query", "negative"]).aggregate([([], "count_all")]).to_pylist():
        found.setdefault(row["query"], {})[row["negative"]] = row["count_all"]
    return found


def _joined_languages(parts: Sequence[MiningSummary]) -> dict[str, dict[str, int]]:
    """The counts of all parts, in the order of languages.

    A record holds so many languages of queries; those of a stream are not known before, and the rarest are counted together.
    """
    joined: dict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        for query, counts in part.languages.items():
            joined[query].update(counts)
    rest = sorted(joined, key=lambda query: (-joined[query].total(), query))[MOST_LANGUAGES - 1 :]
    together = {}
    if len(rest) > 1:
        together = {f"{len(rest):,} other languages": sum((joined.pop(query) for query in rest), Counter())}
    return {query: dict(sorted(counts.items())) for query, counts in [*sorted(joined.items()), *together.items()]}


def language_shares(languages: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Of each language of queries, how its negatives divide, the most first.

    >>> language_shares({"de": {"de": 3, "en": 1}})
    {'de': 'de 75.0%, en 25.0%'}
    """
    shares = {}
    for query, counts in languages.items():
        total, ordered = sum(counts.values()), sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        shares[query] = ", ".join(f"{name} {count / total:.1%}" for name, count in ordered)
    return shares


def _sum_of(table: pa.Table, column: str) -> int | None:
    return int(pc.sum(table[column]).as_py() or 0) if column in table.column_names else None


def _total(values: Sequence[int | None]) -> int | None:
    """The sum of a count over all parts; None where it was not recorded."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _added(parts: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Sums by name of weight times value."""
    totals: dict[str, float] = {}
    for weight, values in parts:
        for name, value in values.items():
            totals[name] = totals.get(name, 0) + weight * value
    return totals


def _score_quantiles(splits: Sequence[Any]) -> dict[str, dict[str, float]]:
    if not all(set(SCORES) <= set(recorded_columns(split)) for split in splits):
        return {}
    tables = [table for split in splits if len(split) for table in _tables(split, SCORES)]
    if not tables:
        return {}
    table = pa.concat_tables(tables)
    return score_quantiles(table, pc.list_value_length(table[SCORES[0]]).to_numpy().astype(np.int64))


def _excluded(table: pa.Table) -> dict[str, int]:
    if "negatives_stats" not in table.column_names:
        return {}
    stats = table["negatives_stats"].combine_chunks()
    there = [field.name for field in stats.type]  # earlier versions knew fewer reasons
    return {
        reason: int(pc.sum(pc.struct_field(stats, name)).as_py() or 0)
        for reason in EXCLUSION_REASONS
        if (name := f"excluded_{reason}") in there
    }


def _removed(table: pa.Table, n: int) -> dict[str, float]:
    if "negatives_stats" not in table.column_names or not n or not len(table):
        return {}
    stats = table["negatives_stats"].combine_chunks()
    above = np.minimum(pc.struct_field(stats, "num_above_ceiling").to_numpy(), n)
    by = pc.struct_field(stats, "ceiling_by").to_pylist()
    totals: dict[str, float] = {}
    for name, count in zip(by, above.tolist(), strict=True):
        if name is not None:
            totals[name] = totals.get(name, 0) + count
    for name, column in (("rank window", "num_outside_ranks"), ("score floor", "num_below_floor")):
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
