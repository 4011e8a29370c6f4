"""Scores of judged collections as dense matrices: what the scripts about ceilings share."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data"
COLLECTIONS = ("adi", "cranfield", "vaswani", "scifact")
N = 4
"""Negatives per query."""


def asked() -> argparse.Namespace:
    """The arguments of such a script, which needs no network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS)
    parser.add_argument("--output", required=True)
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    return parser.parse_args()


@dataclass(frozen=True)
class JudgedScores:
    """A collection as a teacher sees it; Q queries with a positive, D documents.

    Attributes:
        name: of the collection.
        queries: unit vectors float32 ``[Q, d]``.
        documents: unit vectors float32 ``[D, d]``.
        scores: cosines float32 ``[Q, D]``.
        relevant: bool ``[Q, D]``.
        unknown: bool ``[Q, D]``, of unknown relevance: never candidates.
    """

    name: str
    queries: np.ndarray
    documents: np.ndarray
    scores: np.ndarray
    relevant: np.ndarray
    unknown: np.ndarray

    @classmethod
    def load(cls, name: str) -> JudgedScores:
        """By the embedded all-MiniLM-L6-v2."""
        from hf_posmine import Corpus, DenseTeacher
        from hf_posmine.evaluation import load_judged

        corpus, judgements, _ = load_judged(DATA / name, "qrels", None, 0)
        ids = sorted(judgements.relevant)
        known = Corpus.from_texts(judgements.queries.values(), match="exact")
        teacher = DenseTeacher("embedded", corpus, queries=known)
        queries = unit(teacher.embed_queries([judgements.queries[query] for query in ids]))
        documents = unit(teacher.embeddings.of_documents[np.arange(len(corpus))])
        scores = queries @ documents.T
        relevant, unknown = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
        for row, query in enumerate(ids):
            for mask, found in ((relevant, judgements.relevant), (unknown, judgements.unknown)):
                at = corpus.rows_of_ids(sorted(found.get(query, ())))
                mask[row, at[at >= 0]] = True
        return cls(name, queries, documents, scores, relevant, unknown)

    @property
    def several(self) -> np.ndarray:
        """Rows of the queries with at least two positives, one of which can be hidden."""
        return np.flatnonzero(self.relevant.sum(axis=1) > 1)

    def visible(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        """One positive of each row, drawn."""
        return np.array([rng.choice(np.flatnonzero(self.relevant[row])) for row in rows])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def mined(scores: np.ndarray, left_out: np.ndarray, ceilings: np.ndarray) -> np.ndarray:
    """The best N documents of each row below its ceiling, int64 ``[Q, N]``, -1 where there are fewer."""
    open_ = np.where((scores < ceilings[:, None]) & ~left_out, scores, -np.inf)
    best = np.argpartition(-open_, N, axis=1)[:, :N]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(open_, best, axis=1), axis=1, kind="stable"), axis=1)
    return np.where(np.isfinite(np.take_along_axis(open_, best, axis=1)), best, -1)


def equal_ceiling(scores: np.ndarray, left_out: np.ndarray, wanted: float) -> float:
    """The constant ceiling below which the best N documents score ``wanted`` on average, by bisection."""
    ordered = -np.sort(np.where(left_out, np.inf, -scores), axis=1)  # descending, what is left out last at -inf
    low, high = float(scores.min()), float(scores.max())
    for _ in range(30):
        middle = (low + high) / 2
        at = (ordered >= middle).sum(axis=1)[:, None] + np.arange(N)
        found = np.take_along_axis(ordered, np.minimum(at, ordered.shape[1] - 1), axis=1)
        there = np.isfinite(found) & (at < ordered.shape[1])
        low, high = (middle, high) if not there.any() or found[there].mean() < wanted else (low, middle)
    return (low + high) / 2
