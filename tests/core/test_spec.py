"""One spelling: what an object prints is what parses back, and nothing is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import FILTERS, MarginPos, MaxScore, MinScore, PercPos, RankWindow, SkipTop, parse_filter
from hf_posmine.core.samplers import SAMPLERS, SampledTopK, Top, Top1Sampled, Uniform
from hf_posmine.core.spec import parse, spell

finite = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(1, 10**6)
temperature = st.floats(1e-3, 1e3)
values = st.one_of(
    st.builds(SkipTop, st.integers(0, 10**6)),
    st.tuples(st.integers(0, 999), count).map(lambda pair: RankWindow(pair[0], pair[0] + pair[1])),
    st.builds(MaxScore, finite),
    st.builds(MinScore, finite),
    st.builds(MarginPos, st.floats(0, 1e30)),
    st.builds(PercPos, st.floats(0, 1.5)),
    st.just(Top()),
    st.builds(Uniform, count),
    st.builds(SampledTopK, count, temperature),
    st.builds(Top1Sampled, count, temperature),
)


@dataclass(frozen=True)
class Leaf:
    value: Any
    __repr__ = spell


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = None
    __repr__ = spell


@dataclass(frozen=True)
class Span:
    first: int
    last: int
    _positional = True
    __repr__ = spell


TOYS = {"Leaf": Leaf, "Pair": Pair, "Span": Span}


@given(values)
def test_every_filter_and_sampler_parses_back(value):
    assert parse(repr(value), FILTERS | SAMPLERS) == value


@pytest.mark.parametrize("text", ["1E310", "MinScore(-2e999)", "[1, 9e400]"])
def test_a_number_beyond_every_float_is_refused(text):
    with pytest.raises(SpecError, match="a number in it is too large"):
        parse(text, FILTERS)


def test_what_is_not_a_filter_is_shown_by_its_beginning():
    with pytest.raises(SpecError, match="is not a filter") as refused:
        parse_filter("7" * 1800)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("number", [np.float64(0.75), np.float32(0.75), np.int64(1)], ids=lambda n: type(n).__name__)
def test_a_numpy_number_parses_back(number):
    assert parse(repr(PercPos(number)), FILTERS) == PercPos(number)


def test_a_numpy_count_parses_back():
    assert parse(repr(SkipTop(np.int64(3))), FILTERS) == SkipTop(3)
    assert parse(repr(Uniform(np.int64(3))), SAMPLERS) == Uniform(3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Leaf(0.5), "Leaf(0.5)"),
        (Pair(1, "a"), "Pair(left=1, right='a')"),
        (Span(3, 7), "Span(3, 7)"),
        (Pair(Leaf(-1), Span(0, 1)), "Pair(left=Leaf(-1), right=Span(0, 1))"),
        (Leaf((1, None, True)), "Leaf((1, None, True))"),
    ],
)
def test_one_field_is_spelled_by_value_and_several_by_name(value, text):
    assert repr(value) == text
    assert parse(text, TOYS) == value


def test_arguments_may_be_positional_named_nested_or_left_out():
    assert parse(" Pair( Leaf(1), right = Pair(2) ) ", TOYS) == Pair(Leaf(1), Pair(2))
    assert parse("SampledTopK", SAMPLERS) == SampledTopK()
    assert parse("0.5", TOYS) == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "PercPoss(0.9)",
            r"unknown filter 'PercPoss'.*did you mean PercPos\?.*known: Consistency, FartherFromPositive",
        ),
        ("Nothing(1)", r"unknown filter 'Nothing' in 'Nothing\(1\)'; known: Consistency"),
        ("PercPos(", r"cannot read filter 'PercPos\('.*one of: Consistency"),
        ("", "cannot read filter ''"),
        ("PercPos(1 - 0.05)", "'1 - 0.05' is not a plain value"),
        ("PercPos(x.y)", "'x.y' is not a plain value"),
        ("PercPos(**{'share': 1})", r"without \*\*"),
        ("PercPos(0.9, 0.8)", r"wrong arguments; PercPos takes \(share, zero\)"),
        ("PercPos(portion=0.9)", r"wrong arguments; PercPos takes \(share, zero\)"),
        ("RankWindow", r"wrong arguments; RankWindow takes \(first, last\)"),
        ("__import__('os').system('true')", "is not a plain value"),
        ("PercPos(open('x'))", "unknown filter 'open'"),
    ],
)
def test_what_cannot_be_read_says_why(text, says):
    with pytest.raises(SpecError, match=says):
        parse(text, FILTERS, "filter")


@pytest.mark.parametrize("text", ["PercPos({[]: 1})", "PercPos(share=0.5, share=0.9)"])
def test_odd_python_is_a_spec_error_too(text):
    with pytest.raises(SpecError):
        parse(text, FILTERS, "filter")


def test_a_spec_error_is_an_input_error():
    assert issubclass(SpecError, InputError)
    assert issubclass(SpecError, ValueError)
