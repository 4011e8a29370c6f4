"""Suspicious rows: a table worked by hand, and random rows against loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine.report.numbers import read_numbers
from hf_posmine.report.reading import read_texts
from hf_posmine.report.suspects import WHOLE_ROW, bounds_of, find_suspects, flags, least_per_row, shared_documents
from tests.report.made import at_random, by_hand, mined


def suspects(rows, n=2, record=None):
    made = mined(rows)
    return {kind.kind: kind for kind in find_suspects(read_numbers(made), read_texts(made), n, record)}


def test_the_hand_made_rows():
    found = suspects(by_hand())
    told = {name: list(zip(kind.rows.tolist(), kind.at.tolist(), strict=True)) for name, kind in found.items()}
    assert told == {
        "labelled": [(0, 1)],
        "duplicate": [(1, 0), (0, 1)],  # 10 of 10 words, then 6 of 7: "called" is new
        "answer": [(1, 0), (0, 1)],  # margins 0.05 and 0.2
        "close": [(2, 0), (1, 0), (0, 0), (3, 0), (4, 0)],  # 2e-6, 0.017, 0.075, 0.15 and 0.2 of the positive's score
        "shared": [],
        "weak": [(3, WHOLE_ROW)],
        "short": [(3, WHOLE_ROW)],
    }
    assert found["duplicate"].values.tolist() == pytest.approx([1.0, 6 / 7])
    said = {name: [kind.describe(i) for i in range(len(kind))] for name, kind in found.items()}
    assert found["close"].graded and said["close"][1] == "0.012 below its ceiling"
    assert said["short"] == ["1 of 2 negatives"] and said["weak"] == ["2,000 candidates above its ceiling"]
    assert said["duplicate"] == ["100% of the words shared", "86% of the words shared"]
    assert said["answer"] == ["in 1 of its negatives"] * 2


def test_a_negative_above_its_positive_is_said_to_be():
    rows = by_hand().remove_columns("negatives_stats").map(lambda row: {"positive_score": row["positive_score"] - 0.25})
    close = suspects(rows)["close"]
    assert close.rows[0] == 2 and close.describe(0) == "0.22 above its positive"


def test_what_cannot_be_told_is_left_out():
    rows = by_hand()
    assert set(suspects(rows.select_columns(["query", "positive", "negatives"]))) == {
        "labelled", "duplicate", "shared", "short",
    }  # fmt: skip
    scored = suspects(rows.remove_columns("negatives_stats"))
    assert "weak" not in scored and scored["close"].title == "Closest to the positive"


def test_without_any_ceiling_there_are_no_weak_positives_to_tell():
    def unbounded(row):
        return {"negatives_stats": {**row["negatives_stats"], "ceiling": float("inf"), "ceiling_by": None}}

    found = suspects(by_hand().map(unbounded))
    assert "weak" not in found and found["close"].title == "Closest to the positive"


def test_filled_rows_are_short_of_their_own():
    rows = Dataset.from_dict({
        "query": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["x", "z"]], "num_random": [0, 1],
    })  # fmt: skip
    short = suspects(rows)["short"]
    assert short.rows.tolist() == [1] and short.values.tolist() == [1.0]


def test_a_text_in_very_many_rows_is_shared():
    rows = [{"query": f"q{i}", "positive": f"p{i}", "negatives": ["hub" if i % 2 else f"n{i}"]} for i in range(24)]
    found = suspects(Dataset.from_list(rows), 1)["shared"]
    assert sorted(found.rows.tolist()) == list(range(1, 24, 2)) and set(found.values.tolist()) == {12.0}


def test_judged_negatives_are_suspects():
    rows = by_hand().select(range(2)).add_column("negatives_suspect", [[False, True], [False, False]])
    assert suspects(rows)["judged"].rows.tolist() == [0]


def test_an_ensemble_is_measured_by_each_teachers_own_ceiling():
    rows = Dataset.from_dict({
        "query": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["z"]], "positive_score": [0.5, 0.5],
        "negatives_scores": [[0.25, 8.0], [7.5]], "negatives_teachers": [["mini", "bm25"], ["bm25"]],
        "negatives_positive_scores": [[0.5, 16.0], [10.0]],
    })  # fmt: skip
    numbers = read_numbers(mined(rows))
    assert bounds_of(numbers, ["PercPos(0.75)"]).tolist() == [0.375, 12.0, 7.5]
    assert bounds_of(numbers, []).tolist() == [0.5, 16.0, 10.0]


def test_a_row_without_a_ceiling_is_measured_by_its_positive():
    numbers = read_numbers(mined(by_hand()))
    numbers = dataclasses.replace(numbers, ceiling=np.float32([np.inf, 0.7, 0.4, 0.2, 0.4]))
    assert bounds_of(numbers, [])[:3].tolist() == np.float32([0.8, 0.8, 0.7]).tolist()


def test_the_least_of_each_row_is_that_of_a_loop():
    rows = at_random(80, 11)
    numbers = read_numbers(mined(rows))
    values = np.where(np.arange(len(numbers.scores)) % 3 == 0, np.nan, numbers.scores).astype(np.float64)
    found, which = least_per_row(values, numbers)
    wanted = {}
    for at, (row, value) in enumerate(zip(numbers.row_of.tolist(), values.tolist(), strict=True)):
        if not np.isnan(value) and (row not in wanted or value < values[wanted[row]]):
            wanted[row] = at
    assert dict(zip(found.tolist(), which.tolist(), strict=True)) == wanted
    assert (np.diff(values[which]) >= 0).all()


def test_shared_documents_are_counted_and_shown_where_they_first_are():
    rows = at_random(60, 12)
    counts, numbers, at = shared_documents(read_texts(mined(rows)), most=5)
    flat = [text for row in rows for text in row["negatives"]]
    totals = sorted((flat.count(text) for text in set(flat)), reverse=True)
    assert counts.tolist() == [total for total in totals[:5] if total > 1]
    for count, row, place in zip(counts.tolist(), numbers.tolist(), at.tolist(), strict=True):
        text = rows[row]["negatives"][place]
        assert flat.count(text) == count and not any(text in other["negatives"] for other in rows.select(range(row)))


def test_flags_have_a_bit_per_kind():
    made = mined(by_hand())
    kinds = find_suspects(read_numbers(made), read_texts(made), 2, None)
    marks = flags(kinds, 5)
    for bit, kind in enumerate(kinds):
        assert [row for row in range(5) if marks[row] >> bit & 1] == sorted(kind.rows.tolist())
