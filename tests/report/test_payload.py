"""The packed table unpacked again, the sample, and its limits."""

from __future__ import annotations

import hashlib

import numpy as np
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.report import TableLimits, make_report
from hf_posmine.report.sample import choose_rows
from tests.report.made import at_random, by_hand, mined, rows_of, table
from tests.report.test_comparison import remined


def test_every_row_comes_back_as_it_was():
    rows = at_random(60, 30)
    unpacked = rows_of(make_report(mined(rows)).html)
    assert [row["row"] for row in unpacked] == list(range(60))
    for made, row in zip(unpacked, rows, strict=True):
        assert (made["query"], made["positives"], made["negatives"]) == (
            row["query"],
            [row["positive"]],
            row["negatives"],
        )
        assert made["scores"] == [None if s is None else round(s, 4) for s in row["negatives_scores"]]
        assert made["ranks"] == row["negatives_ranks"]


def test_the_other_minings_negatives_come_along():
    rows = at_random(50, 31)
    other = remined(rows, 32)
    html = make_report(mined(rows, name="one"), mined(other.select(range(5, 50)), name="two")).html
    held = {}
    for row in other.select(range(5, 50)):
        held.setdefault((row["query"], row["positive"]), []).append(row["negatives"])
    columns, _ = table(html)
    for made, overlap in zip(rows_of(html), columns["jaccard"], strict=True):
        theirs = held.get((made["query"], *made["positives"]), [])
        assert made["other"] in (theirs if overlap is not None else [[]])
    assert sum(overlap is not None for overlap in columns["jaccard"]) >= 45


def test_rows_are_numbered_in_their_split():
    columns, _ = table(make_report(mined(DatasetDict(a=at_random(3, 1), b=at_random(4, 2)))).html)
    assert (columns["row"], columns["split"], columns["at"]) == (
        [0, 1, 2, 0, 1, 2, 3],
        [0] * 3 + [1] * 4,
        list(range(7)),
    )


def test_every_text_is_held_once():
    _, texts = table(make_report(mined(at_random(100, 33))).html)
    assert len(texts) == len(set(texts))


def test_a_sample_has_the_suspects_and_is_the_same_for_the_same_rows():
    rows = at_random(3000, 34)
    report = make_report(mined(rows), limits=TableLimits(rows=2500))
    assert (report.rows, report.shown) == (3000, 2500)
    first = {(row["query"], tuple(row["negatives"])) for row in rows_of(report.html)}
    again = {
        (row["query"], tuple(row["negatives"]))
        for row in rows_of(make_report(mined(rows), limits=TableLimits(rows=2500)).html)
    }
    assert first == again
    few = make_report(mined(rows), limits=TableLimits(rows=1))
    assert few.shown > 1 and "The table holds" in few.html
    columns, _ = table(few.html)
    assert all(columns["flags"])  # only suspects were taken


def test_the_limit_of_size_takes_fewer_rows(monkeypatch):
    monkeypatch.setattr("hf_posmine.report.payload.BLOCK_ROWS", 100)
    monkeypatch.setattr("hf_posmine.report.text_table.LINE_TEXTS", 50)
    texts = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(3000)]  # nothing to compress but the alphabet
    rows = Dataset.from_dict({"query": texts, "positive": texts, "negatives": [[text] for text in texts]})
    report = make_report(mined(rows), limits=TableLimits(megabytes=0.03))
    assert 300 <= report.shown < 1500 and len(report.html) < 1_000_000
    assert [row["query"] for row in rows_of(report.html)] == [texts[row["row"]] for row in rows_of(report.html)]


def test_long_texts_are_cut_and_counted():
    html = make_report(mined(by_hand()), limits=TableLimits(characters=15)).html
    _, texts = table(html)
    assert max(map(len, texts)) <= 17 and "Mars is red." in texts and "Paris is the ca …" in texts
    assert "texts are cut after 15 characters" in html


@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=30, unique=True), st.data())
def test_chosen_rows_are_all_that_must_be_then_others_in_the_order_of_their_texts(keys, data):
    must = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=5))
    most = data.draw(st.integers(1, 30))
    sample = choose_rows([np.array(must, np.int64)], np.array(keys, np.uint64), most)
    chosen = sample.order.tolist()
    assert sample.least == len(set(must))
    assert chosen[: len(set(must))] == sorted(set(must))
    rest = chosen[len(set(must)) :]
    others = sorted(set(range(len(keys))) - set(must), key=lambda row: keys[row])
    assert rest == others[: max(0, most - len(set(must)))]
