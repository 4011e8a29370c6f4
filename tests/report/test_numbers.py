"""Flat arrays against a walk through the rows."""

from __future__ import annotations

import numpy as np
from datasets import Dataset, DatasetDict

from hf_posmine.report.numbers import read_numbers
from tests.report.made import at_random, by_hand, mined


def test_numbers_are_those_of_the_rows_one_after_the_other():
    one, two = at_random(40, 3), at_random(30, 4)
    numbers = read_numbers(mined(DatasetDict(a=one, b=two)))
    rows = [*one, *two]
    assert numbers.counts.tolist() == [len(row["negatives"]) for row in rows]
    scores = [np.nan if s is None else s for row in rows for s in row["negatives_scores"]]
    margins = [np.nan if s is None else row["positive_score"] - s for row in rows for s in row["negatives_scores"]]
    np.testing.assert_array_equal(numbers.scores, np.array(scores, np.float32))
    np.testing.assert_allclose(numbers.margins, margins, atol=1e-6)
    assert numbers.ranks.tolist() == [rank for row in rows for rank in row["negatives_ranks"]]
    assert numbers.row_of.tolist() == [i for i, row in enumerate(rows) for _ in row["negatives"]]
    for i, row in enumerate(rows):
        assert numbers.bounds[i + 1] - numbers.bounds[i] == len(row["negatives"])


def test_shuffled_and_selected_rows_keep_their_order():
    rows = at_random(30, 5).shuffle(seed=1).select(range(3, 20))
    assert read_numbers(mined(rows)).ranks.tolist() == [rank for row in rows for rank in row["negatives_ranks"]]


def test_ceilings_come_from_the_stats():
    numbers = read_numbers(mined(by_hand()))
    assert numbers.above.tolist() == [0, 1, 0, 2000, 0]
    np.testing.assert_array_equal(numbers.ceiling, np.float32([0.76, 0.7125, 0.475001, 0.2375, 0.475]))


def test_an_ensemble_holds_each_negative_against_its_own_teachers_positive():
    rows = {
        "query": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["z"]], "positive_score": [0.5, 0.25],
        "negatives_scores": [[0.25, 8.0], [6.0]], "negatives_teachers": [["mini", "bm25"], ["bm25"]],
        "negatives_positive_scores": [[0.5, 10.0], [9.0]],
    }  # fmt: skip
    numbers = read_numbers(mined(Dataset.from_dict(rows)))
    assert numbers.teacher_names == ("mini", "bm25") and numbers.teachers.tolist() == [0, 1, 1]
    assert numbers.margins.tolist() == [0.25, 2.0, 3.0]


def test_what_was_not_kept_is_none():
    numbers = read_numbers(mined(Dataset.from_dict({"query": ["a"], "positive": ["b"], "negatives": [["x", "y"]]})))
    assert numbers.counts.tolist() == [2]
    assert numbers.scores is None and numbers.margins is None and numbers.ranks is None and numbers.ceiling is None


def test_second_opinions_judgements_and_marks_are_read():
    rows = {
        "query": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["z"]],
        "negatives_second_scores": [[0.5, None], [0.25]], "positive_second_score": [1.0, 0.75],
        "negatives_suspect": [[True, False], [False]], "num_random": [0, 1], "weak_positive": [False, True],
    }  # fmt: skip
    numbers = read_numbers(mined(Dataset.from_dict(rows)))
    np.testing.assert_array_equal(numbers.second, np.float32([0.5, np.nan, 0.25]))
    assert numbers.judged.tolist() == [True, False, False]
    assert (numbers.filled.tolist(), numbers.weak.tolist()) == ([0, 1], [False, True])
