"""Runs that somebody else made: TREC files and the documents/queries/scores layout, and what lies below their depth."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, MarginPos, MaxScore, MiningSummary, PercPos, PositiveAwareMiner, Qrels, SkipTop
from hf_posmine.core.errors import InputError, ShortRowError
from hf_posmine.teachers import RunTeacher

disable_progress_bars()
QUERIES = {"1": "first", "2": "second", "3": "third"}
LINES = """\
1 Q0 A 1 9.0 tag
1 Q0 C 2 4.5 tag
1 Q0 B 3 7.0 tag

2 Q0 D 1 3.0 tag
2\tQ0\tE\t2\t2.0\ttag
3 Q0 A 1 -1.0 tag
"""
ROWS = {"query": ["first", "second", "third"], "positive": ["a", "c", "a"]}


@pytest.fixture
def corpus():
    return Corpus.from_texts([*"abcdefgh"], ids=[*"ABCDEFGH"])


@pytest.fixture
def teacher(corpus, tmp_path):
    (tmp_path / "bm25.trec").write_text(LINES)
    return RunTeacher.from_trec(tmp_path / "bm25.trec", corpus, QUERIES)


def mined(teacher, rows=ROWS, **options):
    known = Qrels.from_columns(ROWS["query"], ROWS["positive"])
    options = {"num_negatives": 2, "keep": ("scores", "ranks", "stats"), "positive_column": "positive"} | options
    miner = PositiveAwareMiner(
        corpus=teacher.corpus, teachers=teacher, known_positives=known, **{"filters": (), **options}
    )
    return Dataset.from_dict(rows).map(miner, batched=True)


def test_the_score_decides_and_the_rank_is_not_read(teacher):
    assert (teacher.name, teacher.score_kind) == ("bm25", "bm25")
    found = teacher.search([*QUERIES.values()], 4)
    assert found.doc_ids.tolist() == [[0, 1, 2, -1], [3, 4, -1, -1], [0, -1, -1, -1]]
    assert found.scores[0].tolist() == [9, 7, 4.5, -np.inf]
    assert teacher.score(["second"], np.array([[4, 0, -1]])).tolist() == [[2, -np.inf, -np.inf]]


def test_both_layouts_are_the_same_teacher(teacher, corpus):
    scores = Dataset.from_dict(
        {
            "query_id": [2, 1, 3],
            "document_ids": [["D", "E"], ["C", "A", "B"], ["A"]],
            "scores": [[3, 2.0], [4.5, 9, 7], [-1]],
        }
    )
    assert RunTeacher.from_scores(scores, corpus, QUERIES).fingerprint == teacher.fingerprint


def test_a_positive_in_the_run_sets_the_ceiling(teacher):
    rows = mined(teacher, filters=PercPos(0.75))
    assert rows["negatives"][0] == ["c"] and rows["negatives_stats"][0]["num_above_ceiling"] == 1
    assert rows["positive_score"][0] == 9


@pytest.mark.parametrize("filters", [PercPos(1.0), PercPos(1.5), MarginPos(0)], ids=str)
def test_a_positive_below_the_run_is_outranked_by_all_of_it(teacher, filters):
    row = mined(teacher, filters=filters)[1]
    assert (
        row["negatives"] == [] and row["positive_score"] is None and row["negatives_stats"]["reference_score"] is None
    )
    assert row["negatives_stats"]["num_above_ceiling"] == 2
    with pytest.raises(ShortRowError, match="row 1"):
        mined(teacher, rows={n: v[:2] for n, v in ROWS.items()}, filters=filters, on_short="raise", num_negatives=1)


def test_methods_without_the_positive_s_score_do_not_need_it(teacher):
    assert mined(teacher)["negatives"][:] == [["b", "c"], ["d", "e"], []]
    assert mined(teacher, filters=SkipTop(1))["negatives"][:] == [["c"], ["e"], []]
    assert mined(teacher, filters=MaxScore(2.5))["negatives"][:] == [[], ["e"], []]


def test_random_fills_come_from_below_the_run_and_have_no_score(teacher):
    row = mined(teacher, num_negatives=4, on_short="random")[1]
    assert row["negatives"][:2] == ["d", "e"] and row["num_random"] == 2
    assert row["negatives_scores"][:2] == [3, 2]
    assert [s for s in row["negatives_scores"][2:] if s is not None] == []


def test_the_summary_leaves_out_what_the_run_does_not_hold(teacher):
    summary = MiningSummary.from_dataset(mined(teacher))
    assert summary.quantiles["positive"]["0.5"] == 4.0  # of 9 and -1
    assert np.isfinite(list(summary.quantiles["positive - negative"].values())).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 Q0 A 1 9.0", r"bad.trec:2: '1 Q0 A 1 9.0' is not a line of a TREC run"),
        ("1 Q0 A 1 nine tag", "is not a line of a TREC run"),
        ("7 Q0 A 1 9 tag", "names the query '7'"),
        ("1 Q0 Z 1 9 tag", "no document with id 'Z'"),
        ("1 Q0 A 1 nan tag", "score of 'A' for '1' is nan"),
        ("1 Q0 B 1 3 tag", "has document 'B' .* twice for one query"),
    ],
)
def test_a_bad_line_is_named(line, message, corpus, tmp_path):
    (tmp_path / "bad.trec").write_text(f"1 Q0 B 1 9 tag\n{line}\n")
    with pytest.raises(InputError, match=message):
        RunTeacher.from_trec(tmp_path / "bad.trec", corpus, QUERIES)


def test_an_empty_run_and_an_unknown_query_are_named(teacher, corpus):
    with pytest.raises(InputError, match="the run is empty"):
        RunTeacher(corpus, QUERIES, [])
    with pytest.raises(InputError, match="1 queries are not in the run 'bm25', such as 'fourth'"):
        teacher.search(["fourth"], 1)
