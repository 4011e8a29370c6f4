"""Spellings of filters, samplers and teachers by strangers: read, and then the same again, or refused in one line."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import PosmineError
from hf_posmine.core.filters import FILTERS, parse_filter
from hf_posmine.core.samplers import SAMPLERS
from hf_posmine.core.spec import parse

KNOWN = FILTERS | SAMPLERS
SEEDS = [
    "PercPos(0.95)",
    "PercPos(0.9, zero=0.5)",
    "SkipTop(10)",
    "RankWindow(2, 30)",
    "Top1Sampled(k=6, temperature=0.1)",
]
PIECES = st.sampled_from(
    [*KNOWN, "(", ")", "[", "]", "{", "}", ",", "=", "'", '"', "\\", "1e999", "-", "nan", "0x1", "None", "True", "lambda",
     "__import__('os')", "\x1b[2J", "\x00", "\ud800", "9" * 400, "(" * 300, "k=", "*", "**", ".", "\n"]
)  # fmt: skip
MUTATED = st.builds(
    lambda text, at, cut, new: text[: at % (len(text) + 1)] + new + text[at % (len(text) + 1) + cut :],
    st.sampled_from(SEEDS), st.integers(0, 60), st.integers(0, 5), st.one_of(PIECES, st.text(max_size=6)),
)  # fmt: skip
SPELLINGS = st.one_of(MUTATED, st.lists(PIECES, max_size=12).map("".join), st.text(max_size=60))
EXAMPLES = int(os.environ.get("HF_POSMINE_FUZZ", "300"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPELLINGS)
@example("SkipTop" + "9" * 900 + "(3)")
def test_a_spelling_is_read_or_refused_in_a_line(text):
    for read in (lambda: parse(text, KNOWN), lambda: parse_filter(text)):
        try:
            value = read()
        except PosmineError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 1500
        else:
            if isinstance(value, tuple(KNOWN.values())):  # else a plain value, such as a number, which no setting takes
                assert parse(repr(value), KNOWN) == value
