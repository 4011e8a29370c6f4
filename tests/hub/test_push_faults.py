"""A Hub that fails at every request of a push: it converges, or ends with one clear error, and nothing is half there."""

from __future__ import annotations

import dataclasses
import re

import pytest
from datasets import load_dataset
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from sentence_transformers import SentenceTransformer

from hf_posmine import PositiveAwareMiner, Qrels, push_dataset, push_model
from hf_posmine.core.errors import HubError
from hf_posmine.hub.retry import with_retry
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import Source
from hf_posmine.teachers import RandomTeacher
from tests.hub.mining import make_miner, make_pairs

DATASET, MODEL = "alice/mined", "alice/retriever"
HAND = "---\nlicense: mit\n---\n\n# Written by hand\n"
CALLS = {
    "create": ("POST", "/api/repos/create"),
    "read": ("GET", re.compile(r"/api/(datasets|models)/alice/\w+/revision/main")),
    "card": ("GET", "resolve/"),
    "card head": ("HEAD", "resolve/"),
    "yaml": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "objects/batch"),
    "upload": ("PUT", "_lfs"),
    "commit": ("POST", "/commit/"),
}
EVERYWHERE = ["status:503", "cut", "lose_response"]
AT_THE_COMMIT = ["status:429", "status:409", "status:412", "cut_after:1", "truncate:3", "truncate_rst:3"]
FAILURES = [(call, action) for call in CALLS for action in EVERYWHERE] + [
    ("commit", action) for action in AT_THE_COMMIT
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)
    monkeypatch.setattr("hf_posmine.hub.push.score_histogram", lambda _: None)  # drawing takes the most time


@pytest.fixture(scope="module")
def miner(tiny_model_folder):
    return make_miner(make_pairs(6), str(tiny_model_folder))


@pytest.fixture(scope="module")
def mined(miner):
    return make_pairs(6).map(miner, batched=True)


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return SentenceTransformer(str(tiny_model_folder), device="cpu")


def with_a_card(kind: str) -> None:
    repo = DATASET if kind == "dataset" else MODEL
    HfApi().create_repo(repo, repo_type=kind)
    HfApi().upload_file(path_or_fileobj=HAND.encode(), path_in_repo="README.md", repo_id=repo, repo_type=kind)


@pytest.mark.parametrize(("call", "action"), FAILURES)
def test_a_dataset_push_survives_a_failure_of_any_call(hub, mined, miner, call, action):
    with_a_card("dataset")
    hub.requests.clear()
    fault = hub.fail(*CALLS[call], action, times=1)
    push_dataset(mined, DATASET, miner)
    assert fault.hits == 1
    assert "# Written by hand\n" in hub.repo(DATASET).files()["README.md"].decode()
    assert load_dataset(DATASET, split="train").to_list() == mined.to_list()
    assert len(hub.repo(DATASET).log()) == 3  # created, by hand, pushed: a lost answer makes no second commit


@pytest.mark.parametrize("call", ["create", "read", "card", "commit", "upload"])
@pytest.mark.parametrize("action", ["status:503", "lose_response"])
def test_a_model_push_survives_too(hub, model, call, action):
    with_a_card("model")
    fault = hub.fail(*CALLS[call], action, times=1)
    push_model(model, MODEL)
    assert fault.hits == 1
    assert "# Written by hand\n" in hub.repo(MODEL, "models").files()["README.md"].decode()
    assert len(hub.repo(MODEL, "models").log()) == 3


@pytest.mark.parametrize("kind", ["dataset", "model"])
@pytest.mark.parametrize(
    ("call", "action", "message"),
    [
        ("create", "status:503", r"answered 503"),
        ("commit", "cut", "the connection broke again and again"),
        ("commit", "status:412", "others write to this repository without pause"),
        ("card", "status:503", "answered 503"),
        ("card head", "status:503", "answered 503"),
        ("upload", "no_space", r"the storage is full \(507\)"),
        ("upload", "status:403", "the token may not do this"),
        ("commit", "status:401", "does not accept the token; log in with"),
        ("commit", "status:413", "too large"),
    ],
)
def test_a_failure_that_stays_is_one_clear_error_and_changes_nothing(
    hub, mined, miner, model, kind, call, action, message
):
    with_a_card(kind)
    before = hub.snapshot()
    hub.fail(*CALLS[call], action, times=None)
    repo = DATASET if kind == "dataset" else MODEL
    with pytest.raises(HubError, match=rf"pushing to {repo} failed: .*{message}"):
        push_dataset(mined, repo, miner) if kind == "dataset" else push_model(model, repo)
    assert hub.snapshot() == before
    hub.faults.clear()
    push_dataset(mined, repo, miner) if kind == "dataset" else push_model(model, repo)
    assert "# Written by hand\n" in hub.repo(repo, f"{kind}s").files()["README.md"].decode()


