"""Languages of queries and documents: values of a column, of which a record holds a limited number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import column_names, has_numbered_rows, iter_columns, splits_of
from hf_posmine.data.kept import texts_of_value
from hf_posmine.utils.typed_json import UnexpectedValue, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.kept import DocumentValues

LONGEST_LANGUAGE = 64
MOST_LANGUAGES = 1_024
"""Of queries, and of documents, in a record; documents or queries without a language are one of them."""
LANGUAGE = text(LONGEST_LANGUAGE)


def check_languages(values: Iterable[tuple[str, str]], column: str) -> None:
    """Refuse values that a record cannot hold, before rows are mined for hours.

    Args:
        values: where each is, such as ``row 7``, and itself.
        column: where they are from.

    Raises:
        InputError: a long value, one of several lines, or too many different ones.
    """
    seen: set[str] = set()
    for where, value in values:
        if value in seen:
            continue
        try:
            LANGUAGE(value, f"language_column={column!r}: {where}")
        except UnexpectedValue as error:
            raise InputError(f"{error}, as a language is; name the column of languages") from None
        seen.add(value)
        if len(seen) >= MOST_LANGUAGES:
            raise InputError(
                f"language_column={column!r} has {MOST_LANGUAGES:,} different values up to {where}, such as {value!r}; a record "
                "counts negatives by fewer languages, so name the column of languages"
            )


def check_document_languages(values: DocumentValues, column: str) -> None:
    """The same for the languages of a corpus."""
    check_languages(((f"{value!r:.30}", value) for block in values.values.iter_texts() for value in block), column)


def check_query_languages(dataset: AnyDataset, column: str | None) -> None:
    """The same for rows that have the column; streams are checked batch by batch while they are mined."""
    for split in splits_of(dataset):
        if column is not None and has_numbered_rows(split) and column in column_names(split):
            check_languages(_of_rows(split, column), column)


def _of_rows(split: Dataset, column: str) -> Iterator[tuple[str, str]]:
    for start, batch in iter_columns(split, [column]):
        for row, value in enumerate(batch[column], start):
            yield from ((f"row {row}", one) for one in texts_of_value(value, column, row)[:1])
