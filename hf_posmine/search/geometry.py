"""One scan for every similarity: ``products * scale + bias``, with a proved bound on its error.

- dot: scale 1, bias 0. Cosine: scale 1/|d|, on unit queries. Euclidean: bias -|d|^2 / 2, which orders as -|q - d|.
- int8: the same, with each row's own quantisation step folded into the scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hf_posmine.search.similarity import Similarity
    from hf_posmine.store import Vectors
    from hf_posmine.types import Floats, Rows

UNIT_ROUNDOFF = 2.0**-24
TINY = 1e-37
PAD = 64


@dataclass(frozen=True)
class Documents:
    """What a scan knows of the documents besides their vectors.

    Attributes:
        scale: float32 ``[N]``, NaN hides a document.
        bias: float32 ``[N]``.
        length: the largest |d| after scaling.
        square: the largest |d|^2 before scaling.
    """

    scale: Floats
    bias: Floats
    length: float
    square: float

    @classmethod
    def of(cls, similarity: Similarity, vectors: Vectors, stop: int, block_rows: int) -> Documents:
        """Measure the first ``stop`` documents in one pass."""
        squares = np.empty(stop, np.float64)
        for start, block in vectors.blocks(block_rows, stop, once=True):
            squares[start : start + len(block)] = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        largest = float(squares.max(initial=0.0))
        refuse_tiny(squares, "document")
        scale, bias, length = np.ones(stop, np.float32), np.zeros(stop, np.float32), largest**0.5
        if similarity == "cosine":
            scale = np.divide(1, np.sqrt(squares), out=np.zeros(stop), where=squares > 0).astype(np.float32)
            length = 1.0
        elif similarity == "euclidean":
            bias = (-squares / 2).astype(np.float32)
        return cls(scale, bias, length, largest)

    def hide(self, rows: Rows) -> Documents:
        """The same documents with some of them invisible to every query."""
        if not len(rows):
            return self
        scale = self.scale.copy()
        scale[rows[rows < len(scale)]] = np.nan
        return Documents(scale, self.bias, self.length, self.square)


@dataclass(frozen=True)
class Queries:
    """Query vectors as a scan takes them.

    Attributes:
        vectors: float32 ``[B, d]``, of unit length for cosine.
        squares: float64 ``[B]``, |q|^2.
    """

    vectors: Floats
    squares: np.ndarray

    @classmethod
    def of(cls, similarity: Similarity, vectors: Floats) -> Queries:
        """Prepare vectors float32 ``[B, d]``."""
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        refuse_tiny(squares, "query")
        if similarity == "cosine":
            norms = np.sqrt(np.where(squares > 0, squares, 1))
            vectors, squares = (vectors / norms[:, None]).astype(np.float32), (squares > 0).astype(np.float64)
        return cls(np.ascontiguousarray(vectors, np.float32), squares)

    def take(self, at: Rows) -> Queries:
        """Some of the queries."""
        return Queries(self.vectors[at], self.squares[at])


def refuse_tiny(squares: np.ndarray, what: str) -> None:
    """Raise if a vector is not zero but so short that float32 products of it vanish."""
    tiny = np.flatnonzero((squares > 0) & (squares < TINY**2))
    if len(tiny):
        raise InputError(
            f"{what} vector {tiny[0]} has length {squares[tiny[0]] ** 0.5:.3g}, too short for float32 products; scale the "
            "vectors up, or normalize them"
        )


def float_error(similarity: Similarity, queries: Queries, documents: Documents) -> np.ndarray:
    """Largest error float64 ``[B]`` of a float32 scan: the dot product's rounding, scale and bias, and our roundings.

    A float32 sum of d products is off by at most about ``d u |q||d|`` in any order (Higham, 2002, section 3.1).
    """
    dimensions = queries.vectors.shape[1]
    lengths = np.sqrt(queries.squares)
    if similarity == "manhattan":
        reach = dimensions**0.5 * (lengths + documents.square**0.5)
        return 2 * (dimensions + 16) * UNIT_ROUNDOFF * reach
    reach = lengths * documents.length
    if similarity == "euclidean":
        reach = reach + queries.squares + documents.square
    return 2 * (dimensions + 16) * UNIT_ROUNDOFF * reach


@dataclass(frozen=True)
class Int8:
    """Vectors rounded to int8 with a step per row, and how far that moved them.

    Attributes:
        codes: int8 ``[m, d padded to 64]``.
        steps: float32 ``[m]``; ``codes * steps`` is near the vectors.
        moved: float64 ``[m]``, |v - codes * step|.
        lengths: float64 ``[m]``, |codes * step|.
    """

    codes: np.ndarray
    steps: Floats
    moved: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], rows: int, dimensions: int) -> Int8:
        """Round blocks of vectors, ``rows`` in all."""
        codes = np.zeros((rows, -(-dimensions // PAD) * PAD), np.int8)
        steps, moved, lengths = np.ones(rows, np.float32), np.zeros(rows), np.zeros(rows)
        at = 0
        for block in blocks:
            span = slice(at, at + len(block))
            largest = np.abs(block).max(axis=1)
            step = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            rounded = np.rint(block / step[:, None])
            near = rounded * step[:, None]
            codes[span, :dimensions], steps[span] = rounded, step
            moved[span] = np.sqrt(np.einsum("ij,ij->i", block - near, block - near, dtype=np.float64))
            lengths[span] = np.sqrt(np.einsum("ij,ij->i", near, near, dtype=np.float64))
            at += len(block)
        return cls(codes, steps, moved, lengths)


def int8_error(similarity: Similarity, queries: Queries, coded: Int8, documents: Documents, moved: float) -> np.ndarray:
    """Largest error float64 ``[B]`` of an int8 scan.

    ``q.d - q'.d' = (q - q').d + q'.(d - d')``, each at most the product of the lengths (Cauchy-Schwarz); ``moved`` is
    the largest |d - d'| after scaling. The int32 product itself is exact; its scaling in float32 is not, nor is the
    rounding of the distance that decides in the end.
    """
    rounding = 8 * UNIT_ROUNDOFF * ((coded.lengths + coded.moved) * (documents.length + moved) + documents.square)
    if similarity == "euclidean":
        rounding = rounding + 8 * UNIT_ROUNDOFF * queries.squares
    return coded.moved * documents.length + coded.lengths * moved + rounding
