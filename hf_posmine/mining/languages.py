"""Languages of queries and documents: values of a column, of which a record holds a limited number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import column_names, has_numbered_rows, iter_columns, splits_of
from hf_posmine.data.kept import texts_of_value
from hf_posmine.utils.typed_json import UnexpectedValue, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hf_posmine.data.columns import AnyDataset

MOST_LANGUAGES = 1_024
"""Of queries, and of documents, in a record; those without a language count as one."""
LANGUAGE = text(64)


def check_languages(values: Iterable[tuple[str, str]], column: str) -> None:
    """Refuse values, each with its place, that a record cannot hold: long ones, several lines, too many different ones."""
    seen: set[str] = set()
    for place, value in values:
        if value not in seen:
            seen.add(value)
            try:
                LANGUAGE(value, f"language_column={column!r}: {place}")
            except UnexpectedValue as error:
                raise InputError(f"{error}, as a language is; name the column of languages") from None
            if len(seen) >= MOST_LANGUAGES:
                raise InputError(
                    f"language_column={column!r} has {MOST_LANGUAGES:,} different values up to {place}, such as {value!r}; a "
                    "record counts negatives by fewer languages, so name the column of languages"
                )


def check_query_languages(dataset: AnyDataset, column: str | None) -> None:
    """The same for all rows, before any is mined; a stream is checked batch by batch while it is mined."""
    for split in splits_of(dataset):
        if column is not None and has_numbered_rows(split) and column in column_names(split):
            batches = ((start, batch[column]) for start, batch in iter_columns(split, [column]))
            cells = (cell for start, values in batches for cell in enumerate(values, start))
            check_languages(
                ((f"row {n}", one) for n, cell in cells for one in texts_of_value(cell, column, n)[:1]), column
            )
