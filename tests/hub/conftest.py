"""The fixture ``hub``: an empty loopback Hub, and clients that are online, logged in as alice and without a past."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.hub.loopback import LoopbackHub, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved SentenceTransformer of one BERT layer with random weights, with its tokenizer: some 20 kB."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "red", "green", "blue", "cat", "dog", "fox", "sun", "moon"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder / "bert")
    set_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"))
    model = SentenceTransformer(modules=[bert, Pooling(bert.get_embedding_dimension(), "mean")], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A clean Hub for one test. The suite is offline; here the switches that the clients read per call are thrown.

    The environment is set too, so that a subprocess of the test finds the same Hub, token and caches.
    """
    import datasets
    from huggingface_hub import HfFileSystem, constants, file_download
    from huggingface_hub.utils import _http, close_session

    hub = running()
    assert constants.ENDPOINT == hub.url, "huggingface_hub was imported before tests/conftest.py; a plugin did it"
    hub.reset()
    close_session()
    HfFileSystem.clear_instance_cache()  # it keeps listings

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    monkeypatch.setattr(datasets.config, "USE_PARQUET_EXPORT", False)  # it would ask the host datasets-server.127.0.0.1
    for name, value in {
        "HF_HUB_OFFLINE": "0",
        "HF_POSMINE_OFFLINE": "0",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets-cache"),
        "HF_TOKEN": "hf_alice",
    }.items():
        monkeypatch.setenv(name, value)

    monkeypatch.delenv("HF_OIDC_RESOURCE", raising=False)  # would win over HF_TOKEN

    # the clients wait seconds between retries; the server's own clock, and that of the code under test, go on
    hurried = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
    monkeypatch.setattr(_http, "time", hurried)
    monkeypatch.setattr(file_download, "time", hurried)
    for name in ("READ_RETRY", "READ_SERVER_UNAVAILABLE_RETRY", "READ_RATE_LIMIT_RETRY", "OPEN_RETRY"):
        monkeypatch.setattr(datasets.config, f"STREAMING_{name}_INTERVAL", 0)
    yield hub
    assert hub.crashes == []
