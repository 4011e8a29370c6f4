"""Queries with their positives by document, from the rows of any layout: the input of a split."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import check_ids, check_text_lists, check_texts, iter_columns, require_column
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.lookalikes import VARIANT, Lookalikes, texts_of
from hf_posmine.data.qrels import Qrels
from hf_posmine.data.texts import normalize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Rows


@dataclass(frozen=True, eq=False)
class JudgedPairs:
    """A row for each query and positive.

    Attributes:
        corpus: the documents.
        queries: ``[P]``, texts; of queries that are the same after normalisation the first spelling.
        positives: rows of the corpus, int64 ``[P]``.
        groups: ``[P]``, the value of the column to split by; "" for none.
        in_corpus: how many of the positives the given corpus has, with another title or invisible characters or without;
            the others were added to it.
        inside: added positive -> the one document that contains it, as rows of the corpus.
    """

    corpus: Corpus
    queries: tuple[str, ...]
    positives: Rows
    groups: tuple[str, ...]
    in_corpus: int
    inside: Mapping[int, int] = field(default_factory=dict)

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
        spelling: dict[str, str] = {}
        queries = [spelling.setdefault(normalize(q), q) for q in queries]
        if corpus is None:
            own = Corpus.from_texts(wanted)
            return cls(own, tuple(queries), own.rows_of_texts(wanted), tuple(groups), len(wanted))
        if positive is None:
            return cls(corpus, tuple(queries), corpus.required_rows(wanted, column), tuple(groups), len(wanted))
        return cls._of_texts(corpus, queries, wanted, groups)

    @classmethod
    def _of_texts(cls, corpus: Corpus, queries: list[str], wanted: list[str], groups: list[str]) -> JudgedPairs:
        """Positives by their texts: a document of the corpus where it differs by a title alone, else a document more."""
        rows = np.array(corpus.rows_of_texts(wanted))
        variants, containers = _held_by(corpus, queries, wanted)
        for at in np.flatnonzero(rows < 0).tolist():
            rows[at] = variants.get(wanted[at], -1)
        missing = [wanted[at] for at in np.flatnonzero(rows < 0).tolist()]
        if not missing:
            return cls(corpus, tuple(queries), rows, tuple(groups), len(wanted))
        whole = corpus.union(missing)
        ids = corpus.ids(np.maximum(rows, 0)).to_pylist()
        known = np.where(rows < 0, whole.rows_of_texts(wanted), whole.rows_of_ids(ids))
        inside = {
            text: int(whole.rows_of_ids(corpus.ids(np.array([row])).to_pylist())[0]) for text, row in containers.items()
        }
        added = dict(zip(missing, known[rows < 0].tolist(), strict=True))
        held = {added[text]: row for text, row in inside.items() if text in added}
        return cls(whole, tuple(queries), known, tuple(groups), len(wanted) - len(missing), held)

    def with_groups_of(self, documents: Any, id: str, by: str) -> JudgedPairs:
        """With the groups that a column of the corpus's own dataset gives to the positives."""
        require_column(documents.column_names, by, "group")
        group_of: dict[int, str] = {}
        for start, batch in iter_columns(documents, [id, by]):
            rows = self.corpus.rows_of_ids(batch[id])
            group_of.update(zip(rows.tolist(), _group_values(batch[by], by, start), strict=True))
        groups = tuple(group_of.get(row, "") for row in self.positives.tolist())
        return replace(self, groups=groups)


def _group_values(values: list[Any], column: str, start: int) -> list[str]:
    for row, value in enumerate(values, start):
        if isinstance(value, (list, dict)):
            raise ColumnError(f"column {column!r}, row {row}: a group is one value, not a {type(value).__name__}")
    return ["" if value is None else normalize(str(value)) for value in values]


def _held_by(corpus: Corpus, queries: list[str], wanted: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Of positives outside the corpus: the first document that is one but for a title, and the only one that contains it."""
    qrels = Qrels.from_columns(queries, wanted, match=corpus.match)
    known = qrels.resolve(corpus)
    found = Lookalikes.find(corpus, qrels, known)
    codes = np.asarray(found.codes)
    texts = list(texts_of(codes, corpus, qrels))
    variants: dict[str, int] = {}
    containers: dict[str, int] = {}
    for at, text in enumerate(texts):
        mine = slice(int(found.offsets[at]), int(found.offsets[at + 1]))
        rows, kinds = np.asarray(found.rows[mine]), np.asarray(found.kinds[mine])
        if (kinds == VARIANT).any():
            variants[text] = int(rows[kinds == VARIANT][0])
        elif len(rows) == 1:
            containers[text] = int(rows[0])
    return variants, containers
