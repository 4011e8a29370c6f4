"""A record from elsewhere is checked before it is used: one line for every fault, nothing loaded or allocated."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_posmine import MaxFNRate, PositiveAwareMiner, Qrels
from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.evaluation import MeasuredJudge, OracleJudge
from hf_posmine.evaluation.negatives.certified import Certified
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.rebuild import rebuild
from hf_posmine.hub.remine import mine_again
from hf_posmine.hub.retry import with_retry
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import MiningRecord
from hf_posmine.mining.record_schema import SMALL_CORPUS
from hf_posmine.mining.summary import MiningSummary
from hf_posmine.teachers import RandomTeacher
from tests.hub.mining import KEEP, make_splits

if TYPE_CHECKING:
    from datasets import DatasetDict

EXAMPLES = int(os.environ.get("HF_POSMINE_FUZZ", "300"))
"""Mutated records; HF_POSMINE_FUZZ=10000 for the whole run."""


def make_record() -> tuple[DatasetDict, MiningRecord]:
    splits = make_splits()
    known = Qrels.from_dataset(splits, "query", "positive")
    miner = PositiveAwareMiner(
        corpus=known.documents, teachers=RandomTeacher(known.documents, seed=3), known_positives=known,
        positive_column="positive", num_negatives=2, filters=["PercPos(0.9)", "SkipTop(1)"], keep=KEEP, sampler="Uniform(k=5)",
    )  # fmt: skip
    mined = splits.map(miner, batched=True)
    source = {"path": "alice/pairs", "revision": "0" * 40, "split": "train"}
    summary = MiningSummary.from_dataset(mined, 2)
    guarantee = Certified(
        MaxFNRate(0.05), miner.settings.all_filters, 0.02, 0.1, 80, "judge", {"SkipTop": ("SkipTop(1)",)}, {"SkipTop": 1},
        ("none",), "0" * 32, MeasuredJudge(OracleJudge({}), ((9, 1), (1, 9))).to_dict(0.05),
    )  # fmt: skip
    return mined, provenance(
        miner, source=source, summary=summary, command="hf-posmine mine", mined=mined, guarantee=guarantee.to_dict()
    )


MINED, RECORD = make_record()
PLAIN = RECORD.to_dict()


def paths_in(value, above: tuple = ()):
    yield above
    for name, held in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths_in(held, (*above, name))


NUMBERS = st.sampled_from([-1, 0, 1, 10**7, 2**40, 2**63, 10**400, 0.5, -1e308, 1e308])
HOSTILE = (
    "PercPos(0.5)", "Top()", "json", "../x", "/etc/passwd", "x" * 10_000, "(" * 300, "-" * 400 + "1", "a\nb", "\x1b[31m",
    "\ud800", "<!-- posmine:end default -->", "Uniform(k=100000000)", "RankWindow(0, 999999999999)", "torch.load",
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(HOSTILE))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
PATHS = st.sampled_from([path for path in paths_in(PLAIN) if path])
MUTATIONS = st.lists(
    st.tuples(PATHS, st.sampled_from(["set", "delete", "add", "deepen"]), VALUES), min_size=1, max_size=3
)


def mutate(plain: dict, mutations) -> dict:
    changed = copy.deepcopy(plain)
    for path, how, value in mutations:
        held = changed
        try:
            for name in path[:-1]:
                held = held[name]
            if how == "set":
                held[path[-1]] = value
            elif how == "delete":
                del held[path[-1]]
            elif how == "add":
                held[path[-1]] |= {"more": value}
            else:
                for _ in range(40):
                    value = [value]
                held[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier mutation took the place away
            continue
    return changed


FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def one_line(error: Exception) -> bool:
    return "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 1500


@FUZZ
@given(MUTATIONS)
def test_a_mutated_record_is_read_or_refused_in_a_line(mutations):
    text = json.dumps(mutate(PLAIN, mutations))
    try:
        record = MiningRecord.from_json(text)
    except InputError as error:
        assert one_line(error)
    else:
        assert MiningRecord.from_json(record.to_json()) == record


@settings(FUZZ, max_examples=max(50, EXAMPLES // 10))
@given(MUTATIONS)
def test_a_mutated_record_mines_again_or_is_refused_in_a_line(mutations):
    try:
        record = MiningRecord.from_json(json.dumps(mutate(PLAIN, mutations)))
        rebuilt = with_retry(lambda: rebuild(dict(MINED), record, Inputs()), "reading the inputs")
        for rows in rebuilt.rows.values():
            mine_again(rows, rebuilt)
    except PosmineError as error:
        assert one_line(error)


@FUZZ
@given(st.data())
def test_a_damaged_text_is_read_or_refused_in_a_line(data):
    text = RECORD.to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    text = data.draw(
        st.sampled_from([text[:at], text[:at] + data.draw(st.text(max_size=5)) + text[at + 1 :], text[at:]])
    )
    try:
        MiningRecord.from_json(text)
    except InputError as error:
        assert one_line(error)


def test_facts_about_the_data_that_are_null_are_none_at_all():
    record = MiningRecord.from_dict(PLAIN | {"data": None})
    assert record.data == {} and MiningRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not JSON that can be read"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"tool": 1, "tool": 2}', "a key is given twice"),
        (" " * 4_000_001, "has 4,000,001 characters"),
    ],
)
def test_a_text_beyond_the_limits_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        MiningRecord.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message", "of_a_claim"),
    [
        (
            {"num_negatives": 10**7, "sampler": "Top()"},
            r"settings\.num_negatives asks for 10,000,000 candidates of a row; the corpus has 24 documents$",
            "num_negatives=10000000; expected at most 10,000 for each row$",
        ),
        ({"sampler": f"Uniform(k={10**8})"}, *["k must be a whole number from 1 to 1,000,000, got 100000000$"] * 2),
        ({"sampler": f"Uniform(k={10**6})"}, *[r"the sampler .* asks for 1,000,000 .* has 24 documents$"] * 2),
        ({"filters": [f"SkipTop({10**9})"]}, *[r"the filters .* asks for 1,000,000,00\d .* has 24 documents$"] * 2),
        ({"filters": [f"RankWindow(0, {10**9})"]}, *["the filters .* asks for 1,000,000,000 .* has 24 documents$"] * 2),
    ],
)
def test_more_candidates_than_documents_are_refused_at_once(changes, message, of_a_claim):
    plain = PLAIN | {"settings": PLAIN["settings"] | changes}
    with pytest.raises(InputError, match=message):
        rebuild(dict(MINED), MiningRecord.from_dict(plain), Inputs())
    claimed = plain | {"corpus": plain["corpus"] | {"documents": 2**39}}  # the corpus that is loaded counts
    with pytest.raises(InputError, match=of_a_claim):
        rebuild(dict(MINED), MiningRecord.from_dict(claimed), Inputs())


def test_numbers_that_defaults_ask_for_are_fine_on_a_small_corpus():
    plain = PLAIN | {"settings": PLAIN["settings"] | {"sampler": f"Uniform(k={SMALL_CORPUS})"}}
    assert rebuild(dict(MINED), MiningRecord.from_dict(plain), Inputs()).miner.settings.num_negatives == 2


ADDED = {"exclude_same", "match", "language_column"}
"""Settings that records of earlier versions lack."""


def test_a_record_without_later_settings_is_read_as_it_was_mined():
    less = {key: value for key, value in PLAIN["settings"].items() if key not in ADDED}
    rebuilt = rebuild(dict(MINED), MiningRecord.from_dict(PLAIN | {"settings": less}), Inputs())
    assert rebuilt.miner.settings.exclude_same == ()


def test_the_schema_has_every_setting():
    later = {"negatives_as"}  # absent from the records of texts, as from earlier ones
    assert set(PLAIN["settings"]) | later == {field.name for field in dataclasses.fields(MiningSettings)}
    for name in PLAIN["settings"].keys() - ADDED:
        less = {key: value for key, value in PLAIN["settings"].items() if key != name}
        with pytest.raises(InputError, match=rf"settings\.{name} is missing"):
            MiningRecord.from_dict(PLAIN | {"settings": less})
