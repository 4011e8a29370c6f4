"""The count of multiply-adds, on vectors that no bound can prune and on vectors that lie along few axes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from benchmarks.multiply_adds import Search, measure, noise


def test_noise_is_multiplied_whole_and_few_axes_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "hf_posmine.search.exact.int16_share", lambda _: 0.7
    )  # where float32 is quicker, it is multiplied
    whole = measure(noise(64, 300))
    assert whole["same"]
    assert 1 <= whole["share"] < 1.2
    assert "torch_share" not in whole
    rng = np.random.default_rng(0)
    low = (rng.standard_normal((9000, 8)) @ rng.standard_normal((8, 384))).astype(np.float32)
    few = measure(Search("few axes", low[:64], low, [[row] for row in range(64)]))
    assert few["same"]
    assert few["share"] < 0.5
    # 4,096 of the 9,000 documents are multiplied in full, the others along axes of which 8 hold everything
    in_full = 4096 / 9000
    assert in_full < few["torch_share"] < in_full + 0.15 * (1 - in_full)
    assert 0 < few["torch_share_of_pairs"] < 0.01
