"""Learned sparse and late-interaction teachers, against the scores of sentence-transformers."""

from __future__ import annotations

import contextlib
import json
import pickle

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.data.images import named_images
from hf_posmine.teachers import LateInteractionTeacher, SparseTeacher, encoded_parts, make_teacher
from tests.support import tiny
from tests.support.pages import pages

TEXTS = ["red cat", "a dog of stone", "blue sky in a river", "cat", "bird tree house stone sea", "green green green"]
QUERIES = ["a cat", "blue river", "stone house in a tree"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def corpus():
    return Corpus.from_texts(TEXTS)


def load(cls, path):
    import sentence_transformers

    return getattr(sentence_transformers, cls)(str(path), device="cpu", local_files_only=True)


def test_sparse_scores_are_those_of_the_model(folder, corpus, tmp_path):
    path = tiny.sparse(folder / "sparse")
    model = load("SparseEncoder", path)
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS)).numpy()
    found = SparseTeacher(str(path), corpus, store=tmp_path).all_scores(QUERIES)
    assert (found > 0).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sparse_vectors_keep_no_more_terms_than_the_model_allows(folder, corpus, tmp_path):
    model = load("SparseEncoder", tiny.sparse(folder / "sparse"))
    full = SparseTeacher(model, corpus, store=tmp_path)
    model.max_active_dims = 3
    few = SparseTeacher(model, corpus, store=tmp_path)
    assert few.fingerprint != full.fingerprint
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS)).numpy()
    np.testing.assert_allclose(few.all_scores(QUERIES), expected, rtol=1e-4, atol=1e-5)
    assert (few.all_scores(QUERIES) < full.all_scores(QUERIES)).any()


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
def test_late_interaction_scores_are_those_of_the_model(folder, corpus, tmp_path, similarity):
    path = tiny.late(folder / similarity, similarity)
    model = load("MultiVectorEncoder", path)
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS)).numpy()
    teacher = LateInteractionTeacher(str(path), corpus, store=tmp_path)
    assert teacher.score_kind == {"maxsim": "dot", "meanmaxsim": "cosine"}[similarity]
    np.testing.assert_allclose(teacher.all_scores(QUERIES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["images", "mixed"])
def test_late_interaction_over_images_mines_what_numpy_finds(folder, tmp_path, fresh_home, kind):
    """Patches of each page alone by sentence-transformers, MaxSim in numpy; queries are texts and an image."""
    path = tiny.late_pages(folder / "pages")
    model, images = load("MultiVectorEncoder", path), pages(TEXTS)
    documents = images if kind == "images" else [*images[:3], *TEXTS[3:]]
    items = [{"text": item} if isinstance(item, str) else item for item in documents]
    tokens = [model.encode_document([item])[0].numpy().astype(np.float64) for item in items]
    asked = [model.encode_query([query])[0].numpy().astype(np.float64) for query in QUERIES]
    wanted = np.array([[(q @ d.T).max(axis=1).sum() for d in tokens] for q in asked])
    corpus = Corpus.from_texts(named_images(documents), [f"d{n}" for n in range(len(documents))])
    teacher = make_teacher(f"Late({str(path)!r})", corpus)
    np.testing.assert_allclose(teacher.all_scores(QUERIES), wanted, rtol=1e-5)
    pairs = Dataset.from_dict({"query": QUERIES, "positive_id": ["d0", "d2", "d4"]})
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, num_negatives=2, filters="PercPos(0.999)", keep=("ids",))
    for row, (own, ids) in enumerate(zip((0, 2, 4), mine(pairs, miner)["negatives_ids"], strict=True)):
        below = [
            n for n in np.argsort(-wanted[row], kind="stable") if wanted[row, n] < 0.999 * wanted[row, own] and n != own
        ]
        assert ids == [f"d{n}" for n in below[:2]]
    page_asked = model.encode_query([images[1]])[0].numpy().astype(np.float64)
    found = teacher.score(named_images([images[1]]), np.arange(len(documents))[None])
    np.testing.assert_allclose(found[0], [(page_asked @ d.T).max(axis=1).sum() for d in tokens], rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_maxsim_does_not_depend_on_the_size_of_its_blocks(folder, corpus, tmp_path, budget, monkeypatch):
    teacher = LateInteractionTeacher(str(tiny.late(folder / "maxsim")), corpus, store=tmp_path)
    expected = teacher.all_scores(QUERIES)
    monkeypatch.setattr("hf_posmine.teachers.maxsim.BLOCK_SIMILARITIES", budget)
    np.testing.assert_array_equal(teacher.all_scores(QUERIES), expected)


@pytest.mark.parametrize(("make", "cls"), [(tiny.sparse, SparseTeacher), (tiny.late, LateInteractionTeacher)])
def test_a_saved_model_is_encoded_once_and_a_live_one_does_not_travel(make, cls, folder, corpus, tmp_path, monkeypatch):
    path = make(folder / f"once-{cls.__name__}")
    teacher = cls(str(path), corpus, store=tmp_path)
    expected = teacher.all_scores(QUERIES)
    again = cls(str(path), corpus, store=tmp_path, query_prompt="red ")
    assert again.fingerprint != teacher.fingerprint
    monkeypatch.setattr(type(again.corpus), "texts", lambda *_: pytest.fail("documents are read again"))
    assert (again.all_scores(QUERIES) != expected).any()
    monkeypatch.undo()
    live = cls(load("SparseEncoder" if cls is SparseTeacher else "MultiVectorEncoder", path), corpus, store=tmp_path)
    assert live.fingerprint == teacher.fingerprint
    with pytest.raises(StoreError, match="live model, which does not travel"):
        pickle.loads(pickle.dumps(live)).all_scores(["sea"])


def test_a_model_of_the_wrong_kind_is_refused(folder, corpus):
    model = load("SparseEncoder", tiny.sparse(folder / "sparse"))
    with pytest.raises(InputError, match="SparseEncoder is not a MultiVectorEncoder"):
        LateInteractionTeacher(model, corpus)
    with pytest.raises(InputError, match="int is not a SparseEncoder"):
        SparseTeacher(3, corpus)
    model.similarity_fn_name = "cosine"
    with pytest.raises(InputError, match="compares by 'cosine'"):
        SparseTeacher(model, corpus)


def test_a_static_embedding_model_is_a_dense_teacher(corpus, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(tiny.VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(vocabulary), 16)).astype(np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")
    pairs = {"query": QUERIES, "positive": TEXTS[:3]}
    teacher = DenseTeacher(model, corpus, store=tmp_path)
    out = PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="positive", keep="scores", filters=())(
        pairs
    )
    means = {t: np.mean([weights[vocabulary[w]] for w in t.split()], axis=0) for t in (*TEXTS, *QUERIES)}
    for query, positive, score in zip(QUERIES, TEXTS, out["positive_score"], strict=False):
        a, b = means[query], means[positive]
        assert score == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-5)
    assert json.dumps(teacher.describe())


