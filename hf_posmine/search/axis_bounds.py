"""Upper bounds of full products from a product along the first principal axes, on any device.

With axes ``P`` (``[p, d]``), let ``x`` and ``y`` be the coordinates ``P v`` and ``P q`` of the vectors that are multiplied, as
their type holds them, ``w = v - P^T x`` and ``z = q - P^T y`` what these leave out, ``a = |P v - x|`` and ``b = |P q - y|``. Then

    q.v  =  y.(P P^T)x + y.(P w) + (P z).x + z.w
         <=  y.x + |z| |w| + |y| (a + 3 eta |x|) + b |x|,        eta = |P P^T - I|  (Cauchy-Schwarz, as in :mod:`.axis_codes`)

which is itself a product: of ``(y, |z|, |y|, b)`` with ``(x, |w|, a + 3 eta |x|, |x|)``. All lengths are measured in float64
and rounded up, so what is left is the rounding of two products, this one and the full one (:func:`product_gap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.search.error_bounds import ROUNDOFF, SUBNORMAL, UNIT_ROUNDOFF

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

BOUNDS = 3
"""Numbers of a row behind its coordinates."""
PIECE = 2048
"""Rows put along axes at a time."""
SLACK = 1e-10
"""Share of a vector's length by which float64 sums of up to 8,000 products, all of its coordinates together, may be off."""


@dataclass(frozen=True)
class AxisBounds:
    """The first principal axes, on a device.

    Attributes:
        basis: float64 ``[p, d]``, orthonormal rows up to rounding.
        eta: the Frobenius norm of ``basis @ basis.T - I``.
        pair: cost of a multiply-add of a single pair, counted in those of a product.
    """

    basis: torch.Tensor
    eta: float
    pair: float

    @classmethod
    def of(cls, basis: np.ndarray, device: str, pair: float) -> AxisBounds:
        """Axes float64 ``[p, d]``."""
        import torch

        eta = float(np.linalg.norm(basis @ basis.T - np.eye(len(basis))))
        return cls(torch.from_numpy(basis).to(device), eta, pair)

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(self.basis) + BOUNDS

    def documents(self, vectors: torch.Tensor) -> torch.Tensor:
        """Rows ``[m, width]`` of documents ``[m, d]``, in their type."""
        import torch

        rows = [_row(x, rest, apart + 3 * self.eta * length, length) for x, rest, apart, length in self._along(vectors)]
        return torch.cat(rows)

    def queries(self, vectors: torch.Tensor) -> torch.Tensor:
        """Rows ``[B, width]`` of queries ``[B, d]``, in their type: a product with those of documents bounds the full one."""
        import torch

        return torch.cat([_row(y, rest, length, apart) for y, rest, apart, length in self._along(vectors)])

    def _along(self, vectors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Rounded coordinates, and float64 ``[m]``: what they leave out, how far rounding moved them, and their length."""
        for piece in vectors.split(PIECE):
            wide = piece.double()
            inside = wide @ self.basis.T
            near = inside.to(vectors.dtype)
            x = near.double()
            slack = SLACK * wide.norm(dim=1)
            rest, apart = (wide - x @ self.basis).norm(dim=1), (inside - x).norm(dim=1)
            yield near, rest + slack, apart + slack, x.norm(dim=1) + slack


def _row(near: torch.Tensor, *lengths: torch.Tensor) -> torch.Tensor:
    """Coordinates and lengths, which are rounded up."""
    import torch

    name = str(near.dtype).removeprefix("torch.")
    up = torch.stack(lengths, dim=1) * (1 + 2 * ROUNDOFF[name]) + SUBNORMAL[name]
    return torch.cat([near, up.to(near.dtype)], dim=1)


def product_gap(dimensions: int, dtype: str, reach: np.ndarray) -> np.ndarray:
    """How far a full product may come out above its bound, float64 ``[B]``: by the rounding of both.

    Sums are off by at most ``4 n u`` of the sum of their terms (:func:`~.error_bounds.half_error`). That is 1.25 ``reach`` at
    most: ``|y| |x| + |z| |w| <= (1 + 2 u) |q| |v|``, and ``a`` and ``b`` are ``u`` of their vectors. Both products and the
    threshold are rounded once. Numbers near zero may vanish.

    Args:
        dimensions: of both products together.
        dtype: of the vectors.
        reach: float64 ``[B]``, the largest |q||v|, and what is added to a product.
    """
    sums = 4 * (dimensions + 32) * UNIT_ROUNDOFF
    return 1.25 * (sums + 3 * (ROUNDOFF[dtype] + SUBNORMAL[dtype])) * reach + (dimensions + 32) * 2.0**-126
