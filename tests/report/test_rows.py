"""Which columns are read, and from where."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.report import MinedRows
from tests.report.made import at_random, by_hand


def columns(**values):
    made = MinedRows.of(Dataset.from_dict({name: [value] for name, value in values.items()})).columns
    return made.query, made.positive, made.positive_is_text, made.answer


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"query": "q", "positive": "p", "negatives": ["n"]}, ("query", "positive", True, None)),
        ({"anchor": "q", "positive": ["p", "r"], "answer": "a", "negatives": ["n"]}, ("anchor", "positive", True, "answer")),
        ({"query": "q", "answer": "p", "negatives": ["n"]}, ("query", "answer", True, None)),
        ({"query": "q", "positive": "p", "answers": {"text": ["a"]}, "negatives": ["n"]}, ("query", "positive", True, "answers")),
        ({"query": "q", "positive_id": "7", "negatives": ["n"]}, ("query", "positive_id", False, None)),
        ({"title": "q", "body": "p", "negatives": ["n"]}, ("title", "body", True, None)),
    ],
)  # fmt: skip
def test_columns_are_found_by_name(values, wanted):
    assert columns(**values) == wanted


def test_columns_that_are_named_win():
    rows = Dataset.from_dict({"a": ["q"], "b": ["p"], "c": ["x"], "negatives": [["n"]]})
    made = MinedRows.of(rows, query_column="b", positive_column="a", answer_column="c").columns
    assert (made.query, made.positive, made.answer) == ("b", "a", "c")
    with pytest.raises(ColumnError, match="'z' is not in the dataset"):
        MinedRows.of(rows, positive_column="z")


def test_two_columns_that_could_be_the_positive_are_an_error():
    with pytest.raises(ColumnError, match=r"\['answer', 'document'\]"):
        columns(query="q", document="p", answer="a", negatives=["n"])


def test_no_negatives_and_no_rows_are_errors():
    with pytest.raises(ColumnError, match="before --format"):
        columns(query="q", positive="p", negative_1="n")
    with pytest.raises(InputError, match="no rows"):
        MinedRows.of(Dataset.from_dict({"query": [], "negatives": []}))


def test_batches_and_taken_rows_go_through_all_splits():
    one, two = at_random(700, 1), at_random(600, 2)
    made = MinedRows.of(DatasetDict(train=one, empty=at_random(0), test=two))
    queries = [*one["query"], *two["query"]]
    assert list(made.splits) == ["train", "test"] and len(made) == 1300
    assert [q for batch in made.batches(["query"]) for q in batch["query"]] == queries
    assert made.numbers(["positive_score"])["positive_score"].to_pylist() == [
        *one["positive_score"],
        *two["positive_score"],
    ]
    wanted = [0, 5, 699, 700, 1299]
    assert made.take(np.array(wanted), ["query"])["query"] == [queries[i] for i in wanted]
    assert made.split_numbers().tolist() == [0] * 700 + [1] * 600


@pytest.mark.parametrize("name", ["mined", "mined.parquet", "mined.jsonl", "shards"])
def test_whatever_mine_writes_is_loaded_with_its_record(tmp_path, name):
    from hf_posmine.cli.main import main
    from tests.conftest import SAMPLE

    path = tmp_path / name
    options = ["--streaming", "--shard-rows", "100"] if name == "shards" else []
    assert main(["mine", str(SAMPLE), "--teacher", "embedded", "--output", str(path), *options, "--quiet"]) == 0
    made = MinedRows.load(path)
    assert made.name == name and len(made) == 171
    assert made.record is not None and made.record.columns.query == "query"
    assert (made.columns.query, made.columns.positive) == ("query", "positive")


def test_rows_without_a_record_are_loaded_and_other_folders_refused(tmp_path):
    by_hand().save_to_disk(str(tmp_path / "mined"))
    assert MinedRows.load(tmp_path / "mined").record is None
    with pytest.raises(InputError, match="no such file or folder"):
        MinedRows.load(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no training rows"):
        MinedRows.load(tmp_path / "other")
    (tmp_path / "mined" / "provenance.json").write_text(json.dumps({"tool": "another"}))
    with pytest.raises(InputError, match="is not a record of a mining run"):
        MinedRows.load(tmp_path / "mined")


@pytest.mark.parametrize("layout", ["FlagEmbedding", "labelled lists", "n-tuples"])
def test_training_data_of_other_tools_is_read(layout, tmp_path):
    from tests.audit.planted import LAYOUTS, clean_rows

    rows = clean_rows(12)
    mined = MinedRows.load(LAYOUTS[layout](rows, tmp_path))
    (batch,) = mined.batches(["query", "positive", "negatives"])
    assert batch["query"] == [row.query for row in rows]
    assert batch["positive"] == [[row.positive] for row in rows]
    assert batch["negatives"] == [list(row.negatives) for row in rows]


def test_scores_of_other_tools_are_the_reports_scores(tmp_path):
    from tests.audit.planted import write_jsonl

    row = {"query": "q", "pos": ["p", "r"], "neg": ["n", "m"], "pos_scores": [0.75, 0.5], "neg_scores": [0.25, None]}
    mined = MinedRows.load(write_jsonl(tmp_path / "rows.jsonl", [row]))
    table = mined.numbers(["positive_score", "negatives_scores"])
    assert table["positive_score"].to_pylist() == [0.5]
    first, second = table["negatives_scores"].to_pylist()[0]
    assert first == 0.25 and np.isnan(second)
