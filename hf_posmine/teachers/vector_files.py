"""Vectors of files in the order of a corpus or of their queries: kept in one array in the cache, by content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.aliases import ID_NAMES, QUERY_NAMES, QUERY_TEXT_NAMES, TEXT_NAMES
from hf_posmine.data.texts import text_keys, text_numbers
from hf_posmine.teachers.vector_sources import VectorSource
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import Appended, blocks, mapped, release_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import Numbers

LAYOUT = 2
"""Of the folders in the cache; raised when they hold something else."""
FAR = 0.05
"""Share of the greatest number of a vector by which two vectors of one text may differ: other batches, other precision."""


@dataclass(frozen=True)
class VectorAccount:
    """The vectors of documents that were read.

    Attributes:
        source: file, dataset or address.
        rows: vectors in it.
        dimensions: of each.
        key: column or file of the ids or texts by which documents are known; None where the order decides.
        left_out: vectors of documents that the corpus lacks.
    """

    source: str
    rows: int
    dimensions: int
    key: str | None
    left_out: int

    def __str__(self) -> str:
        """One line, for the terminal and the record."""
        known = "in the order of the corpus" if self.key is None else f"by {self.key!r}"
        found = f"{self.rows:,} vectors of {self.dimensions} dimensions from {self.source}, {known}"
        if not self.left_out:
            return found
        return f"{found}; {self.left_out:,} of them are of documents that the corpus lacks, and left out"


def document_vectors(path: str, column: str | None, corpus: Corpus) -> tuple[np.ndarray, VectorAccount]:
    """Vectors float32 ``[N, d]`` in the order of the corpus, memory-mapped; the file is read once and kept by its content.

    Rows are known by their id if the corpus has ids, else by their text, else they are in the order of the corpus.

    Raises:
        InputError: a document without a vector or with two, or more vectors than documents and nothing to tell whose they are.
    """
    source = VectorSource.find(path, column, (*(ID_NAMES if corpus.has_ids else ()), *TEXT_NAMES))
    name = json_digest(["documents", LAYOUT, source.digest, corpus.fingerprint])
    folder = build_once(cache_root() / "vectors" / name, partial(_write_documents, source, corpus))
    counts = json.loads((folder / "counts.json").read_text("utf-8"))
    return np.load(folder / "documents.npy", mmap_mode="r"), VectorAccount(source.name, **counts)


def _write_documents(source: VectorSource, corpus: Corpus, folder: Path) -> None:
    found = source.open()
    target: _Documents | None = None
    count = left_out = 0
    for vectors, keys in found.blocks:
        target = target or _Documents.make(folder / "documents.npy", len(corpus), vectors.shape[1], source.name)
        rows = _rows_of(keys, corpus, count, len(vectors), source.name)
        known = np.flatnonzero(rows >= 0)
        numbers = np.arange(count, count + len(rows), dtype=np.uint64) if keys is None else text_numbers(keys, "exact")
        target.put(rows[known], vectors[known], numbers[known], count + known)
        count, left_out = count + len(rows), left_out + len(rows) - len(known)
    assert target is not None, "an empty source is an error"
    if not target.seen.all():
        lost = np.flatnonzero(~target.seen)
        by = "" if found.key is None else f" by {found.key!r}"
        raise InputError(
            f"{source.name} has {count:,} vectors; {len(lost):,} of {len(corpus):,} documents have none{by}, such as "
            f"{corpus.describe(int(lost[0]))}"
        )
    counts = {"rows": count, "dimensions": target.vectors.shape[1], "key": found.key, "left_out": left_out}
    (folder / "counts.json").write_text(json.dumps(counts, ensure_ascii=False), "utf-8")


@dataclass(frozen=True)
class _Documents:
    """The array that is filled.

    Attributes:
        name: of the source, for errors.
        vectors: float32 ``[N, d]``, mapped.
        seen: bool ``[N]``, documents that have their vector.
        keys: uint64 ``[N]``, hash of the id or text under which it came.
    """

    name: str
    vectors: np.ndarray
    seen: np.ndarray
    keys: Numbers

    @classmethod
    def make(cls, file: Path, documents: int, dimensions: int, name: str) -> _Documents:
        """Without vectors."""
        vectors = np.lib.format.open_memmap(file, "w+", np.float32, (documents, dimensions))
        return cls(name, vectors, np.zeros(documents, np.bool_), np.zeros(documents, np.uint64))

    def put(self, rows: Rows, vectors: Floats, keys: Numbers, at: Rows) -> None:
        """Take vectors ``[n, d]`` of documents ``rows``, which came under ``keys`` in the rows ``at`` of the source.

        Of several vectors of one document the first stays: its duplicates, which the corpus dropped, may have others.
        """
        unique, first = np.unique(rows, return_index=True)
        new = first[~self.seen[unique]]
        self.vectors[rows[new]], self.keys[rows[new]] = vectors[new], keys[new]
        self.seen[rows[new]] = True
        if len(new) < len(rows):
            again = np.flatnonzero(self.keys[rows] == keys)
            far = again[_differ(vectors[again], self.vectors[rows[again]])]
            if len(far):
                raise InputError(
                    f"{self.name}, row {at[far[0]]}: another vector of this document came before; keep one of them"
                )
        release_pages(self.vectors)


def _differ(ones: Floats, twos: Floats) -> Rows:
    """Rows in which two arrays ``[n, d]`` differ by more than the same text may."""
    greatest = np.maximum(np.abs(ones).max(axis=1, initial=0), np.abs(twos).max(axis=1, initial=0))
    return np.flatnonzero(np.abs(ones - twos).max(axis=1, initial=0) > FAR * greatest)


def _rows_of(keys: Sequence[str] | None, corpus: Corpus, start: int, count: int, name: str) -> Rows:
    """The corpus row of each vector; -1 for those of other documents."""
    if keys is not None:
        rows = corpus.rows_of_ids(keys) if corpus.has_ids else np.full(len(keys), -1, np.int64)
        return np.where(rows < 0, corpus.rows_of_texts(keys), rows)
    if start + count > len(corpus):
        raise InputError(
            f"{name} has more vectors than the {len(corpus):,} documents, and no ids to tell whose they are"
        )
    return np.arange(start, start + count)


def query_vectors(path: str, column: str | None) -> tuple[list[str], np.ndarray]:
    """Query texts and their vectors float32 ``[Q, d]``, memory-mapped.

    Raises:
        InputError: vectors without the texts of their queries, or a query with two vectors.
    """
    source = VectorSource.find(path, column, (*QUERY_NAMES, *QUERY_TEXT_NAMES))
    name = json_digest(["queries", LAYOUT, source.digest])
    folder = build_once(cache_root() / "vectors" / name, partial(_write_queries, source))
    texts, dimensions = json.loads((folder / "texts.json").read_text("utf-8"))
    return texts, mapped(folder / "queries", np.float32).reshape(-1, dimensions)


def _write_queries(source: VectorSource, folder: Path) -> None:
    found = source.open()
    if found.key is None:
        raise InputError(
            f"{source.name} has no column of query texts ({', '.join(QUERY_NAMES)} or text); for an array, write them as a "
            f"list into {source.list_name}"
        )
    file, texts, dimensions = Appended(folder / "queries", np.float32), list[str](), 0
    for vectors, keys in found.blocks:
        file.add(vectors)
        texts += keys or ()
        dimensions = vectors.shape[1]
    _check_repeated(texts, file.array().reshape(-1, dimensions), source.name)
    (folder / "texts.json").write_text(json.dumps([texts, dimensions], ensure_ascii=False), "utf-8")


def _check_repeated(texts: Sequence[str], vectors: np.ndarray, name: str) -> None:
    """Refuse a query that has two vectors."""
    _, first, inverse = np.unique(text_keys(texts, "exact"), return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(texts)))
    for span in blocks(len(again)):
        far = _differ(vectors[again[span]], vectors[first[inverse[again[span]]]])
        if len(far):
            row = again[span][far[0]]
            raise InputError(
                f"{name}, row {row}: another vector of the query {texts[row][:60]!r} came before; keep one of them"
            )
