"""Training rows in whatever layout: their tables, and the texts of ids."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.column_views import views_of
from hf_posmine.data.row_tables import HoldsColumns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.row_layouts import RowLayout, RowView
    from hf_posmine.data.row_tables import Row, RowTable


@dataclass(frozen=True)
class IdTexts:
    """The texts of ids, for rows that hold ids: documents, and queries where those are ids too.

    Attributes:
        documents: by their ids.
        queries: by their ids; None where the rows hold their texts.
        negatives_alone: whether the positives are texts already.
    """

    documents: Corpus
    queries: Corpus | None = None
    negatives_alone: bool = False

    def resolve(self, views: Sequence[RowView]) -> list[RowView]:
        """The views with texts.

        Raises:
            InputError: an id without a text.
        """
        own = [() if self.negatives_alone else view.positives for view in views]
        ids = [doc for positives, view in zip(own, views, strict=True) for doc in (*positives, *view.negatives)]
        texts = iter(_texts_of(self.documents, ids, "documents"))
        queries = [view.query for view in views]
        if self.queries is not None:
            queries = _texts_of(self.queries, queries, "queries")
        return [
            replace(
                view,
                query=query,
                positives=view.positives
                if self.negatives_alone
                else list(itertools.islice(texts, len(view.positives))),
                negatives=list(itertools.islice(texts, len(view.negatives))),
            )
            for view, query in zip(views, queries, strict=True)
        ]


def _texts_of(corpus: Corpus, ids: Sequence[str], what: str) -> list[str]:
    if not ids:
        return []
    rows = corpus.rows_of_ids(ids)
    if (rows < 0).any():
        first = ids[int(np.argmax(rows < 0))]
        raise InputError(
            f"{(rows < 0).sum()} ids of the rows are not among the {what}, such as {first!r}; add their texts"
        )
    return corpus.texts(rows).to_pylist()


@dataclass(frozen=True)
class TrainingData:
    """Rows, their layout and, for ids, their texts.

    Attributes:
        name: of the data.
        tables: one after the other; rows are counted through all of them.
        layout: of the rows.
        texts: of ids; None where the rows hold texts.
        source: the file or folder it was read from; None for data in memory.
        copied: files beside the rows, which a mended copy needs as they are.
    """

    name: str
    tables: tuple[RowTable, ...]
    layout: RowLayout
    texts: IdTexts | None = None
    source: Path | None = None
    copied: tuple[Path, ...] = field(default=())

    @property
    def holds_texts(self) -> bool:
        """Whether documents are texts, not ids whose texts are not at hand."""
        return self.texts is not None or not (self.layout.by_id or self.layout.negatives_by_id)

    def batches(self) -> Iterator[list[RowView]]:
        """The views of all rows, some at a time."""
        for table in self.tables:
            if isinstance(table, HoldsColumns):
                yield from (self._with_texts(views_of(self.layout, columns)) for columns in table.columns())
            else:
                yield from map(self.views, table.batches())

    def raw_batches(self) -> Iterator[list[Row]]:
        """All rows as they are, some at a time."""
        return itertools.chain.from_iterable(table.batches() for table in self.tables)

    def views(self, rows: Sequence[Row]) -> list[RowView]:
        """The views of some rows."""
        return self._with_texts([self.layout.read(row) for row in rows])

    def _with_texts(self, views: list[RowView]) -> list[RowView]:
        return views if self.texts is None else self.texts.resolve(views)
