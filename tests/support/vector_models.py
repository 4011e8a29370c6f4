"""Models over given vectors, with as much of a SentenceTransformer and a CrossEncoder as mine_hard_negatives asks for."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import torch


class VectorModel:
    """Texts with given vectors, which are of length 1."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(model_id=None, base_model="vectors")

    def __init__(self, vectors: dict[str, np.ndarray], similarity: str = "cosine") -> None:
        self.vectors, self.similarity_fn_name = vectors, similarity

    def encode_query(self, texts, **_: object) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts]).astype(np.float32)

    encode_document = encode_query

    def similarity(self, queries, documents) -> torch.Tensor:
        queries, documents = torch.as_tensor(queries), torch.as_tensor(documents)
        if self.similarity_fn_name == "euclidean":
            return -torch.cdist(queries, documents)
        return queries @ documents.T

    def similarity_pairwise(self, queries, documents) -> torch.Tensor:
        queries, documents = torch.as_tensor(queries), torch.as_tensor(documents)
        if self.similarity_fn_name == "euclidean":
            return -(queries - documents).norm(dim=1)
        return (queries * documents).sum(dim=1)


class HashedPairs:
    """A cross-encoder whose score of a pair, between -1 and 1, follows from its texts."""

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, pairs, **_: object) -> torch.Tensor:
        self.asked += len(pairs)
        digests = [hashlib.sha256("\n".join(pair).encode()).digest() for pair in pairs]
        return torch.tensor([int.from_bytes(d[:3], "little") / (1 << 23) - 1 for d in digests])


def random_vectors(texts: list[str], seed: int, dimensions: int = 6) -> dict[str, np.ndarray]:
    """A random direction for each text: no two scores of a query are the same."""
    drawn = np.random.default_rng(seed).standard_normal((len(texts), dimensions))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return dict(zip(texts, drawn.astype(np.float32), strict=True))


def scored(scores: dict[str, float]) -> dict[str, np.ndarray]:
    """Vectors whose cosine with that of the query ``"q"`` is a given share of 8, exactly: halves, quarters, eighths.

    Each vector has 16 entries of a quarter with a sign, so lengths and products are exact in float32.
    """
    vectors = {"q": np.full(16, 0.25, np.float32)}
    for text, score in scores.items():
        flipped = round((1 - score) * 8)
        assert score == 1 - flipped / 8, f"{score} is not a multiple of 1/8"
        vectors[text] = np.where(np.arange(16) < flipped, -0.25, 0.25).astype(np.float32)
    return vectors
