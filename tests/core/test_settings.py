"""The settings: one frozen value that reads spellings, refuses nonsense and survives JSON."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import yaml

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import PercPos, RankWindow, SkipTop
from hf_posmine.core.samplers import SampledTopK, Top
from hf_posmine.core.settings import MiningSettings

FULL = MiningSettings(
    filters=["SkipTop(2)", PercPos(0.75)],
    sampler="SampledTopK(k=8, temperature=0.5)",
    num_negatives=3,
    keep=["scores", "ranks"],
    on_short="random",
    ceiling_from="mean",
    weak_positive="flag",
    weak_rank=50,
    near_duplicates=0.95,
    exclude_other_positives=True,
    seed=7,
)


@pytest.mark.parametrize("kind", ["cosine", "dot", "probability", "bm25"])
def test_the_default_filter_is_the_paper_s_best_where_scores_have_a_zero(kind):
    assert MiningSettings().for_scores([kind]).all_filters == (PercPos(0.95),)
    given = MiningSettings(filters="none")
    assert given.for_scores([kind]) is given and given.all_filters == ()


@pytest.mark.parametrize("kinds", [["logit"], ["distance"], ["cosine", "logit"]])
def test_scores_without_a_zero_need_a_filter(kinds):
    with pytest.raises(InputError, match=r"choose one.*MarginPos.*or filters=\(\) for Naive"):
        MiningSettings().for_scores(kinds)
    assert MiningSettings(filters=()).for_scores(kinds).all_filters == ()


def test_the_default_is_not_known_without_scores():
    assert MiningSettings().to_dict()["filters"] is None
    with pytest.raises(InputError, match="depends on the teacher's scores"):
        _ = MiningSettings().all_filters


def test_the_defaults():
    settings = MiningSettings()
    assert (settings.filters, settings.sampler, settings.num_negatives) == (None, Top(), 4)
    assert (settings.on_short, settings.ceiling_from, settings.weak_positive, settings.seed) == (
        "keep",
        "min",
        "keep",
        0,
    )


def test_spellings_become_objects():
    assert FULL.all_filters == (SkipTop(2), PercPos(0.75))
    assert FULL.one_sampler == SampledTopK(8, 0.5)
    assert FULL.keep == ("scores", "ranks")
    assert MiningSettings(filters="PercPos(0.75)", keep="ids") == MiningSettings(filters=(PercPos(0.75),), keep=["ids"])


@pytest.mark.parametrize("settings", [MiningSettings(), FULL], ids=["defaults", "full"])
def test_settings_survive_json_yaml_and_pickle(settings):
    plain = settings.to_dict()
    assert MiningSettings.from_options(json.loads(json.dumps(plain))) == settings
    assert MiningSettings.from_options(yaml.safe_load(yaml.safe_dump(plain))) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_numpy_numbers_survive_json_too():
    settings = MiningSettings(filters=[PercPos(np.float64(0.75))], num_negatives=np.int64(2), seed=np.int64(3))
    assert MiningSettings.from_options(json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_are_frozen_hashable_and_equal_by_value():
    assert dataclasses.replace(FULL) == FULL
    assert hash(dataclasses.replace(FULL)) == hash(FULL)
    assert dataclasses.replace(FULL, seed=8) != FULL
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.seed = 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_negatives": 0}, "num_negatives=0; expected a whole number of at least 1"),
        ({"num_negatives": 2.0}, r"num_negatives=2\.0; expected a whole number"),
        ({"num_negatives": True}, "num_negatives=True; expected a whole number"),
        ({"seed": "abc"}, "seed='abc'; expected a whole number of at least 0"),
        ({"seed": -1}, "seed=-1; expected"),
        ({"weak_rank": 0}, "weak_rank=0; expected"),
        ({"on_short": "skip"}, r"on_short='skip'; choose one of \['keep', 'drop', 'raise', 'random'\]"),
        ({"ceiling_from": "median"}, r"ceiling_from='median'; choose one of \['min', 'own', 'mean', 'max'\]"),
        ({"weak_positive": None}, "weak_positive=None; choose one of"),
        ({"keep": ["scores", "score"]}, "keep='score'; choose one of"),
        ({"near_duplicates": 1.5}, r"near_duplicates=1\.5; expected a cosine above 0 and at most 1"),
        ({"near_duplicates": 0}, "near_duplicates=0; expected a cosine"),
        ({"near_duplicates": True}, "near_duplicates=True; expected a cosine"),
        ({"filters": ["PercPos(95)"]}, r"did you mean 0\.95\?"),
        ({"filters": [SkipTop(5), RankWindow(0, 5)]}, "leave no rank"),
        ({"sampler": "SampledTopK(k=3)"}, "cannot give 4 negatives"),
        ({"sampler": "Toop"}, r"did you mean Top\?"),
    ],
)
def test_nonsense_is_refused_with_the_cure(options, says):
    with pytest.raises(InputError, match=says):
        MiningSettings(**options)


def test_an_unknown_option_lists_those_that_exist():
    with pytest.raises(InputError, match=r"unknown option 'filter'; mining has: filters, sampler, num_negatives"):
        MiningSettings.from_options({"filter": "PercPos(0.9)"})


def test_a_window_and_a_sampler_error_are_spec_errors():
    with pytest.raises(SpecError):
        MiningSettings(sampler="Uniform(k=1)")
