"""Rows of a parquet file, read without ``datasets`` by who only counts them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_posmine.data.tables import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class PlainTable:
    """A parquet file in the place of an IterableDataset without types, with a length.

    Args:
        path: the file.
        columns: those that are read, by default all.
    """

    features = None

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path, self._file = path, pq.ParquetFile(path)
        self.column_names = list(self._file.schema_arrow.names if columns is None else columns)

    @classmethod
    def open(cls, source: str) -> PlainTable | None:
        """The file of that name; None for others, where columns hold other than texts, numbers or lists of texts.

        Also None where a first row leaves open what a column holds.
        """
        path = Path(source)
        if not path.is_file() or kind_of(path) != ".parquet":
            return None
        try:
            table = cls(path)
            first = next(table.iter(1), {})
        except (pa.ArrowException, OSError):  # reported by who reads it with datasets
            return None
        plain = all(map(_is_plain, table._file.schema_arrow.types)) and bool(table.column_names)
        return table if plain and first and all(cell not in (None, []) for (cell,) in first.values()) else None

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def select_columns(self, names: Sequence[str]) -> PlainTable:
        """Some of the columns."""
        return PlainTable(self.path, names)

    def remove_columns(self, names: Sequence[str]) -> PlainTable:
        """The other columns."""
        return PlainTable(self.path, [name for name in self.column_names if name not in names])

    def with_format(self, _: None) -> PlainTable:
        """The same: rows are plain values."""
        return self

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Batches of rows as lists by column."""
        for batch in self._file.iter_batches(batch_size, columns=self.column_names):
            yield batch.to_pydict()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({name: cell for name, (cell,) in row.items()} for row in self.iter(1))


def _is_plain(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_string(kind.value_type)
    return is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
