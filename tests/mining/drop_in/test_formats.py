"""The output formats do not depend on how many queries are made into rows at a time."""

from __future__ import annotations

import pytest

from hf_posmine.compat import mine_hard_negatives
from hf_posmine.mining.drop_in import formats
from tests.test_compat import FORMATS, a_dataset, plain


@pytest.mark.parametrize("output_format", FORMATS)
def test_chunks_join_to_the_same_rows(monkeypatch, output_format):
    pairs, documents, model = a_dataset(seed=21)
    pairs = pairs.add_column("number", list(range(len(pairs))))
    options = {
        "corpus": documents, "output_format": output_format, "output_scores": True, "keep_columns": True,
        "max_score": 0.5, "range_max": 12, "verbose": False,
    }  # fmt: skip
    whole = mine_hard_negatives(pairs, model, **options)
    monkeypatch.setattr(formats, "CHUNK_QUERIES", 2)
    assert plain(mine_hard_negatives(pairs, model, **options)) == plain(whole)
    assert len(whole)


@pytest.mark.parametrize("output_format", ["triplet", "n-tuple", "labeled-list"])
def test_a_result_without_rows_has_all_columns(output_format):
    pairs, documents, model = a_dataset(seed=21)
    pairs = pairs.add_column("number", list(range(len(pairs))))
    options = {"corpus": documents, "output_format": output_format, "max_score": -1.5, "verbose": False}
    some = mine_hard_negatives(pairs, model, keep_columns=True, **options | {"max_score": 0.5})
    none = mine_hard_negatives(pairs, model, keep_columns=True, **options)
    assert len(none) == 0
    assert none.features == some.features
