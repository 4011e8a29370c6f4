"""The benchmark of the search on a GPU runs to its end on a CPU, and finds what a float64 product finds."""

from __future__ import annotations

import json

from benchmarks import search_gpu


def test_it_runs_on_a_cpu_and_says_that_this_is_none(tmp_path):
    sizes = ["--queries", "70", "--documents", "3000", "--dim", "16", "--batch", "40", "--sigmas", "2.5"]
    search_gpu.main(["--device", "cpu", *sizes, "--output", str(tmp_path)])
    said = json.loads((tmp_path / "search_gpu.json").read_text())
    assert said["arguments"]["documents"] == 3000
    assert said["result"]["certain_share"] > 0.9
    assert said["result"]["above_per_query"] > 1
    assert "nothing about a GPU" in (tmp_path / "search_gpu.md").read_text()
