"""Every engine of the exact index, under every similarity, against a slow oracle in float64."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, Ranking
from hf_posmine.encoding.store import Vectors
from hf_posmine.search import principal_axes, scan_torch
from hf_posmine.search.axis_bounds import AxisBounds, product_gap
from hf_posmine.search.axis_codes import Axes, axis_error
from hf_posmine.search.block_sizes import Sizes, TorchSizes
from hf_posmine.search.coarse import AxisProducts
from hf_posmine.search.error_bounds import Queries, float_error, half_error
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.groups import ungrouped
from hf_posmine.search.prepared import prepare, prepare_axes
from hf_posmine.search.rounding import Kind, as_array, product_of_codes, rounded, rounding_error, tensor_of
from hf_posmine.search.scan import Ceilings
from hf_posmine.search.scan_cpu import _Candidates

ENGINES = (
    "torch",
    "torch-float16",
    "torch-int8",
    "torch-axes",
    "torch-float16-axes",
    "float32",
    "int8",
    "bfloat16",
    "int16",
)
ALL_ENGINES = (*ENGINES, "torch-bfloat16", "torch-bfloat16-axes")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


def oracle_scores(similarity: str, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Float64 scores, pair by pair."""
    out = np.empty((len(queries), len(documents)))
    for i, j in itertools.product(range(len(queries)), range(len(documents))):
        q, d = queries[i].astype(np.float64), documents[j].astype(np.float64)
        if similarity == "manhattan":
            out[i, j] = -np.abs(q - d).sum()
        elif similarity == "euclidean":
            out[i, j] = -np.sqrt(np.square(q - d).sum())
        else:
            length = np.sqrt((q @ q) * (d @ d)) if similarity == "cosine" else 1.0
            out[i, j] = q @ d / length if length > 0 else 0.0
    return out


def oracle_search(scores: np.ndarray, k: int, below=None, exclude: Exclusions | None = None) -> Ranking:
    """Sort all documents of each query, float32 ``[B, N]``, in plain Python."""
    ids, values, above = [], [], []
    for i, row in enumerate(scores.tolist()):
        ceiling = np.inf if below is None else float(below[i])
        hidden = set() if exclude is None else {*exclude.of_query(i).tolist(), *exclude.everywhere.tolist()}
        open_ = [j for j in range(len(row)) if j not in hidden]
        best = sorted((j for j in open_ if row[j] < ceiling), key=lambda j: (-row[j], j))[:k]
        above.append(sum(row[j] >= ceiling for j in open_))
        ids.append(best + [-1] * (k - len(best)))
        values.append([row[j] for j in best] + [-np.inf] * (k - len(best)))
    return Ranking(
        np.array(ids, np.int64).reshape(-1, k), np.array(values, np.float32).reshape(-1, k), np.array(above, np.int64)
    )


def assert_same(found: Ranking, expected: Ranking) -> None:
    for field in dataclasses.fields(Ranking):
        mine, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert mine.dtype == theirs.dtype, field.name
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


def vectors(kind: str, rows: int, dimensions: int, seed: int) -> np.ndarray:
    """Float32 vectors: ``random``, ``integers`` (many ties, zero rows), or ``copies`` of a few."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.standard_normal((rows, dimensions)).astype(np.float32)
    if kind == "integers":
        return rng.integers(-1, 2, (rows, dimensions)).astype(np.float32) * (rng.random((rows, 1)) < 0.9)
    return rng.standard_normal((5, dimensions)).astype(np.float32)[rng.integers(0, 5, rows)]


@pytest.fixture(scope="module", autouse=True)
def axes_for_any_documents():
    """Engines look for axes in large collections, and take a few where these help; here they always do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(principal_axes, "LEAST_DOCUMENTS", 1)
        patch.setattr(principal_axes, "WORTH", np.inf)
        patch.setattr(scan_torch, "LEARN", 20)
        patch.setattr(AxisProducts, "_best_length", lambda self, own, low: len(low) % len(self.coded.axes.lengths))
        yield


KINDS = [("random", 70), ("integers", 3), ("integers", 64), ("copies", 33)]


@pytest.fixture(params=SIMILARITIES)
def similarity(request) -> str:
    return request.param


