"""The script behind docs/benchmarks/rounds.md, with a tiny student on a few pairs of the sample."""

from __future__ import annotations

import pytest
from datasets import Dataset, disable_progress_bars

from benchmarks import rounds
from benchmarks.equal_seconds import Task
from hf_posmine.evaluation import load_collection
from tests.conftest import SAMPLE
from tests.support.distributed import tiny_model

disable_progress_bars()


@pytest.fixture(scope="module")
def task():
    found = load_collection(SAMPLE, "complete")
    documents = found.corpus.texts(range(len(found.corpus))).to_pylist()
    text = dict(zip(found.corpus.ids(range(len(found.corpus))).to_pylist(), documents, strict=True))
    pairs = [(query, next(iter(of))) for query, of in sorted(found.qrels.items())][:24]
    rows = {"query": [found.queries[q] for q, _ in pairs], "positive": [text[d] for _, d in pairs]}
    return Task(
        "sample", Dataset.from_dict(rows), Dataset.from_dict({"id": list(text), "text": documents}), found, found
    )


def test_every_way_trains_and_is_kept(task, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "CEILING", "PercPos(0.9999)")  # to a tiny student all texts are alike
    ways = {name: changes | {"max_steps": 2} | ({"remine_steps": 1} if "remine_steps" in changes else {})
            for name, changes in rounds.WAYS.items()}  # fmt: skip
    monkeypatch.setattr(rounds, "BATCH", 8)
    runs = rounds.Runs(tmp_path, task, tiny_model(tmp_path / "tiny"), ways)
    first, both = rounds.measure(runs, (1, 2))
    assert [row["way"] for row in first["rows"]] == list(rounds.WAYS) and first["differences"] == []
    changed = {row["way"]: row["changed"] for row in both["rows"]}
    assert changed["once"] is None and changed["two rounds, the student's ceiling"] > 0.5
    assert [d["baseline"] for d in both["differences"]] == ["once"] * 5
    assert all(0 <= row["mean"] <= 1 for row in both["rows"])
    shown = rounds.tables(both)
    assert "two rounds, trained further" in shown and "p " in shown
    monkeypatch.setattr(rounds.Runs, "_run", None)  # nothing is trained twice
    assert list(rounds.measure(runs, (1, 2)))[-1] == both
