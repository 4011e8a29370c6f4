"""Vectors rounded to fewer bits, with a step per row: int8, or bfloat16 where the processor multiplies that natively.

Let ``d'`` be a document's codes times its step, ``q'`` a query's. Then ``q.d - q'.d' = (q - q').d + q'.(d - d')``, each at most the
product of the lengths (Cauchy-Schwarz), and how far rounding moved a vector is measured for each row. Products of int8 codes
are summed in int32, exactly. Products of bfloat16 numbers are exact in float32; a sum of n of them is off by at most
``4 n u |q'||d'|``, since matrix units may cut off instead of rounding (Fasi et al., 2021, on their behaviour), and is rounded to
bfloat16 once more, by ``2^-8`` of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from hf_posmine.search import kernels
from hf_posmine.search.error_bounds import ROUNDOFF, UNIT_ROUNDOFF
from hf_posmine.utils.upstream import int8_product

if TYPE_CHECKING:
    import torch

    from hf_posmine.core.types import Floats
    from hf_posmine.search.error_bounds import Documents, Queries
    from hf_posmine.search.rescore import Similarity

Kind: TypeAlias = Literal["int8", "bfloat16"]
PAD = 64
"""Rows of codes are padded with zeros to a multiple of it."""
CODES = {"int8": np.int8, "bfloat16": np.uint16}
"""numpy has no bfloat16: its numbers are kept as their bits."""
SLACK = 2.0**-10
"""Share by which a length that is summed in float32 may be too short; generous for up to 8,000 dimensions."""


@dataclass(frozen=True)
class Rounded:
    """Vectors rounded with a step per row, and how far that moved them.

    Attributes:
        codes: int8, or uint16 bits of bfloat16, ``[m, d padded to 64]``.
        steps: float32 ``[m]``; ``codes * steps`` is near the vectors.
        quantization_error: float64 ``[m]``, at least |v - codes * step|.
        lengths: float64 ``[m]``, at least |codes * step|.
    """

    codes: np.ndarray
    steps: Floats
    quantization_error: np.ndarray
    lengths: np.ndarray


def padded(dimensions: int) -> int:
    """Numbers of a row of codes."""
    return -(-dimensions // PAD) * PAD


def rounded(kind: Kind, vectors: Floats) -> Rounded:
    """Round vectors float32 ``[m, d]``."""
    vectors = np.ascontiguousarray(vectors)
    codes = np.zeros((len(vectors), padded(vectors.shape[1])), CODES[kind])
    if kind == "int8":
        return Rounded(codes, *kernels.round_to_int8(vectors, codes))
    return Rounded(codes, *_round_to_bfloat16(vectors, codes))


def _round_to_bfloat16(vectors: Floats, codes: np.ndarray) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Write the bits of ``vectors / step`` as bfloat16, where the step is a row's largest number, so that nothing overflows."""
    import torch

    steps = np.abs(vectors).max(axis=1, initial=0)
    steps[steps == 0] = 1
    wide = torch.from_numpy(vectors / steps[:, None])
    near = wide.to(torch.bfloat16)
    codes[:, : vectors.shape[1]] = near.view(torch.int16).numpy().view(np.uint16)
    # The difference of a number and its nearest bfloat16 is exact in float32. The division before it was off by 2^-24 of each
    # number, and the sums of squares are: the slack covers both.
    lengths = near.float().square_().sum(1).sqrt_().double().numpy() * (1 + SLACK)
    apart = (
        wide.sub_(near.float()).square_().sum(1).sqrt_().double().numpy() * (1 + SLACK) + 4 * UNIT_ROUNDOFF * lengths
    )
    return steps, apart * steps, lengths * steps


def tensor_of(codes: np.ndarray) -> torch.Tensor:
    """Codes as torch multiplies them; the memory is shared."""
    import torch

    if codes.dtype == CODES["int8"]:
        return torch.from_numpy(codes)
    return torch.from_numpy(codes.view(np.int16)).view(torch.bfloat16)


def product_of_codes(queries: torch.Tensor, documents: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """``[B, p]`` times ``[p, n]`` of :func:`tensor_of`: int32, or bfloat16."""
    import torch

    if queries.dtype == torch.int8:
        return int8_product(queries, documents, out)
    return torch.mm(queries, documents, out=out)


def as_array(products: torch.Tensor) -> np.ndarray:
    """Products as an array: int32, or uint16 bits of bfloat16."""
    import torch

    if products.dtype == torch.int32:
        return products.numpy()
    return products.view(torch.int16).numpy().view(np.uint16)


def rounding_error(similarity: Similarity, queries: Queries, own: Rounded, documents: Documents) -> np.ndarray:
    """Largest error float64 ``[B]`` of products of codes, besides ``own.lengths[i] * documents.coded.quantization_error[j]``.

    The scaling of products in float32 and the ends of intervals are rounded, too, and so is the distance that decides in the end.
    """
    coded = documents.coded
    longest = documents.length + (coded.most if coded else 0.0)
    reach = (own.lengths + own.quantization_error) * longest + documents.square
    if similarity == "euclidean":
        reach = reach + queries.squares
    error = own.quantization_error * documents.length + 16 * UNIT_ROUNDOFF * reach
    return error + product_error(own.codes) * own.lengths * longest


def product_error(codes: np.ndarray) -> float:
    """Largest error of a product of codes as a share of the product of their lengths."""
    if codes.dtype == CODES["int8"]:
        return 0.0
    sums = 4 * (codes.shape[1] + 16) * UNIT_ROUNDOFF
    return sums + ROUNDOFF["bfloat16"] * (1 + sums)
