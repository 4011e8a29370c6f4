"""Scans along principal axes: a few where they help, all otherwise, exact always, stored once."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine.encoding.store import Vectors
from hf_posmine.search import exact, kernels, principal_axes, product_speed
from hf_posmine.search.axis_codes import Axes, AxisCodes
from hf_posmine.search.coarse import AxisProducts
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.groups import grouped, ungrouped
from hf_posmine.search.prepared import prepare_axes
from hf_posmine.search.principal_axes import find_axes

DIMENSIONS, ROWS = 128, 10_000


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


def products_of(index: ExactIndex) -> AxisProducts | None:
    return index._compiled_scans[0].coarse


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("documents", [low_rank(), noise()], ids=["few directions", "isotropic"])
def test_the_results_are_those_of_the_plain_scan(similarity, documents):
    queries = documents[:300] + noise(300) / 4
    plain = ExactIndex(documents, similarity, engine="float32")
    below = np.sort(plain.score(queries, np.tile(np.arange(50), (300, 1))), axis=1)[:, -2]
    exclude = [[i, i + 1, 5] for i in range(300)]
    coded = ExactIndex(documents, similarity, engine="int16")
    found = coded.search(queries, 7, below=below, exclude=exclude)
    expected = plain.search(queries, 7, below=below, exclude=exclude)
    for name in ("doc_ids", "scores", "above"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert isinstance(products_of(coded), AxisProducts)


@pytest.mark.parametrize(
    "documents", [noise(), low_rank(2000), low_rank()[:, :48]], ids=["isotropic", "few documents", "few dimensions"]
)
def test_otherwise_all_dimensions_are_multiplied(documents, monkeypatch):
    index = ExactIndex(np.ascontiguousarray(documents), engine="int16")
    assert products_of(index).coded.axes.lengths.tolist() == [-(-documents.shape[1] // 32) * 32]
    monkeypatch.setattr(exact, "quickest_rounding", lambda _: None)
    monkeypatch.setattr(exact, "int16_share", lambda _: 0.95)
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 1)
    assert products_of(ExactIndex(np.ascontiguousarray(documents))) is None  # where codes are no quicker, none are made


def test_axes_are_found_once_and_then_read(monkeypatch):
    documents, queries = low_rank(), low_rank(20, seed=1)
    first = ExactIndex(documents, "dot", engine="int16").search(queries, 3)
    monkeypatch.setattr(principal_axes, "find_axes", lambda *_: pytest.fail("found again"))
    again = ExactIndex(documents, "dot", engine="int16")
    np.testing.assert_array_equal(again.search(queries, 3).doc_ids, first.doc_ids)
    assert products_of(again).coded.axes.lengths.tolist() == [32, 64, 128]


def test_a_span_chooses_few_axes_once_its_bounds_are_good():
    documents, queries = low_rank(), low_rank(40, seed=1)
    basis = find_axes("dot", Vectors((documents,)), ROWS)
    assert basis is not None
    assert Axes(DIMENSIONS, basis).eta < 1e-12
    products = products_of(ExactIndex(documents, "dot", engine="int16"))
    own, low = products.coded.axes.codes(queries), np.sort(queries @ documents.T, axis=1)[:, -4]
    products.product = 0.5
    assert products._best_length(own, low) == 0
    assert products._best_length(own, np.full(40, -np.inf, np.float32)) == 2
    products.product = 1.1
    assert products._best_length(own, np.full(40, -np.inf, np.float32)) is None


@pytest.mark.parametrize(("queries", "documents"), [(1, 1), (2, 8), (5, 67), (7, 130), (513, 18), (4, 208)])
def test_compiled_products_are_exact(queries, documents):
    rng = np.random.default_rng(0)
    left, right = (rng.integers(-3000, 3001, (rows, 160)).astype(np.int16) for rows in (queries, documents))
    left[0], right[0] = 3600, 3600  # near the largest sum
    ones = np.ones(documents, np.float32)
    coded = AxisCodes(Axes(160), grouped(right), ones, (), 0.0)
    for length in (32, 96, 160):
        for start in range(0, documents, 8):
            out = coded.products(left, start, documents, length)
            expected = left[:, :length].astype(np.int64) @ right[start:, :length].astype(np.int64).T
            np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(ungrouped(grouped(right)), right)
    at = np.unique(rng.integers(0, documents, 9))
    np.testing.assert_array_equal(coded.coordinates(at), right[at])


def test_shards_of_any_size_are_coded_alike():
    documents = low_rank(1003)
    parts = Vectors(tuple(np.split(documents, [3, 8, 300, 301, 990])))
    for axes in (Axes(DIMENSIONS), Axes(DIMENSIONS, np.linalg.qr(noise(DIMENSIONS).astype(np.float64))[0])):
        one, other = (
            prepare_axes("cosine", vectors, 1003, axes, rows=64, held=1 << 30)
            for vectors in (Vectors((documents,)), parts)
        )
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(ungrouped(one.codes), axes.codes(documents).codes)
        # products of float64 matrices differ in their last bits between blocks of other shapes
        np.testing.assert_allclose(np.stack(one.rest), np.stack(other.rest), rtol=1e-6, atol=1e-7)


def test_a_clock_that_sees_no_time_is_no_error(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.threads.time.thread_time", lambda: 1.0)
    assert product_speed.int16_share.__wrapped__(64) == 0
