"""Bounds along principal axes in the scan by torch: what they spare, where they are used, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.encoding.store import Vectors
from hf_posmine.search import exact, principal_axes, scan_torch
from hf_posmine.search.axis_bounds import BOUNDS, AxisBounds
from hf_posmine.search.block_sizes import TorchSizes
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.principal_axes import CPU, GPU_FLOAT, GPU_HALF, Costs, expected, find_axes
from hf_posmine.search.scan_torch import LEARN, SHARPEN, _parts

DIMENSIONS, ROWS, QUERIES = 128, 10_000, 150


@pytest.fixture(autouse=True)
def fresh_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))


def few_directions(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    """Vectors around 60 centres, whose length lies mostly in 12 directions, as those of text models does."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(7)
    directions, centres = shared.standard_normal((12, DIMENSIONS)), shared.standard_normal((60, 12))
    inside = centres[rng.integers(0, 60, rows)] + 0.6 * rng.standard_normal((rows, 12))
    return (inside @ directions + 0.1 * rng.standard_normal((rows, DIMENSIONS))).astype(np.float32)


def isotropic(rows: int = ROWS, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSIONS)).astype(np.float32)


class Work:
    """Multiply-adds of matrix products and of pairs, and the queries of each pass."""

    def __init__(self, monkeypatch) -> None:
        self.products = self.pairs = 0
        matrix, pairs = scan_torch.matrix_product, scan_torch.pair_products

        def matrix_product(queries, block):
            self.products += len(queries) * block.numel()
            return matrix(queries, block)

        def pair_products(queries, documents):
            self.pairs += documents.numel()
            return pairs(queries, documents)

        monkeypatch.setattr(scan_torch, "matrix_product", matrix_product)
        monkeypatch.setattr(scan_torch, "pair_products", pair_products)


def index_along_axes(documents, similarity, half=None, pair=0.0, **sizes) -> ExactIndex:
    index = ExactIndex(documents, similarity, engine="torch")
    index._torch_blocks = TorchSizes(**sizes)
    index._halves = () if half is None else (half,)
    basis = np.linalg.eigh(documents.T.astype(np.float64) @ documents)[1][:, ::-1].T
    index._first_axes = AxisBounds.of(np.ascontiguousarray(basis[: 32 - BOUNDS]), "cpu", pair)
    return index


def searched(index: ExactIndex, queries: np.ndarray):
    exclude = [[i, i + 1, 5] for i in range(len(queries))]
    below = np.sort(index.score(queries, np.tile(np.arange(50), (len(queries), 1))), axis=1)[:, -2]
    below[::3] = np.inf
    return index.search(queries, 7, below=below, exclude=exclude)


def assert_as_the_plain_scan(index: ExactIndex, queries: np.ndarray, documents: np.ndarray) -> None:
    found = searched(index, queries)
    expected_ = searched(ExactIndex(documents, index.similarity, engine="float32"), queries)
    for name in ("doc_ids", "scores", "above"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected_, name))


@pytest.mark.parametrize(
    "sizes", [{}, {"block_rows": 5000, "queries": 64, "resident": 1 << 24}], ids=["streamed", "kept"]
)
@pytest.mark.parametrize(("similarity", "half"), [("cosine", None), ("dot", "float16"), ("euclidean", None)])
def test_few_axes_spare_most_products_and_change_nothing(similarity, half, sizes, monkeypatch):
    documents, queries = few_directions(), few_directions(QUERIES, seed=1)
    index = index_along_axes(documents, similarity, half, **sizes)
    work, again = Work(monkeypatch), []
    first, plain = index._portable_scans[:2]
    assert first.feed is plain.feed  # one copy of the documents on the device serves both
    monkeypatch.setattr(type(plain), "_search", _noting(again, type(plain)._search))
    assert_as_the_plain_scan(index, queries, documents)
    full = QUERIES * documents.size
    in_full = LEARN / ROWS
    assert in_full < work.products / full < in_full + 0.25 * (1 - in_full) + 0.1
    assert 0 < work.pairs < 0.05 * full
    assert len(again) < 0.1 * QUERIES * len(range(0, ROWS, 2048))


def _noting(queries: list[int], search):
    """The search of a block, and a note of each query whose block is multiplied without axes."""

    def noted(self, span, block, start):
        if self.axes is None:
            queries.extend(range(len(span.queries)))
        return search(self, span, block, start)

    return noted


@pytest.mark.parametrize(("similarity", "half"), [("cosine", "bfloat16"), ("euclidean", None)])
def test_where_bounds_rule_out_nothing_queries_are_scanned_again_in_full(similarity, half, monkeypatch):
    documents, queries = isotropic(), isotropic(QUERIES, seed=4)
    index, work = index_along_axes(documents, similarity, half), Work(monkeypatch)
    assert_as_the_plain_scan(index, queries, documents)
    full = QUERIES * documents.size
    # the first documents in full, one block along axes, whose candidates find no room, and then all of them again
    assert work.products < full * (1.05 + 1.3 * LEARN / ROWS + (half is not None))
    assert work.pairs < 0.02 * full


@pytest.mark.parametrize(("documents", "worth"), [(few_directions(), True), (isotropic(), False)])
def test_bounds_are_computed_only_where_they_leave_few_documents_open(documents, worth, monkeypatch):
    index, work = index_along_axes(documents, "cosine", pair=8.0), Work(monkeypatch)
    assert_as_the_plain_scan(index, documents[:QUERIES] + isotropic(QUERIES, seed=9) / 9, documents)
    share = work.products / (QUERIES * documents.size)
    assert (0.5 < share < 0.8) == worth
    assert (1 <= share < 1.15) != worth
    assert (work.pairs > 0) == worth


