"""The script behind docs/benchmarks/judge_curve.md: its splits, its judged rows, its cells and its tables, on the sample."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from datasets import disable_progress_bars

import benchmarks.judge_curve as curve
from benchmarks import folds
from benchmarks.folds import Cells, in_folds
from benchmarks.judge_curve import CEILING, Miner, Way, blocks, cells_of, describe, measure, questions, table, tables
from hf_posmine.evaluation import OracleJudge, load_collection, load_judged
from hf_posmine.teachers import make_teacher
from tests.conftest import SAMPLE
from tests.support.distributed import tiny_model

disable_progress_bars()


@pytest.fixture(scope="module")
def task():
    corpus, judgements, _ = load_judged(SAMPLE, "complete", None, 0)
    return in_folds("sample", corpus, judgements, make_teacher("bm25", corpus), load_collection(SAMPLE, "complete"))


def test_every_query_is_tested_once_by_a_student_that_did_not_see_it(task):
    dev, everyone = set(task.dev.queries), set(task.judgements.relevant)
    for seed in (1, 2):
        folds = task.folds(seed)
        tested = [query for fold in folds for query in fold.test.queries]
        assert sorted([*tested, *dev]) == sorted(everyone) and set(tested) == set(task.tested.queries)
        assert all(not {*fold.train} & ({*fold.test.queries} | dev) for fold in folds)
    assert set(task.folds(1)[0].train) != set(task.folds(2)[0].train)


def test_rows_after_a_judge_that_does_not_err_are_clean_and_after_one_that_knows_nothing_are_not(task):
    miner = Miner(task, 1)
    keep, drop, relabel = (miner.judged(Way("naive", action)).counts for action in ("keep", "drop", "relabel"))
    assert keep["asked"] == keep["added"] == 0 < keep["false_negatives"]
    assert drop["false_negatives"] == relabel["false_negatives"] == 0 == drop["added"]
    assert relabel["added_right"] == 1 and relabel["asked"] == drop["asked"] == pytest.approx(
        4 + relabel["added"], abs=0.2
    )
    wrong = miner.judged(Way("naive", "relabel", 0.0, 0.0)).counts  # relabels all that is not relevant
    assert wrong["added_right"] == 0 and wrong["added"] > 20
    row = miner.judged(Way("naive", "relabel")).rows.to_list()[0]
    assert not {*row["judged_positives"]} & {*row["negatives"]}


def test_shares_of_rows_are_those_counted_by_hand():
    from datasets import Dataset

    rows = {"query": ["a", "b"], "negatives": [["x", "y"], ["x"]], "judged_positives": [["z"], ["w", "x"]]}
    truth = OracleJudge({"a": frozenset({"x", "z"}), "b": frozenset({"w"})})
    found = describe(Dataset.from_dict(rows), truth, 10)
    assert found == {"asked": 5, "added": 1.5, "added_right": 2 / 3, "false_negatives": 1 / 3, "short": 2}


def test_a_cell_is_trained_on_judged_rows_and_kept(task, tmp_path, monkeypatch):
    cells = cells_of(tmp_path / "cells", tiny_model(tmp_path / "tiny"), steps=1)
    record = cells.scores(task, Way(action="relabel"), 1, 1e-3)
    assert sorted(record["scores"]) == sorted(task.tested.queries) and 0 < np.mean(list(record["scores"].values())) < 1
    assert record["counts"] == Miner(task, 1).judged(Way(action="relabel")).counts
    monkeypatch.setattr(folds, "trained", None)  # nothing is trained twice
    assert cells.scores(task, Way(action="relabel"), 1, 1e-3) == record
    with pytest.raises(TypeError):
        cells.scores(task, Way(action="relabel"), 1, 1e-2)


class Scripted(Cells):
    """Cells with made-up values: the best learning rate of an action, and a gain from relabelling."""

    best: ClassVar = {"keep": 1e-3, "drop": 1e-2, "relabel": 5e-3}

    def __init__(self):
        pass

    def scores(self, task, way, seed, rate, *, dev=False):
        rng = np.random.default_rng(seed)
        base = rng.normal(0.3, 0.05, len(task.tested.queries)) + 0.1 * (way.action == "relabel")
        base -= 0.2 * (rate != self.best[way.action])
        counts = {"asked": 0.0, "added": 0.0, "added_right": None, "false_negatives": 0.0}
        return {"scores": dict(zip(task.tested.queries, base.tolist(), strict=True)), "counts": counts}


def test_each_action_has_the_learning_rate_that_is_best_on_dev(task, monkeypatch):
    monkeypatch.setattr(curve, "untrained", lambda _: 0.0)
    wanted = {"no judge": [Way()], "judge": [Way(action="drop"), Way(action="relabel")]}
    first, *_, last = measure(Scripted(), task, (1, 2), (1e-3, 5e-3, 1e-2), wanted)
    assert last["learning_rates"] == Scripted.best and (first["cells"], last["cells"]) == (1, 6)
    assert [round(row["mean"], 2) for row in last["rows"]] == [0.3, 0.3, 0.4]


def test_a_gain_that_was_planted_is_found_and_none_where_there_is_none():
    rng = np.random.default_rng(0)
    counts = {"asked": 1.0, "added": 0.0, "added_right": None, "false_negatives": 0.1}
    base = rng.random(120)
    gains = {Way(): 0.0, Way(action="drop"): 0.0, Way(action="relabel"): 0.1}

    def record(gain: float) -> dict:
        values = base + gain + rng.normal(0, 0.02, 120)
        return {"scores": dict(zip(map(str, range(120)), values, strict=True)), "counts": counts}

    made = table({way: {seed: record(gain) for seed in range(3)} for way, gain in gains.items()})
    claims = {d["question"]: d for d in made["differences"]}
    assert claims["relabel against keep, without a ceiling"]["differs"]
    assert claims["relabel against drop, without a ceiling"]["difference"] == pytest.approx(0.1, abs=0.01)
    assert not claims["drop against keep, without a ceiling"]["differs"]
    assert made["rows"][0]["added_right"] is None
    assert "**+0.1" in tables(made)


def test_the_blocks_have_every_judge_once_and_every_comparison_has_its_baseline():
    ways = [way for block in blocks().values() for way in block]
    grid = [
        w
        for w in ways
        if w.action == "relabel" and w.filters == "naive" and w.several == "log_sum_exp" and w.sensitivity > 0.5
    ]
    assert len(set(ways)) == len(ways) and len(grid) == 16
    asked = questions(ways)
    assert len(asked["relabel against drop, without a ceiling"]) == 16
    for pairs in asked.values():
        assert all(base in ways and base != way for base, way in pairs)
    assert questions([Way(), Way(CEILING)])["a ceiling against none, no judge"] == [(Way(), Way(CEILING))]
