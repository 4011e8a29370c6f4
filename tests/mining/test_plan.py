"""The plan of a job: what it counts, what it refuses, and how it reads."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine import Corpus, PercPos, PositiveAwareMiner
from hf_posmine.cli import limits
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution import plan as module
from hf_posmine.mining.execution.plan import JobEstimate, Step, plan_mining
from hf_posmine.utils.memory import parse_size
from tests.conftest import SAMPLE, ToyModel

PAIRS = {"query": [f"question {n % 90}" for n in range(100)], "positive": [f"answer number {n}" for n in range(100)]}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _short_probes(fresh_home, monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(module, "PROBE_DOCUMENTS", (256, 1024))


@pytest.fixture
def miner():
    corpus = Corpus.from_texts([f"document number {n}" for n in range(300)])
    return PositiveAwareMiner.from_dataset(
        Dataset.from_dict(PAIRS),
        ToyModel(),
        corpus=corpus,
        teacher_options={"fingerprint": "toy", "shard_rows": 64},
        filters=[PercPos(0.95)],
    )


def steps(plan: JobEstimate) -> dict[str, Step]:
    return {f"{step.name} {step.amount.split(' ', 1)[-1]}": step for step in plan.steps}


def test_it_counts_what_is_to_be_encoded_searched_and_written(miner):
    plan = plan_mining(miner, 100)
    documents, queries, search, rows = plan.steps
    assert (documents.amount, queries.amount) == ("400 documents", "90 queries")
    assert documents.writes == 400 * 16 * 4 and queries.writes == 90 * 16 * 4
    assert (search.amount, search.reads) == ("100 x 300, d = 16", 300 * 16 * 4)
    assert rows.amount == "100 rows" and rows.writes > 100 * 4 * 16
    assert all(step.seconds > 0 for step in plan.steps)
    assert plan.writes == sum(step.writes for step in plan.steps)
    assert plan.holds == plan.program + max(step.holds for step in plan.steps) > plan.program > 10 * MIB


def test_what_the_store_holds_is_not_counted_again(miner):
    miner.prepare()
    documents, queries, *_ = plan_mining(miner, 100).steps
    assert documents.amount == "0 documents (400 stored already)" and queries.amount == "0 queries (90 stored already)"
    assert documents.seconds == queries.seconds == documents.writes == documents.reads == 0
    folder = miner.teachers[0].embeddings.store.folder(miner.teachers[0].model.keys["document"], miner.corpus.parts[0])
    (folder / "shard-000001.safetensors").unlink()
    documents = plan_mining(miner, 100).steps[0]
    assert documents.amount == "64 documents (336 stored already)"


def test_a_stream_that_does_not_say_its_rows_and_teachers_that_cannot_be_tried(miner):
    plan = plan_mining(miner, None)
    assert plan.steps[2].amount == "0 x 300, d = 16"
    assert "does not say how many rows" in str(plan)
    random = PositiveAwareMiner.from_dataset(Dataset.from_dict(PAIRS), "random", filters=())
    plan = plan_mining(random, 100)
    assert plan.steps[0].seconds is None
    assert "is not estimated" in str(plan) and "?" in str(plan)


def test_the_search_fits_the_memory_that_is_allowed(miner, monkeypatch):
    taken = plan_mining(miner, 100).program
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", str(taken + 40 * MIB))
    plan = plan_mining(miner, 100)
    assert plan.steps[2].holds < 40 * MIB
    assert plan.limit == taken + 40 * MIB
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", str(taken // 2))
    with pytest.raises(InputError, match=r"is too small: .* allow \d+MiB"):
        plan_mining(miner, 100)


def plan_of(**changes) -> JobEstimate:
    steps = (
        Step("encode", "5 documents", 10, 300 * MIB, 2000 * MIB, 7.0),
        Step("search on cpu", "1 x 5", seconds=None),
    )
    usual = {"program": 500 * MIB, "limit": None, "free": 4 << 40, "place": "/data", "batch_size": 1}
    return JobEstimate(**{"steps": steps, **usual, **changes})


def test_a_plan_that_cannot_work_says_what_is_missing():
    assert plan_of().check() == plan_of()
    with pytest.raises(InputError, match=r"writes about 2.0 GiB and /data has 1.0 GiB left; free some"):
        plan_of(free=1 << 30).check()
    with pytest.raises(InputError, match=r"needs about 800.0 MiB of memory.* 500.0 MiB, and 700.0 MiB are") as error:
        plan_of(limit=700 * MIB).check()
    enough = parse_size(str(error.value).rsplit(" ", 1)[1])
    assert plan_of(limit=enough).check()


def test_a_plan_reads_as_a_table_and_as_a_line():
    lines = str(plan_of(limit=1 << 30, notes=("A note.",))).splitlines()
    assert [word in lines[4] for word in ("encode", "5 documents", "10 B", "300.0 MiB", "2.0 GiB", "7 s")] == [True] * 6
    total = next(line for line in lines if "in all" in line)
    assert [word in total for word in ("of 1.0 GiB allowed", "800.0 MiB", "2.0 GiB", "7 s")] == [True] * 4
    assert lines[-1] == "A note."
    assert max(map(len, lines)) <= 120
    short = "Plan: encode 5 documents (7 s); search on cpu 1 x 5 (?); 800.0 MiB of memory, 2.0 GiB of disk"
    assert plan_of().short() == short


def test_the_command_line_plans_and_does_nothing(tmp_path, capsys, fresh_home):
    arguments = [str(SAMPLE), "--teacher", "embedded", "--output", str(tmp_path / "mined"), "--plan", "--quiet"]
    assert main(["mine", *arguments]) == 0
    said = capsys.readouterr().out
    assert "340 documents" in said and "171 x 340, d = 384" in said
    assert not (tmp_path / "mined").exists()
    assert not list(fresh_home.rglob("shard-*"))


@pytest.mark.parametrize("option", ["--max-memory", "--max-gpu-memory"])
def test_limits_that_are_no_sizes_name_the_option(option, tmp_path, capsys):
    assert main(["mine", str(SAMPLE), "--output", str(tmp_path / "x"), option, "lots"]) == 2
    assert f"{option}='lots' is not a size" in capsys.readouterr().err


def test_a_limit_reaches_workers_by_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", "1TiB")  # so that the test takes it back
    arguments = [
        str(SAMPLE),
        "--teacher",
        "embedded",
        "--output",
        str(tmp_path / "x"),
        "--max-memory",
        "20MiB",
        "--quiet",
    ]
    assert main(["mine", *arguments]) == 2
    assert "a memory limit of 20.0 MiB is too small" in capsys.readouterr().err


def test_only_long_jobs_are_announced(miner, monkeypatch, capsys):
    rows = Dataset.from_dict(PAIRS)
    monkeypatch.setattr(limits, "make_plan", None)  # not even tried
    limits.announce(miner, rows, 10)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "LONG_TEXTS", 10)
    monkeypatch.setattr(module, "LONG_SECONDS", 0)
    limits.announce(miner, rows, 10)
    assert capsys.readouterr().out.startswith("Plan: encode 400 documents (")


def test_batches_give_every_core_a_span():
    assert 1000 <= module.suited_batch() <= 5000
    assert np.issubdtype(type(module.suited_batch()), np.integer) or isinstance(module.suited_batch(), int)
