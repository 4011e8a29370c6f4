"""Batches cut from ids that were made once are those that the model's own preprocessing makes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from hf_posmine import PositiveAwareMiner
from hf_posmine.encoding.batches import sent
from hf_posmine.encoding.encode import Encoder
from hf_posmine.encoding.tokenized import TokenizedTexts
from hf_posmine.teachers.stored_embeddings import CountingEncoder
from tests.support.distributed import WORDS, tiny_model

ROLES = ("query", "document")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(tiny_model(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(5)
    drawn = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(0, 90, 600)]  # the model takes 64 tokens
    return [*drawn, "", "Ω not in the vocabulary"]


def counted(monkeypatch, model) -> list[str]:
    """Every text that goes through the tokenizer, as the model passes it."""
    seen = []
    kind = type(model.tokenizer)
    plain = kind.__call__

    def spy(self, text=None, *args, **kwargs):
        seen.extend([text] if isinstance(text, str) else text)
        return plain(self, text, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", spy)
    return seen


def test_each_text_is_tokenised_once(model, texts, monkeypatch):
    seen = counted(monkeypatch, model)
    Encoder(model, query_prompt="find: ").encode(texts, "query")
    seen = [text for text in seen if text != "find: "]  # the model counts the tokens of its prompt, too
    assert sorted(seen) == sorted("find: " + text for text in texts if text)


def prepared(pairs, model) -> PositiveAwareMiner:
    how = {"shard_rows": 64, "document_prompt": "find: "}
    return PositiveAwareMiner.from_dataset(pairs, model, teacher_options=how, num_negatives=1).prepare()


@pytest.mark.filterwarnings("ignore::hf_posmine.core.errors.CutTextWarning")
def test_preparing_a_miner_tokenises_each_text_once_and_knows_which_are_too_long(model, texts, fresh_home, monkeypatch):
    documents = list(dict.fromkeys(filter(None, texts)))
    pairs = Dataset.from_dict({"query": [f"question {n}" for n in range(len(documents))], "positive": documents})
    whole = [f"find: {text}" for text in documents]
    longer = sum(len(ids) > 64 for ids in model.tokenizer(whole, truncation=False)["input_ids"])
    seen = counted(monkeypatch, model)
    miner = prepared(pairs, model)
    assert sorted(text for text in seen if text != "find: ") == sorted([*pairs["query"], *whole])
    assert miner.teachers[0].cut_texts().cut == longer > 100
    seen.clear()
    shutil.rmtree(fresh_home / "cut")
    assert prepared(pairs, model).teachers[0].describe()["cut_texts"] == longer  # as the shards have it
    assert seen == []
    part, stored = miner.corpus.parts[0], miner.teachers[0].embeddings
    (stored.store.folder(stored.model.keys["document"], part) / "shard-000001.safetensors").unlink()
    shutil.rmtree(fresh_home / "cut")
    assert prepared(pairs, model).teachers[0].cut_texts().cut == longer
    assert sorted(text for text in seen if text != "find: ") == sorted(whole[64:128])


@pytest.mark.parametrize("damage", ["older", "flipped"])
@pytest.mark.filterwarnings("ignore::hf_posmine.core.errors.CutTextWarning")
def test_a_shard_without_a_whole_count_is_measured_again(model, texts, fresh_home, monkeypatch, damage):
    documents = list(dict.fromkeys(filter(None, texts)))[:100]
    pairs = Dataset.from_dict({"query": [f"question {n}" for n in range(100)], "positive": documents})
    if damage == "older":
        monkeypatch.setattr(CountingEncoder, "cut_among", lambda *_: None)
    miner = prepared(pairs, model)
    found = miner.teachers[0].cut_texts()
    for shard in fresh_home.rglob("shard-*.safetensors"):
        content = bytearray(shard.read_bytes())
        assert (b'"cut"' in content) == (damage == "flipped")
        if damage == "flipped":
            content[-16] ^= 1
            shard.write_bytes(content)
    seen = counted(monkeypatch, model)
    shutil.rmtree(fresh_home / "cut")
    assert prepared(pairs, model).teachers[0].cut_texts() == found
    assert sorted(seen) == sorted(f"find: {text}" for text in documents)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("prompt", ["", "find: "])
def test_features_are_those_of_the_model(model, texts, monkeypatch, side, prompt):
    monkeypatch.setattr(model.tokenizer, "padding_side", side)

    def preprocess(batch):
        return model.preprocess(batch, prompt=prompt, task="document")

    tokenized = TokenizedTexts.of(texts, preprocess, model.tokenizer)
    assert tokenized is not None
    np.testing.assert_array_equal(tokenized.lengths, Encoder(model, document_prompt=prompt).lengths(texts, "document"))
    for seed in range(4):
        rows = np.random.default_rng(seed).choice(len(texts), 30)
        made, expected = tokenized.features(rows), preprocess([texts[i] for i in rows.tolist()])
        assert made.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(made[name], value) if isinstance(value, torch.Tensor) else made[name] == value, name
            assert not isinstance(value, torch.Tensor) or made[name].dtype == value.dtype


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("on_cpu", [True, False])
def test_vectors_are_as_before_to_the_bit(model, texts, monkeypatch, role, on_cpu):
    monkeypatch.setattr(Encoder, "on_cpu", on_cpu)
    encoder = Encoder(model, tokens=300)
    vectors = encoder.encode(texts, role)
    monkeypatch.setattr(Encoder, "_tokenized", lambda *_: None)
    np.testing.assert_array_equal(vectors, encoder.encode(texts, role))


@pytest.mark.parametrize(
    "change",
    [
        lambda features: {**features, "position_ids": torch.zeros(1)},
        lambda features: {name: v for name, v in features.items() if name != "attention_mask"},
        lambda features: {**features, "input_ids": features["input_ids"].flatten()[None]},
        lambda features: {**features, "input_ids": features["input_ids"] + (features["attention_mask"] == 0)},
    ],
    ids=["another tensor", "no mask", "without padding", "another padding"],
)
def test_features_of_another_kind_are_left_to_the_model(model, texts, change):
    assert TokenizedTexts.of(texts, lambda batch: change(model.preprocess(batch)), model.tokenizer) is None


def test_a_tensor_goes_to_a_cpu_as_it_is():
    tensor = torch.arange(4)
    assert sent(tensor, torch.device("cpu")) is tensor
