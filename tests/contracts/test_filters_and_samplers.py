"""What every filter and every sampler promises. A new one is one line in ``VALUES``."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from hf_posmine.core.filters import (
    FILTERS,
    MarginPos,
    MaxFNRate,
    MaxScore,
    MinScore,
    PercPos,
    RankWindow,
    SkipTop,
    parse_filter,
)
from hf_posmine.core.pair_filters import Consistency, FartherFromPositive, NearerToPositive
from hf_posmine.core.quotas import PerGroup
from hf_posmine.core.samplers import SAMPLERS, SampledTopK, SimANS, Stratified, Top, Top1Sampled, Uniform, parse_sampler

VALUES = [
    SkipTop(10),
    RankWindow(10, 110),
    MaxScore(0.7),
    MinScore(0.1),
    MarginPos(0.05),
    PercPos(0.95),
    FartherFromPositive(0.05),
    NearerToPositive(-0.05),
    Consistency(2),
    PerGroup("lang", 2),
    MaxFNRate(0.05),
    Top(),
    Uniform(20),
    SampledTopK(20, 0.1),
    Top1Sampled(20, 0.1),
    SimANS(20, 2.0, -0.1),
    Stratified(4, 20),
]


@pytest.fixture(params=VALUES, ids=repr)
def value(request):
    return request.param


def is_filter(value) -> bool:
    return type(value).__name__ in FILTERS


def test_the_fixture_covers_every_filter_and_sampler():
    assert [type(value) for value in VALUES] == [*FILTERS.values(), *SAMPLERS.values()]


def test_its_spelling_reads_back(value):
    parse = parse_filter if is_filter(value) else parse_sampler
    assert parse(repr(value)) == value
    assert repr(parse(repr(value))) == repr(value)


def test_it_is_frozen_hashable_and_equal_by_value(value):
    copy = dataclasses.replace(value)
    assert copy is not value
    assert copy == value
    assert hash(copy) == hash(value)
    assert sum(value == other for other in VALUES) == 1
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, 1)


def test_it_pickles(value):
    assert pickle.loads(pickle.dumps(value)) == value


def test_it_works_on_a_batch_and_on_no_rows_without_changing_its_input(value):
    for rows in (0, 3):
        if is_filter(value):
            positives = np.linspace(0.5, -0.5, rows, dtype=np.float32)
            before = positives.copy()
            for limit in (value.ceiling(positives), value.floor(positives)):
                assert (limit.shape, limit.dtype) == ((rows,), np.float32)
                assert not np.isnan(limit).any()
            first, last = value.window
            assert first >= 0
            assert last is None or last > first
            assert np.array_equal(positives, before)
        else:
            scores = np.tile(np.linspace(1, 0, 6, dtype=np.float32), (rows, 1))
            keep = np.ones(scores.shape, bool)
            columns = value.pick(scores, keep, 2, np.random.default_rng)
            assert (columns.shape, columns.dtype) == ((rows, 2), np.int64)
            assert keep.all()
            assert value.pool(2) >= 2


def test_the_pure_core_imports_numpy_and_nothing_heavier():
    code = """
import sys, hf_posmine.core.types, hf_posmine.core.spec, hf_posmine.core.filters, hf_posmine.core.samplers, hf_posmine.core.settings
print([name for name in ("torch", "datasets", "pyarrow", "transformers", "numba") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
