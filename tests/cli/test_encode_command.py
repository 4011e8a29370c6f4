"""``hf-posmine encode``: the store that mining needs, made by one process or by several, each shard once."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine import Corpus, DenseTeacher, Qrels
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import Encoder
from hf_posmine.mining.execution.encode_share import Piece, Rank, do_piece, encode_share, pieces_of, scorers
from hf_posmine.mining.second_opinion import SecondOpinion
from tests.conftest import SAMPLE
from tests.mining.test_mine import make_miner, make_pairs
from tests.support.distributed import WORDS, tiny_model

ROOT = Path(__file__).parents[2]
SCALE = ROOT / "recipes" / "scale"
ROWS = 100


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=6)) for _ in range(ROWS)]
    file = tmp_path_factory.mktemp("data") / "pairs.parquet"
    rows = {"query": texts, "positive": [f"{t} {draw.choice(WORDS)}" for t in texts], "id": range(ROWS)}
    Dataset.from_dict(rows).to_parquet(file)
    return file


def encode(*arguments: object) -> int:
    return main(["encode", *map(str, arguments), "--quiet"])


def shards(folder: Path) -> dict[str, str]:
    """Digest by path of every shard and manifest; nothing else may lie there."""
    files = [f for f in folder.rglob("*") if f.is_file() and f.suffix != ".lock" and f.name != ".lock"]
    assert {f.suffix for f in files} == {".safetensors", ".json", ".npy"}  # .npy: which texts a part holds
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture
def alone(pairs, model, fresh_home, tmp_path, capsys) -> dict[str, str]:
    """The store of a single process."""
    assert encode(pairs, "--teacher", model, "--shard-rows", 15, "--store", tmp_path / "alone") == 0
    assert capsys.readouterr().out == "14 shards encoded, 0 were there; 14 of 14 are this process's share\n"
    return shards(tmp_path / "alone")


def test_mining_finds_what_was_encoded(alone, pairs, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Encoder, "encode", lambda *args: pytest.fail("a text was encoded again"))
    options = ["--teacher", model, "--store", str(tmp_path / "alone"), "--quiet"]
    assert main(["mine", str(pairs), *options, "--output", str(tmp_path / "mined")]) == 0


ACCELERATE = ["accelerate.commands.launch", "--config_file", str(SCALE / "accelerate.yaml"), "--num_processes", "2"]
TORCHRUN = ["torch.distributed.run", "--nproc_per_node", "2"]


@pytest.mark.parametrize("launcher", [ACCELERATE, TORCHRUN], ids=["accelerate", "torchrun"])
def test_two_processes_encode_every_shard_once(launcher, alone, pairs, model, tmp_path):
    command = [sys.executable, "-m", *launcher, "-m", "hf_posmine.cli", "encode", str(pairs), "--teacher", model]
    command += ["--shard-rows", "15", "--store", str(tmp_path / "both"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = sorted(re.findall(r"rank (\d) of 2: (\d+) shards encoded, (\d+) were there; (\d+) of 14", done.stdout))
    assert said == [("0", "7", "0", "7"), ("1", "7", "0", "7")]
    assert shards(tmp_path / "both") == alone


def test_plain_variables_do_without_a_launcher_and_a_missing_process_is_made_up_for(
    alone, pairs, model, tmp_path, monkeypatch, capsys
):
    options = (pairs, "--teacher", model, "--shard-rows", 15, "--store", tmp_path / "parts")
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in (2, 0, 0):
        monkeypatch.setenv("RANK", str(rank))
        assert encode(*options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("rank 2 of 3: 4 shards encoded, 0 were there; 4 of 14")
    assert said[2].startswith("rank 0 of 3: 0 shards encoded, 5 were there; 5 of 14")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert encode(*options) == 0
    assert capsys.readouterr().out.startswith("5 shards encoded, 9 were there")
    assert shards(tmp_path / "parts") == alone


def test_a_damaged_shard_is_encoded_again_alone(alone, pairs, model, tmp_path, capsys):
    file = tmp_path / "alone" / next(name for name in sorted(alone) if name.endswith("000002.safetensors"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r"shard-000002\.safetensors' cannot be read .*it is encoded again"):
        encode(pairs, "--teacher", model, "--store", tmp_path / "alone")
    assert capsys.readouterr().out.startswith("1 shards encoded, 13 were there")
    assert shards(tmp_path / "alone") == alone


def test_a_corpus_alone_a_beir_folder_and_several_teachers(pairs, model, fresh_home, tmp_path, capsys):
    corpus = ("--corpus", pairs, "--corpus-text-column", "positive", "--corpus-id-column", "id")
    assert encode(*corpus, "--teacher", model, "--store", tmp_path / "corpus", "--shard-rows", 40) == 0
    assert encode(*corpus, "--teacher", "bm25", "--store", tmp_path / "bm25") == 0
    assert encode(SAMPLE, "--teacher", f"{model},bm25", "--store", tmp_path / "both", "--shard-rows", 100) == 0
    sizes = [len(Corpus.from_beir(SAMPLE)), len(Qrels.from_beir(SAMPLE, "train").queries)]
    both = sum(math.ceil(size / 100) for size in sizes)
    said = [line.split(" shards")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["3", "0", str(both)]
    assert list((tmp_path / "bm25").rglob("*.npy")) and list((tmp_path / "both").rglob("*.npy"))


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "the rank counts from 0"),
        ({"RANK": "1"}, "RANK='1', WORLD_SIZE=None; set both"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "set both to whole numbers"),
    ],
    ids=str,
)
def test_ranks_that_cannot_be_are_errors(environment, says, pairs, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert encode(pairs) == 2
    assert says in capsys.readouterr().err


def test_nothing_to_encode_is_an_error(capsys):
    assert encode() == 2
    assert "give DATA, --corpus or both" in capsys.readouterr().err


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_disjoint_complete_and_even(number, world):
    pieces = [Piece(0, 0, shard) for shard in range(number)]
    shares = [Rank(rank, world).share(pieces) for rank in range(world)]
    assert sorted(itertools.chain(*shares), key=lambda piece: piece.shard) == pieces
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_second_opinion_s_teacher_is_prepared_too(fresh_home, toy_model):
    pairs = make_pairs()
    miner = make_miner(pairs)
    second = DenseTeacher(toy_model, miner.corpus, fingerprint="second", shard_rows=50)
    miner = make_miner(pairs, second_opinion=SecondOpinion(second, "PercPos(0.99)"), sampler="Top()")
    teachers = scorers(miner)
    assert len(teachers) == 2 and teachers[1] is second
    assert encode_share(teachers) == (11, 11, 11)  # 4 + 4 shards of 30 documents and queries, 3 of 50 documents
    assert len(toy_model.encoded) == 120
    assert not any(do_piece(teachers, piece, lambda count: None) for piece in pieces_of(teachers))


def test_the_recipes_of_scale_are_read_by_their_tools():
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(SCALE / "accelerate.yaml"))
    assert config.num_processes == 8 and config.distributed_type == "MULTI_GPU"
    cluster = yaml.safe_load((SCALE / "ray_cluster.yaml").read_text())
    commands = "\n".join(cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"])
    assert commands.count("HF_POSMINE_HOME=/shared/posmine") == 2
    util = pytest.importorskip("ray.autoscaler._private.util", reason="the extra 'ray' is not installed")
    pytest.importorskip("jsonschema")
    util.validate_config(util.prepare_config(cluster))


def test_a_rank_may_be_given_by_hand(fresh_home):
    teachers = scorers(make_miner(make_pairs()))
    assert [encode_share(teachers, Rank(rank, 2))[0] for rank in (0, 1)] == [4, 4]
    with pytest.raises(InputError, match="counts from 0"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "-1")
        patch.setenv("WORLD_SIZE", "2")
        encode_share(teachers)
