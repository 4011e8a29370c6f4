"""Progress: JSON lines in place of bars, and the switches of ``datasets``."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset, disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled

from hf_posmine import PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.utils import progress


@pytest.fixture
def shown():
    was = not are_progress_bars_disabled()
    enable_progress_bars()
    yield
    if not was:
        disable_progress_bars()


@pytest.fixture
def logged(shown, monkeypatch, capsys):
    monkeypatch.setenv(progress.VARIABLE, "json")
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_each_interval_and_at_the_end(logged, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress.progress_bar(5, "Mining", "row") as bar:
        for count in (2, 1, 2):
            bar.update(count)
    lines = logged()
    assert [line["done"] for line in lines] == [0, 2, 3, 5, 5]
    assert {(line["step"], line["total"], line["unit"]) for line in lines} == {("Mining", 5, "row")}
    assert lines[0]["seconds_left"] is None
    assert lines[-1]["seconds_left"] == 0
    assert lines[-1]["per_second"] > 0


def test_few_lines_of_many_updates(logged):
    with progress.progress_bar(None, "Asking", "question") as bar:
        for _ in range(1000):
            bar.update(1)
    lines = logged()
    assert [line["done"] for line in lines] == [0, 1000]
    assert lines[-1]["total"] is None


def test_the_switch_of_datasets_is_for_bars_only(logged, monkeypatch, capsys):
    with progress.quiet_bars(), progress.progress_bar(5, "Mining", "row") as bar:
        bar.update(5)
    assert [line["done"] for line in logged()] == [0, 5]
    monkeypatch.delenv(progress.VARIABLE)
    with progress.quiet_bars(), progress.progress_bar(5, "Mining", "row") as bar:
        bar.update(5)
    assert capsys.readouterr().err == ""


def test_quiet_bars_leave_the_switch_as_it_was(shown):
    with progress.quiet_bars():
        assert are_progress_bars_disabled()
    assert not are_progress_bars_disabled()
    disable_progress_bars()
    with progress.quiet_bars():
        assert are_progress_bars_disabled()
    assert are_progress_bars_disabled()


def test_the_command_line_writes_nothing_but_json_to_stderr(logged, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_POSMINE_OFFLINE", "1")
    monkeypatch.delenv(progress.VARIABLE)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"query": f"question {i}", "positive": f"answer {i}"}) + "\n" for i in range(9))
    )
    assert main(["mine", str(pairs), "--output", str(tmp_path / "mined"), "--log-progress"]) == 0
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    steps = {line["step"]: line for line in logged()}
    assert {"Encoding document texts", "Encoding query texts", "Mining"} <= set(steps)
    assert steps["Mining"]["done"] == steps["Mining"]["total"] == 9


def test_the_switch_of_transformers_silences_bars(shown, capsys):
    from transformers.utils import logging

    was = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with progress.progress_bar(5, "Mining", "row") as bar:
            bar.update(5)
        assert capsys.readouterr().err == ""
        logging.enable_progress_bar()
        with progress.progress_bar(5, "Mining", "row") as bar:
            bar.update(5)
        assert "Mining: 100%" in capsys.readouterr().err
    finally:
        (logging.enable_progress_bar if was else logging.disable_progress_bar)()


def test_mining_is_counted_batch_by_batch(logged, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    pairs = Dataset.from_dict(
        {"query": [f"question {i}" for i in range(9)], "positive": [f"answer {i}" for i in range(9)]}
    )
    miner = PositiveAwareMiner.from_dataset(pairs, "random", num_negatives=1, filters=())
    options = {"batch_size": 2, "shard_rows": 6, "work_dir": tmp_path}
    mined = mine(pairs, miner, **options)
    assert [line["done"] for line in logged() if line["step"] == "Mining"] == [0, 2, 4, 6, 8, 9, 9]
    assert mine(pairs, miner, **options)["negatives"][:] == mined["negatives"][:]
    other = PositiveAwareMiner.from_dataset(pairs, "random:1", num_negatives=1, filters=())
    assert mine(pairs, other, **options)._fingerprint != mined._fingerprint
