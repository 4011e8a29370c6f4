"""Numbers on disk, sorted range by range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.utils import mapped as module
from hf_posmine.utils.mapped import Appended, blocks, key_ranges, npy_file, preallocate, scratch


@given(st.lists(st.integers(0, 2**64 - 1), max_size=200), st.integers(1, 50), st.integers(1, 30))
def test_ranges_hold_every_position_once_and_come_in_order_of_the_keys(keys, size, block):
    keys = np.array(keys, ">u8").view("S8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RANGE", size)
        patch.setattr(module, "BLOCK", block)
        found = [at for at in key_ranges(keys) if len(at)]
    assert sorted(np.concatenate([np.empty(0, np.int64), *found]).tolist()) == list(range(len(keys)))
    for one, other in itertools.pairwise(found):
        assert max(keys[one].tolist()) < min(keys[other].tolist())
    for at in found:
        assert (np.diff(at) > 0).all()  # so that the first of equal keys stays the first


def test_ranges_are_as_small_as_asked(monkeypatch):
    monkeypatch.setattr(module, "RANGE", 100)
    keys = np.random.default_rng(0).integers(0, 2**64, 10_000, np.uint64).view("S8")
    assert max(map(len, key_ranges(keys))) < 150


def test_appended_numbers_are_mapped(tmp_path):
    file = Appended(tmp_path / "a", np.int64)
    for part in ([1, 2], [], [3]):
        file.add(np.array(part, np.int32))
    array = file.array()
    assert isinstance(array, np.memmap)
    assert array.tolist() == [1, 2, 3]
    assert Appended(tmp_path / "b", np.uint64).array().tolist() == []


def test_blank_files_take_their_space_at_once(tmp_path):
    array = preallocate(tmp_path / "a", np.int64, 1000)
    assert (tmp_path / "a").stat().st_size == 8000
    assert not array.any()
    array[7] = 5
    assert np.fromfile(tmp_path / "a", np.int64)[7] == 5
    assert preallocate(tmp_path / "b", bool, 0).tolist() == []


def test_an_npy_file_is_written_row_by_row(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    with npy_file(tmp_path / "a.npy", np.float32, rows.shape) as file:
        for row in rows:
            file.write(row.tobytes())
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), rows)


@given(st.integers(0, 50), st.integers(1, 60))
def test_blocks_cover_everything(length, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        assert [n for span in blocks(length) for n in range(span.start, span.stop)] == list(range(length))


def test_scratch_can_be_written_and_may_be_empty():
    for length in (0, 1, 5000):
        numbers = scratch(length, np.int64)
        numbers[:] = np.arange(length)
        assert numbers.shape == (length,) and np.array_equal(numbers, np.arange(length))
