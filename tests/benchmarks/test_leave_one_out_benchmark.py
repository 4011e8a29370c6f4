"""The script behind docs/benchmarks/leave_one_out.md: its wrong pairs, its blend and its table."""

from __future__ import annotations

import pytest
from datasets import Dataset

from benchmarks import leave_one_out
from benchmarks.leave_one_out import DATA, ROWS, WRONG, recipe, table, wrong_pairs
from hf_posmine.training import recipe_from


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not beside the checkout")
def test_no_wrong_pair_is_one_of_squad(monkeypatch):
    made = wrong_pairs()
    pairs, documents = (
        Dataset.from_parquet(str(DATA / f"squad_v1.1/train_{part}.parquet")) for part in ("pairs", "corpus")
    )
    text = dict(zip(documents["id"][:], documents["text"][:], strict=True))
    right = {(row["query"], text[row["positive_id"]]) for row in pairs}
    wrong = set(zip(made["query"][:], made["positive"][:], strict=True))
    assert len(made) == ROWS and len(wrong & right) < 5  # two questions in turn may have one passage


def test_the_blend_is_a_stage_with_the_wrong_set_and_evals(tmp_path, monkeypatch):
    monkeypatch.setattr(leave_one_out, "squad_windows", lambda folder: folder / "windows")
    made = recipe_from(recipe(tmp_path))
    assert [spec.name for spec in made.contrastive.datasets][-1] == WRONG and len(made.contrastive.datasets) == 6
    assert [entry["name"] for entry in made.contrastive.evals] == ["squad", "scifact"]


def test_the_table_has_a_line_for_each_set():
    one = {"difference": 0.02, "low": 0.01, "high": 0.03, "adjusted_p": 0.001, "verdict": "it hurts"}
    shown = table({"measure": "ndcg@10", "without": {WRONG: one, "squad": one | {"verdict": "open"}}})
    assert "| wrong" in shown and "+0.0200 (+0.0100 to +0.0300)" in shown and "it hurts" in shown
