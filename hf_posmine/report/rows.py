"""A mined dataset as the report reads it: its splits, the record beside it, and which columns hold the texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.aliases import (
    DOCUMENT_ID_NAMES,
    POSITIVE_ID_NAMES,
    POSITIVE_NAMES,
    REPLY_NAMES,
    first_named,
    named,
    only_named,
)
from hf_posmine.data.columns import as_splits, iter_columns, require_column
from hf_posmine.data.images import UnreadableImage, named_cells
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.by_id import documents_by_id
from hf_posmine.mining.columns import OUTPUT_COLUMNS, list_column, without_nulls
from hf_posmine.mining.provenance import FILE, read_provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Rows
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.record import MiningRecord

ANSWER_NAMES = ("answers", "answer", "short_answers", "short_answer", "answer_text")
ID_NAMES = (*POSITIVE_ID_NAMES, *DOCUMENT_ID_NAMES)
BATCH_ROWS = 500


@dataclass(frozen=True)
class TextColumns:
    """The columns that people read.

    Attributes:
        query: the queries.
        positive: the positives, texts or lists of texts; their ids where the dataset holds no texts; None without either.
        positive_is_text: whether it holds texts.
        answer: short answers, which no negative should hold; None without.
    """

    query: str
    positive: str | None
    positive_is_text: bool = True
    answer: str | None = None


@dataclass(frozen=True)
class MinedRows:
    """A mined dataset with its record.

    Attributes:
        name: what the page calls it.
        splits: datasets by name, none of them empty.
        record: how it was mined; None if that is not known.
        columns: of the texts.
        corpus: what its ids name; None to show them as they are.
        by_id: columns of ids that the corpus resolves.
    """

    name: str
    splits: Mapping[str, Any]
    record: MiningRecord | None
    columns: TextColumns
    corpus: Corpus | None = None
    by_id: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        mined: AnyDataset,
        record: MiningRecord | None = None,
        *,
        name: str = "mined data",
        query_column: str | None = None,
        positive_column: str | None = None,
        answer_column: str | None = None,
        corpus: Corpus | None = None,
    ) -> MinedRows:
        """A Dataset, DatasetDict or shards with ``negatives``; columns not given are those of the record, or found by name.

        With a corpus, documents that rows name by id are shown as it has them.

        Raises:
            ColumnError: no negatives, or no or several columns that could be the query or the positive.
            InputError: no rows.
        """
        splits = {split: _dataset(rows) for split, rows in as_splits(mined).items() if len(rows)}
        if not splits:
            raise InputError(f"{name} has no rows; there is nothing to report")
        for split, rows in splits.items():
            if list_column(rows.column_names) is None:
                raise ColumnError(
                    f"{name}, split {split!r}: no column 'negatives' among {rows.column_names}; report on the rows as "
                    "they were mined, before --format"
                )
        named_by_id = all(list_column(rows.column_names) == "negatives_ids" for rows in splits.values())
        splits = {split: _with_negatives(without_nulls(rows)) for split, rows in splits.items()}
        columns = _text_columns(next(iter(splits.values())), record, query_column, positive_column, answer_column)
        by_id = {"negatives"} if named_by_id else set()
        if columns.positive is not None and not columns.positive_is_text:
            by_id.add(columns.positive)
        if corpus is not None:
            columns = replace(columns, positive_is_text=True)
        return cls(name, splits, record, columns, corpus, frozenset(by_id))

    @classmethod
    def load(cls, path: str | Path, corpus: Corpus | None = None, **columns: str | None) -> MinedRows:
        """Load the output of ``hf-posmine mine``, with its record, or training data in another tool's layout.

        Args:
            path: a folder (also of shards), or a file; see :func:`~hf_posmine.data.open_training_data` for other layouts.
            corpus: the documents that rows name by id.
            columns: as :meth:`of` takes them.
        """
        from datasets import load_from_disk

        from hf_posmine.data.sources import load_files
        from hf_posmine.data.training_sources import is_mined
        from hf_posmine.mining.execution.shards import read_shards, split_folders

        path = Path(path)
        beside = path.with_suffix(path.suffix + ".provenance.json") if path.is_file() else path / FILE
        if not path.exists():
            raise InputError(f"no such file or folder: {path}")
        if split_folders(path):
            mined = read_shards(path)
        elif not beside.is_file() and not is_mined(path):
            return cls._of_other(path, corpus, **columns)
        else:
            mined = load_files(path) if path.is_file() else load_from_disk(str(path))
        record = read_provenance(beside) if beside.is_file() else None
        return cls.of(mined, record, name=path.resolve().name, corpus=corpus, **columns)

    @classmethod
    def _of_other(
        cls,
        path: Path,
        corpus: Corpus | None,
        query_column: str | None = None,
        positive_column: str | None = None,
        answer_column: str | None = None,
    ) -> MinedRows:
        from hf_posmine.audit.grouping import as_mined
        from hf_posmine.data.row_layouts import NamedColumns
        from hf_posmine.data.training_sources import open_training_data

        data = open_training_data(path, corpus=corpus, columns=NamedColumns(query_column, positive_column))
        if answer_column is not None:
            raise InputError(f"--answer-column is for mined rows; {path} is read as {data.layout.name}")
        return cls.of(as_mined(data), name=path.resolve().name, query_column="query", positive_column="positive")

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    @property
    def names(self) -> set[str]:
        """The columns that all splits have."""
        return set.intersection(*(set(split.column_names) for split in self.splits.values()))

    def numbers(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns, one split after the other; for columns of numbers."""
        tables = [split.select_columns(list(columns)).with_format("arrow")[:] for split in self.splits.values()]
        return pa.concat_tables(tables, promote_options="permissive")

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """Batches of columns as Python values, through all splits; for columns of texts."""
        for split in self.splits.values():
            for _, batch in iter_columns(split, columns, BATCH_ROWS):
                yield {name: self._shown(name, values) for name, values in batch.items()}

    def take(self, rows: Rows, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of some rows, int64 ``[m]`` in ascending order, counted through all splits."""
        found: dict[str, list[Any]] = {name: [] for name in columns}
        start = 0
        for split in self.splits.values():
            mine = rows[(rows >= start) & (rows < start + len(split))] - start
            if len(mine):
                picked = split.select_columns(list(columns)).with_format("arrow")[mine.tolist()]
                for name in columns:
                    found[name] += self._shown(name, named_cells(picked[name]))
            start += len(split)
        return found

    def _shown(self, column: str, values: list[Any]) -> list[Any]:
        """The cells of a column, with the documents of the corpus in the place of their ids."""
        if self.corpus is not None and column in self.by_id:
            return documents_by_id(self.corpus, values, column)
        return _readable(values)

    def split_numbers(self) -> np.ndarray:
        """The number of each row's split, int16 ``[R]``."""
        return np.repeat(np.arange(len(self.splits), dtype=np.int16), [len(split) for split in self.splits.values()])


def as_texts(value: object) -> list[str]:
    """A cell with a text, an id or a list of them, as a list of texts."""
    members = value if isinstance(value, list) else [value]
    return [member if isinstance(member, str) else str(member) for member in members if member is not None]


def _readable(values: list[Any]) -> list[Any]:
    """Values with "" in the place of images that cannot be opened, as the audit has them."""
    return [
        _readable(value) if isinstance(value, list) else "" if isinstance(value, UnreadableImage) else value
        for value in values
    ]


def _with_negatives(split: Dataset) -> Any:
    """A split whose negatives are named by id, with the ids in the place of the texts."""
    return (
        split if list_column(split.column_names) == "negatives" else split.rename_column("negatives_ids", "negatives")
    )


def _dataset(split: Dataset) -> Any:
    """A split as a Dataset; shards are read through the cache of ``datasets``."""
    from hf_posmine.data.sources import load_files
    from hf_posmine.mining.execution.shards import MinedShards

    if not isinstance(split, MinedShards):
        return split
    return load_files(split.files)


def _text_columns(
    split: Dataset, record: MiningRecord | None, query: str | None, positive: str | None, answer: str | None
) -> TextColumns:
    names = split.column_names
    recorded = record.columns if record is not None else None
    for column, what in ((query, "query"), (positive, "positive"), (answer, "answer")):
        if column is not None:
            require_column(names, column, what)
    query = query or (recorded.query if recorded is not None and recorded.query in names else None)
    positive = positive or (recorded.positive if recorded is not None and recorded.positive in names else None)
    positive = positive or first_named(names, POSITIVE_NAMES)
    shown = [name for name in names if name not in OUTPUT_COLUMNS and name != answer]
    if recorded is None or query is None:
        query, positive, ids = pick_columns(split.select_columns(shown), query, positive, None)
        positive = positive or ids
    elif positive is None:  # the record names no texts: the positives came by id or from judgements
        left = [name for name in shown if name != query]
        positive = only_named(left, REPLY_NAMES, "positive", "--positive-column")
        positive = positive or only_named(left, ID_NAMES, "positive id", "--positive-column")
    answer = answer or next((name for name in ANSWER_NAMES if name in names and name not in (query, positive)), None)
    ids = recorded.positive_id if recorded is not None else None
    return TextColumns(query, positive, positive != ids and not named([positive or ""], ID_NAMES), answer)
