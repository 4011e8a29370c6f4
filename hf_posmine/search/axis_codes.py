"""Vectors as 16-bit codes along axes: products of the first few axes, or of all, each with a proved error.

With an orthonormal basis ``P`` (``[p, d]``), let ``x'`` be the coordinates ``P v`` of a document rounded to codes times a step,
``y'`` those of a query, and ``w = v - P^T x'``, ``z = q - P^T y'`` what these leave out: the other axes, and the rounding. Then

    q.v = y'.(P P^T)x' + y'.(P w) + (P z).x' + z.w

    |q.v - y'.x'|  <=  |z| |w|  +  |y'| a + |x'| b  +  3 eta |x'| |y'|        (Cauchy-Schwarz)

with ``a = |P v - x'|`` and ``b = |P q - y'|``, the rounding alone, because ``|P w| <= a + eta |x'|`` where
``eta = |P P^T - I|``: a basis in floating point is not exactly orthonormal. All lengths are measured in float64,
``|w|^2 = |v|^2 - 2 (P v).x' + x'.(P P^T)x'``, and rounded up. The product of codes is exact: rows of codes are at most 46,000
long, so by Cauchy-Schwarz no sum, nor a part of one, reaches 2^31.

Looking at some dimensions first is the idea of PDX (SIGMOD 2025), ADSampling and FEXIPRO; the bound here is certain, not probable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.search import kernels
from hf_posmine.search.error_bounds import UNIT_ROUNDOFF
from hf_posmine.search.groups import GROUP, ungrouped

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.search.error_bounds import Documents, Queries
    from hf_posmine.search.rescore import Similarity

STEP = 32
"""Lengths are multiples of it; codes are padded to one with zeros."""
MOST_CODE, MOST_LENGTH = 32_000, 46_000
"""The largest code, and the greatest length of a row of codes before rounding, which adds less than 100."""
SLACK = 1e-10
"""Share of a squared length by which sums of at most a hundred thousand float64 products may be off, generously."""


def lengths_of(dimensions: int, *, few: bool) -> Rows:
    """How many axes a product may have, int64 ``[L]``: with ``few`` up to half of them, which is where it pays; and all, padded."""
    most = dimensions // 2 if few else 0
    return np.array([*range(STEP, most + 1, STEP), -(-dimensions // STEP) * STEP], np.int64)


@dataclass(frozen=True)
class Codes:
    """Vectors along axes, rounded; one row of ``lengths``, ``apart`` and ``rest`` per number of axes.

    Attributes:
        codes: int16 ``[m, p]``.
        steps: float32 ``[m]``; ``codes * steps`` are near the coordinates.
        lengths: float64 ``[L, m]``, of ``codes * steps``.
        apart: float64 ``[L, m]``, distance of the coordinates from them; rounded up.
        rest: float64 ``[L, m]``, length of what they leave out of the vectors; rounded up.
    """

    codes: np.ndarray
    steps: Floats
    lengths: np.ndarray
    apart: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class Axes:
    """An orthonormal basis up to rounding, or the vectors' own coordinates.

    Attributes:
        dimensions: of the vectors, d.
        basis: float64 ``[d, d]``, the most important axis first; None for the vectors' own coordinates.
    """

    dimensions: int
    basis: np.ndarray | None = None

    @cached_property
    def eta(self) -> float:
        """The Frobenius norm of ``basis @ basis.T - I``."""
        return 0.0 if self.basis is None else float(np.linalg.norm(self.basis @ self.basis.T - np.eye(len(self.basis))))

    @property
    def padded(self) -> int:
        """Numbers of a row of codes."""
        return int(self.lengths[-1])

    @property
    def lengths(self) -> Rows:
        """See :func:`lengths_of`."""
        return lengths_of(self.dimensions, few=self.basis is not None)

    def codes(self, vectors: Floats) -> Codes:
        """Codes of vectors float32 ``[m, d]``."""
        wide = vectors.astype(np.float64)
        inside = np.zeros((len(wide), self.padded))
        inside[:, : self.dimensions] = wide if self.basis is None else wide @ self.basis.T
        squares = np.einsum("ij,ij->i", wide, wide)
        largest = np.abs(inside).max(axis=1, initial=0)
        steps = np.maximum(np.sqrt(squares) / MOST_LENGTH, largest / MOST_CODE).astype(np.float32)
        steps[steps == 0] = 1  # zero vectors
        codes = np.rint(inside / steps[:, None]).astype(np.int16)
        near = codes * steps[:, None].astype(np.float64)
        slack = (SLACK + self.eta) * squares
        lengths, apart = self._sums(near * near), self._sums(np.square(inside - near))
        rest = squares - 2 * self._sums(inside * near) + lengths + slack
        return Codes(codes, steps, np.sqrt(lengths), np.sqrt(apart + slack), np.sqrt(np.maximum(rest, 0) + slack))

    def _sums(self, terms: np.ndarray) -> np.ndarray:
        """Sums over the first axes of ``[m, p]``, ``[L, m]``."""
        sums = terms.reshape(len(terms), -1, STEP).sum(axis=2).cumsum(axis=1)
        return np.ascontiguousarray(sums[:, self.lengths // STEP - 1].T)


@dataclass(frozen=True)
class AxisCodes:
    """Documents along axes.

    Attributes:
        axes: the axes.
        codes: int16 ``[N, p]``, in groups (:mod:`.groups`).
        scale: float32 ``[N]``, the step of each row times its scale.
        rest: for each number of axes float32 ``[N]``, the length of what the codes leave out, after scaling; rounded up.
        most: the largest distance of coordinates from their codes, after scaling.
    """

    axes: Axes
    codes: np.ndarray
    scale: Floats
    rest: tuple[Floats, ...]
    most: float

    def products(
        self, queries: np.ndarray, start: int, stop: int, length: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Products int32 ``[B, stop - start]`` of the first numbers of codes, exact.

        Args:
            queries: codes int16 ``[B, p]``.
            start: the first document, a multiple of 8.
            stop: behind the last one, a multiple of 8 or all documents.
            length: how many numbers count, one of ``axes.lengths``.
            out: where to write them.
        """
        if start % GROUP:
            raise ValueError(f"start={start} is inside a group of {GROUP} documents")
        block = np.asarray(self.codes[start:stop])
        out = np.empty((len(queries), len(block)), np.int32) if out is None else out
        whole = len(block) // GROUP * GROUP
        kernels.int16_products(queries, block, length, out)
        if whole < len(block):
            out[:, whole:] = queries[:, :length].astype(np.int32) @ block[whole:, :length].T.astype(np.int32)
        return out

    def coordinates(self, rows: Rows) -> Floats:
        """About the scaled coordinates of some documents, float32 ``[m, p]``."""
        whole = len(self.codes) // GROUP * GROUP
        first = np.where(rows < whole, rows // GROUP * GROUP, rows)
        made = np.empty((len(rows), self.codes.shape[1]), np.float32)
        for number, (row, start) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
            size = GROUP if row < whole else 1
            made[number] = ungrouped(np.asarray(self.codes[start : start + size]))[row - start]
        return made * self.scale[rows, None]


def axis_error(
    similarity: Similarity, queries: Queries, own: Codes, number: int, documents: Documents, coded: AxisCodes
) -> np.ndarray:
    """Largest error float64 ``[B]`` of products of codes, besides ``own.rest[number, i] * coded.rest[number][j]``.

    Args:
        similarity: cosine, dot or euclidean.
        queries: the query vectors.
        own: their codes.
        number: which of the lengths of the axes.
        documents: scale, bias and the largest lengths.
        coded: their codes.
    """
    lengths, apart, rest = own.lengths[number], own.apart[number], own.rest[number]
    eta, longest = coded.axes.eta, 1.01 * documents.length + coded.most
    # products are scaled, and ends of intervals computed, in float32; nothing left out is longer than its vector
    reach = (lengths + rest) * 2.01 * longest + documents.square
    if similarity == "euclidean":
        reach = reach + queries.squares
    return lengths * coded.most + (apart + 3 * eta * lengths) * longest + 16 * UNIT_ROUNDOFF * reach
