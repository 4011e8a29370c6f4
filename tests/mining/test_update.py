"""``mine(..., since=...)``: the rows of a full mining after any changes, and no more searches than changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.execution.keeper import keep_searches, update_of
from hf_posmine.mining.execution.searches import KeptDocuments
from hf_posmine.mining.execution.update import in_order
from hf_posmine.mining.provenance import provenance, read_provenance, write_provenance
from hf_posmine.search import ExactIndex
from hf_posmine.teachers import BM25Teacher, DenseTeacher, VectorTeacher
from tests.conftest import ToyModel

disable_progress_bars()

KEEP = ("scores", "ids", "ranks", "positive_score", "stats")
FILTERS = [(), "PercPos(0.95)", "MarginPos(0.1)", "MaxScore(0.4)", "SkipTop(2) + PercPos(0.9)", "RankWindow(1, 9)"]
FILTERS += ["MinScore(-0.2) + PercPos(0.95)"]
SAMPLERS = ["Top()", "SampledTopK(k=6)", "SimANS(k=5)", "Uniform(k=4)", "Top1Sampled(k=5)"]
EXTRAS = [
    {}, {"on_short": "random"}, {"on_short": "drop"}, {"weak_positive": "flag", "weak_rank": 2}, {"ceiling_from": "own"},
    {"exclude_other_positives": True}, {"near_duplicates": 0.9, "sampler": "Top()"},
]  # fmt: skip


def vector(text: str, name: str) -> np.ndarray:
    """Small whole numbers, so that scores tie and documents share vectors."""
    seed = int.from_bytes(hashlib.sha256(f"{name} {text}".encode()).digest()[:8], "little")
    return np.random.default_rng(seed).integers(-1, 3, 4).astype(np.float32)


class SmallModel:
    """The same vectors as a model, which can compare documents with each other."""

    prompts: dict[str, str] = {}  # noqa: RUF012 - as sentence-transformers has it

    def __init__(self, similarity: str) -> None:
        self.similarity_fn_name = similarity

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return np.stack([vector(text, "a") for text in texts])

    encode_document = encode_query


@dataclasses.dataclass(frozen=True)
class Collection:
    """Documents by id, pairs of query and id, and how often the vectors were made."""

    documents: dict[str, str]
    pairs: list[tuple[str, str]]
    version: int = 0

    def rows(self) -> Dataset:
        return Dataset.from_dict(
            {"query": [q for q, _ in self.pairs], "positive": [self.documents[d] for _, d in self.pairs]}
        )

    def teacher(self, corpus: Corpus, similarity: str, name: str = "a") -> VectorTeacher:
        texts, queries = corpus.texts(np.arange(len(corpus))).to_pylist(), list(dict.fromkeys(q for q, _ in self.pairs))
        # a new version of the vectors changes every eighth document
        names = [f"{name}{self.version}" if int(hashlib.sha256(t.encode()).hexdigest(), 16) % 8 == 0 else name for t in texts]
        made = np.stack([vector(t, n) for t, n in zip(texts, names, strict=True)])
        asked = np.stack([vector(q, name) for q in queries])
        return VectorTeacher(corpus, made, queries, asked, similarity=similarity, name=name)

    def miner(self, options: dict, similarity: str, teachers: int = 1) -> PositiveAwareMiner:
        corpus = Corpus.from_texts(self.documents.values(), ids=self.documents)
        made = [self.teacher(corpus, similarity, name) for name in "ab"[:teachers]]
        if "near_duplicates" in options:
            made = [DenseTeacher(SmallModel(similarity), corpus, fingerprint=f"small {similarity}")]
        return PositiveAwareMiner.from_dataset(self.rows(), made, corpus=corpus, keep=KEEP, **options)


def first(draw: st.DataObject) -> Collection:
    documents = {f"d{i}": f"document {i}" for i in range(draw.draw(st.integers(8, 30)))}
    pairs = draw.draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(documents))), min_size=3, max_size=14))
    return Collection(documents, [(f"query {q}", d) for q, d in pairs])


def changed(draw: st.DataObject, before: Collection, step: int) -> Collection:
    """Documents added at any place, removed, rewritten and moved; pairs added, removed and pointed elsewhere."""
    documents = dict(before.documents)
    for _ in range(draw.draw(st.integers(0, 3))):
        free = [d for d in documents if d not in {d for _, d in before.pairs}]
        if len(free) > 6:
            del documents[draw.draw(st.sampled_from(free))]
    for document in draw.draw(st.lists(st.sampled_from(list(documents)), max_size=2)):
        documents[document] += f" rewritten {step}"
    entries = list(documents.items())
    for i in range(draw.draw(st.integers(0, 3))):
        entries.insert(draw.draw(st.integers(0, len(entries))), (f"s{step}-{i}", f"document of step {step} {i}"))
    if draw.draw(st.booleans()):
        entries.insert(0, entries.pop(draw.draw(st.integers(0, len(entries) - 1))))
    documents, pairs = dict(entries), list(before.pairs)
    if len(pairs) > 2 and draw.draw(st.booleans()):
        pairs.pop(draw.draw(st.integers(0, len(pairs) - 1)))
    for query in draw.draw(st.lists(st.integers(0, 12), max_size=2)):
        pairs.append((f"query {query}", draw.draw(st.sampled_from(list(documents)))))
    return Collection(documents, pairs, before.version + draw.draw(st.integers(0, 1)))


def anew(collection: Collection, miner: PositiveAwareMiner) -> dict:
    """A full mining, without anything kept."""
    return miner(collection.rows().with_format("arrow")[:]).to_pydict()


def assert_equal_after_changes(draw: st.DataObject) -> None:
    options = {"filters": draw.draw(st.sampled_from(FILTERS)), "num_negatives": draw.draw(st.integers(1, 4))}
    teachers = draw.draw(st.sampled_from([1, 1, 1, 2]))
    choice = st.sampled_from(SAMPLERS if teachers == 1 else ["CrossSample()", "IntraSample(dedup=True)"])
    options |= {"sampler": draw.draw(choice), **draw.draw(st.sampled_from(EXTRAS))}
    teachers = 1 if "near_duplicates" in options else teachers
    similarity = draw.draw(st.sampled_from(["dot", "dot", "cosine", "euclidean"]))
    if similarity == "euclidean" and options["filters"]:
        options["filters"] = options["filters"].replace("PercPos(0.9", "MarginPos(0.9")
    assume("weak_positive" not in options or any(name in options["filters"] for name in ("Pos", "Max")))
    collection = first(draw)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="since=: more than half")
        mined = mine(collection.rows(), collection.miner(options, similarity, teachers), work_dir=folder)
        for step in (1, 2):
            collection = changed(draw, collection, step)
            miner = collection.miner(options, similarity, teachers)
            again = mine(
                collection.rows(), miner, work_dir=Path(folder) / str(step), since=mined,
                shard_rows=draw.draw(st.integers(3, 20)), batch_size=draw.draw(st.integers(2, 9)),
            )  # fmt: skip
            assert again.to_dict() == anew(collection, miner)
            mined = again


relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking takes minutes


@settings(relaxed, max_examples=16)
@given(st.data())
def test_an_update_equals_mining_anew(draw):
    assert_equal_after_changes(draw)


@pytest.mark.matrix
@settings(relaxed, max_examples=100)
@given(st.data())
def test_an_update_equals_mining_anew_in_100_histories(draw):
    assert_equal_after_changes(draw)
