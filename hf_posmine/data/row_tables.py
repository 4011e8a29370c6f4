"""Tables of training rows that are read batch by batch as they are, and written back as the same kind of file."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import batched, column_names, iter_columns
from hf_posmine.data.images import named_cells, stored_value

if TYPE_CHECKING:
    import pyarrow as pa

Row: TypeAlias = Mapping[str, Any]
BATCH_ROWS = 1000
BUFFER = 1 << 20
"""Bytes of a column of a parquet file that are read ahead; pyarrow would keep all that it read until the end of the file."""
TRIPLE = ("query", "positive", "negative")
"""Columns of a tsv file without a header: MS MARCO's triples."""


class RowTable(Protocol):
    """Rows on disk or in memory."""

    @property
    def place(self) -> str:
        """Where it is, relative to the data: a file, or a split."""

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time."""

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """Write rows as this table is written: a file, or the folder of a split."""


@runtime_checkable
class HoldsColumns(Protocol):
    """Rows that are read as columns."""

    def columns(self) -> Iterator[Mapping[str, list[Any]]]:
        """All rows, some at a time, as the cells of each column."""


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Columns of ``n`` cells as ``n`` rows."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


@dataclass(frozen=True)
class RowFile:
    """A file of rows."""

    file: Path

    @property
    def place(self) -> str:
        """Its name."""
        return self.file.name


class ParquetRows(RowFile):
    """A parquet file."""

    def columns(self) -> Iterator[Mapping[str, list[Any]]]:
        """All rows, some at a time, as columns; row groups are read one after the other."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield dict(zip(batch.schema.names, map(_values, batch.columns), strict=True))

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time."""
        return map(rows_of, self.columns())

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A parquet file with the same schema."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.file)
        with pq.ParquetWriter(target, schema) as writer:
            for batch in batched(rows, BATCH_ROWS):
                writer.write_table(pa.Table.from_pylist([_stored(row) for row in batch], schema))


def _values(column: pa.Array) -> list[Any]:
    """Python values of an Arrow column; texts are converted together, which is much faster than one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type):
        return column.to_numpy(zero_copy_only=False).tolist()
    if not pa.types.is_list(column.type) or not pa.types.is_string(column.type.value_type) or column.null_count:
        return named_cells(column)
    texts = column.flatten().to_numpy(zero_copy_only=False).tolist()
    ends = itertools.accumulate(pc.list_value_length(column).to_pylist(), initial=0)
    return [texts[start:stop] for start, stop in itertools.pairwise(ends)]


def _stored(row: Row) -> dict[str, Any]:
    """A row as it is written: images by their bytes."""
    return {name: stored_value(value) for name, value in row.items()}


class JsonLines(RowFile):
    """A file with a JSON object in each line."""

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time; empty lines are passed over."""
        with self.file.open(encoding="utf-8") as lines:
            numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
            for batch in batched(numbered, BATCH_ROWS):
                yield [self._row(number, line) for number, line in batch]

    def _row(self, number: int, line: str) -> Row:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self.file}, line {number}: {error}; every line is one JSON object") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{self.file}, line {number}: {type(row).__name__} {line.strip()[:40]!r} is not a JSON object"
            )
        return row

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A file of JSON lines."""
        with target.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class JsonDocument(RowFile):
    """A JSON file with a list of rows, at its top or below ``data`` (NeMo); it is read whole."""

    @property
    def content(self) -> Any:
        """The file."""
        return json.loads(self.file.read_text(encoding="utf-8"))

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time."""
        content = self.content
        rows = content.get("data") if isinstance(content, dict) else content
        if not isinstance(rows, list):
            raise InputError(f"{self.file} holds neither a list of rows nor one below 'data'")
        yield from batched(rows, BATCH_ROWS)

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A JSON file with the same frame."""
        content = self.content
        whole = content | {"data": list(rows)} if isinstance(content, dict) else list(rows)
        target.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


class DelimitedRows(RowFile):
    """A csv or tsv file; a tsv file of three columns without a header holds MS MARCO's triples."""

    @property
    def _format(self) -> dict[str, Any]:
        if self.file.suffix.lower() == ".csv":
            return {"delimiter": ","}
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}

    def _lines(self) -> Iterator[list[str]]:
        csv.field_size_limit(min(sys.maxsize, (1 << 31) - 1))
        with self.file.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file, **self._format)

    @property
    def header(self) -> tuple[tuple[str, ...], bool]:
        """The columns, and whether the file names them."""
        first = next(self._lines(), [])
        bare = len(first) == len(TRIPLE) and any(" " in cell.strip() for cell in first)
        if self.file.suffix.lower() != ".csv" and bare:
            return TRIPLE, False
        if first and all(cell.strip().isdigit() for cell in first):
            raise InputError(f"{self.file} holds ids only, such as {first}; pass the triples with their texts")
        return tuple(first), True

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time."""
        names, named = self.header
        for batch in batched(itertools.islice(self._lines(), int(named), None), BATCH_ROWS):
            yield [_number_labels(dict(zip(names, cells, strict=False))) for cells in batch]

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A file with the same delimiter and header."""
        names, named = self.header
        with target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n", **self._format)
            if named:
                writer.writerow(names)
            writer.writerows([row[name] for name in names] for row in rows)


def _number_labels(row: dict[str, Any]) -> dict[str, Any]:
    """Labels and scores as numbers, which such files hold as texts."""
    for name in ("label", "score"):
        if name in row:
            text = row[name]
            row[name] = int(text) if text.lstrip("-").isdigit() else float(text)
    return row


@dataclass(frozen=True)
class DatasetRows:
    """A Dataset of ``datasets``, in memory or saved with ``save_to_disk``."""

    dataset: Any
    place: str = "train"
    is_split: bool = False

    def columns(self) -> Iterator[Mapping[str, list[Any]]]:
        """All rows, some at a time, as columns."""
        for _, batch in iter_columns(self.dataset, column_names(self.dataset), BATCH_ROWS):
            yield batch

    def batches(self) -> Iterator[list[Row]]:
        """All rows, some at a time."""
        return map(rows_of, self.columns())

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A folder as ``save_to_disk`` writes it."""
        import tempfile

        from datasets import Dataset
        from datasets.arrow_writer import ArrowWriter

        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            file = str(Path(folder) / "rows.arrow")
            with ArrowWriter(path=file, features=self.dataset.features) as writer:
                for row in rows:
                    writer.write(_stored(row))
                writer.finalize()
            Dataset.from_file(file).save_to_disk(str(target))


def table_of_file(file: Path) -> RowTable:
    """The table of a file, by its suffix.

    Raises:
        InputError: a suffix that is not known.
    """
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return ParquetRows(file)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(file)
    if suffix in (".csv", ".tsv"):
        return DelimitedRows(file)
    if suffix == ".json":
        return JsonLines(file) if _is_lines(file) else JsonDocument(file)
    raise InputError(f"cannot read {str(file)!r}; pass a .parquet, .jsonl, .json, .csv or .tsv file")


def _is_lines(file: Path) -> bool:
    """Whether the first line of a .json file is a whole object."""
    with file.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and not isinstance(row.get("data"), list)
