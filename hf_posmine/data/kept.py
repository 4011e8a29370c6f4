"""Columns of the source that a corpus keeps: what documents have in common, such as their source document or language."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.core.check import is_whole
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.core.types import PADDING, Match, Rows, spans
from hf_posmine.data.bodies import KeyRows, write_pairs
from hf_posmine.data.texts import KEY, PartWriter, TextPart, text_keys, write_part
from hf_posmine.utils.files import staging_folder
from hf_posmine.utils.mapped import Appended, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class DocumentValues:
    """The values of one column, for every document of a corpus; a document has several where duplicates were one row.

    Attributes:
        values: the different values, as texts; their row is their number.
        of_rows: document row -> numbers of its values.
        of_values: number of a value -> the rows of its documents.
    """

    values: TextPart
    of_rows: KeyRows
    of_values: KeyRows

    @classmethod
    def of(cls, values: TextPart, rows: Rows, numbers: Rows, root: Path) -> DocumentValues:
        """From pairs of a document row and the number of a value, int64 ``[E]`` each."""
        size = max(1, len(values))
        pairs = np.unique(rows * size + numbers)
        rows, numbers = pairs // size, pairs % size
        order = np.argsort(numbers, kind="stable")
        return cls(values, write_pairs(rows, numbers, root), write_pairs(numbers[order], rows[order], root))

    @property
    def digest(self) -> str:
        """Content digest: which documents share which values."""
        return hashlib.sha256(f"{self.values.texts_digest} {self.of_rows.path.name}".encode()).hexdigest()[:32]

    @cached_property
    def largest(self) -> tuple[str, int]:
        """The value that most documents have, and how many these are."""
        numbers, counts = self.of_values.counts()
        if not len(counts):
            return "", 0
        most = int(counts.argmax())
        return self.values.take("text", numbers[most : most + 1])[0].as_py(), int(counts[most])

    def groups(self, documents: int) -> int:
        """How many groups the first documents are in at most; those without a value are one more."""
        rows = self._rows
        return len(self.values) + (int(np.searchsorted(rows, documents)) < documents)

    @cached_property
    def _rows(self) -> Rows:
        """The documents that have a value, sorted."""
        return np.unique(self.of_rows.pairs()[0])

    def with_same(self, at: Rows, rows: Rows) -> tuple[Rows, Rows]:
        """For documents ``rows [m]`` of batch rows ``at [m]``: each batch row and each document that shares a value with one."""
        which, numbers = self.of_rows.of(rows)
        size = max(1, len(self.values))
        pairs = np.unique(at[which] * size + numbers)
        which, found = self.of_values.of(pairs % size)
        return (pairs // size)[which], found

    def joined(self, other: DocumentValues, rows: Rows) -> DocumentValues:
        """With the values of further documents: those of row i of another corpus are those of ``rows[i]`` here."""
        root = self.of_rows.path.parent
        texts = ((block, None) for values in (self.values, other.values) for block in values.iter_texts())
        values = write_part(texts, root, "exact")  # those of this corpus come first, and keep their numbers
        there = text_keys((text for block in other.values.iter_texts() for text in block), "exact")
        (own, numbers), (others, theirs) = self.of_rows.pairs(), other.of_rows.pairs()
        numbers = np.append(numbers, values.by_text.rows(there)[theirs])
        return DocumentValues.of(values, np.append(own, rows[others]), numbers, root)

    def first_texts(self, rows: Rows, otherwise: str) -> pa.Array:
        """The first value of each document as a text; another text where there is none."""
        numbers = self.first(rows)
        found = (
            self.values.take("text", np.maximum(numbers, 0)) if len(self.values) else pa.nulls(len(rows), pa.string())
        )
        return pc.if_else(pa.array(numbers >= 0), found, otherwise)

    def first(self, rows: Rows) -> Rows:
        """The number of the first value of each document, int64, -1 without one."""
        which, numbers = self.of_rows.of(rows)
        found = np.full(len(rows), PADDING, np.int64)
        found[which[::-1]] = numbers[::-1]
        return found


class ValueKeys:
    """Collects columns while a corpus is written; a context manager of its temporary files.

    Args:
        root: folder of the corpora.
        match: which texts count as the same.
        columns: the columns to keep.
    """

    def __init__(self, root: Path, match: Match, columns: Sequence[str]) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.match, self.columns = root, match, list(columns)
        self._staging = staging_folder(root)
        folder = Path(self._staging.name)
        self._texts, self._values = (
            [Appended(folder / f"{name}{number}", KEY) for number in range(len(self.columns))]
            for name in ("texts", "values")
        )
        self._unique = [PartWriter(root, "exact") for _ in self.columns]

    def __enter__(self) -> ValueKeys:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._unique:
            writer.__exit__(None)
        self._staging.cleanup()

    def add(self, texts: Sequence[Sequence[str]], batch: Mapping[str, Sequence[Any]], start: int) -> None:
        """Some rows: the texts of the documents of each, and a batch that has the columns."""
        if not self.columns:
            return
        keys = text_keys((text for row in texts for text in row), self.match)
        counts = np.array([len(row) for row in texts], np.int64)
        starts = np.cumsum(counts) - counts
        for number, column in enumerate(self.columns):
            values = [texts_of_value(value, column, row) for row, value in enumerate(batch[column], start)]
            flat = [member for members in values for member in members]
            of = np.repeat(np.arange(len(values)), [len(members) for members in values])
            self._texts[number].add(keys[spans(starts[of], counts[of])])
            self._values[number].add(np.repeat(text_keys(flat, "exact"), counts[of]))
            self._unique[number].add(flat)

    def kept(self, rows_of_keys: Callable[[np.ndarray], Rows]) -> dict[str, DocumentValues]:
        """The values of the corpus that was written meanwhile, by its lookup of texts."""
        return {column: self._values_of(number, rows_of_keys) for number, column in enumerate(self.columns)}

    def _values_of(self, number: int, rows_of_keys: Callable[[np.ndarray], Rows]) -> DocumentValues:
        values = self._unique[number].finish()
        texts, keys = self._texts[number].array(), self._values[number].array()
        rows, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for span in blocks(len(texts)):
            found = rows_of_keys(np.asarray(texts[span]))
            rows.append(found[found >= 0])
            numbers.append(values.by_text.rows(np.asarray(keys[span]))[found >= 0])
        return DocumentValues.of(values, np.concatenate(rows), np.concatenate(numbers), self.root)


def texts_of_value(value: object, column: str, row: int) -> list[str]:
    """A cell as values: a text, a number, a list of these, or nothing.

    Raises:
        ColumnError: another value.

    >>> texts_of_value(7, "doc_id", 0), texts_of_value(["a", "b"], "doc_id", 0), texts_of_value(None, "doc_id", 0)
    (['7'], ['a', 'b'], [])
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, (list, tuple)):
        return [text for member in value for text in texts_of_value(member, column, row)]
    if isinstance(value, (str, bool)) or is_whole(value):
        return [str(value)]
    if isinstance(value, float):  # whole numbers with gaps are read as floats
        return [str(int(value) if value.is_integer() else value)]
    raise ColumnError(
        f"column {column!r}, row {row}: expected a text, a number or a list of them, got {value!r:.60} "
        f"({type(value).__name__})"
    )


MOST_SHARING = 100_000
"""Documents that share a value, at most, where they are excluded together."""


def check_same(column: str, values: DocumentValues, num_candidates: int) -> None:
    """Refuse to exclude documents by a column that does not tell groups of them apart.

    Raises:
        InputError: all candidates share a value, or very many do.
    """
    value, count = values.largest
    if count >= max(2, min(num_candidates, MOST_SHARING)):
        raise InputError(
            f"exclude_same={column!r}: {count:,} of {num_candidates:,} documents have the value {value!r:.60}, and none of them "
            "could be a negative of another; give a column such as that of the source documents"
        )
