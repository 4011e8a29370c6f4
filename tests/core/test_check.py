"""Numbers as users write them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hf_posmine.core.check import is_number, is_whole, whole
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import MarginPos, MaxScore
from hf_posmine.core.samplers import SampledTopK, SimANS
from hf_posmine.core.settings import MiningSettings
from hf_posmine.mining.second_opinion import SecondOpinion
from hf_posmine.search.specs import Approximate, Lance

BEYOND_FLOATS = 10**320


@pytest.mark.parametrize("value", [0, 7, np.int64(7), np.uint8(7), BEYOND_FLOATS])
def test_whole_numbers_of_python_and_numpy(value):
    assert is_whole(value)
    assert type(whole("k", value)) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 7.0, np.float32(7), "7", None, Fraction(7, 2), -1])
def test_what_is_not_a_whole_number_is_refused_by_name_and_value(value):
    with pytest.raises(SpecError, match=r"k=.*; expected a whole number of at least 0"):
        whole("k", value, error=SpecError)


def test_a_range_of_whole_numbers_has_both_its_ends():
    assert [is_whole(value, 2, 4) for value in range(1, 6)] == [False, True, True, True, False]


@pytest.mark.parametrize("value", [0.5, -2, np.float16(0.5), np.int32(3), Fraction(1, 3)])
def test_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.bool_(False), np.inf, float("nan"), "0.5", None, 1j, BEYOND_FLOATS])
def test_what_is_not_a_finite_number(value):
    assert not is_number(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaxScore(BEYOND_FLOATS),
        lambda: MarginPos(BEYOND_FLOATS),
        lambda: SimANS(a=BEYOND_FLOATS),
        lambda: SampledTopK(temperature=BEYOND_FLOATS),
        lambda: MiningSettings(near_duplicates=BEYOND_FLOATS),
    ],
)
def test_a_number_that_no_float_holds_is_one_clear_error(make):
    with pytest.raises(InputError, match=r"number|cosine"):
        make()


def test_whole_numbers_of_numpy_are_kept_and_spelled_as_plain_ones():
    assert repr(Approximate("IVF8,Flat", {"nprobe": np.int64(3)}, np.int32(500))) == repr(
        Approximate("IVF8,Flat", {"nprobe": 3}, 500)
    )
    assert repr(Lance("IVF_SQ", {"ef": np.int64(9)}, np.int64(4))) == repr(Lance("IVF_SQ", {"ef": 9}, 4))
    assert type(SecondOpinion("cross:m", rank_by="second", depth=np.int64(5)).depth) is int
