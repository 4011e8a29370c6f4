"""Rows of other layouts as mined rows, for the report and the judge; mined rows stay what they are."""

from __future__ import annotations

import argparse

import pytest
from datasets import Dataset, DatasetDict

from hf_posmine.audit.grouping import as_mined
from hf_posmine.cli.judge import _mined
from hf_posmine.data import open_training_data
from hf_posmine.data.training_sources import is_mined
from tests.audit.planted import LAYOUTS, clean_rows, write_jsonl

ROWS = clean_rows(5)


def judged(path) -> Dataset:
    return _mined(argparse.Namespace(data=str(path), query_column=None, positive_column=None))


@pytest.mark.parametrize("layout", ["FlagEmbedding", "Tevatron", "n-tuples"])
def test_the_judge_reads_other_layouts(layout, tmp_path, capsys):
    rows = judged(LAYOUTS[layout](ROWS, tmp_path))
    assert f"Read as {layout}" in capsys.readouterr().out
    assert rows["query"][:] == [row.query for row in ROWS]
    assert rows["negatives"][:] == [list(row.negatives) for row in ROWS]


def test_mined_rows_keep_their_columns_wherever_they_are(tmp_path):
    rows = Dataset.from_list(
        [{"query": "q", "positive": "p", "negatives": None}, {"query": "r", "positive": "o", "negatives": ["n"]}]
    )
    rows = rows.add_column("extra", [1, 2])
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    rows.save_to_disk(str(tmp_path / "saved"))
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "splits"))
    for name in ("rows.parquet", "saved", "splits"):
        assert is_mined(tmp_path / name), name
        assert judged(tmp_path / name)["extra"][:] == [1, 2]
    assert not is_mined(write_jsonl(tmp_path / "flag.jsonl", [{"query": "q", "pos": ["p"], "neg": ["n"]}]))
    assert not is_mined(write_jsonl(tmp_path / "triplets.jsonl", [{"query": "q", "positive": "p", "negatives": "n"}]))


def test_rows_with_a_document_each_are_joined_by_query(tmp_path):
    rows = [{"query": f"q{n // 3}", "document": f"text {n}", "label": int(n % 3 == 0)} for n in range(6)]
    made = as_mined(open_training_data(write_jsonl(tmp_path / "pairs.jsonl", rows)))
    assert made[:]["positive"] == [["text 0"], ["text 3"]]
    assert made[:]["negatives"] == [["text 1", "text 2"], ["text 4", "text 5"]]
