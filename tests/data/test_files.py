"""Files and folders as they come: what is read of each, or the one line that names the file and what is wrong."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from pyarrow.feather import write_feather

from hf_posmine import Corpus, Qrels
from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import check_texts, column_names, iter_columns
from hf_posmine.data.sources import beir_pairs, is_beir, judged_splits, load_source
from hf_posmine.data.tables import load_files
from hf_posmine.evaluation import load_collection
from hf_posmine.training.dataset_rows import load_rows
from hf_posmine.training.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"query": "who wrote “Emma”?", "answer": "Jane Austen"}, {"query": "who wrote Faust", "answer": "Goethe"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'query,answer\n"who wrote “Emma”?",Jane Austen\nwho wrote Faust,Goethe\n'


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, rows: list[dict] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def arrow(path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink:
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def feather(path: Path, **how: str) -> Path:
    write_feather(pa.Table.from_pylist(ROWS), path, **how)
    return path


READ = {
    "feather": lambda t: feather(t / "a.feather", compression="lz4"),
    "arrow as a file": lambda t: feather(t / "a.arrow", compression="uncompressed"),
    "parquet": lambda t: parquet(t / "a.parquet"),
    "arrow": lambda t: arrow(t / "a.arrow"),
    "jsonl": lambda t: write(t / "a.jsonl", LINES),
    "ndjson": lambda t: write(t / "a.ndjson", LINES),
    "json lines": lambda t: write(t / "a.json", LINES),
    "a json array": lambda t: write(t / "a.json", json.dumps(ROWS)),
    "csv": lambda t: write(t / "a.csv", CSV),
    "csv of Excel, with a byte order mark": lambda t: write(t / "a.csv", b"\xef\xbb\xbf" + CSV.encode()),
    "csv with Windows' line ends": lambda t: write(t / "a.csv", CSV.replace("\n", "\r\n")),
    "tsv": lambda t: write(t / "a.tsv", CSV.replace(",", "\t")),
    "capitals": lambda t: write(t / "A.JSONL", LINES),
    "csv.gz": lambda t: write(t / "a.csv.gz", gzip.compress(CSV.encode())),
    "jsonl.gz": lambda t: write(t / "a.jsonl.gz", gzip.compress(LINES.encode())),
    "a name like a pattern": lambda t: write(t / "part?.jsonl", LINES) if write(t / "part1.jsonl", "{}\n") else t,
    "a name with brackets": lambda t: write(t / "part[1].jsonl", LINES) if write(t / "part1.jsonl", "{}\n") else t,
    "a pattern": lambda t: (parquet(t / "x-2.parquet", ROWS[1:]), parquet(t / "x-1.parquet", ROWS[:1]))[0].with_name("x-*.parquet"),
    "a folder of files": lambda t: (parquet(t / "f" / "1.parquet", ROWS[:1]), parquet(t / "f" / "2.parquet", ROWS[1:]))[0].parent,
    "a folder with splits": lambda t: (parquet(t / "f" / "train.parquet"), parquet(t / "f" / "test.parquet", ROWS[:1]))[0].parent,
    "a folder as on the Hub": lambda t: (
        parquet(t / "f" / "data" / "train-00000-of-00001.parquet"),
        parquet(t / "f" / "data" / "test-00000-of-00001.parquet", ROWS[:1]),
    )[0].parent.parent,
    "a saved dataset": lambda t: Dataset.from_list(ROWS).save_to_disk(t / "s") or t / "s",
    "a saved dict": lambda t: DatasetDict(train=Dataset.from_list(ROWS)).save_to_disk(t / "s") or t / "s",
}  # fmt: skip


@pytest.mark.parametrize("make", READ.values(), ids=READ)
def test_what_is_read(make, tmp_path):
    assert load_source(make(tmp_path)).to_list() == ROWS


@pytest.mark.parametrize("make", READ.values(), ids=READ)
def test_streams_and_data_sets_of_a_blend_are_read_alike(make, tmp_path):
    source = make(tmp_path)
    assert list(load_source(source, streaming=True)) == ROWS
    assert load_rows(DatasetSpec("MINE", str(source), "retrieval", instruction="")).to_list() == ROWS


def test_cells_are_texts_as_they_are_written(tmp_path):
    cells = ["null", "NA", "nan", "123", "007", "", "1e5", "True", "None", "-"]
    rows = load_files(write(tmp_path / "a.csv", "id,text\n" + "".join(f"{c},{c}\n" for c in cells)))
    assert rows["id"][:] == rows["text"][:] == cells


def test_scores_and_labels_of_csv_are_numbers_where_all_are(tmp_path):
    rows = load_files(write(tmp_path / "a.csv", "score,label\n1,yes\n0.5,no\n"))
    assert rows["score"][:] == [1.0, 0.5] and rows["label"][:] == ["yes", "no"]


ERRORS = {
    "no such file": (lambda t: t / "a.jsonl", "'.*a.jsonl' does not exist"),
    "a pattern of nothing": (lambda t: t / "*.jsonl", r"no file matches '.*\*\.jsonl'"),
    "an empty csv": (lambda t: write(t / "a.csv", ""), "'.*a.csv' is empty"),
    "an empty jsonl": (lambda t: write(t / "a.jsonl", ""), "'.*a.jsonl' is empty"),
    "an empty parquet": (lambda t: write(t / "a.parquet", ""), "'.*a.parquet' is empty"),
    "a header alone": (
        lambda t: write(t / "a.csv", "query,answer\n"),
        "a.csv' has no rows, only the columns query,answer",
    ),
    "UTF-16": (lambda t: write(t / "a.csv", CSV.encode("utf-16")), "a.csv' is UTF-16; save it as UTF-8"),
    "UTF-16 lines": (lambda t: write(t / "a.jsonl", LINES.encode("utf-16")), "a.jsonl' is UTF-16"),
    "Latin-1": (
        lambda t: write(t / "a.csv", "query,answer\nwo,Köln\n".encode("latin-1")),
        r"a.csv' is not UTF-8 in line 2 \(as Latin-1 it reads '.*Köln",
    ),
    "a header in Latin-1": (lambda t: write(t / "a.csv", "größe,b\n1,2\n".encode("latin-1")), "not UTF-8 in line 1"),
    "Latin-1 lines": (
        lambda t: write(t / "a.jsonl", '{"a": "x"}\n{"a": "Köln"}\n'.encode("latin-1")),
        r"a.jsonl' is not UTF-8 in line 2",
    ),
    "an unclosed quote": (
        lambda t: write(t / "a.csv", 'query,answer\na,b\nc,"d\ne,f\n'),
        "a.csv' has a quote in line 3 that is never closed",
    ),
    "a comma too many": (lambda t: write(t / "a.csv", "q,a\nx,y\nx,y,z\n"), "has 3 cells in line 3, and 2 columns"),
    "duplicate columns": (lambda t: write(t / "a.csv", "q,a,q\n1,2,3\n"), "has 2 columns 'q'; rename all but one"),
    "a truncated line": (
        lambda t: write(t / "a.jsonl", LINES[:-12]),
        "a.jsonl' has no JSON object in line 2 .* truncated",
    ),
    "half a surrogate": (
        lambda t: write(t / "a.jsonl", '{"a": "x"}\n{"a": "\\ud83d x"}\n'),
        "half of a surrogate pair in line 2|line 2",
    ),
    "a record among texts": (
        lambda t: write(t / "a.jsonl", '{"a": "x", "n": 1}\n{"a": "y", "n": 0.5}\n{"a": {"b": "z"}, "n": 2}\n'),
        "a.jsonl' has a dict for 'a' in line 3, and a str before; give it one type",
    ),
    "a record after many texts": (
        lambda t: write(t / "a.jsonl", '{"a": "many words, again and again"}\n' * 400_000 + '{"a": ["b"]}\n'),
        "has a list for 'a' in line 400001",
    ),
    "a record among texts of an array": (
        lambda t: write(t / "a.json", json.dumps([{"a": "x"}, {"a": None}, {"a": {"b": 1}}])),
        "a.json' has a dict for 'a' in row 2, and a str before",
    ),
    "a text in an array of records": (
        lambda t: write(t / "a.json", json.dumps([{"a": "x"}, "a"])),
        "a.json' has a str in row 1; each must be an object",
    ),
    "a truncated parquet": (
        lambda t: write(t / "b.parquet", parquet(t / "a.parquet").read_bytes()[:-20]),
        "b.parquet' is truncated, or not a file of kind parquet",
    ),
    "a truncated feather": (
        lambda t: write(t / "a.feather", feather(t / "b.feather").read_bytes()[:-30]),
        "a.feather' is truncated, or not a file of kind feather",
    ),
    "a truncated gz": (
        lambda t: write(t / "a.jsonl.gz", gzip.compress(LINES.encode() * 50)[:-15]),
        "a.jsonl.gz' .*(truncated|unpacked)",
    ),
    "other columns in the second file": (
        lambda t: (write(t / "f" / "1.csv", CSV), write(t / "f" / "2.csv", "q,a\n1,2\n"))[0].parent,
        r"2.csv' has the columns \['q', 'a'\], and .*1.csv' has \['query', 'answer'\]",
    ),
    "two kinds in a folder": (
        lambda t: (write(t / "f" / "1.csv", CSV), write(t / "f" / "2.jsonl", LINES))[0].parent,
        r"cannot read files of kind \['\.csv', '\.jsonl'\] together",
    ),
    "no such split": (
        lambda t: (parquet(t / "f" / "test.parquet"), t / "f")[1],
        r"no files of split 'train'; it has \['test'\]",
    ),
}


@pytest.mark.parametrize(("make", "error"), ERRORS.values(), ids=ERRORS)
def test_what_is_wrong_is_one_line_with_the_name(make, error, tmp_path):
    source = make(tmp_path)
    with pytest.raises(InputError, match=error) as caught:
        load_source(source)
    assert "\n" not in str(caught.value)


AT_ONCE = ("a header alone", "a record after many texts")
"""Cases that are no fault of a stream (it may be empty), or are dear."""


@pytest.mark.parametrize("case", [name for name in ERRORS if name not in AT_ONCE])
def test_a_stream_has_the_same_line_whenever_it_meets_the_fault(case, tmp_path):
    make, error = ERRORS[case]
    source = make(tmp_path)
    with pytest.raises(InputError, match=error) as caught:
        stream = load_source(source, streaming=True)
        for _, batch in iter_columns(stream, column_names(stream)):
            for name, values in batch.items():
                check_texts([value for value in values if isinstance(value, str)], name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_fault_deep_in_a_stream_names_the_file_and_the_line(kind, tmp_path):
    """Far behind the rows that are read to find the columns, and in the second of two files."""
    good = [{"query": f"where is {n}", "answer": f"there {n} " + "and there " * 40} for n in range(12_000)]
    for name, bad in (("1", ""), ("2", "torn")):
        if kind == "csv":
            lines = [
                "query,answer",
                *(f"{row['query']},{row['answer']}" for row in good),
                *(['"never closed'] if bad else []),
            ]
        else:
            lines = [*map(json.dumps, good), *(['{"query": "torn'] if bad else [])]
        write(tmp_path / f"{name}.{kind}", "\n".join(lines) + "\n" * (not bad))
    stream = load_source(tmp_path, streaming=True)
    seen = 0
    with pytest.raises(InputError, match=rf"2\.{kind}' has .* in line 120\d\d") as caught:
        for _, batch in iter_columns(stream, ["query"]):
            seen += len(batch["query"])
    assert seen >= 12_000 and "\n" not in str(caught.value)


DOCUMENTS = [
    {"docid": "007", "title": "", "text": "Paris is in France."},
    {"docid": "8", "title": "It", "text": "Rome."},
]
QUERIES = [{"qid": "1", "question": "where is Paris"}, {"qid": "2", "question": "where is Rome"}]
JUDGED = [{"qid": "1", "docid": "007", "relevance": 1}, {"qid": "2", "docid": "8", "relevance": 2}]


def as_csv(rows: list[dict], mark: str) -> str:
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) + "\n"


def save(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".parquet":
        parquet(path, rows)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write(path, lines if path.suffix == ".jsonl" else as_csv(rows, "\t" if path.suffix == ".tsv" else ","))


COLLECTIONS = {
    "BEIR": ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"),
    "BEIR in parquet": ("corpus.parquet", "queries.parquet", "qrels/train.parquet"),
    "BEIR in shards": ("corpus-00000-of-00001.parquet", "queries-00000-of-00001.parquet", "qrels/train.tsv"),
    "BEIR in folders": ("corpus/1.parquet", "queries/1.parquet", "qrels/train.parquet"),
    "flat": ("corpus.parquet", "queries.parquet", "qrels_train.parquet"),
    "flat csv": ("corpus.csv", "queries.csv", "qrels_train.csv"),
    "flat, one set of judgements": ("corpus.tsv", "queries.jsonl", "qrels.csv"),
}


@pytest.mark.parametrize("names", COLLECTIONS.values(), ids=COLLECTIONS)
def test_one_reader_for_judged_collections(names, tmp_path):
    for name, rows in zip(names, (DOCUMENTS, QUERIES, JUDGED), strict=True):
        save(tmp_path / name, rows)
    assert is_beir(tmp_path)
    corpus = Corpus.from_beir(tmp_path)
    assert corpus.rows_of_ids(["007", "8", "7"]).tolist() == [0, 1, -1]
    assert corpus.texts(corpus.rows_of_ids(["8"])).to_pylist() == ["It Rome."]
    assert beir_pairs(tmp_path)["positive_id"][:] == ["007", "8"]
    assert Qrels.from_beir(tmp_path).num_judgements == 2
    judged = load_collection(tmp_path, "train" if "qrels" not in judged_splits(tmp_path) else None)
    assert judged.qrels == {"1": {"007": 1}, "2": {"8": 2}}


def test_judgements_that_are_not_there_name_those_that_are(tmp_path):
    for name, rows in (("corpus.csv", DOCUMENTS), ("queries.csv", QUERIES), ("qrels_dev.csv", JUDGED)):
        save(tmp_path / name, rows)
    with pytest.raises(InputError, match=r"no judgements for split 'train' in .*; there are: \['dev'\]"):
        beir_pairs(tmp_path)
