"""Quotas per group: as a plain walk through the candidates takes them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import SpecError
from hf_posmine.core.filters import parse_filter, refuse_of_rows
from hf_posmine.core.quotas import PerGroup


def walk(groups, keep, most: int) -> list[bool]:
    """One candidate after the other, best first."""
    taken: Counter[int] = Counter()
    out = []
    for group, fine in zip(groups, keep, strict=True):
        out.append(bool(fine) and taken[group] < most)
        taken[group] += out[-1]
    return out


@given(
    st.integers(0, 5).flatmap(lambda b: st.tuples(*[st.lists(st.integers(-1, 3), min_size=7, max_size=7)] * b)),
    st.data(),
)
def test_a_row_keeps_the_best_of_each_group(groups, data):
    keep = [data.draw(st.lists(st.booleans(), min_size=7, max_size=7)) for _ in groups]
    most = data.draw(st.integers(1, 3))
    found = PerGroup("g", most).within(np.array(groups, np.int64).reshape(-1, 7), np.array(keep, bool).reshape(-1, 7))
    assert found.tolist() == [walk(*row, most) for row in zip(groups, keep, strict=True)]


@pytest.mark.parametrize("spelling", ["PerGroup('', 1)", "PerGroup('lang', 0)", "PerGroup(1, 1)", "PerGroup('lang')"])
def test_wrong_arguments_are_refused(spelling):
    with pytest.raises(SpecError):
        parse_filter(spelling)


def test_what_keeps_no_columns_of_the_corpus_refuses_quotas():
    with pytest.raises(
        SpecError, match=r"PerGroup\('lang', 1\) counts by a column of the corpus, and a sweep keeps none"
    ):
        refuse_of_rows([PerGroup("lang", 1)], "a sweep")
