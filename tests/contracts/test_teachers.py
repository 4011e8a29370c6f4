"""What every teacher promises, over texts and over images. A new one is one line in ``MAKERS`` or ``OVER_IMAGES``."""

from __future__ import annotations

import json
import pickle
from typing import get_args

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, MarginPos, PercPos, PositiveAwareMiner
from hf_posmine.core.errors import SpecError
from hf_posmine.core.types import Exclusions, ScoreKind, SearchRequest
from hf_posmine.data.passages import Passages
from hf_posmine.teachers import (
    BestPassageTeacher,
    BM25Teacher,
    CrossEncoderTeacher,
    LateInteractionTeacher,
    MultiVectorTeacher,
    RandomTeacher,
    RemoteTeacher,
    RunTeacher,
    SparseTeacher,
    StoredRun,
    VectorTeacher,
)
from hf_posmine.teachers.capabilities import prepare, search_many
from tests.conftest import ToyModel
from tests.contracts.test_index import assert_same, oracle_search
from tests.models.conftest import random_encoder
from tests.support import services, tiny
from tests.support.pages import page, pages

disable_progress_bars()
WORDS = "red green blue cat dog bird sky sea tree stone house river".split()
QUERIES = ["red cat", "blue sky", "a river of stone", "nothing in common", "green tree green", "dog"]


def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(60)))


OUTSIDE = ["red cat sea", "the outside", "dog dog dog dog sky"]


@pytest.fixture(scope="module")
def corpus(name) -> Corpus:
    """Candidates, and at the end three documents that are none."""
    if name in OVER_IMAGES:
        return Corpus.from_images(pages(texts())).union(Corpus.from_images(pages(OUTSIDE)), candidates=False)
    return Corpus.from_texts(texts()).union(OUTSIDE, candidates=False)


def dense(similarity, index=None, package="numpy"):
    def make(corpus, folder):
        pytest.importorskip(package)
        options = {"similarity": similarity, "fingerprint": "toy", "store": folder, "index": index}
        queries = Corpus.from_texts(QUERIES, match="exact")
        return DenseTeacher(ToyModel(), corpus, queries=queries, **options)

    return make


def vectors(corpus, folder):
    model = ToyModel()
    documents = model.encode_document(corpus.texts(np.arange(len(corpus))).to_pylist())
    return VectorTeacher(corpus, documents, QUERIES, model.encode_query(QUERIES), similarity="dot")


def multi_vectors(corpus, folder):
    """A vector for each word, by the toy model."""
    model = ToyModel()

    def of(texts):
        words = [text.split() for text in texts]
        found = np.concatenate([model.encode_document(some) for some in words])
        return found / np.linalg.norm(found, axis=1, keepdims=True), [len(some) for some in words]

    documents = of(corpus.texts(np.arange(len(corpus))).to_pylist())
    return MultiVectorTeacher(corpus, documents, QUERIES, of(QUERIES))


def stored(make, depth):
    """A run over all queries but the last, which its teacher has to answer."""

    def build(corpus, folder):
        pairs = Dataset.from_dict({"query": QUERIES[:-1], "positive": [*texts()[:4], "outside of all"]})
        return StoredRun.build(make(corpus, folder), pairs, depth, path=folder / f"run-{depth}")

    return build


def static(corpus, folder):
    return DenseTeacher(str(tiny.static(folder / "model")), corpus, store=folder)


def decoder(corpus, folder):
    """A random Mistral that sees both ways, with an instruction before queries."""
    if not (folder / "model").exists():
        random_encoder("mistral").save(str(folder / "model"))
    return DenseTeacher(str(folder / "model"), corpus, store=folder, device="cpu")


def sparse(corpus, folder):
    return SparseTeacher(str(tiny.sparse(folder / "model")), corpus, store=folder)


def late(corpus, folder):
    return LateInteractionTeacher(str(tiny.late(folder / "model")), corpus, store=folder)


def cross(corpus, folder):
    return CrossEncoderTeacher(str(tiny.cross(folder / "model")), corpus)


def remote(protocol):
    def make(corpus, folder):
        service, queries = services.start(), Corpus.from_texts(QUERIES, match="exact")
        options = {"queries": queries, "store": folder, "fingerprint": "toy service"}
        return RemoteTeacher(getattr(service, protocol), corpus, **options)

    return make


def whole_run(corpus, folder):
    """A run as deep as the corpus, with ties."""
    scores = np.random.default_rng(1).integers(-5, 6, (len(QUERIES), len(corpus))).tolist()
    lines = ((str(q), str(d), float(s)) for q, row in enumerate(scores) for d, s in enumerate(row))
    return RunTeacher(corpus, {str(i): query for i, query in enumerate(QUERIES)}, lines)


