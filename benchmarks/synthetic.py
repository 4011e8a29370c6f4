"""The task: clustered unit vectors with weak positives, texts with their number in them, and a model that reads it."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLUSTERS = 2000
SPREAD = 0.8
WEAK_RANKS = (110, 3000)
CHUNK = 256


@dataclasses.dataclass
class Task:
    """Unit vectors float32 ``[Q, d]`` and ``[N, d]``, each query's positive document, and which of these are weak."""

    queries: np.ndarray
    documents: np.ndarray
    positives: np.ndarray
    weak: np.ndarray

    @property
    def query_texts(self) -> list[str]:
        return [f"question number {i}" for i in range(len(self.queries))]

    @property
    def document_texts(self) -> list[str]:
        return [f"passage number {i}" for i in range(len(self.documents))]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, array in vars(self).items():
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> Task:
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in dataclasses.fields(cls)})

    @classmethod
    def make(cls, queries: int, documents: int, dim: int, weak: float, seed: int = 0) -> Task:
        """Documents around centres; a query lies between its document and other draws of the same cluster.

        A weak query has, instead of its document, one of rank 110 to 3,000 as its positive. All documents ranked before
        it are above its ceiling, so the first 100 hold no valid negative, whatever the margin.
        """
        rng = np.random.default_rng(seed)
        centres = _unit(rng.standard_normal((CLUSTERS, dim), np.float32))
        cluster = rng.integers(0, CLUSTERS, documents)
        noise = _noise(rng, documents, dim)
        positives = rng.integers(0, documents, queries)
        near = rng.uniform(0.1, 1, (queries, 1)).astype(np.float32)
        vectors = _noise(rng, queries, dim)
        vectors *= np.sqrt(1 - near**2)
        vectors += near * noise[positives]
        vectors *= SPREAD
        vectors += centres[cluster[positives]]
        noise *= SPREAD
        noise += centres[cluster]
        task = cls(_unit(vectors), _unit(noise), positives, np.zeros(queries, bool))
        task._weaken(weak, rng)
        return task

    def _weaken(self, share: float, rng: np.random.Generator) -> None:
        rows = np.sort(rng.choice(len(self.queries), round(share * len(self.queries)), replace=False))
        low, high = WEAK_RANKS[0], min(WEAK_RANKS[1], len(self.documents) - 50)
        ranks = np.exp(rng.uniform(np.log(low), np.log(max(high, low + 1)), len(rows))).astype(np.int64)
        for start in range(0, len(rows), CHUNK):
            scores = self.queries[rows[start : start + CHUNK]] @ self.documents.T
            for offset, row in enumerate(scores):
                rank = ranks[start + offset]
                self.positives[rows[start + offset]] = np.argpartition(-row, rank)[rank]
        self.weak[rows] = True


class StubModel:
    """Gives precomputed rows by the number in the text; serves ``mine_hard_negatives`` and our DenseTeacher alike.

    Its similarities are the very functions of sentence-transformers' cosine. Rows asked for in order come as a view.
    """

    similarity_fn_name = "cosine"
    device = "cpu"

    def __init__(self, task: Task) -> None:
        from sentence_transformers.util import SimilarityFunction

        self.task, self.prompts = task, {}
        self.model_card_data = SimpleNamespace(base_model=None, model_id="stub")
        self.similarity = SimilarityFunction.to_similarity_fn("cosine")
        self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn("cosine")

    def encode_query(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        return _rows(self.task.queries, texts)

    def encode_document(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        return _rows(self.task.documents, texts)

    def get_embedding_dimension(self) -> int:
        return self.task.documents.shape[1]


def numbers(texts: Sequence[str]) -> np.ndarray:
    """The number in each text."""
    return np.array([int(text[text.rindex(" ") :]) for text in texts], np.int64)


def _rows(vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    at = numbers(texts)
    first, last = (int(at[0]), int(at[-1])) if len(at) else (0, -1)
    in_order = last - first + 1 == len(at) and bool((np.diff(at) == 1).all())
    return vectors[first : last + 1] if in_order else vectors[at]


def _noise(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Noise float32 ``[rows, dim]`` of about unit length."""
    noise = rng.standard_normal((rows, dim), np.float32)
    noise *= np.float32(dim**-0.5)
    return noise


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def save_json(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))
