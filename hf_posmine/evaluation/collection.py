"""Judged collections: documents, queries and relevance judgements, from a folder, the Hub, NanoBEIR or MTEB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.aliases import ID_NAMES
from hf_posmine.data.columns import check_texts, image_columns, iter_columns
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.layouts import corpus_columns, query_columns
from hf_posmine.data.taken import judged_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datasets import Dataset


@dataclass(frozen=True)
class Collection:
    """A judged collection, by ids.

    Documents whose texts are exactly the same are encoded once; each of their ids is still retrieved, since trec_eval
    counts ids.

    Attributes:
        name: what results call it.
        corpus: the documents, whose texts match exactly.
        duplicates: corpus row -> further ids of the same text.
        queries: text by query id.
        qrels: relevance by document id, by query id; above 0 is relevant. Judgements below 0 (unknown) are left out.
    """

    name: str
    corpus: Corpus
    duplicates: Mapping[int, tuple[str, ...]]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(
        cls, name: str, documents: Dataset, queries: Mapping[str, str], judgements: Iterable[tuple[Any, Any, float]]
    ) -> Collection:
        """From a dataset of documents (columns id, text or image, perhaps title), queries, and (query, document, score) rows.

        Documents without any text are left out: they have no content to retrieve, and instruction models refuse them.

        Raises:
            InputError: judged queries without text, no positive at all, or judged ids that the corpus lacks altogether.
            ColumnError: a document or query that is not a text.
        """
        columns = corpus_columns(documents)
        if columns.id is None:
            raise InputError(
                f"no column of document ids among {documents.column_names}; name it one of {list(ID_NAMES)}"
            )
        documents = _with_text(documents, [columns.text, *([columns.title] if columns.title else [])])
        corpus = Corpus.from_dataset(documents, columns.text, columns.id, columns.title or "", match="exact")
        qrels: dict[str, dict[str, int]] = {}
        for query, document, score in judgements:
            if score != int(score):
                raise InputError(f"query {query!r}, document {document!r}: relevance {score} is not a whole number")
            if score >= 0:
                qrels.setdefault(str(query), {})[str(document)] = int(score)
        collection = cls(name, corpus, _duplicates(corpus, documents[columns.id]), queries, qrels)
        collection._check()
        return collection

    @cached_property
    def scored_queries(self) -> tuple[str, ...]:
        """Ids of the queries with a judged positive, in the order of ``queries``; the others cannot be scored."""
        return tuple(query for query in self.queries if any(score > 0 for score in self.qrels.get(query, {}).values()))

    @cached_property
    def positives(self) -> tuple[tuple[str, str], ...]:
        """Query and document id of every judged positive."""
        return tuple((q, d) for q, judged in self.qrels.items() for d, score in judged.items() if score > 0)

    @cached_property
    def lost_positives(self) -> int:
        """Positives that the corpus lacks; no system can find them, and recall counts them as missed."""
        return int((self.corpus.rows_of_ids([document for _, document in self.positives]) < 0).sum())

    @cached_property
    def taken(self) -> str:
        """The line about the collection: its queries, documents, and positives among these."""
        return judged_line(len(self.scored_queries), (document for _, document in self.positives), self.corpus)

    def _check(self) -> None:
        lost = [query for query in self.qrels if query not in self.queries]
        if lost:
            raise InputError(f"{self.name}: {len(lost)} judged queries have no text, such as {lost[0]!r}")
        if not self.scored_queries:
            raise InputError(f"{self.name}: no query has a judged positive (a score above 0); nothing can be scored")
        if self.lost_positives == len(self.positives):
            example = next(iter(self.qrels[self.scored_queries[0]]))
            raise InputError(
                f"{self.name}: the corpus has none of the {len(self.positives)} judged positives, such as {example!r}; are "
                "these its judgements?"
            )


def query_texts(queries: Dataset) -> dict[str, str]:
    """Text by query id of a dataset of queries, or image."""
    identifier, text = query_columns(queries.column_names, image_columns(queries.features or {}))
    found: dict[str, str] = {}
    for start, batch in iter_columns(queries, [identifier, text]):
        found |= zip(map(str, batch[identifier]), check_texts(batch[text], text, start), strict=True)
    return found


def _with_text(documents: Dataset, columns: list[str]) -> Any:
    """The documents with a text in any of the columns, or images; other kinds of column are left for the corpus to refuse."""
    if set(columns) & set(image_columns(documents.features or {})):
        return documents
    rows = zip(*(documents[column] for column in columns), strict=True)
    full = [number for number, texts in enumerate(rows) if any(not isinstance(t, str) or t.strip() for t in texts)]
    return documents if len(full) == len(documents) else documents.select(full)


def _duplicates(corpus: Corpus, ids: Iterable[object]) -> dict[int, tuple[str, ...]]:
    if not corpus.duplicates:
        return {}
    names = list(dict.fromkeys(map(str, ids)))
    rows = corpus.rows_of_ids(names)
    further: dict[int, tuple[str, ...]] = {}
    for name, row, first in zip(names, rows.tolist(), corpus.ids(rows).to_pylist(), strict=True):
        if name != first:
            further[row] = (*further.get(row, ()), name)
    return further
