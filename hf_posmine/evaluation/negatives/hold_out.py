"""Known positives hidden on purpose: what a miner that did not know them would do with them is an experiment, not a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import check_ids, check_text_lists, check_texts, iter_columns
from hf_posmine.data.layouts import pick_columns

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_posmine.core.types import Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

Hide: TypeAlias = Literal["rest", "one"]
DOCUMENT_BITS = 40


@dataclass(frozen=True)
class HiddenRows:
    """Rows to mine with some positives hidden, and which; rows of one query are adjacent.

    Attributes:
        queries: text by query number.
        of_query: int64 ``[B]``, the query of each row, not decreasing.
        positive_ids: the positives that each row knows.
        hidden: int64 ``[H]``, sorted: row of this table and hidden corpus row, as one number (row << 40 | document).
        unknown: per query number, ids of documents of unknown relevance.
    """

    queries: list[str]
    of_query: Rows
    positive_ids: list[list[str]]
    hidden: Rows
    unknown: list[list[str]]

    @classmethod
    def of(cls, corpus: Corpus, judgements: Judgements, hide: Hide) -> HiddenRows:
        """Every way to hide the positives of every query that has two or more in the corpus.

        Args:
            corpus: the judged documents.
            judgements: all of them.
            hide: ``"rest"`` leaves one positive known, each in turn; ``"one"`` hides one, each in turn.

        Raises:
            InputError: no query with two positives in the corpus.
        """
        if hide not in get_args(Hide):
            raise InputError(f"hide={hide!r}; expected one of {', '.join(get_args(Hide))}")
        queries: list[str] = []
        of_query: list[int] = []
        unknown, positives, hidden = [], [], []
        for query, documents in sorted(judgements.relevant.items()):
            rows = np.unique(corpus.rows_of_ids(sorted(documents)))
            rows = rows[(rows >= 0) & (rows < corpus.num_candidates)]
            if len(rows) < 2:  # noqa: PLR2004 - one to know and one to hide
                continue
            ids = corpus.ids(rows).to_pylist()
            for at in range(len(rows)):
                alone, others = [ids[at]], [*ids[:at], *ids[at + 1 :]]
                positives.append(alone if hide == "rest" else others)
                left_out = np.delete(rows, at) if hide == "rest" else rows[at : at + 1]
                hidden.append((len(of_query) << DOCUMENT_BITS) | left_out)
                of_query.append(len(queries))
            queries.append(judgements.queries[query])
            unknown.append(sorted(judgements.unknown.get(query, ())))
        if not queries:
            raise InputError(
                "no query has two known positives in the corpus, so there is none to hide; judge some documents with "
                "hf-posmine judge instead"
            )
        return cls(queries, np.array(of_query, np.int64), positives, np.concatenate(hidden), unknown)

    @classmethod
    def whole(cls, corpus: Corpus, judgements: Judgements) -> HiddenRows:
        """One row per query with all its positives in the corpus; none is hidden.

        Raises:
            InputError: no query with a positive in the corpus.
        """
        queries: list[str] = []
        positives, unknown = [], []
        for query, documents in sorted(judgements.relevant.items()):
            rows = corpus.rows_of_ids(sorted(documents))
            if (rows >= 0).any():
                queries.append(judgements.queries[query])
                positives.append(corpus.ids(np.unique(rows[rows >= 0])).to_pylist())
                unknown.append(sorted(judgements.unknown.get(query, ())))
        if not queries:
            raise InputError(
                "no query has a known positive in the corpus; give --corpus with the documents that they name"
            )
        return cls(queries, np.arange(len(queries)), positives, np.empty(0, np.int64), unknown)

    @property
    def rows_per_query(self) -> Rows:
        """Rows of each query, int64 ``[Q]``."""
        return np.bincount(self.of_query, minlength=len(self.queries))

    def columns(self, start: int, stop: int) -> dict[str, list[Any]]:
        """Some rows, as a miner reads them."""
        queries = [self.queries[number] for number in self.of_query[start:stop].tolist()]
        return {"query": queries, "positive_id": self.positive_ids[start:stop]}

    def qrels(self) -> Qrels | None:
        """The judgements given to the miner besides the rows' positives: documents of unknown relevance."""
        from hf_posmine.data.qrels import Qrels

        named = [(str(number), document) for number, ids in enumerate(self.unknown) for document in ids]
        if not named:
            return None
        query_ids, document_ids = zip(*named, strict=True)
        texts = {str(number): text for number, text in enumerate(self.queries)}
        return Qrels.from_judgements(query_ids, document_ids, [-1] * len(named), texts)


def judgements_of_pairs(
    pairs: Dataset,
    corpus: Corpus,
    *,
    query_column: str | None = None,
    positive_column: str | None = None,
    positive_id_column: str | None = None,
) -> Judgements:
    """The positives of a training set as judgements: rows with the same query text belong together.

    Args:
        pairs: dataset of queries and positives.
        corpus: the documents; positives that it lacks are left out, since they cannot be mined.
        query_column: by default found by name; the other columns likewise.
        positive_column: texts or lists of texts.
        positive_id_column: instead of it, ids of the corpus.
    """
    query, positive, positive_id = pick_columns(pairs, query_column, positive_column, positive_id_column)
    column = positive if positive is not None else str(positive_id)
    names: list[tuple[str, str]] = []
    for start, batch in iter_columns(pairs, [query, column]):
        texts = check_texts(batch[query], query, start)
        lists = (check_text_lists if positive is not None else check_ids)(batch[column], column, start)
        flat = [member for members in lists for member in members]
        rows = corpus.rows_of_texts(flat) if positive is not None else corpus.rows_of_ids(flat)
        repeated = [text for text, members in zip(texts, lists, strict=True) for _ in members]
        inside = np.flatnonzero(rows >= 0)
        ids = corpus.ids(rows[inside]).to_pylist()
        names += [(repeated[at], document) for at, document in zip(inside.tolist(), ids, strict=True)]
    if not names:
        raise InputError(f"no positive of column {column!r} is in the corpus, so none can be hidden and mined")
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

    return Judgements.of({q: q for q, _ in names}, [q for q, _ in names], [d for _, d in names], [1.0] * len(names))
