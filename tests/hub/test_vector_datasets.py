"""Vectors in a data set on the Hub, as embedding scripts for HF Jobs and vLLM push them, and files at ``hf://`` addresses."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Sequence, Value

from hf_posmine.core.errors import InputError, LeftOutVectorsWarning
from hf_posmine.data import Corpus
from hf_posmine.teachers import VectorTeacher, make_teacher

TEXTS, QUERIES = [f"document {n}" for n in range(6)], ["first query", "second query"]
RNG = np.random.default_rng(5)
VECTORS, OF_QUERIES = RNG.normal(size=(6, 8)).astype(np.float32), RNG.normal(size=(2, 8)).astype(np.float32)
KINDS = {
    "list": List(Value("float32")),
    "fixed-size list": List(Value("float32"), length=8),
    "sequence": Sequence(Value("float64")),
}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_texts(TEXTS)


def push(name: str, texts: list[str], vectors: np.ndarray, kind: str) -> str:
    """Rows with a column ``embeddings``, as ``dataset.add_column("embeddings", ...)`` leaves them."""
    rows = {"text": texts, "source": ["a page"] * len(texts), "embeddings": vectors.tolist()}
    features = Features({"text": Value("string"), "source": Value("string"), "embeddings": KINDS[kind]})
    Dataset.from_dict(rows, features).push_to_hub(name)
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_hub_data_sets_make_a_teacher(kind, hub, corpus):
    documents = push("alice/documents", TEXTS[::-1], VECTORS[::-1], kind)
    queries = push("alice/queries", QUERIES, OF_QUERIES, kind)
    teacher = make_teacher(f"Vectors({documents!r}, queries={queries!r}, column='embeddings')", corpus)
    assert teacher.fingerprint == VectorTeacher(corpus, VECTORS, QUERIES, OF_QUERIES).fingerprint
    assert teacher.describe()["vectors"] == "6 vectors of 8 dimensions from alice/documents, by 'text'"


def test_what_is_wrong_with_a_hub_data_set_is_named(hub, corpus):
    queries = push("alice/queries", QUERIES, OF_QUERIES, "list")
    more = push("alice/more", [*TEXTS, "another"], np.concatenate([VECTORS, VECTORS[:1]]), "list")
    with pytest.warns(LeftOutVectorsWarning, match="7 vectors .* from alice/more, by 'text'; 1 of them"):
        make_teacher(f"Vectors({more!r}, queries={queries!r})", corpus)
    few = push("alice/few", TEXTS[:4], VECTORS[:4], "list")
    with pytest.raises(InputError, match=r"alice/few has 4 vectors; 2 of 6 documents have none by 'text', such as"):
        make_teacher(f"Vectors({few!r}, queries={queries!r})", corpus)
    with pytest.raises(
        InputError, match=r"alice/few has no column 'vector'; its columns: \['text', 'source', 'embeddings'\]"
    ):
        make_teacher(f"Vectors({few!r}, queries={queries!r}, column='vector')", corpus)
