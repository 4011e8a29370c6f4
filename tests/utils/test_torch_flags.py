"""Exact products, whatever the process has switched on, and its switches as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_posmine.search.exact import ExactIndex
from hf_posmine.utils.torch_flags import exact_products

MODULES = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def by_module(precision: str) -> None:
    for module in MODULES:
        module.fp32_precision = precision


WAYS = {
    "nothing": lambda: None,
    "legacy": lambda: torch.set_float32_matmul_precision("medium"),
    "newer": lambda: by_module("tf32"),
    "newer on a CPU": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "both": lambda: (torch.set_float32_matmul_precision("high"), setattr(MODULES[0], "fp32_precision", "ieee")),
}


@pytest.fixture(params=WAYS)
def switched(request):
    """A process that has switched something on; restored afterwards."""
    before = [module.fp32_precision for module in MODULES]
    WAYS[request.param]()
    yield request.param
    torch.set_float32_matmul_precision("highest")
    for module, precision in zip(MODULES, before, strict=True):
        module.fp32_precision = precision


def state() -> list[object]:
    return [module.fp32_precision for module in MODULES]


def test_products_are_exact_inside_and_switches_as_before_outside(switched):
    rng = np.random.default_rng(3)
    a, b = (torch.from_numpy(rng.standard_normal((70, 300))).float() for _ in range(2))
    before = state()
    with exact_products():
        products = a @ b.T
        assert state() == ["ieee", "ieee"]
    assert state() == before
    assert (products - a.double() @ b.double().T).abs().max() < 1e-3


def test_a_search_gives_the_same_under_every_switch(switched):
    rng = np.random.default_rng(4)
    documents, queries = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (900, 40))
    found = ExactIndex(documents, engine="torch").search(queries, 5, below=np.full(40, 0.3, np.float32))
    scores = np.where(np.isneginf(found.scores), np.inf, found.scores)
    full = queries.astype(np.float64) @ documents.T.astype(np.float64)
    full /= np.linalg.norm(queries, axis=1)[:, None].astype(np.float64) * np.linalg.norm(documents, axis=1)
    expected = np.sort(np.where(full.astype(np.float32) < np.float32(0.3), full, -np.inf), axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(scores, expected, atol=1e-7)