def best_passage(make):
    """Passages of three words, many of them shared by several documents."""

    def build(corpus, folder):
        passages = Passages.of(corpus, 3, 1)
        return BestPassageTeacher(make(passages.corpus, folder), passages)

    return build


MAKERS = {
    "dense, cosine": dense("cosine"),
    "dense, dot": dense("dot"),
    "dense, euclidean": dense("euclidean"),
    "dense, FAISS Flat": dense("cosine", "Flat", "faiss"),
    "dense, FAISS lists": dense("dot", "IVF2,SQ8", "faiss"),
    "dense, FAISS graph": dense("euclidean", "HNSW16", "faiss"),
    "dense, Lance": dense("cosine", "Lance('IVF_FLAT', partitions=1)", "lance"),
    "static": static,
    "bidirectional decoder": decoder,
    "bm25": lambda corpus, folder: BM25Teacher(corpus, store=folder),
    "sparse": sparse,
    "late interaction": late,
    "cross-encoder": cross,
    "OpenAI-compatible service": remote("openai"),
    "text-embeddings-inference": remote("tei"),
    "best passage, dense": best_passage(dense("cosine")),
    "best passage, bm25": best_passage(lambda corpus, folder: BM25Teacher(corpus, store=folder)),
    "run": whole_run,
    "random": lambda corpus, folder: RandomTeacher(corpus, seed=3),
    "vectors": vectors,
    "multi-vectors": multi_vectors,
    "CLIP": lambda corpus, folder: DenseTeacher(str(tiny.clip(folder / "model")), corpus, store=folder, device="cpu"),
    "stored, shallow": stored(dense("euclidean"), 3),
    "stored, deep": stored(dense("cosine"), 1000),
    "stored, approximate": stored(dense("dot", "IVF2,SQ8", "faiss"), 10),
    "stored, bm25": stored(lambda corpus, folder: BM25Teacher(corpus, store=folder), 10),
    "stored, sparse": stored(sparse, 10),
    "stored, random": stored(lambda corpus, folder: RandomTeacher(corpus), 10),
}


class Colours:
    """A model of nobody's over Pillow images and texts: some pixels, and those of the page of a text."""

    def encode_document(self, items, **_):
        made = [np.asarray(page(item) if isinstance(item, str) else item, np.float64) for item in items]
        return np.stack([one[::9, ::7].ravel()[:90] - 200 for one in made])

    encode_query = encode_document


def colours(corpus, folder):
    queries = Corpus.from_texts(QUERIES, match="exact")
    return DenseTeacher(Colours(), corpus, queries=queries, fingerprint="colours", store=folder)


def late_pages(corpus, folder):
    return LateInteractionTeacher(str(tiny.late_pages(folder / "model")), corpus, store=folder)


OVER_IMAGES = {
    "CLIP over images": MAKERS["CLIP"],
    "any encoder over images": colours,
    "late interaction over images": late_pages,
    "vectors of images": vectors,
    "multi-vectors of images": multi_vectors,
    "stored, over images": stored(colours, 5),
    "random over images": MAKERS["random"],
}
NO_MODEL = ("vectors", "multi-vectors", "vectors of images", "multi-vectors of images")
"""Teachers that cannot score a text outside their corpus, and say so."""
NOT_IN_RUN = ("run",)
"""Teachers for which such a text lies below everything they know."""


@pytest.fixture(scope="module", params=[*MAKERS, *OVER_IMAGES])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def made(name, corpus, tmp_path_factory):
    """The teacher's name here, how to make it again, and the teacher."""
    folder, make = tmp_path_factory.mktemp("teacher"), {**MAKERS, **OVER_IMAGES}[name]
    teacher = make(corpus, folder)
    prepare(teacher)
    return name, lambda: make(corpus, folder), teacher


@pytest.fixture(scope="module")
def teacher(made):
    return made[2]


@pytest.fixture(scope="module")
def scores(teacher, corpus):
    """The teacher's own scores of all pairs, float32 ``[Q, N]``."""
    rows = np.tile(np.arange(len(corpus)), (len(QUERIES), 1))
    found = teacher.score(QUERIES, rows)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    return found


def test_it_says_who_it_is(teacher):
    assert isinstance(teacher.name, str) and teacher.name
    assert teacher.score_kind in get_args(ScoreKind)
    assert json.loads(json.dumps(teacher.describe()))["kind"]


def test_its_fingerprint_is_the_same_when_it_is_made_again(made):
    _, again, teacher = made
    assert isinstance(teacher.fingerprint, str) and teacher.fingerprint == again().fingerprint


@pytest.mark.parametrize("k", [1, 5, 100])
def test_a_search_is_a_sort_of_its_scores(teacher, scores, corpus, k):
    assert_same(teacher.search(QUERIES, k), oracle_search(scores[:, : corpus.num_candidates], k))