def index_of(engine: str, documents, similarity: str, **options) -> ExactIndex:
    """An index; a type after ``torch`` finds the candidates as on a GPU, and so do bounds along ``axes``."""
    kind, *more = engine.split("-")
    if more == ["int8"]:
        index = ExactIndex(documents, similarity, engine="int8", **options)
        index._compiles = lambda queries: False
        return index
    index = ExactIndex(documents, similarity, engine=kind, **options)
    if {*more} - {"axes"} and similarity in ("cosine", "dot"):
        index._halves = (more[0],)
    if "axes" in more and similarity != "manhattan":
        index._first_axes = AxisBounds.of(first_axes(index.vectors), "cpu", pair=0)  # always worth it
    return index


def first_axes(documents: Vectors) -> np.ndarray:
    """About a third of the principal axes, float64 ``[p, d]``, by a singular value decomposition."""
    wide = documents[np.arange(len(documents))].astype(np.float64)
    return np.ascontiguousarray(np.linalg.svd(wide, full_matrices=True)[2][: max(1, documents.dim // 3)])


@pytest.fixture(params=ENGINES)
def make(request, similarity):
    """Makes an index of one engine and one similarity."""
    if "float16" in request.param and similarity not in ("cosine", "dot"):
        pytest.skip("16-bit products are for dot products and cosines")
    if request.param == "torch-axes" and similarity == "manhattan":
        pytest.skip("Manhattan distances are no products")

    def make_index(documents, **options) -> ExactIndex:
        return index_of(request.param, documents, similarity, **options)

    return make_index


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def case(request, similarity):
    """Queries, documents and all float32 scores."""
    return made_case(similarity, *request.param)


@functools.cache
def made_case(similarity: str, kind: str, dimensions: int):
    queries, documents = vectors(kind, 6, dimensions, 1), vectors(kind, 300, dimensions, 2)
    queries[-1] = 0
    return queries, documents, oracle_scores(similarity, queries, documents).astype(np.float32)


def test_the_best_k_with_ties_in_document_order(make, case):
    queries, documents, scores = case
    index = make(documents)
    for k in (1, 7, 300, 400):
        assert_same(index.search(queries, k), oracle_search(scores, k))


def test_below_is_strict_and_above_counts_the_rest(make, case):
    queries, documents, scores = case
    index = make(documents)
    for rank in (0, 3, 150, 299):
        below = -np.sort(-scores, axis=1)[:, rank]  # the score of a document: that document is not below it
        found = index.search(queries, 9, below=below)
        assert_same(found, oracle_search(scores, 9, below))
        assert (found.above >= rank + 1).all()


def test_ceilings_of_minus_and_plus_infinity(make, case):
    queries, documents, scores = case
    below = np.array([-np.inf, np.inf] * 3, np.float32)
    assert_same(make(documents).search(queries, 4, below=below), oracle_search(scores, 4, below))


def test_exclusions_per_query_and_everywhere_are_neither_returned_nor_counted(make, case):
    queries, documents, scores = case
    best = np.argsort(-scores, axis=1, kind="stable")
    rows = [np.sort(best[i, : 3 * i]).astype(np.int64) for i in range(len(queries))]
    exclude = Exclusions.of(rows, np.arange(0, 300, 7, dtype=np.int64))
    below = scores[np.arange(len(queries)), best[:, 12]]
    for ceilings in (None, below):
        found = make(documents).search(queries, 9, below=ceilings, exclude=exclude)
        assert_same(found, oracle_search(scores, 9, ceilings, exclude))


def test_excluding_everything_leaves_padding(make, case):
    queries, documents, _ = case
    everything = Exclusions.of([np.arange(300)] * 6)
    found = make(documents).search(queries, 3, below=np.zeros(6, np.float32), exclude=everything)
    assert (found.doc_ids == -1).all()
    assert np.isneginf(found.scores).all()
    assert not found.above.any()


def test_only_candidates_are_found_and_counted_but_all_can_be_scored(make, case):
    queries, documents, scores = case
    index = make(documents, num_candidates=123)
    below = np.median(scores, axis=1)
    exclude = Exclusions.of([np.array([5, 200])] * 6, np.array([7, 299]))
    expected = oracle_search(scores[:, :123], 9, below, exclude)
    assert_same(index.search(queries, 9, below=below, exclude=exclude), expected)
    rows = np.array([[299, 0, -1]] * 6)
    assert np.array_equal(index.score(queries, rows)[:, :2], scores[:, [299, 0]])
    assert np.isneginf(index.score(queries, rows)[:, 2]).all()


def test_score_agrees_with_search_to_the_bit(make, case):
    queries, documents, _ = case
    index = make(documents)
    found = index.search(queries, 310)
    assert np.array_equal(index.score(queries, found.doc_ids), found.scores)
    assert (np.diff(found.scores[:, :300], axis=1) <= 0).all()


def test_blocks_batches_shards_and_order_of_queries_move_no_bit(make, case):
    queries, documents, scores = case
    below = np.median(scores, axis=1)
    whole = make(documents).search(queries, 20, below=below)
    for rows in (17, 299):
        assert_same(make(documents, block_rows=rows).search(queries, 20, below=below), whole)
    shards = Vectors(tuple(np.split(documents, [1, 1, 130, 258])))
    assert_same(make(shards, block_rows=64).search(queries, 20, below=below), whole)
    for rows in ([3], [5, 1], [4, 3, 2, 1, 0, 5]):
        part = make(documents).search(queries[rows], 20, below=below[rows])
        assert_same(part, Ranking(whole.doc_ids[rows], whole.scores[rows], whole.above[rows]))


def test_float16_vectors_are_scored_as_the_numbers_they_hold(make, similarity):
    queries, documents = vectors("random", 4, 20, 3), vectors("random", 200, 20, 4).astype(np.float16)
    shards = Vectors((documents[:90], documents[90:]))
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    below = -np.sort(-scores, axis=1)[:, 5]
    assert_same(make(shards).search(queries, 8, below=below), oracle_search(scores, 8, below))


@pytest.mark.parametrize("spread", [0, 1e-7, 1e-4], ids=["identical", "one rounding apart", "within the int8 band"])
def test_thousands_of_documents_around_the_ceiling_overflow_the_buffer_and_stay_exact(make, similarity, spread):
    rng = np.random.default_rng(5)
    documents = np.tile(vectors("random", 1, 24, 6), (3000, 1))
    documents += rng.standard_normal(documents.shape).astype(np.float32) * np.float32(spread)
    queries = np.concatenate([documents[:1], vectors("random", 1, 24, 7)])
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    index = make(documents)
    for below in (None, np.median(scores, axis=1), scores.max(axis=1)):
        assert_same(index.search(queries, 5, below=below), oracle_search(scores, 5, below))


@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e8], ids="queries times {:g}".format)
def test_queries_much_shorter_or_longer_than_documents(make, similarity, factor):
    # whole numbers up to 127 lose nothing in int8, so only the rounding of the final scores is left to account for
    rng = np.random.default_rng(8)
    documents = rng.integers(-127, 128, (400, 16)).astype(np.float32)
    documents[:, 1] = 127
    queries = (np.eye(3, 16) * 127 * factor).astype(np.float32)
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    index = make(documents)
    for below in (None, np.median(scores, axis=1)):
        assert_same(index.search(queries, 10, below=below), oracle_search(scores, 10, below))


def assert_exact_at_length(make, similarity: str, length: float) -> None:
    queries, documents = vectors("random", 3, 12, 9), vectors("random", 100, 12, 10)
    queries, documents = (queries * length).astype(np.float32), (documents * length).astype(np.float32)
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    assert_same(make(documents).search(queries, 5), oracle_search(scores, 5))


@pytest.mark.parametrize("length", [1e-30, 1e-21, 1e18], ids="length {:g}".format)
def test_very_short_and_very_long_vectors(make, similarity, length):
    assert_exact_at_length(make, similarity, length)


@pytest.mark.parametrize("length", [1e-39, 1e-44], ids="length {:g}".format)
def test_vectors_too_short_for_normal_float32_numbers_are_refused(make, similarity, length):
    with pytest.raises(InputError, match="too short for float32 products"):
        assert_exact_at_length(make, similarity, length)


def test_all_engines_agree_to_the_bit_on_more_queries_than_one_block(similarity):
    queries, documents = vectors("random", 600, 48, 11), vectors("random", 5000, 48, 12)
    positives = ExactIndex(documents, similarity, engine="torch").score(queries, np.arange(600)[:, None])[:, 0]
    found = [index_of(e, documents, similarity).search(queries, 30, below=positives) for e in ALL_ENGINES]
    for other in found[1:]:
        assert_same(other, found[0])


def test_no_queries_and_one_document(make):
    index = make(np.ones((1, 4), np.float32))
    none = index.search(np.empty((0, 4), np.float32), 3)
    assert (none.doc_ids.shape, none.scores.shape, none.above.shape) == ((0, 3), (0, 3), (0,))
    assert index.search(np.ones((1, 4), np.float32), 3).doc_ids.tolist() == [[0, -1, -1]]


@pytest.mark.parametrize(
    ("make_index", "says"),
    [
        (lambda: ExactIndex(np.ones((3, 4)), "cosinus"), "similarity='cosinus'; choose one of"),
        (lambda: ExactIndex(np.ones((3, 4)), engine="gpu"), "engine='gpu'; choose"),
        (lambda: ExactIndex(np.ones(4)), r"shape \(4,\); expected \[documents, dimensions\]"),
        (lambda: ExactIndex(np.array([[1.0], [np.nan], [np.inf]])), "2 document vectors are not finite, first row 1"),
        (lambda: ExactIndex(np.ones((3, 4))).search(np.ones((1, 5)), 1), r"shape \(1, 5\), the documents have 4"),
        (lambda: ExactIndex(np.ones((3, 4))).search(np.ones(4), 1), r"shape \(4,\), the documents have 4"),
        (lambda: ExactIndex(np.ones((3, 4))).search(np.ones((1, 4)), 0), "k=0; ask for at least one"),
    ],
)
def test_wrong_input_says_what_and_the_cure(make_index, says):
    with pytest.raises(InputError, match=says):
        make_index()


@st.composite
def searches(draw):
    """Small whole numbers at lengths far apart, so that ties, zeros and lopsided magnitudes all occur; some in two directions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, count, dimensions = draw(st.integers(1, 60)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 5, 64, 70]))
    reach, far = draw(st.sampled_from([1, 3, 127])), draw(st.sampled_from([0, 3, 12]))
    rank = draw(st.sampled_from([dimensions, 2]))
    directions = np.eye(dimensions) if rank == dimensions else rng.integers(-2, 3, (2, dimensions))
    documents, queries = (
        np.ldexp(rng.integers(-reach, reach + 1, (n, rank)) @ directions, rng.integers(-far, far + 1, (n, 1))).astype(
            "f4"
        )
        for n in (rows, count)
    )
    ceiling = draw(st.lists(st.sampled_from(["none", "all", "a score", "near"]), min_size=count, max_size=count))
    exclude = Exclusions.of(
        [np.flatnonzero(rng.random(rows) < draw(st.sampled_from([0, 0.3]))) for _ in range(count)],
        np.flatnonzero(rng.random(rows) < draw(st.sampled_from([0, 0.2]))),
    )
    options = {"num_candidates": draw(st.integers(1, rows)), "block_rows": draw(st.integers(1, 70))}
    return queries, documents, draw(st.integers(1, 70)), ceiling, exclude, options, draw(st.integers(0, rows))


@settings(max_examples=150, deadline=None)
@given(searches(), st.sampled_from(ALL_ENGINES), st.sampled_from(SIMILARITIES))
def test_any_search_is_what_the_oracle_finds(search, engine, similarity):
    assert_any_search(search, engine, similarity)


@settings(max_examples=150, deadline=None)
@given(searches(), st.sampled_from([e for e in ALL_ENGINES if e.endswith("axes")]), st.sampled_from(SIMILARITIES[:3]))
def test_any_search_along_axes_is_what_the_oracle_finds(search, engine, similarity):
    assert_any_search(search, engine, similarity)


def assert_any_search(search, engine, similarity):
    queries, documents, k, ceilings, exclude, options, cut = search
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    row = cut % len(documents)
    choice = {
        "none": np.full(len(queries), np.inf),
        "all": np.full(len(queries), -np.inf),
        "a score": scores[:, row],
        "near": np.nextafter(scores[:, row], np.float32(np.inf)),
    }
    below = np.array([choice[name][i] for i, name in enumerate(ceilings)], np.float32)
    shards = Vectors((documents[:cut], documents[cut:]))
    index = index_of(engine, shards, similarity, **options)
    found = index.search(queries, k, below=below, exclude=exclude)
    assert_same(found, oracle_search(scores[:, : options["num_candidates"]], k, below, exclude))
    floor = np.minimum(scores[:, k % len(documents)], np.nextafter(below, np.float32(-np.inf)))
    some = index.search(queries, k, below=below, exclude=exclude, at_least=floor)
    assert np.array_equal(some.above, found.above)
    wanted = (found.doc_ids >= 0) & (found.scores >= floor[:, None])
    assert np.array_equal(some.doc_ids[wanted], found.doc_ids[wanted])
    assert np.array_equal(some.scores[wanted], found.scores[wanted])


def test_a_floor_spares_what_is_certainly_below_it():
    rng = np.random.default_rng(5)
    documents, queries = (rng.standard_normal((rows, 16)).astype(np.float32) for rows in (400, 9))
    for engine in ALL_ENGINES:
        index = index_of(engine, documents, "dot")
        floor = index.search(queries, 3).scores[:, 2]
        some = index.search(queries, 50, at_least=floor)
        assert (some.scores[:, :3] >= floor[:, None]).all() and np.isneginf(some.scores[:, 20:]).all()


@st.composite
def blocks(draw):
    """Any sizes of blocks, down to a document and a query at a time, with the columns in memory or on disk."""
    rows = st.integers(1, 80)
    sizes = Sizes(draw(rows), draw(rows), draw(rows), draw(st.integers(64, 4096)), draw(st.sampled_from([0, 1 << 20])))
    return sizes, TorchSizes(draw(rows), draw(rows), draw(st.integers(512, 4096)), draw(st.sampled_from([0, 1 << 20])))


@settings(max_examples=40, deadline=None)
@given(searches(), blocks(), st.sampled_from(ALL_ENGINES), st.sampled_from(SIMILARITIES))
def test_no_budget_moves_a_bit(search, sizes, engine, similarity):
    queries, documents, k, _, exclude, options, cut = search
    below = oracle_scores(similarity, queries, documents).astype(np.float32)[:, cut % len(documents)]
    shards = Vectors(tuple(np.split(documents, sorted({cut // 2, cut}))))
    whole = ExactIndex(documents, similarity, num_candidates=options["num_candidates"], engine="float32")
    expected = whole.search(queries, k, below=below, exclude=exclude)
    index = index_of(engine, shards, similarity, num_candidates=options["num_candidates"])
    index._sizes, index._torch_blocks = sizes
    for _ in range(2):  # the second time, documents that may stay on the device are there
        assert_same(index.search(queries, k, below=below, exclude=exclude), expected)


@pytest.mark.parametrize(
    ("engine", "halves"),
    [("auto", ("float16",)), ("torch", ("float16",)), ("bfloat16", ("bfloat16",)), ("float32", ())],
)
def test_a_gpu_multiplies_what_is_named(engine, halves):
    documents = vectors("random", 20, 8, 0)
    assert ExactIndex(documents, "dot", engine=engine, device="cuda:0")._halves == halves
    assert ExactIndex(documents, "euclidean", engine=engine, device="cuda:0")._halves == ()
    with pytest.raises(InputError, match="engine='int16' searches on the CPU, not on device='cuda:0'"):
        ExactIndex(documents, "dot", engine="int16", device="cuda:0")


@pytest.mark.parametrize("engine", ["torch", "float32", "int8", "bfloat16"])
def test_what_a_search_holds_does_not_grow_with_the_documents(engine, tmp_path):
    """Blocks and candidates are held, and of the rest only maps of files."""
    peaks = []
    queries = vectors("random", 40, 32, 3)
    for rows in (70_000, 280_000):
        np.save(tmp_path / f"{rows}.npy", vectors("random", rows, 32, 4))
        index = ExactIndex(np.load(tmp_path / f"{rows}.npy", mmap_mode="r"), engine=engine)
        index._sizes = Sizes(queries=20, block_rows=256, coded_rows=256, records=4096, held=0)
        index.search(queries, 5)
        tracemalloc.start()
        fresh = ExactIndex(index.vectors, engine=engine)
        fresh._sizes = index._sizes
        fresh.search(queries, 5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 50_000  # 210,000 documents more


def adversarial(name: str, rows: int, dimensions: int, seed: int) -> np.ndarray:
    """Vectors that strain rounding."""
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((rows, dimensions))
    signs = np.where(np.arange(dimensions) % 2, -1, 1)
    made = {
        "random": plain,
        "cancelling": signs * (1e4 + plain),  # large terms whose sum is small beside them
        "positive": 1 + np.abs(plain),  # every rounding in the same direction
        "lopsided": plain * 10.0 ** rng.integers(-6, 7, (rows, 1)),
        "spiked": plain * np.where(rng.random(plain.shape) < 0.03, 1e4, 1),  # int8 sees one coordinate only
        "half a step": np.where(np.arange(dimensions) == 0, 127, rng.integers(-126, 126, plain.shape) + 0.5),
    }
    return made[name].astype(np.float32)


NAMES = ("random", "cancelling", "positive", "lopsided", "spiked", "half a step")


@pytest.fixture(params=[(a, b) for a in NAMES for b in NAMES if a == b or "random" in (a, b)], ids="-".join)
def scanned(request, similarity):
    """Queries and documents as a scan sees them, the true scan values, and the final scores."""
    queries, documents = adversarial(request.param[0], 8, 200, 1), adversarial(request.param[1], 400, 200, 2)
    q, shards = Queries.of(similarity, queries), Vectors((documents,))
    q64, d64 = queries.astype(np.float64), documents.astype(np.float64)
    if similarity == "manhattan":
        true = -np.abs(q64[:, None] - d64).sum(axis=2)
    else:
        true = q64 @ d64.T
        if similarity == "cosine":
            true = true / np.sqrt((q64**2).sum(1)[:, None] * (d64**2).sum(1))
        elif similarity == "euclidean":
            true = true - (d64**2).sum(1) / 2
    scores = oracle_scores(similarity, queries, documents).astype(np.float32)
    return q, documents, prepare(similarity, shards, 400, rounding="int8", rows=100, held=1 << 20), true, scores


def float_scans(similarity: str, q: np.ndarray, d: np.ndarray):
    """Products in float32, summed by BLAS and one after the other (the worst order)."""
    if similarity == "manhattan":
        terms = -np.abs(q[:, None] - d)
        return [np.cumsum(terms, axis=2, dtype=np.float32)[:, :, -1], terms.sum(axis=2, dtype=np.float32)]
    return [q @ d.T, np.cumsum(q[:, None] * d, axis=2, dtype=np.float32)[:, :, -1]]


def rounded_scans(kind: Kind, similarity: str, q: Queries, vectors: np.ndarray):
    """Values of scans of codes, as the compiled loop computes them, and their bounds: sums as exact as can be, and cut off."""
    documents = prepare(similarity, Vectors((vectors,)), len(vectors), rounding=kind, rows=100, held=1 << 20)
    coded, own = documents.coded, rounded(kind, q.vectors)
    if kind == "int8":
        sums = [own.codes.astype(np.int32) @ coded.codes.astype(np.int32).T]
    else:
        a, b = (tensor_of(codes).double().numpy() for codes in (own.codes, coded.codes))
        sums = [torch.from_numpy(s).to(torch.bfloat16).float().numpy() for s in (cut_off_sums(a, b), (a @ b.T))]
    bound = rounding_error(similarity, q, own, documents)[:, None] + own.lengths[:, None] * coded.quantization_error
    for products in sums:
        yield products.astype(np.float32) * own.steps[:, None] * coded.scale + documents.bias, bound


def basis_of(kind: str, dimensions: int) -> np.ndarray | None:
    """None, an orthonormal basis, or one that rounding spoilt."""
    if kind == "own":
        return None
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].T
    return np.ascontiguousarray(basis + (1e-6 * rng.standard_normal(basis.shape) if kind == "spoilt" else 0))


@pytest.mark.parametrize("kind", ["own", "orthonormal", "spoilt"])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])  # Manhattan distances are no products
def test_the_bounds_of_16_bit_codes_hold(similarity, scanned, kind):
    q, vectors, documents, true, scores = scanned
    axes = Axes(200, basis_of(kind, 200))
    coded = prepare_axes(similarity, Vectors((vectors,)), len(vectors), axes, rows=100, held=1 << 20)
    own = axes.codes(q.vectors)
    assert axes.lengths.tolist() == ([224] if kind == "own" else [32, 64, 96, 224])
    for number, length in enumerate(axes.lengths.tolist()):
        products = own.codes[:, :length].astype(np.int64) @ ungrouped(coded.codes)[:, :length].astype(np.int64).T
        assert np.abs(products).max() < 2**31
        # as the compiled loop computes them
        values = products.astype(np.float32) * own.steps[:, None] * coded.scale + documents.bias
        bound = axis_error(similarity, q, own, number, documents, coded)[:, None]
        bound = bound + own.rest[number][:, None] * coded.rest[number]
        assert (np.abs(values - true) <= bound).all()
        assert_order_is_certain(values, bound, scores)
    if kind != "spoilt":  # codes along all axes are near the vectors
        reach = np.sqrt(q.squares)[:, None] * documents.length + documents.square + q.squares[:, None]
        assert (bound <= 2e-3 * reach).all()


def test_the_float32_bound_holds(similarity, scanned):
    q, vectors, documents, true, scores = scanned
    bound = float_error(similarity, q, documents)[:, None]
    for products in float_scans(similarity, q.vectors, vectors):
        values = products * documents.scale + documents.bias
        assert values.dtype == np.float32
        assert (np.abs(values - true) <= bound).all()
        assert_order_is_certain(values, bound, scores)


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])  # Manhattan distances are no products
def test_the_bounds_of_rounded_vectors_hold(similarity, scanned, kind):
    q, vectors, _, true, scores = scanned
    for values, bound in rounded_scans(kind, similarity, q, vectors):
        assert values.dtype == np.float32
        assert (np.abs(values - true) <= bound).all()
        assert_order_is_certain(values, bound, scores)


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e30])
def test_what_rounding_says_of_itself_is_at_least_what_it_did(kind, size):
    """Against float64; zeros, one large number, and rows of all sizes included."""
    found = (size * np.concatenate([adversarial(name, 20, 70, 3) / 1e6 for name in NAMES])).astype(np.float32)
    found[0], found[1, 1:] = 0, 0
    own = rounded(kind, found)
    near = tensor_of(own.codes).double().numpy()[:, :70] * own.steps[:, None].astype(np.float64)
    apart, lengths = np.linalg.norm(found - near, axis=1), np.linalg.norm(near, axis=1)
    assert (own.quantization_error >= apart * (1 - 1e-12)).all() and (own.lengths >= lengths * (1 - 1e-12)).all()
    assert (own.quantization_error <= 1.01 * apart + 1e-6 * lengths).all() and (own.lengths <= 1.01 * lengths).all()
    assert (apart <= 2.0**-8 * 1.01 * lengths).all() or kind == "int8"
    assert not own.codes[:, 70:].any()


def test_products_of_bfloat16_are_read_as_torch_writes_them():
    q, d = (torch.from_numpy(vectors("random", rows, 64, rows)).to(torch.bfloat16) for rows in (8, 96))
    products = as_array(product_of_codes(q, d.t()))
    assert products.dtype == np.uint16
    wide = torch.from_numpy(products.view(np.int16)).view(torch.bfloat16).float().numpy()
    assert np.abs(wide - (q.double() @ d.double().t()).numpy()).max() < 0.2
    ones = np.ones(96, np.float32)
    limits = Ceilings(np.full(8, np.inf), Exclusions.given(None, 8), np.full(8, -np.inf))
    sets = [_Candidates.of(3, limits, 96, 1 << 12) for _ in range(2)]
    for candidates, block in zip(sets, (products, wide), strict=True):
        candidates.collect(block, *(np.ones(8, np.float32) for _ in range(3)), (ones, ones, ones, 0))
    assert sets[0].count.sum() > 0
    for one, other in zip(*(candidates.rows().ids for candidates in sets), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_16_bit_bound_holds(similarity, scanned, dtype):
    """Products of rounded vectors, summed in float32 in the worst order with every addition cut off, rounded again."""
    q, documents, measured, true, scores = scanned
    lengths = np.sqrt(np.where(q.squares > 0, q.squares, 1))
    scaled_q = (q.vectors / lengths[:, None]).astype(np.float32)
    scaled_d = documents * measured.scale[:, None] / np.float32(measured.length)
    q16, d16 = (torch.from_numpy(v).to(getattr(torch, dtype)).double().numpy() for v in (scaled_q, scaled_d))
    bound = half_error(q16.shape[1], dtype)
    reach = (lengths * measured.length)[:, None]
    for sums in (cut_off_sums(q16, d16), (q16 @ d16.T).astype(np.float32)):
        values = torch.from_numpy(sums).to(getattr(torch, dtype)).double().numpy()
        assert (np.abs(values * reach - true) <= bound * reach).all()
        assert_order_is_certain(values * reach, bound * reach, scores)


@pytest.mark.parametrize("kind", ["orthonormal", "spoilt"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_a_product_along_axes_bounds_the_full_one(similarity, scanned, dtype, kind):
    """Both summed in float32 in the worst order with every addition cut off, and rounded to their type, against each other."""
    q, documents, measured, *_ = scanned
    if dtype != "float32" and similarity == "euclidean":
        pytest.skip("16-bit products are for dot products and cosines")
    lengths, longest = np.sqrt(np.where(q.squares > 0, q.squares, 1)), measured.length
    scaled, bias, reach = documents * measured.scale[:, None], np.zeros(len(documents)), lengths * longest
    mine = q.vectors
    if dtype != "float32":
        mine, scaled, reach = mine / lengths[:, None], scaled / np.float32(longest), np.ones(len(lengths))
    elif similarity == "euclidean":
        bias, reach = measured.bias, reach + measured.square
    left, right = (torch.from_numpy(v.astype(np.float32)).to(getattr(torch, dtype)) for v in (mine, scaled))
    basis = basis_of(kind, 200)[:29]
    axes = AxisBounds.of(basis, "cpu", pair=0)
    ours, theirs = axes.queries(left), axes.documents(right)
    assert ours.shape[1] == theirs.shape[1] == axes.width == 32
    assert ours.dtype == theirs.dtype == left.dtype
    full, short = ((a.double().numpy(), b.double().numpy()) for a, b in ((left, right), (ours, theirs)))
    assert (full[0] @ full[1].T <= short[0] @ short[1].T + 1e-9 * reach[:, None]).all()
    rounded_sums = [
        torch.from_numpy(cut_off_sums(*pair)).to(left.dtype).double().numpy() + bias.astype(np.float64)
        for pair in (full, short)
    ]
    gap = product_gap(232, dtype, reach)[:, None]
    assert (rounded_sums[0] <= rounded_sums[1] + gap).all()
    assert (gap <= {"float16": 0.003, "bfloat16": 0.02, "float32": 1e-4}[dtype] * reach[:, None]).all()
    # bounds are no wider than Cauchy-Schwarz makes them: along axes that hold a vector, they are its products
    inside = (left.double() @ axes.basis.T @ axes.basis).to(left.dtype)
    near = axes.queries(inside).double().numpy() @ short[1].T - inside.double().numpy() @ full[1].T
    assert kind == "spoilt" or (near <= 8 * gap).all()


def cut_off_sums(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Sums of products in float32, one after the other, each rounded towards zero."""
    total = np.zeros((len(queries), len(documents)), np.float32)
    for j in range(queries.shape[1]):
        exact = total.astype(np.float64) + queries[:, j, None] * documents[:, j]
        near = exact.astype(np.float32)
        total = np.where(np.abs(near) > np.abs(exact), np.nextafter(near, np.float32(0)), near)
    return total


def assert_order_is_certain(values: np.ndarray, bounds: np.ndarray, scores: np.ndarray) -> None:
    """Values whose bounds keep them apart are in the order of the final scores, which do not even tie."""
    bounds = np.broadcast_to(bounds, values.shape)
    order = np.argsort(-(values + bounds), axis=1)
    values, bounds, scores = (np.take_along_axis(a.astype(np.float64), order, 1) for a in (values, bounds, scores))
    best_after = np.maximum.accumulate(scores[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(values)):
        lower, upper = values[row] - bounds[row], values[row] + bounds[row]
        first = np.searchsorted(-upper, -lower, side="right")  # from here on, the upper ends are below this lower end
        sure = first < values.shape[1]
        assert (best_after[row, first[sure]] < scores[row, sure]).all()
