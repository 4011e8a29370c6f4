"""Reading the columns of a user's dataset with clear errors: the one boundary where rows come in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from hf_posmine.core.check import is_whole
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data import aliases
from hf_posmine.data.images import AT_ONCE, UnreadableImage, named_cells, named_images
from hf_posmine.data.stream_faults import named_faults

if TYPE_CHECKING:
    import datasets

    AnyDataset: TypeAlias = (
        "datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict | datasets.IterableDatasetDict"
    )


SURROGATE = re.compile("[\ud800-\udfff]")


@runtime_checkable
class NumberedRows(Protocol):
    """Rows that can be chosen by number, as those of a Dataset; a stream has none."""

    def select(self, indices: Iterable[int], /) -> Any:
        """Some of the rows."""


def has_numbered_rows(rows: object) -> bool:
    """Whether rows are those of a Dataset rather than of a stream."""
    return isinstance(rows, NumberedRows)


@runtime_checkable
class SelectableColumns(Protocol):
    """Rows with named columns, as those of a Dataset or a stream; a column alone has none."""

    def select_columns(self, names: Any, /) -> Any:
        """Some of the columns."""


@runtime_checkable
class StreamedRows(Protocol):
    """Rows that come one after the other, as those of an IterableDataset."""

    def skip(self, count: int, /) -> Any:
        """The rows behind the first ``count``."""


@runtime_checkable
class DecodedStream(Protocol):
    """A stream that can leave images encoded, as an IterableDataset."""

    def decode(self, enable: bool, /) -> Any:
        """The stream with images opened, or as bytes."""


@runtime_checkable
class ColumnTable(Protocol):
    """A table with named columns, such as a DataFrame."""

    @property
    def columns(self) -> Any:
        """Their names."""

    def __iter__(self) -> Iterator[Any]: ...


@runtime_checkable
class ArrayLike(Protocol):
    """An array or one of its values."""

    def tolist(self) -> Any:
        """Plain values."""


def as_dataset(rows: object) -> Any:
    """A DataFrame or a list of dicts as a Dataset; any dataset as it is."""
    if isinstance(rows, ColumnTable):
        import pandas as pd
        from datasets import Dataset

        return Dataset.from_pandas(rows, preserve_index=False) if isinstance(rows, pd.DataFrame) else rows
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        from datasets import Dataset

        return Dataset.from_list(rows)
    return rows


def splits_of(dataset: AnyDataset) -> list[Any]:
    """The datasets inside: the splits of a dict of datasets, else the dataset itself."""
    return list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]


def column_names(dataset: AnyDataset) -> list[str]:
    """The column names of a dataset, its first split or its first row."""
    first = splits_of(dataset)[0] if splits_of(dataset) else None
    if first is None:
        raise InputError("the dataset dict has no splits; pass one with rows")
    names = first.column_names
    return list(names) if names is not None else list(next(iter(first), {}))


def require_column(names: Sequence[str], column: str, what: str) -> str:
    """Return ``column`` if it is there, else raise an error that lists what is."""
    if column not in names:
        raise ColumnError(f"{what} column {column!r} is not in the dataset; its columns are {list(names)}")
    return column


def iter_columns(
    dataset: AnyDataset, columns: Sequence[str], batch_rows: int = 1000
) -> Iterator[tuple[int, dict[str, list]]]:
    """Batches of some columns as Python lists, each with the number of its first row, over all splits."""
    for split in splits_of(dataset):
        names = column_names(split)
        for column in columns:
            require_column(names, column, "the")
        plain = split.select_columns(list(columns)).with_format(None)
        start = 0
        for batch in named_faults(_batches(plain, batch_rows)):
            yield start, {name: named_images(values) for name, values in batch.items()}
            start += len(batch[columns[0]]) if columns else 0


def named_rows(dataset: AnyDataset) -> Iterator[dict[str, Any]]:
    """Rows of plain values, in which images go by their names."""
    for _, batch in iter_columns(dataset, column_names(dataset)):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _batches(rows: AnyDataset, batch_rows: int) -> Iterator[dict[str, list]]:
    """Batches as plain lists; of images a few at a time, still encoded."""
    if rows.features is None or not image_columns(rows.features):
        yield from rows.iter(batch_size=batch_rows)
    elif has_numbered_rows(rows):
        for table in rows.with_format("arrow").iter(batch_size=AT_ONCE):
            yield {name: named_cells(table[name]) for name in table.column_names}
    else:
        still_encoded = rows.decode(False) if isinstance(rows, DecodedStream) else rows
        yield from still_encoded.iter(batch_size=AT_ONCE)


def with_images(dataset: AnyDataset, column: str) -> Any:
    """The dataset with a column of paths or bytes as one of images; the same object where it is."""
    from datasets import Image

    first = splits_of(dataset)[0]
    if first.features is None or column in image_columns(first.features):
        return dataset
    return dataset.cast_column(column, Image())


def image_columns(features: Mapping[str, Any]) -> list[str]:
    """The columns of images, or of lists of them, by the features of a dataset."""
    from datasets import Image, LargeList, List

    inner = {
        name: feature.feature if isinstance(feature, (List, LargeList)) else feature
        for name, feature in features.items()
    }
    return [name for name, feature in inner.items() if isinstance(feature, Image)]


def check_texts(values: Iterable[Any], column: str, start: int = 0) -> list[str]:
    """The values as they are, if each is a string; else an error that names the first that is not."""
    texts = list(values)
    for offset, value in enumerate(texts):
        _require_readable(value, column, start + offset)
        if not isinstance(value, str):
            raise ColumnError(
                f"column {column!r}, row {start + offset}: expected a text, got {_show(value)}; "
                "drop the row or fill it before mining"
            )
        if not value.isascii() and SURROGATE.search(value):
            raise ColumnError(
                f"column {column!r}, row {start + offset}: {_show(value)} is not valid Unicode, half of a surrogate pair is "
                "missing; repair the text"
            )
    return texts


def check_text_lists(values: Iterable[Any], column: str, start: int = 0) -> list[list[str]]:
    """Each value as a list of texts: a text becomes a list of one; an empty list or a None inside is an error."""
    lists = []
    for row, value in enumerate(values, start):
        if isinstance(value, str):
            lists.append([value])
        elif isinstance(value, (list, tuple, ArrayLike)):
            members = [
                text_of_record(member) for member in (value if isinstance(value, (list, tuple)) else value.tolist())
            ]
            if not members:
                raise ColumnError(f"column {column!r}, row {row}: an empty list; every row needs a positive")
            for member in members:
                _require_readable(member, column, row)
                if not isinstance(member, str):
                    raise ColumnError(
                        f"column {column!r}, row {row}: expected texts, found {_show(member)} in the list"
                    )
            lists.append(members)
        else:
            check_texts([value], column, row)
    return lists


def _require_readable(value: object, column: str, row: int) -> None:
    if isinstance(value, UnreadableImage):
        raise ColumnError(
            f"column {column!r}, row {row}: the image cannot be opened ({value.reason}); replace its file or drop the row"
        )


def text_of_record(member: object) -> Any:
    """The text of a record such as tevatron's ``{"docid": ..., "title": ..., "text": ...}``, after its title; else the value.

    >>> text_of_record({"docid": "7", "title": "Faust", "text": "A play."}), text_of_record("A play.")
    ('Faust A play.', 'A play.')
    """
    if not isinstance(member, Mapping):
        return member
    text = aliases.first_named(member, aliases.TEXT_NAMES)
    title = aliases.first_named((name for name in member if name != text), aliases.TITLE_NAMES)
    if text is None or not isinstance(member[text], str):
        return member
    return f"{(member[title] if title else None) or ''} {member[text]}".strip()


def id_of_record(member: object) -> Any:
    """The id of a record such as NeMo's ``{"id": ...}``; else the value."""
    if not isinstance(member, Mapping):
        return member
    found = aliases.first_named(member, aliases.ID_NAMES)
    return member if found is None else member[found]


