"""Data whose rows hold ids: their texts are read beside them, and a mended copy keeps the ids."""

from __future__ import annotations

import json

import pytest

from hf_posmine.audit import audit_data
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data import Corpus, open_training_data
from tests.audit.planted import edited, passage, write_jsonl, write_parquet

TEXTS = {"d0": passage(0), "d1": passage(1), "d2": edited(passage(0)), "d3": passage(3)}


def near(result) -> list[tuple[int, int]]:
    assert set(result.findings) == {"near_copy"}
    return [(e.row, e.index) for e in result.findings["near_copy"].examples]


def test_a_pylate_folder(tmp_path):
    folder = tmp_path / "pylate"
    folder.mkdir()
    write_parquet(folder / "queries.parquet", [{"query_id": "q0", "text": "a query"}])
    write_parquet(folder / "documents.parquet", [{"document_id": key, "text": text} for key, text in TEXTS.items()])
    row = {"query_id": "q0", "document_ids": ["d0", "d1", "d2", "d3"], "scores": [0.9, 0.5, 0.4, 0.3]}
    write_parquet(folder / "scores.parquet", [row])
    data = open_training_data(folder)
    result = audit_data(data, repair=tmp_path / "mended")
    assert result.layout.startswith("PyLate")
    assert near(result) == [(0, 1)]
    (mended,) = next(open_training_data(tmp_path / "mended").tables[0].batches())
    assert mended == {"query_id": "q0", "document_ids": ["d0", "d1", "d3"], "scores": [0.9, 0.5, 0.3]}
    assert sorted(file.name for file in (tmp_path / "mended").iterdir()) == sorted(f.name for f in folder.iterdir())


def test_judgements_with_a_run(tmp_path):
    (tmp_path / "qrels").mkdir()
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": key, "title": "", "text": text} for key, text in TEXTS.items()])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q0", "text": "a query"}])
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\n")
    run = tmp_path / "bm25.run"
    run.write_text("q0 Q0 d1 1 9.5 bm25\nq0 Q0 d2 2 9.0 bm25\nq0 Q0 d3 3 1.0 bm25\n")
    with pytest.raises(InputError, match="add --run"):
        open_training_data(tmp_path)
    data = open_training_data(tmp_path, run=run)
    assert near(audit_data(data, repair=tmp_path / "mended.run")) == [(0, 1)]
    assert (tmp_path / "mended.run").read_text() == "q0 Q0 d1 1 9.5 bm25\nq0 Q0 d3 2 1.0 bm25\n"


def nemo(folder):
    (folder / "corpus").mkdir()
    write_parquet(folder / "corpus" / "train.parquet", [{"id": key, "text": text} for key, text in TEXTS.items()])
    rows = [
        {
            "question_id": "0",
            "question": "a query",
            "pos_doc": [{"id": "d0"}],
            "neg_doc": [{"id": i} for i in ("d1", "d2")],
        }
    ]
    path = folder / "train.json"
    path.write_text(json.dumps({"corpus": [{"path": "corpus"}], "data": rows}))
    return path


def test_a_nemo_file_with_its_corpus(tmp_path):
    path = nemo(tmp_path)
    result = audit_data(open_training_data(path), repair=tmp_path / "mended.json")
    assert result.layout.startswith("NeMo")
    assert near(result) == [(0, 1)]
    mended = json.loads((tmp_path / "mended.json").read_text())
    assert mended["corpus"] == [{"path": "corpus"}]
    assert mended["data"][0]["neg_doc"] == [{"id": "d1"}]


def test_ids_without_texts_are_compared_as_ids_and_that_is_stated(tmp_path):
    rows = [{"query": "a query", "positive_id": "d0", "negative_ids": ["d1", "d2", "d0"]}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    result = audit_data(open_training_data(path))
    assert set(result.findings) == {"same_text"}
    assert any("add --corpus" in line for line in result.assumptions)
    corpus = Corpus.from_texts(TEXTS.values(), TEXTS.keys(), match="exact")
    assert set(audit_data(open_training_data(path, corpus=corpus)).findings) == {"same_text", "near_copy"}


def test_an_id_without_a_text_is_named(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"query": "q", "positive_id": "d0", "negative_ids": ["d1", "gone"]}])
    corpus = Corpus.from_texts(TEXTS.values(), TEXTS.keys(), match="exact")
    with pytest.raises(InputError, match="'gone'"):
        audit_data(open_training_data(path, corpus=corpus))


def test_triples_without_a_header(tmp_path):
    path = tmp_path / "triples.tsv"
    lines = [("a query", passage(0), passage(1)), ('a "quoted query', passage(2), passage(2))]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    result = audit_data(open_training_data(path), repair=tmp_path / "mended.tsv")
    assert [e.query for e in result.findings["same_text"].examples] == ['a "quoted query']
    assert (tmp_path / "mended.tsv").read_text() == "\t".join(lines[0]) + "\n"


def test_labels_of_a_csv_file_are_numbers(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("query,document,label\nq,one text,1\nq,one text,0\nr,other text,0.8\nr,a third,0\n")
    result = audit_data(open_training_data(path))
    assert [e.row for e in result.findings["contradicting_labels"].examples] == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"a": 1, "b": 2}], "no training layout is known"),
        ([{"query": "q", "positive": "p"}], "no training layout is known"),
    ],
)
def test_columns_of_no_layout_are_listed(rows, message, tmp_path):
    with pytest.raises(ColumnError, match=message):
        open_training_data(write_jsonl(tmp_path / "rows.jsonl", rows))


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n{"query": \n')
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2"):
        open_training_data(path)


def test_lists_of_a_parquet_file_are_read_as_they_are(tmp_path):
    rows = [{"query": f"q{n}", "pos": ["p"], "neg": ["ä" * i for i in range(n % 4)], "ids": [n]} for n in range(2500)]
    rows[7]["neg"][1] = None
    path = write_parquet(tmp_path / "rows.parquet", rows)
    read = [row for batch in open_training_data(path).tables[0].batches() for row in batch]
    assert read == rows
    rows[2001]["neg"] = None
    path = write_parquet(tmp_path / "with_none.parquet", rows)
    assert [row for batch in open_training_data(path).tables[0].batches() for row in batch] == rows
