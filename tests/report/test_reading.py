"""What the pass over the texts finds, against loops over the rows."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_posmine.report.reading import read_texts
from tests.report.made import at_random, by_hand, mined


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr("hf_posmine.report.rows.BATCH_ROWS", 7)


def test_keys_are_equal_where_texts_are():
    rows = at_random(50, 6)
    texts = read_texts(mined(rows))
    flat = [text for row in rows for text in row["negatives"]]
    assert (texts.negatives[:, None] == texts.negatives[None]).tolist() == [[a == b for b in flat] for a in flat]
    pairs = list(zip(rows["query"], rows["positive"], strict=True))
    assert (texts.pairs[:, None] == texts.pairs[None]).tolist() == [[a == b for b in pairs] for a in pairs]


def test_labelled_negatives_are_positives_of_a_row_with_the_same_query():
    rows = at_random(200, 7)
    texts = read_texts(mined(rows))
    known = {(row["query"], row["positive"]) for row in rows}
    wanted = [(row["query"], text) in known for row in rows for text in row["negatives"]]
    assert any(wanted) and texts.labelled().tolist() == wanted


def test_repeated_negatives_are_counted_per_row():
    rows = at_random(1000, 8)
    wanted = sum(len(row["negatives"]) - len(set(row["negatives"])) for row in rows)
    assert wanted > 0 and read_texts(mined(rows)).repeated() == wanted


def test_the_likest_negative_of_a_row():
    rows = at_random(120, 9)
    texts = read_texts(mined(rows))
    for i, row in enumerate(rows):
        wanted = set(row["positive"].split())
        values = [len(wanted & set(t.split())) / len(wanted | set(t.split())) for t in row["negatives"]]
        assert texts.likeness[i] == pytest.approx(max(values, default=0.0))
        assert not values or values[texts.most_similar[i]] == max(values)


def test_answers_in_negatives_and_in_positives():
    rows = at_random(120, 10)
    texts = read_texts(mined(rows))
    wanted = [row["answers"][0] in text.split() for row in rows for text in row["negatives"]]
    assert any(wanted) and texts.answers.tolist() == wanted
    assert texts.answered.tolist() == [row["answers"][0] in row["positive"].split() for row in rows]


def test_several_positives_each_count():
    rows = Dataset.from_dict({
        "query": ["a", "a"], "positive": [["one two", "three four"], ["five six"]], "negatives": [["four three"], ["one two"]],
    })  # fmt: skip
    texts = read_texts(mined(rows))
    assert texts.likeness.tolist() == [1.0, 0.0]
    assert texts.labelled().tolist() == [False, True]


def test_without_texts_of_positives_nothing_is_compared():
    rows = Dataset.from_dict({"query": ["a"], "positive_id": ["7"], "negatives": [["x"]]})
    texts = read_texts(mined(rows))
    assert texts.likeness is None and texts.answers is None and texts.labelled().tolist() == [False]


def test_missing_values_are_empty_texts():
    rows = Dataset.from_dict({"query": ["a", None], "positive": ["b", None], "negatives": [["x", None], None]})
    texts = read_texts(mined(rows))
    assert texts.counts.tolist() == [2, 0] and texts.positive_counts.tolist() == [1, 0]


def test_the_hand_made_rows():
    texts = read_texts(mined(by_hand()))
    assert texts.labelled().tolist() == [False, True, *[False] * 7]
    assert texts.answers.tolist() == [False, True, True, *[False] * 6]
    assert texts.likeness[1] == 1.0 and texts.most_similar[1] == 0
