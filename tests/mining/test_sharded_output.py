"""Mining into a folder of parquet shards: streams and datasets, stopped anywhere, loadable by ``load_dataset``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
    load_dataset,
    load_from_disk,
)  # fmt: skip

from hf_posmine import MiningSummary, PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import CorruptShardError, DiskFullError, InputError
from hf_posmine.mining.execution.shards import ShardFolder, read_shards
from hf_posmine.mining.rows_digest import rows_digest
from tests.conftest import SAMPLE
from tests.mining.test_mine import ROWS, make_miner, make_pairs
from tests.support.small_disk import small_disk

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """datasets waits for 5 seconds whenever a shuffled stream is closed."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    """Rows with columns of many kinds, which must survive."""
    pairs = make_pairs()
    features = {
        "label": ClassLabel(names=["no", "yes"]),
        "sizes": List(Value("int16")),
        "note": {"at": Value("timestamp[ms]")},
    }
    extra = {
        "label": [i % 2 for i in range(ROWS)],
        "sizes": [list(range(i % 4)) for i in range(ROWS)],
        "note": [{"at": i} for i in range(ROWS)],
    }
    return Dataset.from_dict({**pairs.to_dict(), **extra}, features=Features({**pairs.features, **features}))


@pytest.fixture(scope="module")
def miner(pairs) -> PositiveAwareMiner:
    return make_miner(pairs, keep=("scores", "ids", "ranks", "stats"))


@pytest.fixture(scope="module")
def plain(pairs, miner) -> Dataset:
    """What one ``map`` gives."""
    return pairs.map(miner, batched=True)


@pytest.fixture(scope="module")
def files(pairs, tmp_path_factory) -> str:
    """The rows as three parquet files of uneven length with row groups that fit no batch."""
    folder = tmp_path_factory.mktemp("files")
    for number, (start, stop) in enumerate([(0, 50), (50, 61), (61, ROWS)]):
        pairs.select(range(start, stop)).to_parquet(folder / f"{number}.parquet", batch_size=9)
    return str(folder / "*.parquet")


def from_files(files: str) -> IterableDataset:
    return load_dataset("parquet", data_files=files, split="train", streaming=True)


def load(folder: Path, split: str = "train") -> Dataset:
    return load_dataset(str(folder), split=split)


STREAMS = {
    "files": from_files,
    "one shard": lambda files: Dataset.from_parquet(files).to_iterable_dataset(),
    "generator": lambda files: IterableDataset.from_generator(
        lambda: iter(from_files(files)), features=from_files(files).features
    ),
    "mapped": lambda files: from_files(files).map(
        lambda batch: batch, batched=True, batch_size=7, features=from_files(files).features
    ),
    "shuffled": lambda files: from_files(files).shuffle(seed=3, buffer_size=20),
    "filtered": lambda files: from_files(files).filter(lambda row: row["row"] % 3),
}  # fmt: skip


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 7, "shard_rows": 50}, {"batch_size": 40, "shard_rows": 40}], ids=str
)
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_in_shards_has_the_rows_and_types_of_a_plain_map(kind, options, files, miner, plain, tmp_path):
    stream = STREAMS[kind](files)
    order = [row["row"] for row in STREAMS[kind](files)]
    mined = mine(stream, miner, output=tmp_path / "mined", **options)
    expected = plain.select(order)
    assert mined.features == plain.features
    assert [row["row"] for row in mined] == order
    loaded = load(tmp_path / "mined")
    assert loaded.features == plain.features and loaded.to_dict() == expected.to_dict()
    sizes = [pq.read_metadata(file).num_rows for file in sorted((tmp_path / "mined" / "data").iterdir())]
    assert set(sizes[:-1]) <= {options.get("shard_rows", 50_000)} and sum(sizes) == len(order)
    assert next(iter(stream))["row"] == order[0]  # the caller's stream is as it was


def test_a_dataset_gives_the_same_files_as_a_stream_of_it(pairs, miner, tmp_path):
    mine(pairs, miner, output=tmp_path / "rows", shard_rows=50, batch_size=20)
    mine(pairs.to_iterable_dataset(), miner, output=tmp_path / "stream", shard_rows=50, batch_size=20)
    one, other = ({f.name: f.read_bytes() for f in (tmp_path / name / "data").iterdir()} for name in ("rows", "stream"))
    assert one == other and len(one) == 3


class Stopped(Exception):
    pass


def stop_after(miner: PositiveAwareMiner, batches: int, monkeypatch) -> list[int]:
    """Let mining fail after so many batches; returns a list that grows by the rows that are mined."""
    mined, original = [], PositiveAwareMiner._mine

    def counting(self, columns):
        if len(mined) >= batches:
            raise Stopped
        found = original(self, columns)
        mined.append(len(columns["query"]))
        return found

    monkeypatch.setattr(PositiveAwareMiner, "_mine", counting)
    return mined


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("batches", [0, 3, 5, 6, 11])
def test_a_stopped_run_continues_with_the_first_unfinished_shard(
    kind, batches, files, miner, plain, tmp_path, monkeypatch
):
    order = [row["row"] for row in STREAMS[kind](files)]
    options = {"output": tmp_path / "mined", "shard_rows": 20, "batch_size": 8}  # three batches per shard: 8, 8, 4
    with monkeypatch.context() as patch:
        stop_after(miner, batches, patch)
        with pytest.raises(Stopped):
            mine(STREAMS[kind](files), miner, **options)
    finished = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert len(finished) == batches // 3 and not list(tmp_path.rglob("*.tmp-*"))
    with monkeypatch.context() as patch:
        mined = stop_after(miner, 1000, patch)
        mine(STREAMS[kind](files), miner, **options)
    assert sum(mined) == len(order) - 20 * len(finished)
    assert load(tmp_path / "mined").to_dict() == plain.select(order).to_dict()
    numbers = {file.name[:11]: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert numbers.items() >= {file.stem: time for file, time in finished.items()}.items()


def test_what_finished_shards_hold_is_not_read_again(files, miner, tmp_path, monkeypatch):
    options = {"output": tmp_path / "mined", "shard_rows": 20, "batch_size": 8}
    read: list[int] = []

    def stream() -> IterableDataset:
        return from_files(files).map(lambda row: read.append(row["row"]) or row, features=from_files(files).features)

    with monkeypatch.context() as patch:
        stop_after(miner, 12, patch)
        with pytest.raises(Stopped):
            mine(stream(), miner, **options)
    read.clear()
    mine(stream(), miner, **options)
    assert read[0] == 0  # which tells streams apart
    assert min(read[1:]) >= 60 and read[-1] == ROWS - 1  # the batch before the 80 rows that are done is compared


def test_a_stream_put_together_otherwise_but_with_the_same_rows_continues(
    files, pairs, miner, plain, tmp_path, monkeypatch
):
    options = {"output": tmp_path / "mined", "shard_rows": 20, "batch_size": 8}
    with monkeypatch.context() as patch:
        stop_after(miner, 7, patch)
        with pytest.raises(Stopped):
            mine(from_files(files), miner, **options)
    mine(pairs.to_iterable_dataset().map(lambda row: row, features=pairs.features), miner, **options)
    assert load(tmp_path / "mined").to_dict() == plain.to_dict()


@pytest.mark.parametrize("vanished", [0, 2, 5])
def test_a_lost_or_damaged_shard_of_a_finished_run_is_mined_alone(vanished, files, miner, plain, tmp_path, monkeypatch):
    options = {"output": tmp_path / "mined", "shard_rows": 20, "batch_size": 8}
    mine(from_files(files), miner, **options)
    path = ShardFolder(tmp_path / "mined").path(vanished, 6)
    if vanished == 2:
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    mined = stop_after(miner, 1000, monkeypatch)
    if vanished == 2:
        with pytest.raises(CorruptShardError, match=r"train-00002-of-00006\.parquet.*delete the file and run again"):
            mine(from_files(files), miner, **options)
        assert mined == []  # finished work is not done again unasked
        path.unlink()
    mine(from_files(files), miner, **options)
    assert sum(mined) == 20
    assert load(tmp_path / "mined").to_dict() == plain.to_dict()
    mined.clear()
    mine(from_files(files), miner, **options)
    assert mined == []


def test_a_damaged_page_is_noticed_when_it_is_read(files, miner, tmp_path):
    mine(from_files(files), miner, output=tmp_path / "mined", shard_rows=60)
    shards = read_shards(tmp_path / "mined")["train"]
    damaged = bytearray(shards.files[1].read_bytes())
    place = damaged.index(b"red")
    damaged[place : place + 3] = b"rod"
    shards.files[1].write_bytes(damaged)
    with pytest.raises(CorruptShardError, match=r"train-00001-of-00002\.parquet.*delete the file and run again"):
        shards.table()


def test_work_of_another_miner_or_stream_is_refused_and_so_is_a_folder_of_something_else(files, pairs, miner, tmp_path):
    output = tmp_path / "mined"
    mine(from_files(files), miner, output=output, shard_rows=50)
    other = make_miner(pairs, filters="PercPos(0.9)")
    with pytest.raises(InputError, match=rf"split 'train' of other work: miner {miner.fingerprint[:8]} over"):
        mine(from_files(files), other, output=output)
    with pytest.raises(InputError, match="other work"):
        mine(from_files(files).skip(1), miner, output=output)
    with pytest.raises(InputError, match="another miner"):
        mine(IterableDatasetDict(test=from_files(files)), other, output=output)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(InputError, match="holds no mined shards"):
        mine(from_files(files), miner, output=tmp_path / "notes")
    with pytest.raises(InputError, match="is a file"):
        mine(from_files(files), miner, output=tmp_path / "notes" / "mine.txt")


def test_a_stream_that_changed_in_the_middle_is_refused(files, pairs, miner, tmp_path, monkeypatch):
    options = {"output": tmp_path / "mined", "shard_rows": 20, "batch_size": 8}
    with monkeypatch.context() as patch:
        stop_after(miner, 7, patch)
        with pytest.raises(Stopped):
            mine(from_files(files), miner, **options)
    changed = pairs.select([*range(35), *range(36, ROWS)]).to_iterable_dataset()
    with pytest.raises(InputError, match="not give the same rows as when its first 40 rows were mined"):
        mine(changed, miner, **options)


def test_splits_of_any_name_lie_side_by_side_and_a_second_run_adds_one(pairs, miner, plain, tmp_path):
    streams = IterableDatasetDict(train=pairs.to_iterable_dataset(), gold=pairs.select(range(7)).to_iterable_dataset())
    mined = mine(streams, miner, output=tmp_path / "mined", shard_rows=50)
    assert isinstance(mined, IterableDatasetDict) and len(list(mined["gold"])) == 7
    mine(DatasetDict(more=pairs.select(range(3))), miner, output=tmp_path / "mined")
    loaded = load_dataset(str(tmp_path / "mined"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": ROWS, "gold": 7, "more": 3}
    assert loaded["gold"].to_dict() == plain.select(range(7)).to_dict()


def test_dropped_rows_leave_shards_that_may_be_empty(pairs, tmp_path):
    miner = make_miner(pairs, filters="PercPos(0.5)", on_short="drop", num_negatives=70)
    expected = pairs.map(miner, batched=True)
    mine(pairs.to_iterable_dataset(), miner, output=tmp_path / "mined", shard_rows=2, batch_size=1)
    sizes = [pq.read_metadata(file).num_rows for file in (tmp_path / "mined" / "data").iterdir()]
    assert 0 in sizes and sum(sizes) == len(expected)
    assert load(tmp_path / "mined").to_dict() == expected.to_dict()
    summary = MiningSummary.from_dataset(read_shards(tmp_path / "mined"), 70)
    assert summary == MiningSummary.from_dataset(expected, 70)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep": ()},
        {"on_short": "random", "weak_positive": "flag", "weak_rank": 3},
        {"filters": ["SkipTop(1)", "MinScore(0.5)"]},
    ],
    ids=str,
)
def test_summary_and_digest_of_shards_are_those_of_the_dataset(options, pairs, tmp_path):
    miner = make_miner(pairs, **({"keep": ("scores", "ids", "ranks", "stats")} | options))
    expected = pairs.map(miner, batched=True)
    mine(pairs.to_iterable_dataset(), miner, output=tmp_path / "mined", shard_rows=50)
    shards = read_shards(tmp_path / "mined")
    for number in (None, 4, 6):
        assert MiningSummary.from_dataset(shards, number) == MiningSummary.from_dataset(expected, number)
    assert MiningSummary.from_dataset(shards["train"]) == MiningSummary.from_dataset(expected)
    assert rows_digest(shards["train"]) == rows_digest(expected)
    assert len(shards["train"]) == ROWS and shards["train"].column_names == expected.column_names


@pytest.mark.parametrize(
    ("dataset", "options", "says"),
    [
        (make_pairs().select([]), {}, "has no rows"),
        (IterableDataset.from_generator(lambda: iter(()), features=make_pairs().features), {}, "has no rows"),
        (["a", "list"], {}, "not list"),
        (make_pairs(), {"num_proc": 2}, "num_proc"),
        (make_pairs(), {"work_dir": "x"}, "work_dir"),
        (make_pairs(), {"shard_rows": 0}, "shard_rows=0"),
        (make_pairs(), {"batch_size": 0}, "batch_size=0"),
    ],
    ids=["empty", "empty stream", "list", "num_proc", "work_dir", "shard_rows", "batch_size"],
)  # fmt: skip
def test_what_cannot_be_mined_into_shards_is_refused(dataset, options, says, miner, tmp_path):
    with pytest.raises(InputError, match=says):
        mine(dataset, miner, output=tmp_path / "mined", **options)
    with pytest.raises(InputError, match="no mined shards"):
        read_shards(tmp_path)


def test_shards_that_are_not_finished_are_not_read(files, miner, tmp_path, monkeypatch):
    stop_after(miner, 1, monkeypatch)
    with pytest.raises(Stopped):
        mine(from_files(files), miner, output=tmp_path / "mined", shard_rows=20, batch_size=20)
    with pytest.raises(InputError, match="not mined to its end; run the same again"):
        read_shards(tmp_path / "mined")


def test_a_job_killed_again_and_again_ends_with_the_same_files(tmp_path):
    command = [sys.executable, "-m", "benchmarks.soak", "--toy", "--restarts", "5", "--output", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "soak.json").read_text())
    assert record["restarts"] == 5 and record["failures"] == []
    assert set(record["phases"]) >= {"encode", "mine"}


def test_a_full_disk_leaves_whole_shards_and_the_rest_follows(files, miner, plain, tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=60) as disk:
        options = {"output": disk.folder / "mined", "shard_rows": 10, "batch_size": 10}
        with pytest.raises(
            DiskFullError, match=r"no space left to write '.*disk/mined.*free some and run the same again"
        ):
            mine(from_files(files), miner, **options)
        before = {file.stem: file.read_bytes() for file in disk.folder.rglob("*.parquet")}
        assert before and not list(disk.folder.rglob("*.tmp-*"))
        disk.enlarge(kilobytes=10_000)
        mine(from_files(files), miner, **options)
        assert load(disk.folder / "mined").to_dict() == plain.to_dict()
        after = {file.name[:11]: file.read_bytes() for file in disk.folder.rglob("*.parquet")}
        assert after.items() >= before.items()


def command(*arguments: object) -> int:
    return main(["mine", *map(str, arguments), "--teacher", "embedded", "--quiet"])


def test_the_command_streams_to_the_rows_and_the_record_of_the_command_that_does_not(
    sample_pairs, tmp_path, capsys, monkeypatch
):
    source = tmp_path / "pairs.parquet"
    sample_pairs.select(range(40)).to_parquet(str(source))
    corpus = ("--corpus", SAMPLE / "corpus.jsonl", "--corpus-id-column", "_id")
    options = (source, "--positive-id-column", "positive_id", *corpus, "--filters", "PercPos(0.95)")
    assert command(*options, "--output", tmp_path / "whole") == 0
    whole = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        assert command(*options, "--output", tmp_path / "shards", "--streaming", "--shard-rows", 15) == 0
    assert not list((tmp_path / "cache").rglob("*.arrow"))  # nothing was copied there
    said = capsys.readouterr().out
    assert said.split("\n\n")[0] == whole.split("\n\n")[0]  # the same summary
    assert "40 rows written to 3 shards" in said
    mined = load(tmp_path / "shards")
    assert mined.to_dict() == load_from_disk(str(tmp_path / "whole")).to_dict()
    one, other = (json.loads((tmp_path / name / "provenance.json").read_text()) for name in ("whole", "shards"))
    assert {key for key in one if one[key] != other[key]} <= {"command", "created"}
    assert command(*options, "--output", tmp_path / "shards", "--streaming") == 0


def test_the_command_streams_a_beir_folder_and_json_lines(sample_pairs, tmp_path):
    assert command(SAMPLE, "--output", tmp_path / "beir", "--streaming") == 0
    sample_pairs.to_json(str(tmp_path / "pairs.jsonl"))
    options = ("--positive-id-column", "positive_id", "--corpus", SAMPLE)
    assert command(tmp_path / "pairs.jsonl", *options, "--output", tmp_path / "lines", "--streaming") == 0
    beir, lines = load(tmp_path / "beir"), load(tmp_path / "lines")
    assert beir["negatives_ids"][:] == lines["negatives_ids"][:]
    assert beir["positive"][:] == lines["positive"][:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--streaming", "--format", "triplet"], "--format has no effect on shards"),
        (["--streaming", "--num-proc", "2"], "--num-proc has no effect"),
        (["--streaming", "--variants", "n-tuple"], "--variants has no effect"),
        (["--streaming", "--ray", "auto"], "leave one of them out"),
        (["--shard-rows", "5"], "--shard-rows has no effect without --ray or --streaming"),
        (["--ray-gpus", "1"], "--ray-gpus has no effect without --ray"),
    ],
)
def test_options_that_have_no_effect_are_refused(options, says, tmp_path, capsys):
    assert command(SAMPLE, "--output", tmp_path / "mined", *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "mined").exists()
