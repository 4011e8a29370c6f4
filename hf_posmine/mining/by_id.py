"""Mined rows that name their documents by id, for what reads texts: judges and cross-encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import column_names, image_columns, iter_columns
from hf_posmine.data.images import NamedImage
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.columns import list_column, without_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.data.corpus import Corpus

FIRST_ROWS = 200


def require_texts(mined: Dataset, reader: str) -> None:
    """Refuse rows whose documents are ids or images.

    Args:
        mined: mined rows.
        reader: who reads texts, such as ``a judge``.

    Raises:
        ColumnError: no negatives, or only their ids.
        InputError: a column of images.
    """
    found = list_column(column_names(mined))
    if found is None:
        raise ColumnError(f"no column 'negatives' among {column_names(mined)}; give a mined dataset")
    images = image_columns(mined.features or {})
    if images:
        raise InputError(
            f"column {images[0]!r} holds images, and {reader} reads texts; mine with a second opinion that reads images instead"
        )
    if found != "negatives":
        raise ColumnError(
            f"column {found!r} holds ids, and {reader} reads texts; add them with hf_posmine.mining.with_texts(mined, corpus)"
        )


def with_texts(
    mined: Dataset,
    corpus: Corpus,
    query_column: str | None = None,
    positive_column: str | None = None,
    positive_id_column: str | None = None,
) -> Dataset:
    """Rows that name documents by id, with the texts in ``negatives``, and in ``positive`` where positives are named so.

    Args:
        mined: rows with ``negatives_ids`` and without ``negatives``.
        corpus: the documents.
        query_column: None to find it by name.
        positive_column: of texts; None to find it by name, or that of ids.
        positive_id_column: of ids, where its name does not tell.

    Raises:
        ColumnError: rows without such a column, or ids in one that would be taken for texts.
        InputError: an id that the corpus lacks, or one of an image.

    >>> from datasets import Dataset
    >>> from hf_posmine import Corpus
    >>> rows = Dataset.from_dict({"query": ["q"], "positive_id": ["a"], "negatives_ids": [["c", "b"]]})
    >>> with_texts(rows, Corpus.from_texts(["one", "two", "three"], ids="abc"))[0]["negatives"]
    ['three', 'two']
    """
    if list_column(column_names(mined)) != "negatives_ids":
        raise ColumnError(f"the rows do not name negatives by id alone; their columns are {column_names(mined)}")
    if positive_id_column is not None and "positive" in column_names(mined):
        raise ColumnError(
            f"positive_id_column={positive_id_column!r}, and the rows have texts in 'positive'; leave it out"
        )
    made = mined.add_column("negatives", _texts(mined, "negatives_ids", corpus))
    try:
        _, positive, by_id = pick_columns(without_outputs(mined), query_column, positive_column, positive_id_column)
    except ColumnError as error:
        raise ColumnError(f"{error}, or one of ids with positive_id_column=...") from None
    if positive is not None and positive_column is None:
        _refuse_ids(mined, positive, corpus)
    return made if positive or by_id is None else made.add_column("positive", _texts(mined, by_id, corpus))


def _refuse_ids(mined: Dataset, column: str, corpus: Corpus) -> None:
    """Refuse a column that was taken for texts and whose first rows all hold ids of the corpus."""
    cells = mined.select(range(min(len(mined), FIRST_ROWS)))[column][:]
    values = [value for cell in cells for value in (cell if isinstance(cell, list) else [cell])]
    if values and all(isinstance(value, str) for value in values) and (corpus.rows_of_ids(values) >= 0).all():
        if (corpus.rows_of_texts(values) < 0).all():
            raise ColumnError(f"column {column!r} holds ids of the corpus; name it with positive_id_column={column!r}")


def _texts(mined: Dataset, column: str, corpus: Corpus) -> list[list[str]]:
    """The texts that the cells of a column name."""
    made = [row for _, batch in iter_columns(mined, [column]) for row in documents_by_id(corpus, batch[column], column)]
    if any(isinstance(text, NamedImage) for texts in made for text in texts):
        raise InputError(
            f"column {column!r} names images of the corpus, and judges and cross-encoders read texts; mine with a second "
            "opinion that reads images instead"
        )
    return made


def documents_by_id(corpus: Corpus, values: Sequence[object], column: str) -> list[list[str]]:
    """The documents that cells name: ids, lists of ids, or None for none; an id that the corpus lacks is an error."""
    lists = [[] if value is None else value if isinstance(value, list) else [value] for value in values]
    found = iter(corpus.items(corpus.required_rows([str(one) for ids in lists for one in ids], column)))
    return [[next(found) for _ in ids] for ids in lists]
