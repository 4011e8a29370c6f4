"""Several processes over one folder: each piece done once, the rows of one process, and whoever dies is stood in for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import mine
from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution.encode_share import Rank
from hf_posmine.mining.execution.shards import ShardFolder, read_shards
from hf_posmine.mining.execution.share import mine_share, take_turns
from tests.mining.test_mine import make_miner, make_pairs

ROOT = Path(__file__).parents[2]


def together(world, work):
    """Run ``work(rank)`` in as many threads; errors are returned by rank."""
    errors: dict[int, BaseException] = {}

    def run(number):
        try:
            work(Rank(number, world))
        except Exception as error:
            errors[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@settings(max_examples=25)
@given(pieces=st.integers(0, 12), world=st.integers(1, 4), dies=st.integers(0, 3), after=st.integers(0, 3))
def test_every_piece_is_done_once_and_a_dead_process_is_stood_in_for(tmp_path_factory, pieces, world, dies, after):
    claims, done, doing, began = tmp_path_factory.mktemp("claims"), [], set(), [0] * world

    def work(rank):
        def do(piece):
            assert piece not in doing  # a piece is held by one process
            if piece in done:
                return
            doing.add(piece)
            time.sleep(0.0005 * (piece % 3))
            began[rank.number] += 1
            doing.discard(piece)
            if rank.number == dies and world > 1 and began[rank.number] > after:
                raise RuntimeError("lost")
            done.append(piece)

        take_turns(range(pieces), rank, claims, do)
        assert sorted(done) == list(range(pieces))

    errors = together(world, work)
    assert set(errors) <= {dies} and all(str(error) == "lost" for error in errors.values())
    assert sorted(done) == list(range(pieces))


def test_each_process_begins_with_its_share(tmp_path):
    order = []
    take_turns(range(7), Rank(1, 3), tmp_path, order.append)
    assert order == [1, 4, 2, 5, 0, 3, 6]


def test_two_processes_mine_the_rows_of_one(tmp_path, fresh_home, toy_model):
    pairs = make_pairs()
    alone = mine(pairs, make_miner(pairs, toy_model), output=tmp_path / "alone", shard_rows=7)
    toy_model.encoded.clear()
    assert not together(
        2, lambda rank: mine_share(pairs, make_miner(pairs, toy_model), tmp_path / "both", rank=rank, shard_rows=7)
    )
    assert list(load_dataset(str(tmp_path / "both"), split="train")) == list(alone)
    assert read_shards(tmp_path / "both")["train"].files[0].name.startswith("train-00000-of-")
    again = mine_share(
        pairs, make_miner(pairs, toy_model), tmp_path / "both", rank=Rank(5, 9)
    )  # finished: no model is asked
    assert list(again) == list(alone) and toy_model.encoded == []


def test_texts_are_encoded_once_by_whichever_process(tmp_path, fresh_home, toy_model):
    pairs = make_pairs()
    both = DatasetDict(one=pairs, two=pairs.select(range(5)))
    assert not together(
        3, lambda rank: mine_share(both, make_miner(pairs, toy_model), tmp_path / "all", rank=rank, shard_rows=4)
    )
    known = sorted({*pairs["query"], *pairs["positive"]})
    assert sorted(set(toy_model.encoded)) == known and len(toy_model.encoded) == len(known)
    assert set(read_shards(tmp_path / "all")) == {"one", "two"}


def test_a_shard_that_is_renamed_while_it_is_checked_is_found(tmp_path, fresh_home, toy_model, monkeypatch):
    pairs = make_pairs()
    mine(pairs, make_miner(pairs, toy_model), output=tmp_path / "out", shard_rows=10)
    folder = ShardFolder(tmp_path / "out")
    for number, file in enumerate(folder.read().files):
        file.rename(folder.path(number))  # as before the last process finished the folder
    found = ShardFolder.found

    def renamed(self, number):
        path = found(self, number)
        if path == self.path(number):
            path.rename(self.path(number, self.work.shards))
        return path

    monkeypatch.setattr(ShardFolder, "found", renamed)
    assert folder.has(0)


def test_a_stream_and_a_folder_of_something_else_are_refused(tmp_path, fresh_home, toy_model):
    pairs = make_pairs()
    with pytest.raises(InputError, match="a stream is read by one process"):
        mine_share(pairs.to_iterable_dataset(), make_miner(pairs, toy_model), tmp_path / "stream")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds no mined shards"):
        mine_share(pairs, make_miner(pairs, toy_model), tmp_path / "notes")


SCRIPT = """
import sys
from datasets import Dataset
from hf_posmine import PositiveAwareMiner
from hf_posmine.mining.execution import Rank, mine_share
pairs = Dataset.from_parquet(sys.argv[1])
miner = PositiveAwareMiner.from_dataset(pairs, "embedded", num_negatives=2, teacher_options={"shard_rows": 8})
mine_share(pairs, miner, sys.argv[2], shard_rows=5)
"""


@pytest.mark.matrix
def test_two_processes_of_their_own_mine_the_rows_of_one(tmp_path):
    pairs = make_pairs()
    pairs.to_parquet(str(tmp_path / "pairs.parquet"))

    def start(output, home, **rank):
        environment = os.environ | {"HF_POSMINE_HOME": str(tmp_path / home), "PYTHONPATH": str(ROOT)} | rank
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "pairs.parquet"), str(tmp_path / output)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    running = [start("both", "shared", RANK=str(n), WORLD_SIZE="2") for n in range(2)] + [start("alone", "own")]
    for process in running:
        assert process.wait() == 0, process.stderr.read()
    rows = [
        Dataset.from_parquet([str(f) for f in read_shards(tmp_path / name)["train"].files])
        for name in ("both", "alone")
    ]
    assert list(rows[0]) == list(rows[1])
    assert np.all([len(found) == 2 for found in rows[0]["negatives"]])
    assert json.loads((tmp_path / "both/.mining/train.json").read_text())["shards"] == -(-len(pairs) // 5)
