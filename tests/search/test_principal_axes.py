"""Scans along principal axes: used where they help, exact always, stored once."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine.encoding.store import Vectors
from hf_posmine.search import principal_axes
from hf_posmine.search.coarse import PrefixProducts
from hf_posmine.search.error_bounds import Documents
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.principal_axes import Axes, Prefix, choose_length, find_axes

DIMENSIONS, ROWS = 128, 40_000


@pytest.fixture(autouse=True)
def fresh_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))


def low_rank(rows: int = ROWS, rank: int = 12, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    """Vectors whose length lies mostly in a few directions, as those of text models does."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(7).standard_normal((rank, DIMENSIONS))
    made = rng.standard_normal((rows, rank)) @ directions + noise * rng.standard_normal((rows, DIMENSIONS))
    return made.astype(np.float32)


def noise(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, DIMENSIONS)).astype(np.float32)


def scan_of(index: ExactIndex):
    return index._compiled_scans[0].coarse


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_a_prefix_is_taken_where_axes_hold_most_and_gives_the_same(similarity):
    documents, queries = low_rank(), low_rank(300, seed=1)
    plain = ExactIndex(documents, similarity, engine="float32")
    below = np.sort(plain.score(queries, np.tile(np.arange(50), (300, 1))), axis=1)[:, -2]
    exclude = [[i, i + 1, 5] for i in range(300)]
    prefix = ExactIndex(documents, similarity, engine="prefix")
    found = prefix.search(queries, 7, below=below, exclude=exclude)
    expected = plain.search(queries, 7, below=below, exclude=exclude)
    for name in ("doc_ids", "scores", "above"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert isinstance(scan_of(prefix), PrefixProducts)
    assert scan_of(prefix).prefix.coordinates.shape[1] == DIMENSIONS // 2


@pytest.mark.parametrize(
    "documents", [noise(), low_rank(2000), low_rank()[:, :48]], ids=["isotropic", "few documents", "few dimensions"]
)
def test_otherwise_the_plain_scan_is_used(documents):
    assert scan_of(ExactIndex(np.ascontiguousarray(documents), engine="prefix")) is None


def test_axes_are_found_once_and_then_read(monkeypatch):
    documents, queries = low_rank(), low_rank(20, seed=1)
    first = ExactIndex(documents, "dot", engine="prefix").search(queries, 3)
    monkeypatch.setattr(principal_axes, "find_axes", lambda *_: pytest.fail("found again"))
    again = ExactIndex(documents, "dot", engine="prefix")
    np.testing.assert_array_equal(again.search(queries, 3).doc_ids, first.doc_ids)
    assert isinstance(scan_of(again), PrefixProducts)


def test_axes_of_a_processor_that_rounds_differently_stay_exact():
    """Any basis is allowed, orthonormal or nearly so: the bound takes what it is."""
    documents = low_rank(500)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSIONS, 64)))[0].T
    axes = Axes.of(basis + 1e-6 * np.random.default_rng(1).standard_normal(basis.shape))
    inside, rest = axes.coordinates(documents)
    assert len(axes.lengths) == len(rest) == 2
    for length, outside in zip(axes.lengths.tolist(), rest, strict=True):
        left = documents.astype(np.float64) - inside[:, :length].astype(np.float64) @ axes.basis[:length]
        assert (np.linalg.norm(left, axis=1) <= outside).all()


def test_a_span_chooses_a_short_prefix_where_few_axes_hold_most():
    documents, queries = low_rank(), low_rank(40, seed=1)
    axes = find_axes("dot", Vectors((documents,)), ROWS)
    assert axes is not None and axes.eta < 1e-12
    inside, outside = axes.coordinates(documents)
    prefix = Prefix(axes, inside, outside.astype(np.float32))
    own, rest = axes.coordinates(queries)
    low = np.sort(queries @ documents[:4096].T, axis=1)[:, -4]
    plain = Documents(np.ones(ROWS, np.float32), np.zeros(ROWS, np.float32), 1.0, 1.0)
    assert choose_length(prefix, own, rest, low, plain, 4096) == 0
    assert choose_length(prefix, own, rest, np.full(40, -np.inf, np.float32), plain, 4096) is None
