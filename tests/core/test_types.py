"""Rankings and exclusions: taking, filling in, and equality with plain Python sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import MissingExtraError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.core.types import PADDING, Exclusions, Ranking, spans

GROUPS = st.lists(st.lists(st.integers(0, 30), max_size=6), min_size=1, max_size=8)


def test_a_ranking_is_filled_query_by_query():
    ranking = Ranking.nothing(3, 2)
    assert (ranking.doc_ids == PADDING).all() and np.isneginf(ranking.scores).all() and not ranking.above.any()
    found = Ranking(np.array([[5, 6], [8, -1]]), np.float32([[0.5, 0.25], [0.75, -np.inf]]), np.array([3, 0]))
    ranking.put(np.array([2, 0]), found)
    assert ranking.doc_ids.tolist() == [[8, -1], [-1, -1], [5, 6]]
    assert ranking.above.tolist() == [0, 0, 3]
    again = ranking.take(np.array([False, False, True]))
    assert (again.doc_ids.tolist(), again.scores.tolist(), again.above.tolist()) == ([[5, 6]], [[0.5, 0.25]], [3])


@given(groups=GROUPS, everywhere=st.lists(st.integers(0, 30), max_size=5), data=st.data())
def test_exclusions_are_the_sets_they_were_made_of(groups, everywhere, data):
    exclusions = Exclusions.of(groups, everywhere)
    positions = data.draw(st.lists(st.integers(0, len(groups) - 1), max_size=6))
    taken = exclusions.take(np.array(positions, np.int64))
    assert exclusions.everywhere.tolist() == taken.everywhere.tolist() == sorted(set(everywhere))
    assert [exclusions.of_query(q).tolist() for q in range(len(groups))] == [sorted(set(group)) for group in groups]
    assert [taken.of_query(i).tolist() for i in range(len(positions))] == [sorted(set(groups[q])) for q in positions]


@pytest.mark.parametrize(
    ("exclude", "of_the_second"), [(None, []), ([[1], [9, 3]], [3, 9]), (Exclusions.of([[], [4]]), [4])]
)
def test_a_search_takes_exclusions_in_three_forms(exclude, of_the_second):
    given_ = Exclusions.given(exclude, 2)
    assert len(given_.bounds) == 3
    assert given_.of_query(1).tolist() == of_the_second


def test_spans_of_nothing_are_empty():
    assert spans(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []
    assert spans(np.array([4, 9]), np.array([0, 2])).tolist() == [9, 10]


@pytest.mark.parametrize(("sampler", "several"), [("IntraSample()", True), ("CrossSample()", True), ("Top()", False)])
def test_settings_know_whether_teachers_share_a_row(sampler, several):
    assert MiningSettings(sampler=sampler).ensemble is several


def test_a_missing_extra_is_named_with_the_command():
    assert "pip install 'hf-posmine[lance]'" in str(MissingExtraError("the Lance index", "lance"))
