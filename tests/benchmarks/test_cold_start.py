"""The benchmark of a cold start runs every contender in a process of its own, without a compiler for ours."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from benchmarks import cold_start


def test_pairs_are_drawn_by_seed_and_each_contender_reads_them(tmp_path):
    pairs = [tmp_path / name for name in ("one.parquet", "two.parquet")]
    for path in pairs:
        cold_start.write_pairs(path, 9, "sample")
    one, two = map(pq.read_table, pairs)
    assert one.equals(two)
    assert len(set(one["query"].to_pylist())) == 9
    assert all(one["positive"].to_pylist())
    made = cold_start.commands(pairs[0], tmp_path / "out")
    assert all(str(pairs[0]) in made[name] for name in ("peer", "ours"))


def test_the_ratio_is_that_of_medians_and_a_missed_target_is_shown():
    runs = [
        {"name": name, "cpu": cpu, "compiled": name == "ours"}
        for name, times in {"peer": (9.0, 10.0), "ours": (7.0, 8.0), "demo": (3.0, 4.0)}.items()
        for cpu in times
    ]
    about = {
        "cpu": "A processor",
        "int8_instructions": [],
        "cores": 2,
        "python": "3",
        "packages": {},
        "git_commit": "c",
        "source_digest": "d",
        "time": "t",
    }
    found = {
        "machine": about, "runs": runs, "ratio": 0.79, "cpu_seconds": {"peer": 9.5, "ours": 7.5, "demo": 3.5},
        "arguments": {"pairs": 5, "texts": "sample", "repeat": 2},
    }  # fmt: skip
    lines = cold_start.report(found).splitlines()
    last = [line.split("|")[-2].strip() for line in lines if line.startswith(("| ours", "| demo"))]
    assert last == ["yes", "no", "NO", "yes"]
    assert "A processor (no int8 instructions)" in lines[2]


@pytest.mark.matrix
def test_it_compares_fresh_processes_and_none_of_ours_compiles(tmp_path):
    cold_start.main(["--texts", "sample", "--pairs", "12", "--repeat", "1", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "cold_start.json").read_text())
    assert [run["name"] for run in found["runs"]] == ["peer", "ours", "demo"]
    assert all(run["cpu"] > 0 for run in found["runs"])
    assert not any(run["compiled"] for run in found["runs"])
    assert found["ratio"] == round(found["runs"][1]["cpu"] / found["runs"][0]["cpu"], 3)
    text = (tmp_path / "cold_start.md").read_text()
    assert found["machine"]["cpu"] in text
    assert "| ours / peer" in text
