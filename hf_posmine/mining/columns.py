"""Data out of the miner: Arrow columns with declared types, in whatever form ``datasets`` asked for."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import of_rows
from hf_posmine.data.columns import column_names, splits_of
from hf_posmine.data.images import NamedImage, holds_images
from hf_posmine.mining.batch import EXCLUSION_REASONS
from hf_posmine.utils.upstream import encoded_column

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.columns import AnyDataset
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

SIDE_BY_SIDE: dict[str, pa.DataType] = {
    "negatives": pa.list_(pa.string()),
    "negatives_scores": pa.list_(pa.float32()),
    "negatives_ids": pa.list_(pa.string()),
    "negatives_ranks": pa.list_(pa.int64()),
    "negatives_teachers": pa.list_(pa.string()),
    "negatives_positive_scores": pa.list_(pa.float32()),
    "negatives_second_scores": pa.list_(pa.float32()),
    "negatives_languages": pa.list_(pa.string()),
}
"""Columns that hold one value per negative."""

MINED_COLUMNS: dict[str, pa.DataType] = {
    **SIDE_BY_SIDE,
    "negatives_stats": STATS,
    "positive_score": pa.float32(),
    "positive_second_score": pa.float32(),
    "query_language": pa.string(),
    "num_random": pa.int64(),
    "weak_positive": pa.bool_(),
    "second_rejected": pa.int64(),
}
"""Every column that some settings let mining write, see :func:`column_types`."""

ENCODED_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
"""What a list of ``datasets.Image()`` is stored as."""

JUDGED_COLUMNS: dict[str, pa.DataType] = {
    "negatives_verdicts": pa.list_(pa.string()),
    "negatives_suspect": pa.list_(pa.bool_()),
}
"""Columns that a judge writes, one value per negative."""

JUDGED_POSITIVES = "judged_positives"
"""Column of the negatives that a judge relabelled: positives of the row, whatever is mined later."""

UNKNOWN_LANGUAGE = "und"
"""Undetermined, as ISO 639-2 has it."""

OUTPUT_COLUMNS = {**MINED_COLUMNS, **JUDGED_COLUMNS}
"""Every column that belongs to the negatives of a row, and is outdated where others are mined."""
OFTEN_NULL = ("positive_score", "positive_second_score")
"""Columns in which null is a value: a run may end above the positive."""


def output_columns(names: Iterable[str]) -> list[str]:
    """The names that are of :data:`OUTPUT_COLUMNS`, in order."""
    names = list(names)
    own = set() if "negatives_languages" in names else {"query_language"}  # the user's
    return [name for name in names if name in OUTPUT_COLUMNS and name not in own]


def without_outputs(dataset: AnyDataset | dict[str, AnyDataset]) -> Any:
    """A dataset, dict of datasets or stream without what an earlier mining wrote; the same object where there is none."""
    if isinstance(dataset, dict):
        return type(dataset)({name: without_outputs(split) for name, split in dataset.items()})
    outdated = output_columns(column_names(dataset))
    return dataset.remove_columns(outdated) if outdated else dataset


def written_columns(dataset: AnyDataset) -> list[str]:
    """The output columns of a dataset, dict of datasets or stream that hold something.

    Mining again leaves null in a column that only the earlier settings wrote, because a callable of ``datasets.map``
    cannot remove columns. The first row decides, save for the scores of positives: the rest is never null in some rows
    alone.
    """
    names = output_columns(column_names(dataset))
    rows = (next(iter(split.select_columns(names).with_format(None)), None) for split in splits_of(dataset))
    first = next((row for row in rows if row is not None), None)
    if first is None:
        return names
    return [name for name in names if first[name] is not None or (name in OFTEN_NULL and _holds(dataset, name))]


def _holds(dataset: AnyDataset, column: str) -> bool:
    """Whether any row has a value there."""
    columns = (split.select_columns([column]).with_format(None) for split in splits_of(dataset))
    return any(row[column] is not None for split in columns for row in split)


def without_nulls(dataset: AnyDataset) -> Any:
    """A dataset without the output columns that hold nothing; the same object where all do."""
    written = written_columns(dataset)
    blank = [name for name in output_columns(column_names(dataset)) if name not in written]
    return dataset.remove_columns(blank) if blank else dataset


def written_side_by_side(dataset: AnyDataset) -> list[str]:
    """The columns of a dataset with one value per negative that hold something."""
    return [name for name in written_columns(dataset) if name in SIDE_BY_SIDE or name in JUDGED_COLUMNS]


def nulls(names: Iterable[str], written: Container[str], rows: int) -> dict[str, pa.Array]:
    """Nulls of the declared type for the output columns among ``names`` that are not written now."""
    return {name: pa.nulls(rows, OUTPUT_COLUMNS[name]) for name in output_columns(names) if name not in written}


class ArrowList(list):
    """A list that turns into Arrow with a declared type, so that a first batch without negatives is not typed null."""

    def __init__(self, array: pa.Array) -> None:
        super().__init__(array.to_pylist())
        self.array = array

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self.array if type is None else self.array.cast(type)


def column_types(settings: MiningSettings, *, second: bool = False) -> dict[str, pa.DataType]:
    """The columns the miner adds, in order, with their Arrow types; ``second`` where there is a second opinion."""
    optional: dict[str, list[str]] = {
        "scores": ["negatives_scores", "positive_score"],
        "ids": ["negatives_ids"],
        "ranks": ["negatives_ranks"],
        "positive_score": ["positive_score"],
        "stats": ["negatives_stats"],
    }
    if settings.ensemble:
        optional["scores"] += ["negatives_positive_scores"]
    if second:
        optional["scores"] += ["negatives_second_scores", "positive_second_score"]
        optional["stats"] += ["second_rejected"]
    negatives = "negatives_ids" if settings.negatives_as == "ids" else "negatives"
    names = [negatives, *(["negatives_teachers"] if settings.ensemble else [])]
    for kept in settings.keep:
        names += optional[kept]
    names += ["query_language", "negatives_languages"] * (settings.language_column is not None)
    names += ["num_random"] * (settings.on_short == "random") + ["weak_positive"] * (settings.weak_positive == "flag")
    types = {name: MINED_COLUMNS[name] for name in names}
    return types | ({"negatives": ENCODED_IMAGES} if settings.negatives_as == "images" else {})


def to_columns(
    mined: MinedBatch, corpus: Corpus, settings: MiningSettings, teachers: Sequence[str], languages: pa.Array
) -> dict[str, pa.Array]:
    """The mined batch as Arrow columns; ``teachers`` are their names in the output, ``languages [B]`` those of the queries."""
    offsets = pa.array(np.append(0, np.cumsum(mined.found)).astype(np.int32))
    there = mined.rows >= 0
    flat: Rows = mined.rows[there]

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    second = mined.second
    made = {
        "negatives": lambda: lists(_encoded(corpus, flat) if settings.negatives_as == "images" else corpus.texts(flat)),
        "negatives_scores": lambda: lists(_scores(mined.scores[there])),
        "negatives_teachers": lambda: lists(pa.array(np.array(teachers, object)[mined.teachers[there]], pa.string())),
        "negatives_positive_scores": lambda: lists(_scores(mined.own_scores[there])),
        "negatives_ids": lambda: lists(corpus.ids(flat)),
        "negatives_ranks": lambda: lists(pa.array(mined.ranks[there], pa.int64())),
        "positive_score": lambda: _scores(mined.positive_scores),
        "negatives_stats": lambda: _stats(mined, settings),
        "num_random": lambda: pa.array(mined.filled, pa.int64()),
        "weak_positive": lambda: pa.array(mined.weak(settings.weak_rank)),
        "query_language": lambda: pc.fill_null(languages, UNKNOWN_LANGUAGE),
        "negatives_languages": lambda: lists(
            corpus.kept[str(settings.language_column)].first_texts(flat, UNKNOWN_LANGUAGE)
        ),
    }
    if second is not None:
        made["negatives_second_scores"] = lambda: lists(pa.array(second.scores[there], pa.float32(), from_pandas=True))
        made["positive_second_score"] = lambda: pa.array(second.own, pa.float32())
        made["second_rejected"] = lambda: pa.array(second.rejected, pa.int64())
    types = column_types(settings, second=second is not None)
    return {name: made[name]().cast(type_) for name, type_ in types.items()}


def _encoded(corpus: Corpus, rows: Rows) -> pa.Array:
    """Images of the corpus as ``datasets.Image()`` stores them.

    Raises:
        InputError: images that belong to a text, which would be lost.
    """
    items = [item for item in corpus.items(rows) if isinstance(item, NamedImage)]
    if any(image.caption for image in items):
        raise InputError("negatives_as='images' leaves out the texts that belong to the images; use negatives_as='ids'")
    values = pa.array([image.encoded() for image in items], pa.binary())
    return pa.StructArray.from_arrays([values, pa.nulls(len(values), pa.string())], ["bytes", "path"])


def list_column(names: Container[str]) -> str | None:
    """The column of mined rows with one value for each negative, whichever its form; None where there is none."""
    return next((name for name in ("negatives", "negatives_ids") if name in names), None)


def kept_rows(mined: MinedBatch, settings: MiningSettings) -> np.ndarray:
    """Which rows stay, bool ``[B]``: all, unless short, weak or inconsistent ones are to be dropped."""
    keep = np.ones(len(mined.rows), bool)
    for filter_ in of_rows(settings.all_filters):
        keep &= filter_.keeps_rows(mined.outranked)
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
    mask, batch = pa.array(keep), as_table(batch)
    if isinstance(batch, pa.Table):
        for name, values in columns.items():
            batch = batch.drop_columns([name]) if name in batch.column_names else batch
            batch = batch.append_column(name, values)
        return batch.filter(mask)
    new = {name: ArrowList(values if keep.all() else values.filter(mask)) for name, values in columns.items()}
    if keep.all():
        return new
    return taken(batch, keep.tolist()) | new


def as_table(batch: Any) -> Any:
    """A DataFrame as an Arrow table, since it would lose the types of empty lists; another batch as it is."""
    if type(batch).__module__.startswith("pandas"):
        return pa.Table.from_pandas(batch, preserve_index=False)
    return batch


def taken(batch: Any, keep: Sequence[bool]) -> Any:
    """Some rows of a batch: of columns or of an Arrow table."""
    if isinstance(batch, pa.Table):
        return batch.filter(pa.array(keep, pa.bool_()))
    return {name: _kept(batch, name, keep) for name in batch}


def _kept(batch: Mapping[str, Any], name: str, keep: Sequence[bool]) -> list[Any]:
    """Some values of a column; images that are still encoded stay so, since ``map`` would save opened ones again."""
    stored = encoded_column(batch, name)
    if stored is not None and holds_images(stored.type):
        return stored.filter(pa.array(keep, pa.bool_())).to_pylist()
    return list(compress(batch[name], keep))
