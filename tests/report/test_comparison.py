"""Two minings matched by text and compared as sets, against loops with Python's sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError
from hf_posmine.report.comparison import compare, flat_places
from hf_posmine.report.side import read_side
from tests.report.made import at_random, mined


def side(rows, name="mined"):
    return read_side(mined(rows, name=name))


def remined(rows, seed):
    """The same rows with other negatives."""
    other = at_random(len(rows), seed)
    return rows.remove_columns(["negatives", "negatives_scores", "negatives_ranks"]).add_column(
        "negatives", other["negatives"]
    )


def jaccard(one, two):
    either = set(one) | set(two)
    return len(set(one) & set(two)) / len(either) if either else 1.0


def test_jaccard_is_that_of_pythons_sets_in_any_order_of_the_other():
    rows = at_random(300, 20)
    other = remined(rows, 21)
    order = np.random.default_rng(0).permutation(300)
    found = compare(side(rows), side(other.select(order)))
    pairs = [(row["query"], row["positive"]) for row in rows]
    unique = [i for i, pair in enumerate(pairs) if pairs.count(pair) == 1]
    assert len(unique) > 200 and found.matched == 300 and found.only_there == 0
    for i in unique:
        assert order[found.partners[i]] == i
        assert found.jaccard[i] == jaccard(rows[i]["negatives"], other[i]["negatives"])


def test_rows_of_the_same_texts_are_matched_in_their_order():
    rows = concatenate_datasets([at_random(20, 22)] * 3)
    found = compare(side(rows), side(rows))
    pairs = list(zip(rows["query"], rows["positive"], strict=True))
    assert sorted(found.partners.tolist()) == list(range(60))
    assert all(pairs[i] == pairs[partner] for i, partner in enumerate(found.partners.tolist()))
    assert found.partners.tolist() == list(range(60)) and len(found.changed) == 0


def test_rows_that_only_one_has_have_no_partner():
    rows = at_random(100, 23)
    found = compare(side(rows.select(range(80))), side(rows.select(range(10, 100))))
    assert found.matched >= 70 and found.only_there == 90 - found.matched
    assert np.isnan(found.jaccard[found.partners < 0]).all()


def test_other_data_is_refused_with_both_names_and_numbers():
    with pytest.raises(InputError, match=r"one \(30 rows\) and two \(40 rows\) have \d+ rows .* --positive-column"):
        compare(side(at_random(30, 24), "one"), side(at_random(40, 25), "two"))


def test_the_most_changed_rows_come_first():
    rows = at_random(100, 26)
    found = compare(side(rows), side(remined(rows, 27)))
    values = found.jaccard[found.changed].tolist()
    assert values == sorted(values) and all(value < 1 for value in values)
    assert len(values) == sum(not math.isnan(v) and v < 1 for v in found.jaccard.tolist())


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
def test_flat_places_are_the_places_of_the_rows_values(counts, data):
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8))
    wanted = [sum(counts[:row]) + i for row in rows for i in range(counts[row])]
    assert flat_places(np.array(counts, np.int64), np.array(rows, np.int64)).tolist() == wanted
