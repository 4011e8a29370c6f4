"""The script behind docs/benchmarks/teacher_students.md: its rows, against plain loops, and a study of one cell, on the sample."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import disable_progress_bars

from benchmarks.folds import Cells, in_folds
from benchmarks.judged_scores import JudgedScores, N
from benchmarks.teacher_noise import EQUAL, LEVELS
from benchmarks.teacher_students import CEILING, CEILINGS, TEACHERS, Way, first_of_text, questions, rows_of, tables
from hf_posmine.evaluation import load_collection, load_judged
from hf_posmine.teachers import make_teacher
from tests.conftest import SAMPLE
from tests.support.distributed import tiny_model

disable_progress_bars()


@pytest.fixture(scope="module")
def task():
    corpus, judgements, _ = load_judged(SAMPLE, "complete", None, 0)
    return in_folds("sample", corpus, judgements, make_teacher("bm25", corpus), load_collection(SAMPLE, "complete"))


@pytest.fixture(scope="module")
def data(task):
    """Made-up scores of the sample's queries and documents, highest for some of what is relevant."""
    ids = sorted(task.judgements.relevant)
    relevant = np.zeros((len(ids), len(task.corpus)), bool)
    for row, query in enumerate(ids):
        relevant[row, task.corpus.rows_of_ids(sorted(task.judgements.relevant[query]))] = True
    rng = np.random.default_rng(0)
    scores = (rng.uniform(0.2, 0.8, relevant.shape) + 0.2 * relevant * rng.random(relevant.shape)).astype(np.float32)
    return JudgedScores("sample", scores, scores, scores, relevant, np.zeros(relevant.shape, bool))


def test_rows_are_the_best_below_the_ceiling_of_the_teacher_at_hand(task, data):
    made = rows_of(task, data, Way(0.0, CEILING), 3)
    visible = task.judgements.draw_visible(3)
    assert made.ids == sorted(task.judgements.relevant) == list(visible)
    for row, query in enumerate(made.ids):
        own = int(task.corpus.rows_of_ids([visible[query]])[0])
        ceiling = np.float32(0.95) * data.scores[row, own]
        below = [d for d in range(len(task.corpus)) if d != own and data.scores[row, d] < ceiling]
        wanted = sorted(below, key=lambda d, row=row: -data.scores[row, d])[:N]
        assert made.rows[row]["negatives"] == task.corpus.texts(np.array(wanted)).to_pylist()
        assert made.rows[row]["query"] == task.judgements.queries[query]


def test_blank_and_repeated_documents_are_no_negatives():
    assert first_of_text(["a b", "", "c", "a  b ", " ", "c"]).tolist() == [0, -1, 2, 0, -1, 2]


def test_an_oracle_has_no_false_negative_below_a_relative_ceiling_and_many_without(task, data):
    oracle, naive, useless = (
        rows_of(task, data, way, 1).counts for way in (Way("oracle", CEILING), Way("oracle"), Way("useless"))
    )
    assert oracle["rate"] == 0 < naive["rate"] > useless["rate"]
    assert oracle["teacher"] == pytest.approx(1) and useless["teacher"] < 0.2


def test_noise_follows_from_the_seed(task, data):
    first, again, other = (rows_of(task, data, Way(1.0), seed).rows["negatives"][:] for seed in (1, 1, 2))
    assert first == again != other


def test_every_comparison_has_its_baseline():
    assert set(TEACHERS) <= set(LEVELS)
    ways = [Way(level, ceiling) for level in TEACHERS for ceiling in CEILINGS]
    asked = questions(ways)
    assert len(asked["the relative ceiling against the constant"]) == len(TEACHERS)
    assert (Way(1.0, EQUAL), Way(1.0, CEILING)) in asked["the relative ceiling against the constant"]
    assert all(base.level == 0.0 for base, _ in asked[f"against MiniLM, {CEILING}"])
    assert questions([Way()]) == {}


def test_a_cell_is_trained_and_shown(task, data, tmp_path):
    cells = Cells(
        tmp_path, tiny_model(tmp_path / "tiny"), lambda task, way, seed: rows_of(task, data, way, seed), steps=1
    )
    found = cells.scores(task, Way(2.0, CEILING), 1, 1e-3)
    assert sorted(found["scores"]) == sorted(task.tested.queries) and 0 < np.mean(list(found["scores"].values())) < 1
    row = {"mean": 0.25, "rate": 0.125, "hardness": 0.5, "teacher": 0.75}
    rows = [{"level": 0.0, "ceiling": ceiling, **row} for ceiling in CEILINGS]
    claim = {
        "question": "q",
        "level": 0.0,
        "ceiling": CEILING,
        "difference": 0.1,
        "low": 0.05,
        "high": 0.2,
        "differs": True,
    }
    shown = tables({"rows": rows, "differences": [claim]})
    assert "MiniLM" in shown and "0.2500 (12.5%, 0.50)" in shown and "**+0.100** (+0.050 to +0.200)" in shown
