"""Ceilings, floors and windows at their edges, with numbers that float32 holds exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import SpecError
from hf_posmine.core.filters import (
    MarginPos,
    MaxScore,
    MinScore,
    PercPos,
    RankWindow,
    SkipTop,
    as_filters,
    common_window,
    highest_floor,
    lowest_ceiling,
    parse_filter,
)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("filter_", "positive", "ceiling"),
    [
        (PercPos(0.75), 0.5, 0.375),
        (PercPos(0.95), -1.0, -1.05),
        (PercPos(0.75), -0.5, -0.625),
        (PercPos(0.95), 0.0, 0.0),
        (PercPos(1), 0.3, 0.3),
        (PercPos(1.25), -0.5, -0.375),
        (PercPos(0), 0.5, 0.0),
        (PercPos(0.75, zero=0.25), 0.5, 0.4375),
        (PercPos(0.75, zero=-2.0), -1.0, -1.25),
        (PercPos(0.75, zero=0.5), 0.25, 0.1875),
        (MarginPos(0.25), 0.5, 0.25),
        (MarginPos(0.25), -0.5, -0.75),
        (MarginPos(0), 0.5, 0.5),
        (MaxScore(0.75), 0.5, 0.75),
        (MinScore(0.75), 0.5, np.inf),
        (SkipTop(3), 0.5, np.inf),
        (RankWindow(1, 3), 0.5, np.inf),
    ],
    ids=repr,
)
def test_ceiling_of_one_positive(filter_, positive, ceiling):
    found = filter_.ceiling(f32(positive))
    assert found.dtype == np.float32
    assert found.tolist() == f32(ceiling).tolist()


def test_a_candidate_at_the_ceiling_is_not_below_it():
    ceiling = PercPos(0.75).ceiling(f32(0.5))
    just_below = np.nextafter(f32(0.375), f32(-1))
    assert (f32(0.375) < ceiling).tolist() == [False]
    assert (just_below < ceiling).tolist() == [True]


def test_the_ceiling_of_a_negative_positive_lies_below_it():
    ceiling = PercPos(0.95).ceiling(f32(-1))
    assert (f32(-1.06, -1.04) < ceiling).tolist() == [True, False]  # a plain p * f would keep -1.04


@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 1))
def test_no_share_up_to_one_and_no_margin_lifts_the_ceiling_above_the_positive(positive, amount):
    assert PercPos(amount).ceiling(f32(positive))[0] <= positive
    assert MarginPos(amount).ceiling(f32(positive))[0] <= positive


@given(st.floats(-4, 4), st.floats(0, 1.5), st.floats(-2, 2))
def test_a_zero_moves_scores_and_ceilings_alike(positive, share, zero):
    moved = PercPos(share, zero=zero).ceiling(f32(positive + zero))[0]
    assert moved == pytest.approx(float(PercPos(share).ceiling(f32(positive))[0]) + zero, abs=1e-5)


def test_a_zero_is_spelled_only_where_it_is_set():
    assert repr(PercPos(0.95, zero=0.0)) == "PercPos(0.95)" and hash(PercPos(0.95)) == hash(PercPos(0.95, zero=0.0))
    assert parse_filter("PercPos(0.95, zero=0.7)") == PercPos(0.95, zero=0.7)
    assert repr(PercPos(0.95, zero=0.7)) == "PercPos(0.95, zero=0.7)"
    PercPos(0.95, zero=-4.0).check("logit")
    with pytest.raises(SpecError, match=r"PercPos\(70\) lies outside cosine scores"):
        PercPos(0.95, zero=70.0).check("cosine")


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8), st.floats(0, 1.5))
def test_a_positive_score_gives_the_papers_product(positives, share):
    ceiling = PercPos(share).ceiling(f32(*positives))
    for p, c in zip(positives, ceiling.tolist(), strict=True):
        assert c == pytest.approx(p * share if p > 0 else p * (2 - share), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PercPos(95), r"PercPos\(95\) is out of range.*did you mean 0\.95\?"),
        (lambda: PercPos(-0.5), r"PercPos\(-0\.5\) is out of range[^;]*$"),
        (lambda: PercPos(float("nan")), "share must be a finite number"),
        (lambda: PercPos("0.95"), "share must be a finite number"),
        (lambda: PercPos(True), "share must be a finite number"),
        (lambda: MarginPos(-0.05), "give 0 or more"),
        (lambda: MaxScore(float("inf")), "score must be a finite number"),
        (lambda: MinScore(None), "score must be a finite number"),
        (lambda: SkipTop(-1), "at least 0, got -1"),
        (lambda: SkipTop(2.0), r"at least 0, got 2\.0"),
        (lambda: SkipTop(True), "at least 0, got True"),
        (lambda: RankWindow(3, 3), "is empty; last must be greater than first"),
        (lambda: RankWindow(-1, 3), "at least 0, got -1"),
        (lambda: parse_filter("PercPos(95)"), r"did you mean 0\.95\?"),
        (lambda: parse_filter("0.95"), "'0.95' is not a filter; known: Consistency"),
        (lambda: as_filters([0.95]), r"0\.95 is not a filter"),
        (lambda: as_filters(0.95), r"0\.95 is not a filter"),
    ],
)
def test_parameters_out_of_range_say_what_and_the_cure(make, says):
    with pytest.raises(SpecError, match=says):
        make()


@pytest.mark.parametrize(
    ("filter_", "kind", "says"),
    [
        (PercPos(0.95), "logit", "no meaningful zero; use MarginPos"),
        (PercPos(0.95), "distance", "no meaningful zero; use MarginPos"),
        (MaxScore(70), "cosine", r"outside cosine scores \[-1, 1\]; did you mean 0\.7\?"),
        (MinScore(-0.5), "probability", r"outside probability scores \[0, 1\]"),
        (MarginPos(5), "cosine", r"did you mean 0\.05\?"),
        (MarginPos(5), "probability", r"did you mean 0\.05\?"),
    ],
)
def test_a_filter_refuses_scores_on_which_it_means_nothing(filter_, kind, says):
    with pytest.raises(SpecError, match=says):
        filter_.check(kind)


@pytest.mark.parametrize("kind", ["cosine", "dot", "bm25", "probability"])
def test_a_filter_accepts_scores_on_which_it_means_something(kind):
    for filter_ in (PercPos(0.95), MaxScore(1), MinScore(0), MarginPos(2), SkipTop(9), RankWindow(0, 9)):
        filter_.check(kind)
    MarginPos(5).check("dot")
    MaxScore(70).check("bm25")
    MarginPos(0.5).check("logit")


@pytest.mark.parametrize(
    ("filters", "window"),
    [
        ([], (0, None)),
        ([PercPos(0.95)], (0, None)),
        ([SkipTop(10)], (10, None)),
        ([SkipTop(10), SkipTop(3)], (10, None)),
        ([SkipTop(10), RankWindow(0, 50)], (10, 50)),
        ([RankWindow(5, 100), RankWindow(20, 60)], (20, 60)),
        ([RankWindow(0, 11), SkipTop(10)], (10, 11)),
    ],
)
def test_windows_combine_to_the_ranks_that_all_allow(filters, window):
    assert common_window(filters) == window


def test_windows_that_leave_no_rank_are_an_error():
    with pytest.raises(SpecError, match=r"SkipTop\(10\).*leave no rank: the first allowed is 10, the last before 10"):
        common_window([SkipTop(10), RankWindow(0, 10)])


def test_the_lowest_ceiling_wins_and_says_whose_it_is():
    ceiling, which = lowest_ceiling([SkipTop(1), PercPos(0.5), MaxScore(0.25)], f32(0.25, 1, -0.5))
    assert ceiling.tolist() == [0.125, 0.25, -0.75]
    assert which.tolist() == [1, 2, 1]


@pytest.mark.parametrize("filters", [[], [SkipTop(1)], [MinScore(0.5), RankWindow(0, 9)]])
def test_without_a_ceiling_nobody_sets_it(filters):
    ceiling, which = lowest_ceiling(filters, f32(0.25, 1))
    assert ceiling.tolist() == [np.inf, np.inf]
    assert which.tolist() == [-1, -1]


def test_the_highest_floor_wins():
    assert highest_floor([MinScore(0.25), MinScore(0.5), MaxScore(0.75)], f32(1, -1)).tolist() == [0.5, 0.5]
    assert highest_floor([], f32(1, -1)).tolist() == [-np.inf, -np.inf]


def test_one_filter_or_spelling_stands_for_a_list_of_one():
    expected = (PercPos(0.95),)
    assert as_filters("PercPos(0.95)") == as_filters(PercPos(0.95)) == as_filters(["PercPos(0.95)"]) == expected
    assert as_filters(["SkipTop(10)", PercPos(0.95)]) == (SkipTop(10), PercPos(0.95))
