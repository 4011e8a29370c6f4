"""Histograms against counting in a loop, and their drawing against its frame."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.report.figures import binned, histograms
from hf_posmine.report.histogram import HEIGHT, WIDTH, nice_ticks
from hf_posmine.report.numbers import read_numbers
from tests.report.made import at_random, by_hand, mined

FLOATS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


def figures(rows):
    return {figure.name: figure for figure in histograms(read_numbers(mined(rows)), None)}


@given(FLOATS)
def test_every_value_is_in_a_bin_or_said_to_be_outside(values):
    figure = binned([("x", "plain", np.array(values, np.float32))], "x", "X", "Says.", "x")
    outside = re.search(r"([\d,]+) extreme values", figure.caption)
    missing = int(outside.group(1).replace(",", "")) if outside else 0
    assert figure.series[0].counts.sum() + missing == len(values)


@given(FLOATS)
def test_the_drawing_stays_in_its_frame(values):
    figure = binned([("x", "plain", np.array(values, np.float32))], "x", "X", "Says.", "x")
    heights = [float(y) for y in re.findall(r"V([-\d.]+)", figure.outline(figure.series[0]))]
    across = [float(x) for x in re.findall(r"[HM]([-\d.]+)", figure.outline(figure.series[0]))]
    assert all(0 <= y <= HEIGHT for y in heights) and all(0 <= x <= WIDTH for x in across)
    assert all(0 <= tick.at <= WIDTH for tick in figure.x_ticks)
    assert sum(int(count.replace(",", "")) for _, (count,) in figure.table) == figure.series[0].counts.sum()


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_round_few_and_inside(low, width):
    ticks = nice_ticks(low, low + width)
    slack = 1e-6 * width + 1e-9
    assert 1 <= len(ticks) <= 6 and all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_scores_and_margins_are_those_of_the_rows():
    rows = at_random(200, 40)
    found = figures(rows)
    scores = [s for row in rows for s in row["negatives_scores"] if s is not None]
    positives, negatives = found["scores-0"].series
    assert (positives.total, negatives.total) == (200, len(scores))
    edges = found["scores-0"].edges
    wanted = [
        sum(low <= s < high or (high == edges[-1] and s == high) for s in scores)
        for low, high in itertools.pairwise(edges)
    ]
    assert negatives.counts.tolist() == wanted
    assert negatives.median == pytest.approx(sorted(scores)[len(scores) // 2], abs=0.01)
    margins = [row["positive_score"] - s for row in rows for s in row["negatives_scores"] if s is not None]
    assert found["margins-0"].series[0].median == pytest.approx(float(np.median(margins)), abs=1e-5)


def test_ranks_are_single_up_to_seven_and_double_then():
    rows = at_random(300, 41)
    figure = figures(rows)["ranks"]
    ranks = [rank for row in rows for rank in row["negatives_ranks"] if rank >= 0]
    assert figure.labels == ("0", "1", "2", "3", "4", "5", "6", "7", "8–15", "16–31", "32–63")
    wanted = [ranks.count(i) for i in range(8)] + [sum(low <= r < 2 * low for r in ranks) for low in (8, 16, 32)]
    assert figure.series[0].counts.tolist() == wanted


def test_negatives_per_row():
    rows = at_random(100, 42)
    figure = figures(rows)["counts"]
    lengths = [len(negatives) for negatives in rows["negatives"]]
    assert figure.labels == ("0", "1", "2", "3", "4")
    assert figure.series[0].counts.tolist() == [lengths.count(i) for i in range(5)]


def test_many_negatives_per_row_share_bars():
    rows = Dataset.from_dict(
        {"query": ["a"] * 3, "positive": ["b"] * 3, "negatives": [["x"] * n for n in (0, 99, 100)]}
    )
    figure = figures(rows)["counts"]
    assert len(figure.labels) <= 34 and figure.series[0].counts.sum() == 3


def test_each_teacher_has_its_own_scores():
    rows = {
        "query": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["z"]], "positive_score": [0.5, 0.25],
        "negatives_scores": [[0.25, 8.0], [6.0]], "negatives_teachers": [["mini", "bm25"], ["bm25"]],
        "negatives_positive_scores": [[0.5, 10.0], [9.0]],
    }  # fmt: skip
    found = figures(Dataset.from_dict(rows))
    assert found["scores-1"].title == "Scores by bm25"
    assert [series.median for series in found["scores-1"].series] == [9.5, 7.0]
    assert [series.total for series in found["scores-0"].series] == [1, 1]


def test_figures_are_left_out_where_nothing_was_kept():
    assert set(figures(by_hand().select_columns(["query", "positive", "negatives"]))) == {"counts"}
    rows = by_hand().select_columns(["query", "positive", "negatives", "positive_score", "negatives_scores"])
    nothing = rows.map(lambda row: {"negatives_scores": [None for _ in row["negatives_scores"]]})
    assert "margins-0" not in figures(nothing)
    assert not math.isnan(figures(rows)["margins-0"].series[0].median)


def test_outliers_do_not_squeeze_the_rest():
    values = np.append(np.random.default_rng(0).normal(0, 1, 5000), [1e6]).astype(np.float32)
    figure = binned([("x", "plain", values)], "x", "X", "Says.", "x")
    assert figure.edges[-1] < 10 and "extreme values are outside" in figure.caption
