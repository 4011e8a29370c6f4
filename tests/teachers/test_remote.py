"""An embedding service on the loopback interface, with faults: nothing is paid twice, and every failure is named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, PercPos, PositiveAwareMiner
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.teachers import EmbeddingService, RemoteTeacher
from tests.conftest import ToyModel
from tests.support import services

disable_progress_bars()
TEXTS = [f"{colour} {thing}" for colour in ("red", "green", "blue", "black") for thing in "cat dog bird fish".split()]
QUERIES = ["a red animal", "a green cat", "blue"]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda seconds: None)
    return services.start()


@pytest.fixture
def corpus():
    return Corpus.from_texts(TEXTS)


def teacher(service, corpus, folder, **changes):
    options = {name: changes.pop(name) for name in ("shard_rows", "queries") if name in changes}
    endpoint = dataclasses.replace(service.openai, **{"batch_size": 4, **changes})
    return RemoteTeacher(endpoint, corpus, store=folder, **options)


@pytest.mark.parametrize("protocol", ["openai", "tei"])
def test_it_mines_as_the_model_behind_the_service(protocol, service, corpus, tmp_path):
    pairs = Dataset.from_dict({"query": QUERIES, "positive": TEXTS[:3]})
    remote = RemoteTeacher(getattr(service, protocol), corpus, store=tmp_path / "remote")
    local = DenseTeacher(ToyModel(), corpus, fingerprint="toy", store=tmp_path / "local")
    options = {"filters": PercPos(0.95), "keep": ("scores", "ids")}
    mined = [
        pairs.map(PositiveAwareMiner.from_dataset(pairs, t, **{"filters": (), **options}), batched=True)[:]
        for t in (remote, local)
    ]
    assert mined[0] == mined[1]
    assert remote.describe()["kind"] == "remote"


def test_usage_and_cost_are_counted_and_the_key_is_sent_but_not_kept(service, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "secret")
    remote = teacher(service, corpus, tmp_path, api_key_env="TOY_KEY", price=2e6)
    remote.prepare()
    assert (remote.usage.requests, remote.usage.texts, remote.usage.tokens, remote.cost) == (4, 16, 32, 64.0)
    assert {headers["Authorization"] for headers, _ in service.requests} == {"Bearer secret"}
    assert {(body["model"], len(body["input"])) for _, body in service.requests} == {("toy", 4)}
    assert "secret" not in repr(remote.__dict__) + repr(remote.describe())
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(StoreError, match="TOY_KEY holds no key"):
        teacher(service, corpus, tmp_path / "other", api_key_env="TOY_KEY").prepare()


@pytest.mark.parametrize("fault", [429, 503, "garbage", "short", "drop"])
def test_a_passing_fault_is_asked_again(fault, service, corpus, tmp_path):
    service.faults = [fault, fault]
    remote = teacher(service, corpus, tmp_path)
    remote.prepare()
    assert remote.usage.retries == 2
    assert sorted(service.texts) == sorted(TEXTS)
    expected = ToyModel().encode_document(TEXTS)
    found = remote.score_texts([TEXTS[0]] * len(TEXTS), TEXTS)
    norms = np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(found, expected @ expected[0] / norms / norms[0], atol=1e-6)


def test_a_slow_answer_is_asked_again(service, corpus, tmp_path):
    service.faults = ["slow"]
    remote = teacher(service, corpus, tmp_path, timeout=0.3)
    remote.prepare()
    assert remote.usage.retries == 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([503] * 9, r"no usable answer in 3 attempts \(HTTP 503\)"),
        (["garbage"] * 9, "no usable answer in 3 attempts"),
        (["short"] * 9, "vectors of shape .* for 4 texts"),
        ([401], "refused 4 texts with HTTP 401: .*no"),
        ([None, "narrow"], "gave vectors of 15 dimensions after 16"),
    ],
)
def test_a_lasting_fault_is_one_clear_error(faults, message, service, corpus, tmp_path):
    service.faults = list(faults)
    with pytest.raises(StoreError, match=message):
        teacher(service, corpus, tmp_path, retries=2, concurrency=1).prepare()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_answer_is_never_paid_twice(concurrency, service, corpus, tmp_path):
    service.faults = [None, None, 401]  # inside a shard of all texts
    with pytest.raises(StoreError, match="401"):
        teacher(service, corpus, tmp_path, concurrency=concurrency, shard_rows=len(TEXTS)).prepare()
    paid = len(service.texts)
    assert 8 <= paid < len(TEXTS)
    again = teacher(service, corpus, tmp_path, concurrency=concurrency, shard_rows=len(TEXTS))
    again.prepare()
    assert sorted(service.texts) == sorted(TEXTS) and again.usage.texts == len(TEXTS) - paid
    norms = np.linalg.norm(ToyModel().encode_document(TEXTS), axis=1)
    found = again.score_texts([TEXTS[0]] * len(TEXTS), TEXTS)
    expected = ToyModel().encode_document(TEXTS) @ ToyModel().encode_document(TEXTS)[0] / norms / norms[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_interrupted_run_pays_again_only_for_its_last_shard(service, corpus, tmp_path):
    service.faults = [None, None, None, 401]
    with pytest.raises(StoreError, match="401"):
        teacher(service, corpus, tmp_path, concurrency=1, shard_rows=4).prepare()
    assert len(service.texts) == 12
    again = teacher(service, corpus, tmp_path, concurrency=1, shard_rows=4)
    again.prepare()
    assert service.texts == TEXTS and again.usage.texts == 4
    third = teacher(service, corpus, tmp_path, shard_rows=4)
    third.prepare()
    assert third.usage.requests == 0


def test_known_queries_are_paid_once(service, corpus, tmp_path):
    queries = Corpus.from_texts(QUERIES, match="exact")
    for _ in range(2):
        teacher(service, corpus, tmp_path, queries=queries).search(QUERIES, 2)
    assert sorted(service.texts) == sorted([*TEXTS, *QUERIES])


def test_addresses_are_checked():
    for url in ("localhost:8080/embed", "http://host/v1"):
        with pytest.raises(InputError, match="give the whole address"):
            EmbeddingService(url)
    with pytest.raises(InputError, match="needs the name of a model"):
        EmbeddingService("http://host/v1/embeddings")
    with pytest.raises(InputError, match="batch_size=0"):
        EmbeddingService("http://host/embed", batch_size=0)


def test_another_model_behind_the_address_is_another_teacher(service, corpus, tmp_path):
    one, other = teacher(service, corpus, tmp_path), teacher(service, corpus, tmp_path, model="other")
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == teacher(service, corpus, tmp_path / "elsewhere", timeout=1).fingerprint


def test_by_its_address_it_takes_a_key_and_shows_what_it_cost(service, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOY_KEY", "secret")
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    Dataset.from_dict({"query": QUERIES, "positive": TEXTS[:3]}).to_parquet(tmp_path / "pairs.parquet")
    name = f"{service.openai.url}#{service.openai.model}"
    options = ["--api-key-env", "TOY_KEY", "--price", "2e6", "--output", str(tmp_path / "mined"), "--quiet"]
    assert main(["mine", str(tmp_path / "pairs.parquet"), "--teacher", name, *options]) == 0
    assert {headers["Authorization"] for headers, _ in service.requests} == {"Bearer secret"}
    said = capsys.readouterr().out
    assert f"Requests to {service.openai.model}: 6 texts in 2 requests" in said and "which cost" in said
    assert "secret" not in said
    wrong = ["--teacher", "embedded", "--api-key-env", "TOY_KEY", "--output", str(tmp_path / "other"), "--quiet"]
    assert main(["mine", str(tmp_path / "pairs.parquet"), *wrong]) == 2
    assert "api_key_env is for services" in capsys.readouterr().err


def test_a_function_from_texts_to_vectors_is_a_teacher(corpus, tmp_path):
    pairs = Dataset.from_dict({"query": QUERIES, "positive": TEXTS[:3]})

    def embed(texts):
        return ToyModel().encode_document(texts).tolist()

    mined = []
    for model in (embed, ToyModel()):
        teacher = DenseTeacher(model, corpus, fingerprint="toy", store=tmp_path / type(model).__name__)
        miner = PositiveAwareMiner.from_dataset(pairs, teacher, filters=PercPos(0.95), keep=("scores",))
        mined.append(pairs.map(miner, batched=True)[:])
    assert mined[0] == mined[1]
    assert DenseTeacher(embed, corpus, fingerprint="toy", store=tmp_path / "x").name == "embed"
    with pytest.raises(InputError, match="fingerprint="):
        DenseTeacher(embed, corpus)
