"""Vectors of other programs: the same teacher from every kind of file, and one clear error for what is wrong in them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from safetensors.numpy import save_file

from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data import Corpus
from hf_posmine.teachers import VectorTeacher, make_teacher
from hf_posmine.teachers.vector_files import BLOCK_ROWS, document_vectors

TEXTS, IDS = [f"document {n}" for n in range(7)], [f"d{n}" for n in range(7)]
QUERIES = ["first query", "second query"]
RNG = np.random.default_rng(3)
VECTORS, OF_QUERIES = RNG.normal(size=(7, 6)).astype(np.float32), RNG.normal(size=(2, 6)).astype(np.float32)
SHUFFLED = [4, 0, 6, 2, 5, 1, 3]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_texts(TEXTS, IDS)


def table(names: dict[str, list[str]], vectors: np.ndarray, column: str = "embeddings") -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    return pa.table(names | {column: lists})


def parquet(folder):
    pq.write_table(table({"_id": [IDS[n] for n in SHUFFLED]}, VECTORS[SHUFFLED]), folder / "docs.parquet")
    pq.write_table(table({"query": QUERIES}, OF_QUERIES), folder / "queries.parquet")
    return folder / "docs.parquet", folder / "queries.parquet"


def npy(folder):
    np.save(folder / "docs.npy", VECTORS)
    np.save(folder / "queries.npy", OF_QUERIES.astype(np.float64))
    (folder / "queries.json").write_text(json.dumps(QUERIES))
    return folder / "docs.npy", folder / "queries.npy"


def safetensors(folder):
    save_file({"embeddings": VECTORS[SHUFFLED].copy(), "other": np.zeros(3, np.float32)}, folder / "docs.safetensors")
    (folder / "docs.json").write_text(json.dumps([IDS[n] for n in SHUFFLED]))
    save_file({"only": OF_QUERIES}, folder / "queries.safetensors")
    (folder / "queries.json").write_text(json.dumps(QUERIES))
    return folder / "docs.safetensors", folder / "queries.safetensors"


def saved(folder):
    rows = {"text": [TEXTS[n] for n in SHUFFLED], "embedding": VECTORS[SHUFFLED].tolist()}
    Dataset.from_dict(rows).cast_column("embedding", _floats()).save_to_disk(str(folder / "docs"))
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"text": q, "vector": v.tolist()}) + "\n" for q, v in zip(QUERIES, OF_QUERIES, strict=True))
    )
    return folder / "docs", folder / "queries.jsonl"


def _floats():
    from datasets import List, Value

    return List(Value("float32"))


@pytest.mark.parametrize("write", [parquet, npy, safetensors, saved], ids=lambda write: write.__name__)
def test_every_kind_of_file_makes_the_same_teacher(write, corpus, tmp_path):
    documents, queries = write(tmp_path)
    teacher = make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    given = VectorTeacher(corpus, VECTORS, QUERIES, OF_QUERIES)
    assert teacher.fingerprint == given.fingerprint
    assert teacher.search(QUERIES, 3).doc_ids.tolist() == given.search(QUERIES, 3).doc_ids.tolist()
    assert make_teacher(teacher.describe()["spelling"], corpus).fingerprint == teacher.fingerprint


def test_a_file_that_changes_is_read_again(corpus, tmp_path):
    documents, queries = npy(tmp_path)
    spelling = f"Vectors({str(documents)!r}, queries={str(queries)!r})"
    first = make_teacher(spelling, corpus).fingerprint
    np.save(documents, VECTORS[::-1])
    assert make_teacher(spelling, corpus).fingerprint != first


def test_many_rows_are_read_in_blocks_into_their_places(tmp_path):
    count = 2 * BLOCK_ROWS + 5
    order = np.random.default_rng(0).permutation(count)
    pq.write_table(
        table({"id": [f"d{n}" for n in order]}, np.stack([order, order * 0 + 1], axis=1).astype(np.float32), "mine"),
        tmp_path / "docs.parquet",
        row_group_size=3000,
    )
    corpus = Corpus.from_texts([f"t{n}" for n in range(count)], [f"d{n}" for n in range(count)])
    assert document_vectors(str(tmp_path / "docs.parquet"), "mine", corpus)[:, 0].tolist() == list(range(count))


WRONG = {
    "no vector": (lambda t: t.slice(0, 5), "2 of 7 documents have none, such as"),
    "no column": (lambda t: t.rename_columns(["_id", "hidden"]), r"its columns: \['_id', 'hidden'\]; name it"),
    "integers": (lambda t: pa.table({"_id": IDS, "vector": [[1, 2]] * 7}), "expected lists of float32"),
    "uneven": (lambda t: pa.table({"_id": IDS, "vector": [[1.0, 2.0]] * 6 + [[1.0]]}), "a vector has 1 dimensions"),
    "null": (lambda t: pa.table({"_id": IDS, "vector": [[1.0, 2.0]] * 6 + [None]}), "a vector has 0 dimensions"),
    "not finite": (
        lambda t: pa.table({"_id": IDS, "vector": [[1.0]] * 6 + [[np.inf]]}),
        "row 6: the vector is not finite",
    ),
    "dimensions": (
        lambda t: table({"_id": IDS}, VECTORS[:, :4]),
        "documents have vectors of 4 dimensions, queries of 6",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind, corpus, tmp_path):
    documents, queries = parquet(tmp_path)
    change, message = WRONG[kind]
    pq.write_table(change(pq.read_table(documents)), documents)
    with pytest.raises(InputError, match=message):
        make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)


def test_queries_need_their_texts_and_arrays_no_more_rows_than_documents(corpus, tmp_path):
    documents, queries = npy(tmp_path)
    queries.with_suffix(".json").write_text('["one"]')
    with pytest.raises(InputError, match="names 1 rows"):
        make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    queries.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"write them as a list into queries\.json"):
        make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    np.save(documents, np.concatenate([VECTORS, VECTORS]))
    with pytest.raises(InputError, match="more vectors than the 7 documents"):
        make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    with pytest.raises(InputError, match="name those of the queries"):
        make_teacher(f"Vectors({str(documents)!r})", corpus)


def test_the_command_mines_with_given_vectors(tmp_path):
    documents, queries = parquet(tmp_path)
    rows = [{"query": q, "positive": TEXTS[n]} for n, q in enumerate(QUERIES)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Dataset.from_dict({"_id": IDS, "text": TEXTS}).to_parquet(str(tmp_path / "corpus.parquet"))
    command = [
        "mine",
        str(tmp_path / "pairs.jsonl"),
        "--corpus",
        str(tmp_path / "corpus.parquet"),
        "--filters",
        "MaxScore(1)",
    ]
    command += ["--teacher", f"Vectors({str(documents)!r}, queries={str(queries)!r})", "--num-negatives", "2"]
    assert main([*command, "--output", str(tmp_path / "mined.parquet")]) == 0
    cosine = (OF_QUERIES / np.linalg.norm(OF_QUERIES, axis=1, keepdims=True)) @ (
        VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    ).T
    for n, row in enumerate(pq.read_table(tmp_path / "mined.parquet").to_pylist()):
        best = [TEXTS[d] for d in np.argsort(-cosine[n]) if d != n][:2]
        assert row["negatives"] == best
