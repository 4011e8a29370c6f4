"""The benchmark of the search on a GPU runs to its end on a CPU, and finds what a float64 product finds."""

from __future__ import annotations

import json

import pytest

from benchmarks import search_gpu

SIZES = ["--device", "cpu", "--queries", "70", "--documents", "3000", "--dim", "16", "--batch", "40", "--sigmas", "2.5"]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_it_runs_on_a_cpu_and_says_that_this_is_none(tmp_path, dtype):
    search_gpu.main([*SIZES, "--dtype", dtype, "--output", str(tmp_path)])
    said = json.loads((tmp_path / "search_gpu.json").read_text())
    assert said["result"]["multiply_adds"] == (1 if dtype == "float16" else 4)  # codes are padded to 64 numbers
    assert said["arguments"]["documents"] == 3000
    assert said["result"]["certain_share"] > 0.9
    assert said["result"]["above_per_query"] > 1
    assert said["along_axes"] is None
    assert "nothing about a GPU" in (tmp_path / "search_gpu.md").read_text()


def test_bounds_along_axes_are_measured_beside_it_and_find_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_posmine.search.scan_torch.LEARN", 256)
    search_gpu.main(
        [*SIZES, "--sigmas", "1.2", "--decay", "1", "--axes", "8", "--pair", "0", "--output", str(tmp_path)]
    )
    said = json.loads((tmp_path / "search_gpu.json").read_text())
    plain, along = said["result"], said["along_axes"]
    assert along["certain_share"] > 0.9
    assert plain["multiply_adds"] == 1
    looked_at = 256 + 256 + 238  # of each part behind the first, every so many documents
    assert along["multiply_adds"] == pytest.approx((256 + (2744 + looked_at) / 2 + along["pairs_per_query"]) / 3000)
    assert 0 < along["pairs_per_query"] < 1000
    assert abs(along["above_per_query"] - plain["above_per_query"]) < 0.5 < plain["above_per_query"]
    assert "along axes" in (tmp_path / "search_gpu.md").read_text()