def check_ids(values: Iterable[Any], column: str, start: int = 0) -> list[list[str]]:
    """Each value as a list of ids, spelled as strings (whole numbers are accepted)."""
    lists = []
    for row, value in enumerate(values, start):
        if isinstance(value, str):
            lists.append([value])
            continue
        several = isinstance(value, Sized) and not isinstance(value, Mapping)
        members = [id_of_record(member) for member in (value if several else [value])]
        if not members:
            raise ColumnError(f"column {column!r}, row {row}: an empty list; every row needs a positive")
        for member in members:
            if not isinstance(member, str) and not is_whole(member):
                raise ColumnError(f"column {column!r}, row {row}: expected an id, got {_show(member)}")
        lists.append([str(member) for member in members])
    return lists


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most ``size`` values.

    >>> list(batched("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(values)
    while block := list(itertools.islice(iterator, size)):
        yield block


def _show(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"  # noqa: PLR2004


def as_splits(mined: AnyDataset) -> dict[str, Any]:
    """The splits of a Dataset or DatasetDict, by name."""
    if isinstance(mined, Mapping):
        return dict(mined)
    name = str(getattr(mined, "split", None) or "train").split("[")[0]  # "train[:100]"
    return {name if re.fullmatch(r"\w+(\.\w+)*", name) else "train": mined}
