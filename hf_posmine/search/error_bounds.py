"""One scan for every similarity: ``products * scale + bias``, with a proved bound on its error.

- dot: scale 1, bias 0. Cosine: scale 1/|d|, on unit queries. Euclidean: bias -|d|^2 / 2, which orders as -|q - d|.
- codes of fewer bits (:mod:`.rounding`): the same, with each row's own quantisation step folded into the scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.search.rescore import Similarity

UNIT_ROUNDOFF = 2.0**-24
TINY = 1e-37


@dataclass(frozen=True)
class Coded:
    """Documents rounded to fewer bits (:mod:`.rounding`), for the coarse scan.

    Attributes:
        codes: int8, or uint16 bits of bfloat16, ``[N, d padded to 64]``.
        scale: float32 ``[N]``, the step of each row times its scale.
        quantization_error: float32 ``[N]``, distance of each document from its codes, after scaling; rounded up.
        most: the largest of ``quantization_error``.
    """

    codes: np.ndarray
    scale: Floats
    quantization_error: Floats
    most: float


@dataclass(frozen=True)
class Documents:
    """Columns that a scan reads besides the vectors; large arrays are memory maps (:mod:`.prepared`).

    Attributes:
        scale: float32 ``[N]``.
        bias: float32 ``[N]``.
        length: the largest |d| after scaling.
        square: the largest |d|^2 before scaling.
        coded: the same documents in fewer bits, for a scan that wants them.
    """

    scale: Floats
    bias: Floats
    length: float
    square: float
    coded: Coded | None = None


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


def scale_and_bias(similarity: Similarity, squares: np.ndarray) -> tuple[Floats, Floats]:
    """Both float32 ``[m]``, from |d|^2 in float64."""
    scale, bias = np.ones(len(squares), np.float32), np.zeros(len(squares), np.float32)
    if similarity == "cosine":
        scale = np.divide(1, np.sqrt(squares), out=np.zeros(len(squares)), where=squares > 0).astype(np.float32)
    elif similarity == "euclidean":
        bias = (-squares / 2).astype(np.float32)
    return scale, bias


def refuse_tiny(squares: np.ndarray, what: str, first: int = 0) -> None:
    """Raise if a vector is not zero but so short that float32 products of it vanish; row 0 has the number ``first``."""
    tiny = np.flatnonzero((squares > 0) & (squares < TINY**2))
    if len(tiny):
        raise InputError(
            f"{what} vector {first + tiny[0]} has length {squares[tiny[0]] ** 0.5:.3g}, too short for float32 products; "
            "scale the vectors up, or normalize them"
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


ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": UNIT_ROUNDOFF}
SUBNORMAL = {"float16": 2.0**-24, "bfloat16": 2.0**-126, "float32": 2.0**-126}
"""What numbers near zero may be off by: float16 has few exponents."""


def half_error(dimensions: int, dtype: str) -> float:
    """Largest error of a product of two 16-bit vectors of length 1 at most, summed in float32 and rounded to 16 bits.

    ``q.d - q'.d' = (q - q').d + q'.(d - d')``, where rounding moves a vector by at most u of its length (Cauchy-Schwarz).
    Products of 16-bit numbers are exact in float32. Tensor cores may cut off instead of rounding, so a sum of d of them
    is counted as off by 4 d u32 (Fasi et al., 2021, on their behaviour). The result is rounded once more.
    """
    u, near_zero = ROUNDOFF[dtype], SUBNORMAL[dtype]
    quantization_error = u + near_zero * dimensions**0.5
    reach = (1 + quantization_error) ** 2
    return (
        quantization_error * (2 + quantization_error)
        + 4 * (dimensions + 16) * UNIT_ROUNDOFF * reach
        + (u + near_zero) * 1.01 * reach
    )