@pytest.mark.parametrize("damage", [False, True], ids=["kept", "damaged"])
@pytest.mark.parametrize(("make", "cls"), [(tiny.sparse, SparseTeacher), (tiny.late, LateInteractionTeacher)])
def test_an_interruption_loses_only_the_part_it_met(make, cls, damage, folder, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(encoded_parts, "PART_TEXTS", 2)
    path = make(folder / f"parts-{cls.__name__}")
    expected = cls(str(path), corpus, store=tmp_path / "whole").all_scores(QUERIES)
    encode, encoded = (f"_document_{'terms' if cls is SparseTeacher else 'tokens'}"), []

    def failing(teacher, texts, fail_at=2):
        if len(encoded) == fail_at:
            raise KeyboardInterrupt
        encoded.append(texts)
        return original(teacher, texts)

    original = getattr(cls, encode)
    monkeypatch.setattr(cls, encode, failing)
    with pytest.raises(KeyboardInterrupt):
        cls(str(path), corpus, store=tmp_path / "killed").prepare()
    left = sorted((tmp_path / "killed").rglob("*.npz"))
    assert len(left) == 2
    if damage:
        left[0].write_bytes(left[0].read_bytes()[:-9])
    encoded.clear()
    monkeypatch.setattr(cls, encode, lambda teacher, texts: failing(teacher, texts, fail_at=9))
    with pytest.warns(UserWarning, match="encoded again") if damage else contextlib.nullcontext():
        assert np.array_equal(cls(str(path), corpus, store=tmp_path / "killed").all_scores(QUERIES), expected)
    assert encoded == ([TEXTS[:2]] if damage else []) + [TEXTS[4:]]
    assert not list((tmp_path / "killed").rglob("*.parts"))
