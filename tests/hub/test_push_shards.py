"""Pushing a folder of shards: the files as they are, in one commit; and mining a stream that comes from the Hub."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset

from hf_posmine import mine, push_dataset, verify
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.hub.inputs import Inputs
from hf_posmine.mining.execution.shards import read_shards
from hf_posmine.mining.provenance import provenance, write_provenance
from tests.hub.mining import make_miner, make_pairs, make_splits

REPO = "alice/mined"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)


@pytest.fixture(scope="module")
def miner(tiny_model_folder):
    return make_miner(make_splits(), str(tiny_model_folder))


@pytest.fixture
def shards(miner, tmp_path):
    """Two splits in shards of five rows, with their record beside them."""
    mine(make_splits(), miner, output=tmp_path / "mined", shard_rows=5)
    shards = read_shards(tmp_path / "mined")
    write_provenance(tmp_path / "mined" / "provenance.json", provenance(miner, source={"path": "pairs"}, mined=shards))
    return shards


def data_files(hub) -> dict[str, bytes]:
    return {path: content for path, content in hub.repo(REPO).files("main").items() if path.startswith("data/")}


def test_the_files_go_up_as_they_are_and_come_back_with_rows_and_features(hub, miner, shards):
    push_dataset(shards, REPO, miner)
    local = {f"data/{file.name}": file.read_bytes() for split in shards.values() for file in split.files}
    assert data_files(hub) == local and len(local) == 6
    loaded, expected = load_dataset(REPO), make_splits().map(miner, batched=True)
    for split in ("train", "test"):
        assert loaded[split].features == expected[split].features
        assert loaded[split].to_dict() == expected[split].to_dict()
    record = json.loads(hub.repo(REPO).files("main")["provenance.json"])
    assert {split: rows["rows"] for split, rows in record["rows"].items()} == {"train": 16, "test": 8}
    assert "figures/scores.png" in hub.repo(REPO).files("main")


def test_the_same_push_again_makes_no_commit_and_a_push_of_the_rows_as_a_dataset_replaces_the_shards(
    hub, miner, shards
):
    first = push_dataset(shards, REPO)  # the record is found beside the shards
    assert push_dataset(shards, REPO).commit == first.commit
    push_dataset(make_splits().map(miner, batched=True), REPO, miner)
    assert sorted(data_files(hub)) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    push_dataset(shards, REPO, miner)
    assert len(data_files(hub)) == 6 and load_dataset(REPO)["train"].num_rows == 16


def test_variants_of_shards_are_refused(hub, miner, shards):
    with pytest.raises(InputError, match="load the shards with load_dataset"):
        push_dataset(shards, REPO, miner, variants=["n-tuple"])
    assert hub.requests == []


def test_a_stream_from_the_hub_is_mined_and_pushed_by_two_commands_and_can_be_verified(
    hub, tiny_model_folder, tmp_path, capsys
):
    make_pairs().push_to_hub("alice/pairs", max_shard_size="1KB")
    options = ["--teacher", str(tiny_model_folder), "--filters", "PercPos(0.99)", "--num-negatives", "2", "--quiet"]
    output = tmp_path / "mined"
    assert main(["mine", "alice/pairs", "--streaming", "--output", str(output), "--shard-rows", "7", *options]) == 0
    assert main(["push", str(output), REPO]) == 0
    assert main(["mine", "alice/pairs", "--streaming", "--output", str(output), *options, "--push-to-hub", REPO]) == 0
    assert "24 rows written to 4 shards" in capsys.readouterr().out
    loaded = load_dataset(REPO, split="train")
    expected = make_pairs().map(make_miner(make_pairs(), str(tiny_model_folder)), batched=True)
    assert loaded["note"][:] == list(range(24)) and loaded["negatives"][:] == expected["negatives"][:]
    assert verify(REPO, inputs=Inputs(teacher=str(tiny_model_folder))).verified
