"""Queries with their positives by document, from the rows of any layout: the input of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import check_ids, check_text_lists, check_texts, iter_columns, require_column
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.texts import normalize

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows


@dataclass(frozen=True, eq=False)
class JudgedPairs:
    """A row for each query and positive.

    Attributes:
        corpus: the documents.
        queries: ``[P]``, texts; of queries that are the same after normalisation the first spelling.
        positives: rows of the corpus, int64 ``[P]``.
        groups: ``[P]``, the value of the column to split by; "" for none.
        in_corpus: how many of the positives the given corpus has; the others were added to it.
    """

    corpus: Corpus
    queries: tuple[str, ...]
    positives: Rows
    groups: tuple[str, ...]
    in_corpus: int

    @classmethod
    def of(
        cls,
        dataset: Any,
        query: str,
        positive: str | None,
        positive_id: str | None,
        *,
        corpus: Corpus | None = None,
        by: str | None = None,
    ) -> JudgedPairs:
        """From the columns of a dataset.

        Args:
            dataset: the rows.
            query: column of the queries.
            positive: column of the positives' texts, or lists of texts.
            positive_id: column of their ids in ``corpus``, or lists of ids.
            corpus: the documents; None takes the positives.
            by: column of the groups; None gives each row none.

        Raises:
            ColumnError: a value that is not a text or an id, with its row.
            InputError: ids without a corpus, ids that it lacks, or no rows.
        """
        if corpus is None and positive is None:
            raise InputError(f"the positives are ids of column {positive_id!r}; give the corpus that has them")
        column = str(positive_id) if positive is None else positive
        read = check_ids if positive is None else check_text_lists
        queries, wanted, groups = [], [], []
        for start, batch in iter_columns(dataset, list(dict.fromkeys([query, column, *([by] if by else [])]))):
            texts = check_texts(batch[query], query, start)
            values = _group_values(batch[by], by, start) if by else [""] * len(texts)
            for text, members, value in zip(texts, read(batch[column], column, start), values, strict=True):
                queries += [text] * len(members)
                wanted += members
                groups += [value] * len(members)
        if not wanted:
            raise InputError("the dataset has no rows; a split needs queries with positives")
        corpus, rows, found = _documents(corpus, wanted, None if positive is not None else column)
        spelling: dict[str, str] = {}
        return cls(corpus, tuple(spelling.setdefault(normalize(q), q) for q in queries), rows, tuple(groups), found)

    def with_groups_of(self, documents: Any, id: str, by: str) -> JudgedPairs:
        """With the groups that a column of the corpus's own dataset gives to the positives."""
        require_column(documents.column_names, by, "group")
        group_of: dict[int, str] = {}
        for start, batch in iter_columns(documents, [id, by]):
            rows = self.corpus.rows_of_ids(batch[id])
            group_of.update(zip(rows.tolist(), _group_values(batch[by], by, start), strict=True))
        groups = tuple(group_of.get(row, "") for row in self.positives.tolist())
        return JudgedPairs(self.corpus, self.queries, self.positives, groups, self.in_corpus)


def _group_values(values: list[Any], column: str, start: int) -> list[str]:
    for row, value in enumerate(values, start):
        if isinstance(value, (list, dict)):
            raise ColumnError(f"column {column!r}, row {row}: a group is one value, not a {type(value).__name__}")
    return ["" if value is None else normalize(str(value)) for value in values]


def _documents(corpus: Corpus | None, wanted: list[str], id_column: str | None) -> tuple[Corpus, Rows, int]:
    """The corpus with all positives, their rows, and how many it had."""
    if corpus is None:
        own = Corpus.from_texts(wanted)
        return own, own.rows_of_texts(wanted), len(wanted)
    if id_column is not None:
        return corpus, corpus.required_rows(wanted, id_column), len(wanted)
    missing = [text for text, row in zip(wanted, corpus.rows_of_texts(wanted).tolist(), strict=True) if row < 0]
    whole = corpus.union(missing) if missing else corpus
    return whole, np.asarray(whole.rows_of_texts(wanted)), len(wanted) - len(missing)
