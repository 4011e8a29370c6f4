"""The benchmark of rendered pages: what it compares with is right, and differences are told apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import pages
from benchmarks.images import NEGATIVES, SHARE, differences, mined_by_maxsim, mined_by_the_peer, names
from benchmarks.pages import SIZE, PageVectors, page


@pytest.fixture(
    params=[{"each": 1, "asking": 1, "dim": 32}, {"each": 6, "asking": 3, "dim": 16}], ids=["one", "several"]
)
def given(request, tmp_path):
    made = PageVectors(tmp_path / "vectors", 1000, count=60, **request.param)
    made.write()
    return made


def by_loops(given) -> list[list[str]]:
    """The best pages below the ceiling, by float64 over all pages."""
    rows = []
    for query, positive in enumerate(given.positives.tolist()):
        scores = given.scores(query, range(given.pages))
        ceiling = scores[positive] - abs(scores[positive]) * (1 - SHARE)
        order = [n for n in np.argsort(-scores, kind="stable").tolist() if n != positive and scores[n] < ceiling]
        rows.append(names(order[:NEGATIVES]))
    return rows


def test_the_other_ways_find_the_best_below_the_ceiling(given):
    wanted = by_loops(given)
    found = mined_by_the_peer(given) if given.each == 1 else mined_by_maxsim(given)
    counts = differences(given, wanted, found)
    assert counts["unexplained"] == 0 and counts["equal"] > 50
    plain = [names(np.argsort(-given.scores(query, range(given.pages)))[1:5]) for query in range(given.count)]
    assert plain != wanted  # ceilings exclude


def test_rows_that_differ_for_no_reason_are_unexplained(given):
    wanted = by_loops(given)
    wrong = [list(row) for row in wanted]
    wrong[7][0] = f"p{given.scores(7, range(given.pages)).argmin()}"
    wrong[9] = []
    assert differences(given, wanted, wrong) == {"equal": 58, "tie": 0, "threshold": 0, "short": 1, "unexplained": 1}


def test_pages_differ_and_are_read_back(monkeypatch, tmp_path):
    one, other = page(1, "Bees dance, “naïve” as they are."), page(2, "Bees dance, “naïve” as they are.")
    assert one != other and Image.open(io.BytesIO(one)).size == SIZE
    monkeypatch.setattr(pages, "_passages", lambda: ["one passage", "another passage"])
    files = pages.rendered(tmp_path, 1000)
    stamp = files[0].stat().st_mtime_ns
    assert pages.rendered(tmp_path, 1000) == files and files[0].stat().st_mtime_ns == stamp
