"""The speed of products of codes on this processor, measured once per process, in milliseconds. It moves no result."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.search import kernels
from hf_posmine.search.rounding import CODES, padded, product_of_codes, tensor_of
from hf_posmine.utils.threads import least_seconds, one_blas_thread, one_torch_thread_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from hf_posmine.search.rounding import Kind

PROBES = {(32, 512): 2.0, (512, 2048): 0.7}
"""Queries and documents -> the largest share of float32's time. A processor without such products takes ten times as long as in
float32, which a small product shows; at full size its probe would take seconds."""
SHAPE = (256, 1024)
"""The same of 16-bit products."""
TYPICAL_DIMENSIONS = 384
"""For what has to be known before the vectors are: which products are quicker hardly depends on their length."""


@functools.cache
def quickest_rounding(dimensions: int) -> Kind | None:
    """What torch multiplies quickest here: int8 with VNNI, bfloat16 with AMX; None where float32 is about as quick."""
    kinds: tuple[Kind, ...] = ("int8", "bfloat16")
    shares = {kind: share for kind in kinds if (share := _rounding_share(kind, dimensions)) is not None}
    return min(shares, key=lambda kind: shares[kind], default=None)


@functools.cache
def int16_share(dimensions: int) -> float:
    """Time of the compiled 16-bit products as a share of float32's."""
    queries, documents = (np.ones((rows, padded(dimensions)), np.int16) for rows in SHAPE)
    length, out = queries.shape[1], np.empty(SHAPE, np.int32)
    return _share(lambda: kernels.int16_products(queries, documents, length, out), dimensions, *SHAPE)


def _rounding_share(kind: Kind, dimensions: int) -> float | None:
    """Time of products of codes as a share of float32's; None where they are not worth it, or torch refuses them."""
    share = None
    for (queries, documents), most in PROBES.items():
        a, b = (tensor_of(np.ones((rows, padded(dimensions)), CODES[kind])) for rows in (queries, documents))
        try:
            # Scans write into one block again and again; a new one costs as much as its product.
            out = product_of_codes(a, b.t())
            share = _share(functools.partial(product_of_codes, a, b.t(), out), dimensions, queries, documents)
        except (RuntimeError, AttributeError):  # a private operator of torch: absent or refused on some builds
            return None
        if share >= most:
            return None
    return share


def _share(product: Callable[[], object], dimensions: int, queries: int, documents: int) -> float:
    """Time of a product as a share of the same in float32, on one core."""
    a, b = np.ones((queries, dimensions), np.float32), np.ones((documents, dimensions), np.float32)
    out = np.empty((queries, documents), np.float32)
    with one_blas_thread(), one_torch_thread_each(1) as pool:
        runs = (product, lambda: np.matmul(a, b.T, out=out))
        mine, float32 = (pool.submit(least_seconds, run).result() for run in runs)
    return mine / max(float32, 1e-9)  # a coarse clock may see no time at all
