"""The benchmark of audits runs to its end at a small size, and fits a line through the peaks."""

from __future__ import annotations

import pytest

from benchmarks import audit


@pytest.mark.parametrize("layout", ["mined rows", "FlagEmbedding"])
def test_each_layout_is_written_and_measured(layout, tmp_path):
    point = audit.measure(audit.write_rows(tmp_path, 250, layout))
    assert point["same_text"] == 3
    assert point["rows_per_cpu_second"] > 0 and point["peak_mib"] >= point["base_mib"]
    assert "250" in audit.table({"points": [{"rows": 250} | point]})


def test_the_slope_of_the_peaks():
    points = [{"rows": rows, "peak_mib": 100 + rows / 1e5} for rows in (100_000, 200_000, 400_000)]
    assert audit.slope(points) == {"mib_per_million_rows": 10.0, "mib_at_5_million": 150.0}
    assert audit.slope(points[:1]) is None
