"""Texts to vectors with the embedded MiniLM: the model's own vectors, to the bit whatever lies beside a text."""

from __future__ import annotations

import copy
import json
import threading

import numpy as np
import pytest
import torch

from hf_posmine import Corpus, DenseTeacher
from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.encoding.batches import plan_batches, run_batches
from hf_posmine.encoding.encode import DEFAULT_MODEL, Encoder, load_model
from tests.conftest import ToyModel

WORDS = "the cat sat on a mat while rain fell over Oslo and nobody minded it at all".split()
TEXTS = [
    "",
    "a",
    "Paris is the capital of France.",
    "Größe, naïveté, 東京 and emoji 🙂",
    *(" ".join(WORDS[:count]) for count in (3, 3, 7, 7, 12)),
    " ".join(WORDS * 4),
    " ".join(WORDS * 60),  # far beyond the 256 tokens of the model
    "line\nbreaks\tand   spaces ",
]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("prompt", ["", "query: "])
@pytest.mark.parametrize("role", ["query", "document"])
def test_vectors_are_those_of_the_model(embedded_model, prompt, role):
    encoder = Encoder(embedded_model, query_prompt=prompt, document_prompt=prompt)
    vectors = encoder.encode(TEXTS, role)
    expected = embedded_model.encode(TEXTS, prompt=prompt, show_progress_bar=False)
    assert (vectors.shape, vectors.dtype) == (expected.shape, np.float32)
    assert np.abs(vectors - expected).max() < 1e-5


def test_a_prompt_moves_the_vectors_of_its_role_only(embedded_model):
    plain, prompted = Encoder(embedded_model), Encoder(embedded_model, query_prompt="query: ")
    assert not np.allclose(plain.encode(TEXTS[:3], "query"), prompted.encode(TEXTS[:3], "query"), atol=1e-3)
    assert np.array_equal(plain.encode(TEXTS[:3], "document"), prompted.encode(TEXTS[:3], "document"))


def test_a_vector_depends_on_its_text_alone_to_the_bit(embedded_model, threads):
    texts = TEXTS * 2
    threads(2)
    whole = Encoder(embedded_model).encode(texts, "document")
    threads(1)
    assert np.array_equal(Encoder(embedded_model).encode(texts, "document"), whole)
    threads(2)
    for tokens in (1, 64, 10_000):
        assert np.array_equal(Encoder(embedded_model, tokens=tokens).encode(texts, "document"), whole)
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.array_equal(Encoder(embedded_model).encode([texts[i] for i in order], "document"), whole[order])
    alone = [Encoder(embedded_model).encode([text], "document")[0] for text in TEXTS]
    assert np.array_equal(np.stack(alone), whole[: len(TEXTS)])


@pytest.mark.parametrize("count", [1, 2])
def test_encoding_leaves_the_number_of_threads_alone(embedded_model, threads, count):
    threads(count)
    Encoder(embedded_model).encode(TEXTS[:6], "query")
    assert torch.get_num_threads() == count


def test_batches_hold_one_length_and_stay_within_the_budget(embedded_model):
    lengths = Encoder(embedded_model).lengths(TEXTS * 5, "document")
    assert lengths[0] == 2
    assert lengths.max() == 256
    batches = list(plan_batches(lengths, on_cpu=True, tokens=100))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(set(lengths[rows])) == 1
        assert len(rows) == 1 or lengths[rows].sum() <= 100


def test_the_callback_hears_every_text_once(embedded_model):
    heard: list[int] = []
    Encoder(embedded_model).encode(TEXTS, "query", heard.append)
    assert sum(heard) == len(TEXTS)


def test_unit_vectors_have_length_one_and_the_same_direction(toy_model):
    plain = Encoder(toy_model, fingerprint="toy").encode(TEXTS[1:5], "query")
    unit = Encoder(toy_model, fingerprint="toy", unit=True).encode(TEXTS[1:5], "query")
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(unit * np.linalg.norm(plain, axis=1)[:, None], plain, rtol=1e-5)


def test_a_zero_vector_stays_zero_when_scaled(toy_model, monkeypatch):
    monkeypatch.setattr(toy_model, "_vector", lambda text: np.zeros(16, np.float32))
    assert not Encoder(toy_model, fingerprint="toy", unit=True).encode(["a"], "document").any()


# the key


def changed(model, change):
    other = copy.deepcopy(model)
    change(other)
    return other


def one_weight(model):
    with torch.no_grad():
        next(iter(model.parameters()))[7, 7] += 1e-3


