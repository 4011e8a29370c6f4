"""Rows without a query or a positive: counted and named, or left out; what a corpus may be given as."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from hf_posmine import Corpus, PositiveAwareMiner, Qrels, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import ColumnError, InputError, PromptedTextWarning
from hf_posmine.mining.batch import EXCLUSION_REASONS
from hf_posmine.mining.summary import MiningSummary
from hf_posmine.teachers.bm25 import BM25Teacher

disable_progress_bars()
TOWNS = "Oslo Lima Accra Quito Hanoi Tunis Minsk Sofia".split()
GOOD = [{"question": f"which river is in {town}", "answer": f"{town} has the river {town[::-1]}"} for town in TOWNS]
DOCUMENTS = [row["answer"] for row in GOOD] + ["no river at all"]


def rows(**changed) -> list[dict]:
    """Good rows, some with another value: ``question_2=None``."""
    made = [dict(row) for row in GOOD]
    for name, value in changed.items():
        column, number = name.rsplit("_", 1)
        made[int(number)][column] = value
    return made


BAD = {
    "a missing query": ({"question_2": None}, r"1 with an empty query \(row 2\)"),
    "blank queries": ({"question_0": "\t", "question_5": ""}, r"2 with an empty query \(rows 0, 5\)"),
    "a missing positive": ({"answer_7": None}, r"1 with no positive \(row 7\)"),
    "an empty positive": ({"answer_1": "\n "}, r"1 with an empty positive \(row 1\)"),
    "many": (
        {f"answer_{n}": None for n in range(5)} | {"question_6": " "},
        r"6 rows cannot be mined, 5 with no positive \(rows 0, 1, 2, ...\), 1 with an empty query \(row 6\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_counted_and_named_or_left_out(case):
    changed, message = BAD[case]
    with pytest.raises(ColumnError, match=message) as caught:
        PositiveAwareMiner.from_dataset(rows(**changed), "bm25")
    assert "skip_bad_rows=True" in str(caught.value) and "\n" not in str(caught.value)
    miner = PositiveAwareMiner.from_dataset(rows(**changed), "bm25", skip_bad_rows=True, num_negatives=2)
    whole = [row for n, row in enumerate(GOOD) if not {f"question_{n}", f"answer_{n}"} & set(changed)]
    sound = PositiveAwareMiner.from_dataset(whole, "bm25", num_negatives=2)
    expected = mine(whole, sound)[:]
    assert mine(rows(**changed), miner)[:] == expected
    assert miner.num_bad_rows == len(GOOD) - len(whole) == sum(miner.data.to_dict()["bad_rows"].values())
    assert "rows left out: " in str(miner.data)


@pytest.mark.parametrize("form", [None, "arrow", "pandas"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_any_batch_of_any_format_leaves_bad_rows_out(form, batch_size):
    data = Dataset.from_list(rows(question_3="", answer_4=None))
    miner = PositiveAwareMiner.from_dataset(data, "bm25", skip_bad_rows=True)
    mined = data.with_format(form).map(miner, batched=True, batch_size=batch_size).with_format(None)
    assert mined["question"][:] == [row["question"] for n, row in enumerate(GOOD) if n not in (3, 4)]


def test_lists_with_nothing_in_them_are_bad_and_types_keep_their_row():
    lists = Dataset.from_dict({"question": list("abcd"), "positives": [["p"], [], ["r", ""], None]})
    with pytest.raises(ColumnError, match=r"2 with no positive \(rows 1, 3\), 1 with an empty positive \(row 2\)"):
        Qrels.from_dataset(lists, "question", "positives")
    assert Qrels.from_dataset(lists, "question", "positives", skip_bad_rows=True).num_judgements == 1
    numbers = Dataset.from_dict({"question": ["", "b", "c"], "id": [7, 8, None]})
    assert Qrels.from_dataset(numbers, "question", None, "id", skip_bad_rows=True).num_judgements == 1


def test_queries_without_judged_positives_are_left_out():
    corpus = Corpus.from_texts(DOCUMENTS)
    known = Qrels.from_columns(["which town", "which sea"], [DOCUMENTS[0], DOCUMENTS[1]])
    options = {"corpus": corpus, "teachers": BM25Teacher(corpus), "known_positives": known}
    asked = Dataset.from_dict({"query": ["which town", "which moon", None, "which sea"]})
    mined = mine(asked, PositiveAwareMiner(skip_bad_rows=True, **options))
    assert mined["query"][:] == ["which town", "which sea"]


@pytest.mark.parametrize("ids", [False, True], ids=["texts", "ids"])
def test_the_command_line_counts_and_records_them(ids, tmp_path, capsys):
    made = rows(question_2=" ", answer_5=None)
    with (tmp_path / "docs.jsonl").open("w") as file:
        file.writelines(json.dumps({"doc_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(DOCUMENTS))
    if ids:
        for n, row in enumerate(made):
            row["positive_id"] = f"d{n}" if row.pop("answer") is not None else None
    with (tmp_path / "mine.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)
    command = [
        "mine",
        str(tmp_path / "mine.jsonl"),
        "--offline",
        "--teacher",
        "bm25",
        "--output",
        str(tmp_path / "out"),
    ]
    command += ["--corpus", str(tmp_path / "docs.jsonl"), *(["--positive-id-column", "positive_id"] if ids else [])]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "2 rows cannot be mined" in error and error.strip().endswith("leave them out with --skip-bad-rows")
    assert main([*command, "--skip-bad-rows"]) == 0
    printed = capsys.readouterr().out
    assert "rows left out: 1 with an empty query, 1 with no positive" in printed
    assert "rows left out, without a query or a positive" in printed
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["data"]["bad_rows"] == {"an empty query": 1, "no positive": 1}
    assert record["summary"]["bad_rows"] == 2 and record["summary"]["rows"] == 6
    assert record["settings"]["skip_bad_rows"] is True


def test_lines_of_json_are_utf_8(tmp_path):
    town = "Øster Løgum, 東京 and \u2019"
    Dataset.from_list([*GOOD, {"question": f"wo ist {town}", "answer": f"{town} im Süden"}]).to_parquet(
        tmp_path / "a.parquet"
    )
    out = tmp_path / "mined.jsonl"
    assert main(["mine", str(tmp_path / "a.parquet"), "--offline", "--teacher", "bm25", "--output", str(out)]) == 0
    assert town in out.read_text(encoding="utf-8") and "\\u" not in out.read_text(encoding="utf-8")


FORMS = {
    "a list": lambda folder: DOCUMENTS,
    "an array": lambda folder: np.array(DOCUMENTS, object),
    "an Arrow array": lambda folder: pa.chunked_array([DOCUMENTS]),
    "a series": lambda folder: pd.Series(DOCUMENTS),
    "a column": lambda folder: Dataset.from_dict({"x": DOCUMENTS})["x"],
    "a dataset": lambda folder: Dataset.from_dict({"passage": DOCUMENTS}),
    "splits": lambda folder: DatasetDict(a=Dataset.from_dict({"body": DOCUMENTS})),
    "a stream": lambda folder: Dataset.from_dict({"text": DOCUMENTS}).to_iterable_dataset(),
    "a DataFrame": lambda folder: pd.DataFrame({"contents": DOCUMENTS}),
    "a list of dicts": lambda folder: [{"pid": n, "text": text} for n, text in enumerate(DOCUMENTS)],
    "a path": lambda folder: written(folder / "docs.parquet"),
    "a name of a file": lambda folder: str(written(folder / "docs.parquet")),
    "a pattern": lambda folder: str(written(folder / "docs.parquet").parent / "d*.parquet"),
}


def written(path):
    Dataset.from_dict({"text": DOCUMENTS}).to_parquet(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_corpus_is_given_in_any_form(form, tmp_path):
    miner = PositiveAwareMiner.from_dataset(GOOD, "bm25", corpus=FORMS[form](tmp_path), num_negatives=1)
    assert miner.corpus.texts(np.arange(len(miner.corpus))).to_pylist() == DOCUMENTS


@pytest.mark.parametrize(
    "wrong", [7, b"text", {"a": 1}, {"a", "b"}, object()], ids=["number", "bytes", "dict", "set", "object"]
)
def test_what_holds_no_documents_is_one_line(wrong):
    with pytest.raises(InputError, match=r"^corpus=\w+; pass a Corpus, a list of texts"):
        PositiveAwareMiner.from_dataset(GOOD, "bm25", corpus=wrong)


@pytest.mark.parametrize("as_form", [pd.DataFrame, list, Dataset.from_list], ids=["DataFrame", "dicts", "Dataset"])
def test_what_is_mined_is_given_in_any_form(as_form):
    miner = PositiveAwareMiner.from_dataset(GOOD, "bm25", num_negatives=1)
    assert mine(as_form(GOOD), miner)[:] == Dataset.from_list(GOOD).map(miner, batched=True)[:]


@pytest.mark.parametrize("role", ["query", "document"])
def test_texts_with_the_prompt_of_the_model_are_counted(role):
    column = {"query": "question", "document": "answer"}[role]
    prompted = [row | {column: f"Find: {row[column]}"} if n in (1, 6) else row for n, row in enumerate(GOOD)]
    options = {"teacher_options": {f"{role}_prompt": "Find: "}}
    with pytest.warns(PromptedTextWarning, match=rf"2 of 8 \w+ \(unique ones, number 1, 6\).*'Find:'.*{role}_prompt="):
        PositiveAwareMiner.from_dataset(prompted, "embedded", **options).prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptedTextWarning)
        PositiveAwareMiner.from_dataset(GOOD, "embedded", **options).prepare()
        PositiveAwareMiner.from_dataset(prompted, "embedded").prepare()


def test_a_summary_has_words_for_every_reason():
    counts = dict.fromkeys(EXCLUSION_REASONS, 3)
    assert str(MiningSummary(1, 1, 1, 0, 0, excluded=counts)).count("excluded: ") == len(EXCLUSION_REASONS)
