"""The files of a stored run, and how they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import StoreError
from hf_posmine.data.qrels import OUTSIDE, Qrels
from hf_posmine.data.texts import KEY, text_keys
from hf_posmine.teachers.capabilities import prepare
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.core.types import Floats, Teacher
    from hf_posmine.data.corpus import Corpus

BLOCK_QUERIES = 1024


def queries_of(known: Qrels) -> Corpus:
    """The query texts of the known positives."""
    if known.queries is None:
        raise StoreError("the known positives do not hold the texts of their queries")
    return known.queries


def pair_keys(query_rows: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """A key of 24 bytes, ``[N]``, per query and document, where different pairs have different keys.

    Args:
        query_rows: int64 ``[N]``.
        documents: int64 ``[N]``, rows of the corpus, or keys ``[N]`` of texts outside it.
    """
    keys = np.zeros((len(query_rows), 3), ">u8")
    keys[:, 0] = query_rows.astype(np.uint64)
    if documents.dtype == KEY:
        keys[:, 1:] = np.ascontiguousarray(documents).view(">u8").reshape(-1, 2)
    else:
        keys[:, 2] = documents.astype(np.uint64)
    return keys.view("S24").ravel()


def write_run(folder: Path, teacher: Teacher, corpus: Corpus, queries: Corpus, known: Qrels, depth: int) -> None:
    """Search all queries, score all positives, and write the arrays."""
    prepare(teacher)
    shape = (len(queries), depth)
    ids = np.lib.format.open_memmap(folder / "doc_ids.npy", "w+", np.int32, shape)
    scores = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, shape)
    with progress_bar(len(queries), f"Searching with {teacher.name}", "text") as bar:
        for start in range(0, len(queries), BLOCK_QUERIES):
            at = np.arange(start, min(len(queries), start + BLOCK_QUERIES))
            ranking = teacher.search(queries.items(at), depth)
            ids[at], scores[at] = ranking.doc_ids, ranking.scores
            bar.update(len(at))
    ids.flush()
    scores.flush()
    texts = queries.texts(np.arange(len(queries))).to_pylist()
    np.save(folder / "query_keys.npy", text_keys(texts, "exact"))
    keys, values = _positive_scores(teacher, corpus, texts, known)
    np.save(folder / "positive_keys.npy", keys)
    np.save(folder / "positive_scores.npy", values)


def _positive_scores(teacher: Teacher, corpus: Corpus, texts: list[str], known: Qrels) -> tuple[np.ndarray, Floats]:
    """Key and score of every query with each of its positives."""
    resolved = known.resolve(corpus)
    rows, codes, relevant = resolved.of(text_keys(texts, known.match))
    rows, codes = rows[relevant], codes[relevant]
    scores = np.empty(len(rows), np.float32)
    keys = pair_keys(rows, codes)
    inside = np.flatnonzero(codes >= 0)
    for start in range(0, len(inside), BLOCK_QUERIES):
        at = inside[start : start + BLOCK_QUERIES]
        scores[at] = teacher.score([texts[i] for i in rows[at].tolist()], codes[at, None])[:, 0]
    outside = np.flatnonzero(codes < 0)
    if len(outside) and known.documents is not None:
        written = known.documents.texts(OUTSIDE - codes[outside]).to_pylist()
        keys[outside] = pair_keys(rows[outside], text_keys(written, corpus.match))
        scores[outside] = teacher.score_texts([texts[i] for i in rows[outside].tolist()], written)
    return keys, scores
