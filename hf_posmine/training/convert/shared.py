"""Shared parts of the converters: their result, the reading of columns, and draws without rejection."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import check_texts, iter_columns
from hf_posmine.training.convert.images import images_among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Mask, Rows
    from hf_posmine.data.corpus import Corpus

BLOCK_ROWS = 10_000


@dataclass(frozen=True)
class Converted:
    """Training rows made from a raw dataset, and what became of the raw rows.

    Attributes:
        dataset: columns of strings ``query``, ``positive``, ``negative_1`` to ``negative_n``; images go by their names.
        counts: ``rows_in``, ``rows_out``, and rows dropped by reason; empty for a stream, which is not read yet.
        pool: texts to mine negatives from, where the data have none of their own (STS).
        images: what the names of images open; None where there are none.
    """

    dataset: Any
    counts: dict[str, int] = field(default_factory=dict)
    pool: tuple[str, ...] = ()
    images: Corpus | None = None


def negative_columns(count: int) -> list[str]:
    """``negative_1`` to ``negative_<count>``."""
    return [f"negative_{i + 1}" for i in range(count)]


def read_whole(dataset: Dataset, columns: Sequence[str], why: str) -> dict[str, list[Any]]:
    """Some columns of a Dataset as lists.

    Raises:
        InputError: a stream or a dict of splits, a missing column, or no rows.
    """
    if isinstance(dataset, dict):
        raise InputError(f"expected one dataset, got the splits {list(dataset)}; pass one of them")
    if not isinstance(dataset, Sized):
        raise InputError(f"a stream cannot be converted: {why}; load the dataset without streaming=True")
    read: dict[str, list[Any]] = {column: [] for column in columns}
    for _, batch in iter_columns(dataset, list(read)):
        for column in columns:
            read[column] += batch[column]
    if not len(dataset):
        raise InputError("the dataset has no rows")
    return read


def label_names(dataset: Dataset, column: str) -> list[str] | None:
    """The names of a column's classes, None where its feature has none."""
    from datasets import ClassLabel

    feature = (dataset.features or {}).get(column)
    return feature.names if isinstance(feature, ClassLabel) else None


def read_texts(read: dict[str, list[Any]], column: str) -> list[str]:
    """A column of :func:`read_whole`, each value checked to be a text."""
    return check_texts(read[column], column)


def not_blank(texts: Sequence[str]) -> Mask:
    """Which texts are not blank, bool ``[N]``."""
    return np.fromiter((bool(text.strip()) for text in texts), bool, len(texts))


def first_of_each(keys: np.ndarray) -> Rows:
    """The first place of each distinct key of ``[N]``, in order; int64 ``[distinct]``."""
    return np.sort(np.unique(keys, return_index=True)[1]).astype(np.int64)


def draw_different(rng: np.random.Generator, sizes: Rows, count: int) -> Rows:
    """``count`` different whole numbers in ``[0, size)`` for each of ``sizes`` int64 ``[B]``; int64 ``[B, count]``.

    Every set of numbers is equally likely, in random order. The number after j draws comes from ``[0, size - j)`` and
    moves up past those already drawn, so nothing is ever rejected.
    """
    drawn = np.empty((len(sizes), 0), np.int64)
    for taken in range(count):
        new = rng.integers(0, sizes - taken)
        for i in range(taken):  # in ascending order
            new += new >= drawn[:, i]
        drawn = np.sort(np.column_stack([drawn, new]), axis=1)
    return rng.permuted(drawn, axis=1)


def training_rows(
    texts: Sequence[str], query: Rows, positive: Rows, negatives: Rows, counts: dict[str, int]
) -> Converted:
    """Rows of texts by their places: query and positive int64 ``[R]``, negatives int64 ``[R, n]``."""
    places = {"query": query, "positive": positive}
    places |= dict(zip(negative_columns(negatives.shape[1]), negatives.T, strict=True))
    return converted({name: [texts[i] for i in at.tolist()] for name, at in places.items()}, counts)


def converted(columns: dict[str, list[str]], counts: dict[str, int], pool: Sequence[str] = ()) -> Converted:
    """The result of a converter, with ``rows_out`` counted.

    Raises:
        InputError: no row is left, with the counts of the reasons.
    """
    rows = len(columns["query"])
    if not rows:
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
        raise InputError(f"no row is left to train on ({why}); check the columns and the options")
    images = images_among(text for texts in columns.values() for text in texts)
    return Converted(text_dataset(columns), counts | {"rows_out": rows}, tuple(pool), images)


def text_dataset(columns: dict[str, list[str]]) -> Any:
    """A Dataset in memory of columns of texts, in blocks because one Arrow array of strings holds at most 2 GiB."""
    import datasets
    import pyarrow as pa

    def blocks(texts: list[str]) -> pa.ChunkedArray:
        parts = [texts[i : i + BLOCK_ROWS] for i in range(0, len(texts), BLOCK_ROWS)]
        return pa.chunked_array([pa.array(part, pa.string()) for part in parts], pa.string())

    return datasets.Dataset(pa.table({name: blocks(texts) for name, texts in columns.items()}))
