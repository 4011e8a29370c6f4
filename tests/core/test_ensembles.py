"""The ensembles' own rules, on candidates written down by hand; miners with several teachers are in tests/mining."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine.core.ensembles import CrossSample, IntraSample
from hf_posmine.core.errors import SpecError
from hf_posmine.core.types import Candidates

# Two teachers, three candidates each: the first ranks documents 4 7 9, the second 7 4 2.
DOCUMENTS = np.array([[4, 7, 9, 7, 4, 2]])
SIDE_BY_SIDE = Candidates(
    doc_ids=DOCUMENTS,
    scores=np.zeros((1, 6), np.float32),
    positive_scores=np.ones((1, 6), np.float32),
    teacher=np.array([0, 0, 0, 1, 1, 1], np.int16),
)


def merged(keep: str, n: int, *, dedup: bool) -> list[int]:
    mask = np.array([[letter == "x" for letter in keep]])
    return IntraSample(dedup=dedup).merge(SIDE_BY_SIDE, mask, n)[0].tolist()


@pytest.mark.parametrize(
    ("keep", "n", "dedup", "columns"),
    [
        ("xxxxxx", 4, False, [0, 3, 1, 4]),  # 4, 7, 7, 4: each teacher in turn, documents twice
        ("xxxxxx", 4, True, [0, 3, 2, 5]),  # 4, 7, then 9 and 2: what the other gave is passed over
        (".x.xxx", 3, True, [1, 4, 5]),  # 7 by the first teacher, so the second goes to 4, then 2
        ("..x...", 3, False, [2, -1, -1]),  # one candidate is left: the row is short
        ("......", 2, True, [-1, -1]),
    ],
)
def test_teachers_take_turns(keep, n, dedup, columns):
    assert merged(keep, n, dedup=dedup) == columns


def test_each_row_is_merged_by_its_own_mask():
    twice = Candidates(
        np.repeat(DOCUMENTS, 2, 0), np.zeros((2, 6), np.float32), np.ones((2, 6), np.float32), SIDE_BY_SIDE.teacher
    )
    keep = np.array([[True] * 6, [False, False, True, False, False, True]])
    assert IntraSample().merge(twice, keep, 2).tolist() == [[0, 3], [2, 5]]


def test_a_row_s_generator_draws_its_teacher():
    draws = CrossSample().draw(500, 3, lambda row: np.random.default_rng([row, 11]))
    assert draws.dtype == np.int64
    assert draws.tolist() == [int(np.random.default_rng([row, 11]).integers(3)) for row in range(500)]
    assert min(np.bincount(draws, minlength=3)) > 120  # 167 expected of each


def test_spellings_pools_and_refusals():
    assert (repr(CrossSample()), repr(IntraSample(dedup=True))) == ("CrossSample()", "IntraSample(dedup=True)")
    assert (CrossSample().pool(7), IntraSample().pool(7)) == (7, 7)
    with pytest.raises(SpecError, match="IntraSample: dedup must be True or False, got 'yes'"):
        IntraSample(dedup="yes")
