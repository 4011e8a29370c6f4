"""Many machines: the rows of a single process, whatever dies on the way."""

from __future__ import annotations

import json
import random

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from hf_posmine.cli.main import main
from hf_posmine.core.errors import DiskFullError, InputError
from hf_posmine.mining.execution import MapWithMiner, Workers, mine_on_ray
from tests.support.distributed import WORDS, tiny_model
from tests.support.ray_jobs import encoded_shards, make_miner, ray_cluster, remove_a_working_node
from tests.support.small_disk import small_disk

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytest.importorskip("ray.data", reason="ray is installed without its data library")

pytestmark = pytest.mark.slow
ROWS, SHARD_ROWS = 120, 20


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=6)) for _ in range(ROWS)]
    return Dataset.from_dict(
        {"query": texts, "positive": [f"{t} {draw.choice(WORDS)}" for t in texts], "row": range(ROWS)}
    )


@pytest.fixture(scope="module")
def expected(pairs, model, tmp_path_factory) -> dict:
    """The rows of a single process, with a store of its own."""
    home = tmp_path_factory.mktemp("single")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_POSMINE_HOME", str(home))
        return pairs.map(make_miner(pairs, model, home / "diary", shard_rows=SHARD_ROWS), batched=True).to_dict()


@pytest.mark.matrix
def test_a_killed_encoder_a_killed_miner_and_a_damaged_shard_change_no_row(
    cluster, pairs, model, expected, tmp_path, fresh_home, monkeypatch
):
    miner = make_miner(pairs, model, tmp_path / "diary", shard_rows=SHARD_ROWS)
    teacher = miner.teachers[0]
    shards = teacher.stored_shards()
    (role, part), *_ = shards.parts()
    shards.begin(role, part)
    shards.fill_shard(role, part, 1, lambda count: None)
    damaged = next(fresh_home.rglob("shard-000001.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    (tmp_path / "diary" / "kill-encoder").write_text("2")
    (tmp_path / "diary" / "kill-miner").write_text("70")
    options = {"shard_rows": 30, "batch_size": 7, "encode": Workers(1), "search": Workers(2), "mine": Workers(1)}
    with pytest.warns(UserWarning, match=r"shard-000001\.safetensors.*encoded again"):
        stream = mine_on_ray(pairs, miner, tmp_path / "mined", **options)
    assert {(tmp_path / "diary" / f"{who}-died").exists() for who in ("encoder", "miner")} == {True}
    mined = load_dataset(str(tmp_path / "mined"), split="train")
    assert mined.to_dict() == expected
    assert mined.features == stream.features == miner.features(pairs.features)
    assert [row["row"] for row in stream] == list(range(ROWS))
    shards = [f"encoded-{role}-{number}" for role in ("document", "query") for number in range(6)]
    assert encoded_shards(tmp_path / "diary") == sorted([*shards, "encoded-document-1"])  # the damaged one, twice
    assert not list(tmp_path.rglob("*.tmp-*"))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    monkeypatch.setattr("ray.data.from_items", lambda *args: pytest.fail("there was work to do"))
    mine_on_ray(pairs, miner, tmp_path / "mined", **options)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")} == before


@pytest.mark.matrix
def test_a_full_disk_is_a_clear_error_and_once_there_is_space_the_same_call_continues(
    cluster, pairs, model, expected, tmp_path, fresh_home
):
    miner = make_miner(pairs, model, tmp_path / "diary", shard_rows=SHARD_ROWS)
    splits = DatasetDict(train=pairs, small=pairs.select(range(5)))
    options = {"shard_rows": 10, "batch_size": 10, "encode": Workers(1), "mine": Workers(1)}
    with small_disk(tmp_path / "disk", kilobytes=100) as disk:
        output = disk.folder / "mined"
        with pytest.raises(DiskFullError, match=r"no space left to write .*run the same again"):
            mine_on_ray(splits, miner, output, **options)
        before = {file.stem: file.read_bytes() for file in output.rglob("*.parquet")}
        assert 0 < len(before) < 12  # a worker that was stopped while writing may leave its temporary file
        disk.enlarge(kilobytes=10_000)
        streams = mine_on_ray(splits, miner, output, **options)
        assert not list(output.rglob("*.tmp-*"))
        assert {f.stem.split("-of-")[0]: f.read_bytes() for f in output.rglob("*.parquet")}.items() >= before.items()
        mined = load_dataset(str(output))
        assert mined["train"].to_dict() == expected and len(mined["small"]) == 5
        assert list(streams) == ["train", "small"] and len(list(streams["small"])) == 5
    assert len(encoded_shards(tmp_path / "diary")) == len(set(encoded_shards(tmp_path / "diary")))


def test_rows_go_through_a_pipeline_of_ray_data(cluster, pairs, model, expected, tmp_path, fresh_home):
    miner = make_miner(pairs, model, tmp_path / "diary", shard_rows=SHARD_ROWS).prepare()
    pool = ray.data.ActorPoolStrategy(size=1)
    options = {"fn_constructor_args": (miner,), "batch_format": "pyarrow", "batch_size": 40, "compute": pool}
    rows = ray.data.from_arrow(pairs.data.table).map_batches(MapWithMiner, **options).take_all()
    rows.sort(key=lambda row: row["row"])
    assert [row["negatives"] for row in rows] == expected["negatives"]


def test_the_command_mines_on_the_cluster(cluster, pairs, model, expected, tmp_path, fresh_home, capsys):
    pairs.to_parquet(tmp_path / "pairs.parquet")
    options = ["--teacher", model, "--filters", "PercPos(0.95)", "--quiet", "--ray", "auto", "--ray-workers", "1"]
    command = [
        "mine",
        str(tmp_path / "pairs.parquet"),
        *options,
        "--output",
        str(tmp_path / "mined"),
        "--shard-rows",
        "50",
    ]
    assert main(command) == 0
    assert "120 rows written to 3 shards" in capsys.readouterr().out
    assert load_dataset(str(tmp_path / "mined"), split="train").to_dict() == expected
    assert json.loads((tmp_path / "mined" / "provenance.json").read_text())["rows"]["train"]["rows"] == ROWS


@pytest.mark.matrix
def test_a_lost_node_changes_no_row(cluster, pairs, model, expected, tmp_path, fresh_home):
    miner = make_miner(pairs, model, tmp_path / "diary", shard_rows=SHARD_ROWS, seconds=0.2)
    data = tmp_path / "mined" / "data"
    thread = remove_a_working_node(cluster, tmp_path / "diary", when=lambda: len(list(data.glob("*0.parquet"))) >= 2)
    try:
        mine_on_ray(pairs, miner, tmp_path / "mined", shard_rows=10, batch_size=5, encode=Workers(1))
    finally:
        thread.join()
        cluster.add_node(num_cpus=1)
    assert (tmp_path / "diary" / "node-removed").exists()
    assert load_dataset(str(tmp_path / "mined"), split="train").to_dict() == expected
    assert len(encoded_shards(tmp_path / "diary")) == len(set(encoded_shards(tmp_path / "diary"))) == 12


def test_what_ray_cannot_mine_is_refused_before_anything_starts(pairs, model, tmp_path, fresh_home):
    miner = make_miner(pairs, model, tmp_path / "diary", shard_rows=SHARD_ROWS)
    with pytest.raises(InputError, match="Ray takes a Dataset"):
        mine_on_ray(pairs.to_iterable_dataset(), miner, tmp_path / "stream")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(InputError, match="holds no mined shards"):
        mine_on_ray(pairs, miner, tmp_path / "notes")


@pytest.mark.parametrize(
    ("workers", "nodes", "number"),
    [
        (Workers(), [(4, 0), (2, 0)], 6),
        (Workers(cpus=3), [(4, 0), (4, 0)], 2),
        (Workers(gpus=1), [(16, 2), (16, 1), (16, 0)], 3),
        (Workers(gpus=0.5, cpus=4), [(16, 8)], 4),
        (Workers(7), [(1, 0)], 7),
        (Workers(2, gpus=1), [], 2),
    ],
    ids=str,
)
def test_workers_are_as_many_as_fit_on_machines_or_as_were_asked_for(workers, nodes, number):
    described = [{"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in nodes]
    assert workers.number([*described, {"Alive": False, "Resources": {"CPU": 64, "GPU": 64}}]) == number


def test_workers_that_fit_nowhere_are_an_error_and_do_not_wait_for_ever():
    with pytest.raises(InputError, match="no machine of the cluster has 1 CPUs and 1 GPUs"):
        Workers(gpus=1).number([{"Alive": True, "Resources": {"CPU": 8}}])
    for wrong in ({"count": 0}, {"cpus": 0}, {"gpus": -1}):
        with pytest.raises(InputError, match="at least one worker"):
            Workers(**wrong)
