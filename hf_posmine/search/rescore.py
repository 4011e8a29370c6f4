"""Scores that decide: float64 sums of float32 vectors, rounded once (semantics 7).

A product of two float32 numbers is exact in float64, so the sum is off by about 1e-16 and its rounding to float32 does
not depend on batch size, block size or device. Whatever finds a candidate, this is what is compared with a ceiling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.search import kernels, resident
from hf_posmine.utils.mapped import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.core.types import Floats, Rows, ScoreKind
    from hf_posmine.encoding.store import Vectors

Similarity: TypeAlias = Literal["cosine", "dot", "euclidean", "manhattan"]
KINDS: dict[Similarity, ScoreKind] = {
    "cosine": "cosine",
    "dot": "dot",
    "euclidean": "distance",
    "manhattan": "distance",
}
CHUNK = 4096
"""Pairs scored at a time: numpy gathers both sides of each in float64."""
GATHERED = 64
"""Pairs that a scan compares in the time in which numpy scores one in float64."""


def check_similarity(name: str) -> Similarity:
    """``name`` if it is one of sentence-transformers' four similarity functions."""
    if name not in get_args(Similarity):
        raise InputError(f"similarity={name!r}; choose one of {list(get_args(Similarity))}")
    return name  # type: ignore[return-value]


def exact_scores(similarity: Similarity, queries: Floats, vectors: Vectors, rows: Rows) -> Floats:
    """Scores float32 ``[B, m]`` of vectors float32 ``[B, d]`` with document rows int64 ``[B, m]``; -inf at row -1.

    Distances are negated, as sentence-transformers does, so that more is better.
    """
    out = np.full(rows.shape, -np.inf, np.float32)
    queries_at, columns = np.nonzero(rows >= 0)
    for chosen, shard, local in in_shards(vectors, rows[queries_at, columns]):
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            sums = pair_scores(similarity, queries, queries_at[part], shard, local[start : start + CHUNK])
            out[queries_at[part], columns[part]] = sums
    return out


def in_shards(vectors: Vectors, rows: Rows) -> Iterator[tuple[Rows, np.ndarray, Rows]]:
    """Positions in ``rows`` int64 ``[m]`` of those in each shard, the shard, and the rows within it; shards in order."""
    # grouped by shard, so that each memory map is read once and front to back, however the rows are ordered
    few = len(vectors.shards) < 1 << 16  # numpy sorts small numbers in linear time
    which = (np.searchsorted(vectors.starts, rows, side="right") - 1).astype(np.uint16 if few else np.int64)
    order = np.argsort(which, kind="stable")
    counts = np.bincount(which, minlength=1)
    ends = np.cumsum(counts)
    for shard in np.flatnonzero(counts).tolist():
        chosen = order[ends[shard] - counts[shard] : ends[shard]]
        yield chosen, vectors.shards[shard], rows[chosen] - vectors.starts[shard]
        if resident.large(vectors):
            release_pages(vectors.shards[shard])


def pair_scores(similarity: Similarity, queries: Floats, at: Rows, documents: np.ndarray, rows: Rows) -> np.ndarray:
    """Scores float64 ``[m]`` of query ``at[i]`` with document ``rows[i]``."""
    if documents.dtype == np.float32 and kernels.worth(GATHERED * len(rows)):
        return kernels.pair_scores(similarity, queries, at, documents, rows)
    q, d = queries[at].astype(np.float64), documents[rows].astype(np.float64)
    if similarity == "manhattan":
        return -np.abs(q - d).sum(axis=1)
    if similarity == "euclidean":
        return -np.sqrt(((q - d) ** 2).sum(axis=1))
    dots = np.einsum("ij,ij->i", q, d)
    if similarity == "dot":
        return dots
    norms = np.sqrt(np.einsum("ij,ij->i", q, q) * np.einsum("ij,ij->i", d, d))
    return np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


def to_scan(similarity: Similarity, scores: Floats, query_squares: np.ndarray) -> np.ndarray:
    """The scan value float64 ``[B]`` that belongs to a score: the score itself, except for Euclidean distances.

    Those are scanned as ``q.d - |d|^2 / 2``, which orders documents as the distance does.
    """
    if similarity != "euclidean":
        return scores.astype(np.float64)
    distance = -scores.astype(np.float64)
    return np.where(distance < 0, np.inf, (query_squares - distance**2) / 2)
