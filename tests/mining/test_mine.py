"""``mine``: the same rows as ``map``, and a killed run continues where it was."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_from_disk

from hf_posmine import PercPos, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError
from tests.conftest import ToyModel
from tests.support.small_disk import small_disk

ROWS, SHARD_ROWS = 120, 10
WORDS = ["red", "green", "blue", "cat", "dog", "fox", "sun", "moon", "tea", "ink"]


def make_pairs(rows: int = ROWS) -> Dataset:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=4)) + f" {i}" for i in range(rows)]
    return Dataset.from_dict(
        {"query": texts, "positive": [f"{t} {draw.choice(WORDS)}" for t in texts], "row": range(rows)}
    )


def make_miner(pairs: Dataset, model: object | None = None, **options: object) -> PositiveAwareMiner:
    teacher_options = {"fingerprint": "toy", "shard_rows": 30}
    options = {"filters": PercPos(0.8), "keep": ("scores", "ids", "ranks")} | options
    return PositiveAwareMiner.from_dataset(
        pairs, model or ToyModel(), teacher_options=teacher_options, **{"filters": (), **options}
    )


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7}, {"shard_rows": 7}, {"shard_rows": 50, "num_proc": 2}], ids=str
)
def test_mining_in_shards_gives_the_rows_of_a_plain_map(options, tmp_path):
    pairs = make_pairs()
    miner = make_miner(pairs)
    mined = mine(pairs, miner, work_dir=tmp_path, **options)
    plain = pairs.map(miner, batched=True)
    assert mined.to_dict() == plain.to_dict()
    assert mined.features == plain.features == miner.features(pairs.features)


def test_short_rows_are_dropped_even_where_a_whole_shard_goes(tmp_path):
    pairs = make_pairs()
    kept = make_miner(pairs, sampler="Top()", filters=[PercPos(0.5)], on_short="drop", num_negatives=70)
    mined = mine(pairs, kept, work_dir=tmp_path, shard_rows=1)
    assert 0 < len(mined) < ROWS
    assert mined.to_dict() == pairs.map(kept, batched=True).to_dict()
    nothing = make_miner(pairs, on_short="drop", num_negatives=ROWS)
    mined = mine(pairs, nothing, work_dir=tmp_path, shard_rows=50)
    assert len(mined) == 0 and mined.features == nothing.features(pairs.features)


def test_every_split_of_a_dict_is_mined(tmp_path):
    pairs = make_pairs()
    splits, miner = DatasetDict(train=pairs.select(range(80)), test=pairs.select(range(80, ROWS))), make_miner(pairs)
    mined = mine(splits, miner, work_dir=tmp_path, shard_rows=30)
    assert isinstance(mined, DatasetDict)
    assert {name: split.to_dict() for name, split in mined.items()} == {
        name: split.to_dict() for name, split in splits.map(miner, batched=True).items()
    }


def test_a_second_run_reads_the_shards_and_another_miner_or_dataset_does_not(tmp_path, monkeypatch):
    calls, original = [], PositiveAwareMiner._mine
    monkeypatch.setattr(PositiveAwareMiner, "_mine", lambda self, columns: calls.append(1) or original(self, columns))
    pairs = make_pairs()

    def new_calls(rows: Dataset, miner: PositiveAwareMiner) -> int:
        calls.clear()
        mine(rows, miner, work_dir=tmp_path, shard_rows=50)
        return len(calls)

    assert [new_calls(pairs, make_miner(pairs)) for _ in range(2)] == [3, 0]
    assert new_calls(make_pairs(), make_miner(pairs)) == 0  # equal rows made again
    assert new_calls(pairs, make_miner(pairs, filters=PercPos(0.9))) == 3
    assert new_calls(pairs.select(range(60)), make_miner(pairs)) == 2


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (make_pairs().select([]), "has no rows"),
        (DatasetDict(train=make_pairs(), test=make_pairs().select([])), "has no rows"),
        (make_pairs().to_iterable_dataset(), r"stream\.map\(miner"),
        (["a", "list"], "not list"),
    ],
    ids=["empty", "empty split", "stream", "list"],
)
def test_what_cannot_be_mined_in_shards_is_refused(dataset, message, tmp_path):
    with pytest.raises(InputError, match=message):
        mine(dataset, make_miner(make_pairs()), work_dir=tmp_path)


def test_forked_workers_are_refused_if_any_teacher_searches_on_a_gpu(tmp_path):
    pairs = make_pairs()
    miner = make_miner(pairs)
    other = make_miner(pairs).teachers[0]
    other.device = "cuda:1"
    both = PositiveAwareMiner(
        corpus=miner.corpus, teachers=[miner.teachers[0], other], known_positives=miner.known_positives,
        positive_column="positive", sampler="CrossSample()", filters=())  # fmt: skip
    both.prepare = lambda: both
    with pytest.raises(InputError, match="num_proc=2 forks processes, which cannot use cuda:1"):
        mine(pairs, both, work_dir=tmp_path, num_proc=2)


def test_the_module_of_the_same_name_does_not_hide_the_function():
    script = "import hf_posmine.mining.execution.local; from hf_posmine import mine; assert callable(mine), mine"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


# A process that has imported everything and started no thread forks one child per kill: a child starts at once.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import datasets, safetensors.numpy, torch
from datasets import disable_progress_bars, load_from_disk
from hf_posmine import mine
from hf_posmine.search import kernels
from tests.conftest import ToyModel
from tests.support.small_disk import small_disk
from tests.mining.test_mine import SHARD_ROWS, make_miner

class SlowModel(ToyModel):
    def encode_document(self, texts, **options):
        time.sleep(0.05)
        return super().encode_document(texts)
    encode_query = encode_document

def finished(folder, suffix):  # os.walk does not mind folders that are renamed meanwhile
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return sorted(file for file in files if file.endswith(suffix) and ".tmp-" not in file)

disable_progress_bars()
folder, draw, seen = Path(sys.argv[1]), random.Random(11), []
pairs = load_from_disk(folder / "pairs")
home, work = Path(os.environ["HF_POSMINE_HOME"]), folder / "work"
moments = [(home, ".safetensors", draw.randint(1, 3))]  # one kill while encoding, three while mining
moments += [(work, ".arrow", number) for number in (draw.randint(1, 3), draw.randint(4, 6), draw.randint(7, 9))]
for root, suffix, number in moments:
    child = os.fork()
    if not child:
        mine(pairs, make_miner(pairs, SlowModel()), work_dir=work, shard_rows=SHARD_ROWS)
        os._exit(0)
    deadline = time.time() + 20
    while len(finished(root, suffix)) < number and time.time() < deadline:
        time.sleep(0.001)
    time.sleep(draw.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    kept = finished(work, ".arrow") + finished(home, ".safetensors")
    seen.append([status, {path: Path(path).stat().st_mtime_ns for path in kept}])
print(json.dumps(seen))
"""