CHANGES = {
    "one weight": one_weight,
    "max_seq_length": lambda model: setattr(model, "max_seq_length", 128),
    "truncate_dim": lambda model: setattr(model, "truncate_dim", 64),
    "normalisation": lambda model: model.pop(2),
    "pooling": lambda model: setattr(model[1], "pooling_mode", "cls"),
    "dtype": lambda model: model.half(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_moves_a_vector_moves_the_key(embedded_model, name):
    other = Encoder(changed(embedded_model, CHANGES[name]))
    for role in ("query", "document"):
        assert other.digest(role) != Encoder(embedded_model).digest(role)


def test_prompts_roles_and_scaling_move_the_key(embedded_model):
    keys = [
        Encoder(embedded_model).digest("query"),
        Encoder(embedded_model).digest("document"),
        Encoder(embedded_model, query_prompt="query: ").digest("query"),
        Encoder(embedded_model, query_prompt="query:").digest("query"),
        Encoder(embedded_model, unit=True).digest("query"),
    ]
    assert len(set(keys)) == len(keys)
    assert Encoder(embedded_model, query_prompt="q").digest("document") == keys[1]
    assert Encoder(embedded_model, tokens=64).digest("query") == keys[0]


def test_the_same_model_has_the_same_key_wherever_it_lies(embedded_model, tmp_path):
    embedded_model.save(str(tmp_path / "saved"))
    saved = load_model(str(tmp_path / "saved"))
    assert Encoder(saved).digest("query") == Encoder(embedded_model).digest("query")


def test_a_models_own_prompts_are_taken_unless_one_is_given(embedded_model):
    model = changed(embedded_model, lambda m: setattr(m, "prompts", {"query": "Q: ", "passage": "P: "}))
    assert Encoder(model).prompts == {"query": "Q: ", "document": "P: "}
    assert Encoder(model, query_prompt="").prompts == {"query": "", "document": "P: "}
    assert Encoder(ToyModel(), fingerprint="toy").prompts == {"query": "", "document": ""}


def test_a_foreign_model_needs_a_fingerprint(toy_model):
    with pytest.raises(InputError, match=r"ToyModel is not a SentenceTransformer.*pass fingerprint="):
        Encoder(toy_model).digest("query")
    keys = {Encoder(toy_model, fingerprint=name).digest("query") for name in ("one", "two")}
    assert len(keys) == 2


# what goes wrong


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_names_its_text(toy_model, monkeypatch, bad):
    plain = toy_model._vector
    monkeypatch.setattr(toy_model, "_vector", lambda text: plain(text) * (bad if text.startswith("bad") else 1))
    with pytest.raises(StoreError, match=r"non-finite vectors for 2 texts, first number 1: 'bad apple'"):
        Encoder(toy_model, fingerprint="toy").encode(["fine", "bad apple", "bad pear"], "document")


def test_a_native_model_that_overflows_names_its_text_too(embedded_model):
    def spoil(model):
        with torch.no_grad():
            model[0].auto_model.embeddings.word_embeddings.weight[model.tokenizer.vocab["cat"]] = torch.inf

    with pytest.raises(StoreError, match="for 1 texts, first number 1: 'the cat'"):
        Encoder(changed(embedded_model, spoil)).encode(["the dog", "the cat"], "query")


def test_offline_only_local_names_load(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="HF_POSMINE_OFFLINE is set, so 'some/model' must be a local folder"):
        load_model("some/model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(str(tmp_path / "empty"))
    assert load_model(DEFAULT_MODEL).max_seq_length == 256


def test_using_a_model_does_not_change_its_key():
    model = load_model("embedded")
    before = Encoder(model).model_digest
    model.encode(["a", "a longer text, which needs padding beside the short one"])
    assert Encoder(model).model_digest == before


def test_a_given_prompt_reaches_a_model_of_another_kind(toy_model):
    Encoder(toy_model, query_prompt="query: ", fingerprint="toy").encode(["text"], "query")
    assert toy_model.encoded == ["query: text"]


def test_another_precision_has_other_embeddings_and_another_key(embedded_model, tmp_path):
    corpus = Corpus.from_texts(TEXTS[1:6])
    whole, half = (
        DenseTeacher("embedded", corpus, device="cpu", store=tmp_path, compute=compute)
        for compute in (None, "bfloat16")
    )
    assert str(half.model.encoder.model.dtype) == "torch.bfloat16" and half.model.keys != whole.model.keys
    assert half.fingerprint != whole.fingerprint
    scores = [teacher.score(["a cat"], np.arange(len(corpus))[None])[0] for teacher in (whole, half)]
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.02
    with pytest.raises(InputError, match="compute='float8'; choose one of float32, bfloat16, float16"):
        load_model("embedded", compute="float8")
    with pytest.raises(InputError, match=r"is for models given by name; convert this one with model.to\(...\)"):
        DenseTeacher(embedded_model, corpus, compute="bfloat16")


def test_the_next_batch_is_read_while_one_is_computed():
    read, computing = threading.Event(), []

    def features(rows):
        if len(computing):
            read.set()
        return rows

    def forward(rows):
        computing.append(threading.current_thread() is threading.main_thread())
        assert len(computing) > 1 or read.wait(20)  # the first pass waits for the second batch
        return rows[:, None] * 2.0

    batches = [np.arange(3), np.arange(3, 5)]
    found = list(run_batches(batches, features, forward, side_by_side=False))
    assert [rows.tolist() for rows, _ in found] == [[0, 1, 2], [3, 4]]
    assert [values[:, 0].tolist() for _, values in found] == [[0, 2, 4], [6, 8]]
    assert computing == [False, False]
