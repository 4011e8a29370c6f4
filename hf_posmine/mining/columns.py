"""Data out of the miner: Arrow columns with declared types, in whatever form ``datasets`` asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_posmine.mining.batch import EXCLUSION_REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.select import MinedBatch

STATS = pa.struct(
    [
        ("reference_score", pa.float32()),
        ("ceiling", pa.float32()),
        ("ceiling_by", pa.string()),
        ("num_above_ceiling", pa.int64()),
        ("num_outside_ranks", pa.int64()),
        ("num_below_floor", pa.int64()),
        *((f"excluded_{reason}", pa.int64()) for reason in EXCLUSION_REASONS),
    ]
)

SIDE_BY_SIDE = (
    "negatives", "negatives_scores", "negatives_ids", "negatives_ranks", "negatives_teachers", "negatives_positive_scores",
    "negatives_second_scores",
)  # fmt: skip
"""Columns that hold one value per negative."""

MINED_COLUMNS = frozenset(
    (*SIDE_BY_SIDE, "positive_score", "negatives_stats", "num_random", "weak_positive", "positive_second_score",
     "second_rejected")
)  # fmt: skip
"""Every column that some settings let mining write, see :func:`column_types`."""


class ArrowList(list):
    """A list that turns into Arrow with a declared type, so that a first batch without negatives is not typed null."""

    def __init__(self, array: pa.Array) -> None:
        super().__init__(array.to_pylist())
        self.array = array

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self.array if type is None else self.array.cast(type)


def column_types(settings: MiningSettings, *, second: bool = False) -> dict[str, pa.DataType]:
    """The columns the miner adds, in order, with their Arrow types; ``second`` where there is a second opinion."""
    types = {"negatives": pa.list_(pa.string())}
    optional = {
        "scores": {"negatives_scores": pa.list_(pa.float32()), "positive_score": pa.float32()},
        "ids": {"negatives_ids": pa.list_(pa.string())},
        "ranks": {"negatives_ranks": pa.list_(pa.int64())},
        "positive_score": {"positive_score": pa.float32()},
        "stats": {"negatives_stats": STATS},
    }
    if settings.ensemble:
        types["negatives_teachers"] = pa.list_(pa.string())
        optional["scores"] = {**optional["scores"], "negatives_positive_scores": pa.list_(pa.float32())}
    if second:
        second_scores = {"negatives_second_scores": pa.list_(pa.float32()), "positive_second_score": pa.float32()}
        optional["scores"] = {**optional["scores"], **second_scores}
        optional["stats"] = {**optional["stats"], "second_rejected": pa.int64()}
    for name in settings.keep:
        types |= optional[name]
    if settings.on_short == "random":
        types["num_random"] = pa.int64()
    if settings.weak_positive == "flag":
        types["weak_positive"] = pa.bool_()
    return types


def to_columns(
    mined: MinedBatch, corpus: Corpus, settings: MiningSettings, teachers: Sequence[str]
) -> dict[str, pa.Array]:
    """The mined batch as Arrow columns; ``teachers`` are their names in the output."""
    offsets = pa.array(np.append(0, np.cumsum(mined.found)).astype(np.int32))
    there = mined.rows >= 0
    flat: Rows = mined.rows[there]

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    heard = mined.second
    made = {
        "negatives": lambda: lists(corpus.texts(flat)),
        "negatives_scores": lambda: lists(_scores(mined.scores[there])),
        "negatives_teachers": lambda: lists(pa.array(np.array(teachers, object)[mined.teachers[there]], pa.string())),
        "negatives_positive_scores": lambda: lists(_scores(mined.own_scores[there])),
        "negatives_ids": lambda: lists(corpus.ids(flat)),
        "negatives_ranks": lambda: lists(pa.array(mined.ranks[there], pa.int64())),
        "positive_score": lambda: _scores(mined.positive_scores),
        "negatives_stats": lambda: _stats(mined, settings),
        "num_random": lambda: pa.array(mined.filled, pa.int64()),
        "weak_positive": lambda: pa.array(mined.weak(settings.weak_rank)),
    }
    if heard is not None:
        made["negatives_second_scores"] = lambda: lists(pa.array(heard.scores[there], pa.float32(), from_pandas=True))
        made["positive_second_score"] = lambda: pa.array(heard.own, pa.float32())
        made["second_rejected"] = lambda: pa.array(heard.rejected, pa.int64())
    types = column_types(settings, second=heard is not None)
    return {name: made[name]().cast(type_) for name, type_ in types.items()}


def kept_rows(mined: MinedBatch, settings: MiningSettings) -> np.ndarray:
    """Which rows stay, bool ``[B]``: all, unless short or weak ones are to be dropped."""
    keep = np.ones(len(mined.rows), bool)
    if settings.on_short == "drop":
        keep &= mined.found == settings.num_negatives
    if settings.weak_positive == "drop":
        keep &= ~mined.weak(settings.weak_rank)
    return keep


def _stats(mined: MinedBatch, settings: MiningSettings) -> pa.Array:
    names = [*(repr(f) for f in settings.all_filters), None]
    values = [
        _scores(mined.reference_scores),
        pa.array(mined.ceilings, pa.float32()),
        pa.array([names[i] for i in mined.ceiling_by.tolist()], pa.string()),
        pa.array(mined.above, pa.int64()),
        pa.array(mined.skipped, pa.int64()),
        pa.array(mined.floored, pa.int64()),
        *(pa.array(mined.excluded[reason], pa.int64()) for reason in EXCLUSION_REASONS),
    ]
    return pa.StructArray.from_arrays(values, [STATS.field(i).name for i in range(STATS.num_fields)])


def _scores(values: Floats) -> pa.Array:
    """Scores, null where a run does not reach down to the document."""
    return pa.array(values, pa.float32(), mask=np.isneginf(values))


def merge(batch: Any, columns: dict[str, pa.Array], keep: np.ndarray) -> Any:
    """The batch in the form it came in, with the new columns and only the kept rows.

    A dict or ``LazyBatch`` gets a dict of the new columns, unless rows are dropped, when every column must be given. An
    Arrow table or a DataFrame must always be given whole, as an Arrow table.
    """
    mask = pa.array(keep)
    if type(batch).__module__.startswith("pandas"):  # a DataFrame would lose the types of empty lists
        batch = pa.Table.from_pandas(batch, preserve_index=False)
    if isinstance(batch, pa.Table):
        for name, values in columns.items():
            batch = batch.drop_columns([name]) if name in batch.column_names else batch
            batch = batch.append_column(name, values)
        return batch.filter(mask)
    new = {name: ArrowList(values if keep.all() else values.filter(mask)) for name, values in columns.items()}
    if keep.all():
        return new
    return {name: [v for v, k in zip(batch[name], keep.tolist(), strict=True) if k] for name in batch} | new
