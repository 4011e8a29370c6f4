"""The script behind docs/benchmarks/equal_seconds.md: its clock, its runs and its tables, on the sample."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import disable_progress_bars
from transformers import TrainerControl

import benchmarks.equal_seconds as equal
from benchmarks.equal_seconds import CONTENDERS, Clock, cell, differences, prepare_task, smaller, tables, task_of
from hf_posmine.evaluation import load_collection
from tests.conftest import SAMPLE

disable_progress_bars()


@pytest.fixture(scope="module")
def task():
    judged = load_collection(SAMPLE, "complete")
    some = smaller(judged, sorted(judged.qrels)[:20], 50)
    return task_of("sample", judged, judged.positives, some, some)


def test_a_smaller_collection_has_what_was_judged_and_no_query_but_the_named(task):
    whole = load_collection(SAMPLE, "complete")
    assert list(task.test.queries) == sorted(whole.qrels)[:20]
    assert {query: dict(found) for query, found in task.test.qrels.items()} == {
        query: dict(whole.qrels[query]) for query in task.test.queries
    }
    assert task.test.lost_positives == 0 and len(task.test.corpus) < len(whole.corpus)


def test_the_clock_raises_and_lowers_the_rate_and_ends_before_a_step_that_would_not_fit(monkeypatch):
    now = iter(
        [100.0, 110.0, 110.0, 115.0, 115.0, 151.0, 151.0, 190.0]
    )  # made, begun, then the begin and end of each step
    monkeypatch.setattr(equal.time, "process_time", lambda: next(now))
    clock, control, group = Clock(110.0, 0.5), TrainerControl(), {}
    clock.on_train_begin()
    rates = []
    for last in (False, False, True):
        clock.on_step_begin(None, None, control, optimizer=SimpleNamespace(param_groups=[group]))
        rates.append(group["lr"])
        clock.on_step_end(None, None, control)
        assert control.should_training_stop is last  # 90 s and a mean of 26.7 s more would be more than 110
    assert rates == [0.0, pytest.approx(0.25), pytest.approx(0.5 * 0.59 / 0.9)]
    assert (clock.mined, clock.used, clock.steps) == (10.0, 90.0, 3)


@pytest.mark.parametrize("contender", CONTENDERS)
def test_a_run_learns_within_its_seconds_from_vectors_that_were_made_before(task, contender, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(equal, "load", lambda *_: task)
    (tmp_path / "files").mkdir()
    prepare_task(task, tmp_path / "files")
    monkeypatch.setattr(equal, "prepared", lambda *_: tmp_path / "files")
    from hf_posmine.teachers.dense_model import DenseModel

    encode = DenseModel.encode_unique

    def none(self: DenseModel, texts: list[str], role: str):
        assert not texts, "the teacher encoded again"
        return encode(self, texts, role)

    monkeypatch.setattr(DenseModel, "encode_unique", none)
    asked = {"seed": 1, "rate": 3e-5, "seconds": 5.0, "dev": False}
    found = cell("sample", contender, tmp_path, asked)
    assert set(found["scores"]) == set(task.test.queries) and found["steps"] == len(found["losses"]) > 0
    assert found["seconds"]["mining"] < found["seconds"]["all"]
    assert found["losses"][-1] > 0 and 0 < found["rows"] <= len(task.pairs)


def test_a_gain_that_was_planted_is_found_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    untrained = {name: dict(zip("abcdefghij", rng.random(10), strict=True)) for name in ("one", "two")}

    def run(name: str, gain: float) -> dict:
        values = {query: value + gain + rng.normal(0, 0.01) for query, value in untrained[name].items()}
        return {"scores": values, "rate": 1e-5, "rows": 5, "steps": 3, "seconds": {"mining": 1.0, "all": 9.0}}

    gains = {"plain": {"one": 0.0, "two": 0.2}, "hf_posmine": {"one": 0.3, "two": 0.2}}
    runs = {name: {c: [run(name, gains[c][name]) for _ in range(3)] for c in CONTENDERS} for name in untrained}
    made = {(d["data"], d["baseline"], d["other"]): d for d in differences(runs, untrained)}
    assert made["one", "plain", "hf_posmine"]["differs"] and not made["two", "plain", "hf_posmine"]["differs"]
    assert made["one", "plain", "hf_posmine"]["difference"] == pytest.approx(0.3, abs=0.02)
    assert not made["one", "untrained", "plain"]["differs"] and made["two", "untrained", "plain"]["differs"]
    shown = {name: equal.table({}, runs[name], untrained[name]) for name in runs} | {"differences": list(made.values())}
    assert "hf_posmine against plain" in tables(shown, list(runs))