def test_a_wrong_or_a_reading_token_and_a_stranger_are_told_so(hub, mined, miner):
    push_dataset(mined, DATASET, miner, private=True)
    before = hub.snapshot()
    for token, message in [
        ("hf_nobody", "does not accept the token"),
        ("hf_alice_read", "may not do this"),
        ("hf_bob", "may not do this"),
    ]:
        with pytest.raises(HubError, match=message) as refused:
            push_dataset(mined.select(range(2)), DATASET, miner, token=token)
        assert token not in str(refused.value)
    assert hub.snapshot() == before


def test_a_proposal_whose_answer_is_lost_is_found_again(hub, mined, miner):
    with_a_card("dataset")
    hub.fail("POST", "/commit/", "lose_response", times=1)
    done = push_dataset(mined, DATASET, miner, create_pr=True)
    assert [d.num for d in hub.repo(DATASET).discussions] == [1] and done.url.endswith("/discussions/1")


def test_an_author_who_saves_the_card_meanwhile_loses_nothing(hub, mined, miner, monkeypatch):
    """The author's commit lands between our read and our commit."""
    from hf_posmine.hub import repository

    with_a_card("dataset")
    read, edits = repository.read, []

    def read_then_edit(*args):
        found = read(*args)
        if not edits:
            edits.append(1)
            text = HAND + "\nA later sentence.\n"
            HfApi().upload_file(
                path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=DATASET, repo_type="dataset"
            )
        return found

    monkeypatch.setattr(repository, "read", read_then_edit)
    push_dataset(mined, DATASET, miner)
    assert "\nA later sentence.\n" in hub.repo(DATASET).files()["README.md"].decode()
    assert [e.status for e in hub.asked("POST", "/commit/")] == [200, 200, 412, 200]


def test_a_key_that_the_hub_repeats_and_secrets_of_a_record_reach_no_error_card_or_record(hub, monkeypatch):
    """The token of the environment, in any form, a password in an address and a key in a query."""
    monkeypatch.setenv("SERVICE_API_KEY", "verysecretvalue1")
    pairs = make_pairs(6)
    known = Qrels.from_dataset(pairs, "query", "positive")
    miner = PositiveAwareMiner(
        corpus=known.documents,
        teachers=RandomTeacher(known.documents),
        known_positives=known,
        positive_column="positive",
    )
    mined = pairs.map(miner, batched=True)
    record = provenance(
        miner,
        source=Source("https://me:hunter2@host/pairs.parquet?api_key=topsecret9"),
        corpus_source=Source("verysecretvalue1/corpus"),
        command="hf-posmine mine --hub-token abcabcabc x",
    )
    teacher = dataclasses.replace(
        record.teachers[0], recipe={"kind": "remote", "api_key": "k", "url": "http://a:hunter2@b"}
    )
    push_dataset(mined, "alice/mined", dataclasses.replace(record, teachers=(teacher,)))
    files = hub.repo("alice/mined").files()
    for path in ("README.md", "provenance.json"):
        text = files[path].decode()
        assert "***" in text
        for secret in ("hunter2", "topsecret9", "verysecretvalue1", "abcabcabc"):
            assert secret not in text, (path, secret)

    def repeat() -> None:
        raise LocalEntryNotFoundError(
            "the server said: token verysecretvalue1, and " + "x" * 280 + " sk-abcdefghijklmnopqrstuvwx"
        )

    with pytest.raises(HubError) as failed:
        with_retry(repeat, "reading https://me:hunter2@host")
    assert (
        "hunter2" not in str(failed.value)
        and "verysecret" not in str(failed.value)
        and "abcdefgh" not in str(failed.value)
    )