def test_a_ceiling_is_strict_and_what_lies_above_is_counted(teacher, scores, corpus):
    candidates = scores[:, : corpus.num_candidates]
    for rank in (0, 3, 20):
        below = -np.sort(-candidates, axis=1)[:, rank]
        assert_same(teacher.search(QUERIES, 6, below=below), oracle_search(candidates, 6, below))
    ends = np.array([-np.inf, np.inf] * 3, np.float32)
    assert_same(teacher.search(QUERIES, 6, below=ends), oracle_search(candidates, 6, ends))


def test_excluded_documents_are_neither_returned_nor_counted(teacher, scores, corpus):
    candidates = scores[:, : corpus.num_candidates]
    best = np.argsort(-candidates, axis=1, kind="stable")
    exclude = Exclusions.of([np.sort(row[:i]) for i, row in enumerate(best)], np.arange(0, len(corpus), 5))
    below = np.take_along_axis(candidates, best[:, 4:5], axis=1)[:, 0]
    for ceilings in (None, below):
        found = teacher.search(QUERIES, 7, below=ceilings, exclude=exclude)
        assert_same(found, oracle_search(candidates, 7, ceilings, exclude))
    everything = Exclusions.of([np.arange(len(corpus))] * len(QUERIES))
    assert (teacher.search(QUERIES, 2, exclude=everything).doc_ids == -1).all()


def test_many_ceilings_at_once_are_what_they_are_one_by_one(teacher, scores, corpus):
    candidates = scores[:, : corpus.num_candidates]
    best = np.argsort(-candidates, axis=1, kind="stable")
    exclude = Exclusions.of([np.sort(row[3 : 3 + i]) for i, row in enumerate(best)], np.arange(0, len(corpus), 7))
    wants = [
        SearchRequest(np.arange(6), 4, np.full(6, np.inf, np.float32)),
        SearchRequest(np.array([], np.int64), 2, np.zeros(0, np.float32)),
    ]
    for rank, k, rows in ((1, 3, [0, 2, 5]), (12, 8, [5]), (30, 1, range(6)), (50, 40, range(6)), (2, 2, [1, 3])):
        at = np.array(rows)
        wants.append(SearchRequest(at, k, candidates[at, best[at, rank]]))
    wants.append(SearchRequest(np.arange(6), 3, np.full(6, -np.inf, np.float32)))
    for want, found in zip(wants, search_many(teacher, QUERIES, wants, exclude), strict=True):
        assert_same(found, oracle_search(candidates[want.rows], want.k, want.below, exclude.take(want.rows)))


def test_a_query_alone_gets_what_it_gets_in_a_batch(teacher, scores):
    together = teacher.search(QUERIES, 4)
    for i, query in enumerate(QUERIES):
        alone = teacher.search([query], 4)
        assert alone.doc_ids[0].tolist() == together.doc_ids[i].tolist()
        assert alone.scores[0].tolist() == together.scores[i].tolist()
        assert teacher.score([query], np.array([[5, -1, 0]]))[0].tolist() == [scores[i, 5], -np.inf, scores[i, 0]]


def test_a_text_scores_as_the_document_it_is(made, scores, corpus):
    name, _, teacher = made
    documents = corpus.items(np.arange(len(QUERIES)))
    if name in NO_MODEL:
        with pytest.raises(ValueError, match="not in the corpus"):
            teacher.score_texts(QUERIES, documents)
        return
    found = teacher.score_texts(QUERIES, documents)
    if name in NOT_IN_RUN:
        assert np.isneginf(found).all()
        return
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.diagonal(scores[:, : len(QUERIES)]))


def test_it_pickles_as_its_recipe_and_finds_the_same(teacher):
    data = pickle.dumps(teacher)
    copy = pickle.loads(data)
    assert len(data) < 20_000
    assert copy.fingerprint == teacher.fingerprint and copy.name == teacher.name
    assert_same(copy.search(QUERIES, 5), teacher.search(QUERIES, 5))


def test_it_mines_the_same_rows_in_any_batch(teacher, corpus):
    pairs = Dataset.from_dict({"query": QUERIES, "positive_id": corpus.ids(np.arange(0, 60, 10)[:6]).to_pylist()})
    options = {"filters": MarginPos(0), "sampler": "SampledTopK(k=6)", "num_negatives": 3, "keep": ("scores", "ids")}
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, **{"filters": (), **options})
    mined = pairs.map(miner, batched=True)
    assert pairs.map(miner, batched=True, batch_size=2)[:] == mined[:]
    for row in mined:
        assert all(score < row["positive_score"] for score in row["negatives_scores"])


def test_a_share_of_the_positive_is_refused_where_zero_means_nothing(teacher, corpus):
    def miner():
        return PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="p", filters=PercPos(0.95))

    if teacher.score_kind not in ("logit", "distance"):
        assert miner().teachers == [teacher]
        return
    with pytest.raises(SpecError, match="no meaningful zero"):
        miner()
