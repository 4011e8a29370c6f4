"""The test queries of a judged collection and their relevant documents, to be looked for in training rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.text_facts import TextFacts
from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import id_of_record, text_of_record
from hf_posmine.data.layouts import query_columns
from hf_posmine.data.sources import beir_corpus, beir_qrels, beir_queries, is_beir, load_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hf_posmine.data.texts import Numbers


@dataclass(frozen=True)
class JudgedTexts:
    """What training rows are compared with.

    Attributes:
        queries: hashes uint64 of the test queries in the form in which texts count as the same, unique.
        documents: of the documents that are relevant to them, with and without their title; none where only queries are
            given.
    """

    queries: Numbers
    documents: Numbers


def judged_texts(collection: str | Path, split: str = "test") -> JudgedTexts:
    """The test queries of a collection and their relevant documents.

    Args:
        collection: a BEIR folder, a folder with a ``queries`` file, or a file of queries.
        split: of the judgements of a BEIR folder.

    Raises:
        InputError: no queries there.
    """
    path = Path(collection)
    texts = list(_texts(path, split))
    if not texts:
        raise InputError(f"{str(collection)!r} has no queries; training rows cannot be compared with it")
    documents = list(_documents(path, split)) if is_beir(path) else []
    return JudgedTexts(*(np.unique(TextFacts.of(found).numbers) for found in (texts, documents)))


def _documents(folder: Path, split: str) -> Iterator[str]:
    judged = beir_qrels(folder, split)
    relevant = {doc for doc, score in zip(judged["corpus-id"], judged["score"], strict=True) if score > 0}
    for record in beir_corpus(folder):
        if str(id_of_record(record)) in relevant:
            yield text_of_record(record)
            yield text_of_record({name: value for name, value in record.items() if name != "title"})


def _texts(path: Path, split: str) -> Iterable[str]:
    if is_beir(path):
        queries = beir_queries(path)
        return [queries[query] for query in dict.fromkeys(beir_qrels(path, split)["query-id"]) if query in queries]
    files = sorted(path.glob("queries.*")) if path.is_dir() else []
    rows = load_source(files[0] if files else path)
    names = rows.column_names
    text = names[0] if len(names) == 1 else query_columns(names)[1]
    return [value for value in rows[text] if isinstance(value, str)]
