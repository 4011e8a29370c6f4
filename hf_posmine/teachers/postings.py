"""Documents as weighted terms, by term: the scores of lexical and learned sparse teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hf_posmine.core.types import Floats, Rows


@dataclass(frozen=True)
class Postings:
    """An inverted index: for each term the documents that have it, and its weight there.

    A score is a sum over terms in float64, in the order of the query's terms, rounded once, so that a document scores the
    same alone and in a corpus (semantics 7).

    Attributes:
        weights: float32 ``[P]``.
        documents: int32 ``[P]``, document rows, unique within a term.
        starts: int64 ``[T + 1]``, where each term's postings begin and end.
        num_documents: N.
    """

    weights: Floats
    documents: np.ndarray
    starts: Rows
    num_documents: int

    def scores(self, queries: Sequence[Mapping[int, float]]) -> Floats:
        """Scores float32 ``[B, N]`` of queries, each a mapping of term to weight; 0 where no term is shared."""
        out = np.empty((len(queries), self.num_documents), np.float32)
        for row, query in enumerate(queries):
            total = np.zeros(self.num_documents)
            for term, weight in query.items():
                at = slice(*self.starts[term : term + 2].tolist())
                total[self.documents[at]] += np.multiply(self.weights[at], weight, dtype=np.float64)
            out[row] = total
        return out

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder."""
        for name in ("weights", "documents", "starts"):
            np.save(folder / f"{name}.npy", vars(self)[name])
        np.save(folder / "num_documents.npy", np.array(self.num_documents))

    @classmethod
    def load(cls, folder: Path) -> Postings:
        """The arrays of a folder, memory-mapped."""
        weights, documents, starts = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("weights", "documents", "starts")
        )
        return cls(weights, documents, starts, int(np.load(folder / "num_documents.npy")))


def pair_score(query: Mapping[int, float], document: Mapping[int, float]) -> np.float32:
    """The score of a query with one document, both mappings of term to weight: what :class:`Postings` would give.

    >>> float(pair_score({1: 1.0, 2: 2.0}, {2: 0.25, 3: 1.0}))
    0.5
    """
    total = 0.0
    for term, weight in query.items():
        if term in document:
            total += float(np.float32(document[term])) * weight
    return np.float32(total)