@given(st.integers(0, 3 * LEARN * SHARPEN), st.integers(0, 5 * LEARN * SHARPEN))
def test_parts_grow_with_the_documents_seen_and_leave_none_out(start, size):
    parts = list(_parts(start, start + size))
    assert [row for part in parts for row in part[:1]] == [start, *(stop for _, stop in parts[:-1])][: len(parts)]
    assert (parts[-1][1] if parts else start) == start + size
    for first, stop in parts:
        assert first < stop <= max(LEARN, SHARPEN * first) if first >= LEARN else stop <= LEARN


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "bfloat16", "float32"]), st.sampled_from([1e-3, 1.0]))
def test_lengths_are_those_of_float64_rounded_up(seed, dtype, size):
    rng = np.random.default_rng(seed)
    dimensions = int(rng.integers(2, 40))
    vectors = torch.from_numpy(size * rng.standard_normal((9, dimensions)) / dimensions).to(getattr(torch, dtype))
    vectors[0] = 0
    basis = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0][: int(rng.integers(1, dimensions))]
    axes = AxisBounds.of(basis, "cpu", pair=0)
    as_query, as_document = axes.queries(vectors), axes.documents(vectors)
    wide, near = vectors.double().numpy(), as_query[:, :-BOUNDS].double().numpy()
    rest, length, apart = as_query[:, -BOUNDS:].double().numpy().T
    for row in range(9):
        kept = sum(near[row, axis] * basis[axis] for axis in range(len(basis)))
        exact_lengths = (
            np.sqrt(((wide[row] - kept) ** 2).sum()),
            np.sqrt((near[row] ** 2).sum()),
            np.sqrt(sum((wide[row] @ basis[axis] - near[row, axis]) ** 2 for axis in range(len(basis)))),
        )
        for stored, true in zip((rest[row], length[row], apart[row]), exact_lengths, strict=True):
            assert true - 1e-14 <= stored <= true * 1.02 + 1e-7
    assert torch.equal(as_document[:, [-BOUNDS, -1]], as_query[:, [-BOUNDS, -2]])
    assert torch.equal(as_document[:, :-BOUNDS], as_query[:, :-BOUNDS])


@pytest.fixture
def no_device(monkeypatch):
    """Axes for a GPU stay here, and are looked for as a CPU would."""
    made = AxisBounds.of
    monkeypatch.setattr(AxisBounds, "of", lambda basis, device, pair: made(basis, "cpu", pair))
    monkeypatch.setattr(exact, "GPU_HALF", Costs(8.0, 24.0, 1536, 0, 4096, 1, "half"))
    monkeypatch.setattr(exact, "GPU_FLOAT", Costs(9.0, 24.0, 1536, 0, 4096, 1, "float"))


def on_a_gpu(documents: np.ndarray, similarity: str = "cosine", resident: int = 1 << 30) -> ExactIndex:
    index = ExactIndex(documents, similarity, device="cuda")
    index._torch_blocks = TorchSizes(resident=resident)
    return index


def test_a_gpu_takes_axes_where_they_are_expected_to_pay_and_documents_stay_on_it(no_device):
    documents = few_directions()
    for similarity, pair in (("cosine", 8), ("dot", 8), ("euclidean", 9)):
        found = on_a_gpu(documents, similarity)._first_axes
        axes = found.basis
        assert found.pair == pair
        assert axes.shape in [(length - BOUNDS, DIMENSIONS) for length in (32, 64)]
        np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-12)
    assert on_a_gpu(documents, "manhattan")._first_axes is None
    assert on_a_gpu(isotropic())._first_axes is None
    stays = int(ROWS * DIMENSIONS * 2 * exact.WIDER)
    assert on_a_gpu(documents, resident=stays)._first_axes is not None
    assert on_a_gpu(documents, resident=stays - 1)._first_axes is None
    assert ExactIndex(documents, engine="torch")._first_axes is None  # a CPU has its own scan along axes


def test_no_axes_are_looked_for_where_a_gpu_has_searched_before_they_are_found(monkeypatch):
    monkeypatch.setattr(principal_axes, "find_axes", lambda *_: pytest.fail("looked for"))
    assert on_a_gpu(few_directions())._first_axes is None


def test_the_axes_of_a_gpu_are_found_once(no_device, monkeypatch):
    documents = few_directions()
    first = on_a_gpu(documents)._first_axes.basis
    monkeypatch.setattr(principal_axes, "find_axes", lambda *_: pytest.fail("found again"))
    np.testing.assert_array_equal(on_a_gpu(documents)._first_axes.basis, first)


def test_a_gpu_that_multiplies_quickly_asks_more_of_axes():
    lengths, shares = np.array([32, 256]), np.array([0.001, 0.00005])
    for dimensions, worth in ((384, False), (1024, True), (4096, True)):
        times = expected(lengths, shares, dimensions, costs=GPU_HALF)
        assert times[1] == pytest.approx((256 + 4200 * dimensions * 0.00005 + 470) / (dimensions + 470))
        assert (times.min() <= principal_axes.WORTH) == worth
    assert expected(lengths, shares, 384, costs=CPU).min() < expected(lengths, shares, 384, costs=GPU_FLOAT).min()
    # 128 dimensions are searched in 16 bits as quickly as values can be filtered
    assert find_axes("cosine", Vectors((few_directions(),)), ROWS, GPU_HALF) is None