def test_a_run_killed_at_random_moments_continues_to_the_same_rows(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    make_pairs().save_to_disk(tmp_path / "pairs")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    kills = json.loads(done.stdout.decode().splitlines()[-1])
    assert [status for status, _ in kills] == [9] * 4, done.stderr.decode()
    counts = [len(files) for _, files in kills]
    assert 0 < counts[0] < counts[1] <= counts[2] <= counts[3] < 8 + ROWS // SHARD_ROWS

    pairs, model = load_from_disk(tmp_path / "pairs"), ToyModel()
    mined = mine(pairs, make_miner(pairs, model), work_dir=tmp_path / "work", shard_rows=SHARD_ROWS)
    assert model.encoded == []  # the second run had finished the embeddings
    for _, files in kills:  # whatever was finished when a run was killed is still the same file
        assert {path: Path(path).stat().st_mtime_ns for path in files} == files
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "another home"))
    assert mined.to_dict() == pairs.map(make_miner(pairs), batched=True, load_from_cache_file=False).to_dict()


def test_a_filled_home_that_is_read_only_is_mined_from_without_a_work_dir(tmp_path, monkeypatch):
    """A cache that a team shares: one user filled it, and all others read it."""
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    pairs = make_pairs()
    make_miner(pairs).prepare()
    expected = pairs.map(make_miner(pairs), batched=True, load_from_cache_file=False).to_dict()
    with small_disk(tmp_path / "disk", kilobytes=8000) as disk:
        shutil.copytree(tmp_path / "home", disk.folder, dirs_exist_ok=True)
        disk.mount("remount,ro")
        monkeypatch.setenv("HF_POSMINE_HOME", str(disk.folder))
        with pytest.warns(
            UserWarning, match=r"cannot be written: mined shards are kept in .* give work_dir= to resume"
        ):
            mined = mine(pairs, make_miner(pairs), shard_rows=SHARD_ROWS)
        assert mined.to_dict() == expected
