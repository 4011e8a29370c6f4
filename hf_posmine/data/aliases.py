"""The usual names of columns, in one table: for corpora, queries, judgements and pairs alike.

Names compare by their letters and digits alone, so that ``corpus-id``, ``Corpus_ID`` and ``corpusId`` are one name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hf_posmine.core.errors import ColumnError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ID_NAMES = (
    "_id", "id", "chunk_id", "pid", "passage_id", "doc_id", "document_id", "docno", "corpus_id", "text_id", "did", "uuid",
    "guid",
)  # fmt: skip
"""Of documents, the best first: those of chunks before those of the documents that they are of."""
SOURCE_NAMES = (
    "doc_id", "document_id", "source_id", "source_doc_id", "source_document_id", "parent_id", "parent_doc_id",
    "parent_document_id", "article_id",
)  # fmt: skip
"""Of the document that a chunk is of, where another column holds the chunk's own id."""
TEXT_NAMES = (
    "text", "body", "passage", "contents", "content", "document", "passage_text", "document_text", "doc", "context",
    "paragraph", "chunk", "article", "abstract", "sentence", "segment",
)  # fmt: skip
TITLE_NAMES = ("title", "heading", "headline")
QUERY_NAMES = ("query", "anchor", "question")
QUERY_ID_NAMES = ("query-id", "qid", "question_id", "topic_id", "_id", "id")
QUERY_TEXT_NAMES = ("text", "query", "question", "query_text", "anchor", "title", "body", "content", "contents")
JUDGED_QUERY_NAMES = ("query-id", "qid", "question_id", "topic_id", "q_id", "topic", "query")
JUDGED_DOCUMENT_NAMES = (
    "corpus-id", "doc_id", "document_id", "docno", "pid", "passage_id", "positive_id", "did", "d_id", "document", "_id", "id",
)  # fmt: skip
SCORE_NAMES = ("score", "relevance", "rel", "grade", "label", "judgement", "judgment", "gain")
POSITIVE_NAMES = (
    "positive", "positives", "pos", "positive_passages", "positive_passage", "pos_doc", "pos_docs", "positive_doc",
    "positive_document", "positive_documents", "positive_text", "positive_texts",
)  # fmt: skip
POSITIVE_ID_NAMES = (
    "positive_id", "positive_ids", "pos_id", "pos_ids", "positive_doc_id", "positive_doc_ids", "positive_document_id",
    "positive_passage_id", "positive_ctx_id", "positive_pid", "pos_pid",
)  # fmt: skip
REPLY_NAMES = (
    "answer", "answers", "response", "output", "completion", "target", "sentence2", "simplified", "summary", "code",
    "documents", "passages", "contexts", *TEXT_NAMES,
)  # fmt: skip
"""Names that are a positive's where no column is named one."""
DOCUMENT_ID_NAMES = ("corpus-id", "doc_id", "doc_ids", "document_id", "document_ids", "pid", "passage_id", "docno")
NEGATIVE_NAMES = (
    "negative", "negatives", "neg", "negative_passages", "neg_doc", "neg_docs", "hard_negative", "hard_negatives",
    "negative_id", "negative_ids", "neg_id", "neg_ids",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "score", "scores", "similarity", "category", "categories", "class", "split", "source", "lang",
    "language", "type", "task", "task_name", "domain", "topic", "topics", "dataset", "dataset_name", "subset", "origin", "tag",
    "tags", "difficulty", "level", "date", "time", "timestamp", "created", "author", "license", "url", "uri", "link", "file",
    "filename", "path", "prompt_name", "instruction_id", "relevance", "rank", "index", "row", "key", "hash", "version",
)  # fmt: skip
"""Columns that describe a row, and are neither its query nor its positive unless they are named."""


def plain(name: str) -> str:
    """A name's letters and digits in lower case.

    >>> plain("Corpus-ID"), plain("_id")
    ('corpusid', 'id')
    """
    return re.sub(r"[\W_]", "", name.lower())


def named(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """The columns that bear one of the ``wanted`` names, in the order of ``wanted``."""
    order = {plain(name): number for number, name in reversed(list(enumerate(wanted)))}
    return sorted((name for name in names if plain(name) in order), key=lambda name: order[plain(name)])


def first_named(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The column that bears the first of the ``wanted`` names, None if none does."""
    return next(iter(named(names, wanted)), None)


def only_named(names: Iterable[str], wanted: Sequence[str], what: str, argument: str) -> str | None:
    """The one column that bears a ``wanted`` name, None if none does.

    Raises:
        ColumnError: several do.
    """
    found = named(names, wanted)
    if len(found) > 1:
        raise ColumnError(f"several columns could be the {what}: {found}; name one with {argument}=...")
    return found[0] if found else None


def required_named(names: Sequence[str], wanted: Sequence[str], what: str) -> str:
    """The column that bears the first of the ``wanted`` names.

    Raises:
        ColumnError: none does.
    """
    found = first_named(names, wanted)
    if found is None:
        raise ColumnError(f"no column of {what} among {list(names)}; name it one of {list(wanted)}")
    return found


def names_an_id(name: str) -> bool:
    """Whether a column holds ids by its name.

    >>> [names_an_id(name) for name in ("_id", "docid", "chunk-id", "positive_ids", "video")]
    [True, True, True, True, False]
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return bool(re.search(r"(^|[\W_])ids?$", spaced)) or bool(
        named([name], (*ID_NAMES, *QUERY_ID_NAMES, *POSITIVE_ID_NAMES))
    )
