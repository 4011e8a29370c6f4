"""Vectors of other programs: the same teacher from every kind of file, and one clear error for what is wrong in them."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from pyarrow.feather import write_feather
from safetensors.numpy import save_file

from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError, LeftOutVectorsWarning
from hf_posmine.data import Corpus
from hf_posmine.teachers import VectorTeacher, make_teacher
from hf_posmine.teachers.vector_files import document_vectors
from hf_posmine.teachers.vector_sources import BLOCK_ROWS

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


def stream(folder):
    for name, rows in (
        ("docs", documents_by_id()),
        ("queries", pa.table({"query": QUERIES, "emb": OF_QUERIES.tolist()})),
    ):
        with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=3)
    return folder / "docs.arrow", folder / "queries.arrow"


def feather(folder):
    lists = pa.array(OF_QUERIES.astype(np.float16).tolist(), pa.list_(pa.float16()))
    rows = documents_by_id().append_column("note", pa.array(["not read"] * 7))
    write_feather(rows, folder / "docs.feather", compression="lz4", chunksize=2)
    write_feather(pa.table({"question": QUERIES, "vector": lists}), folder / "queries.feather", compression="zstd")
    return folder / "docs.feather", folder / "queries.feather"


def lance(folder):
    writer = pytest.importorskip("lance", reason="pylance is not installed (extra 'lance')")
    writer.write_dataset(documents_by_id(), str(folder / "docs.lance"), max_rows_per_file=3)
    rows = pa.table({"text": QUERIES, "embedding": pa.array(OF_QUERIES.tolist(), pa.large_list(pa.float64()))})
    writer.write_dataset(rows, str(folder / "queries.lance"))
    return folder / "docs.lance", folder / "queries.lance"


def documents_by_id() -> pa.Table:
    return table({"id": [IDS[n] for n in SHUFFLED]}, VECTORS[SHUFFLED])


def _floats():
    from datasets import List, Value

    return List(Value("float32"))


KINDS = [parquet, npy, safetensors, saved, stream, feather, lance]


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_every_kind_of_file_makes_the_same_teacher(write, corpus, tmp_path):
    documents, queries = write(tmp_path)
    teacher = make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    of_queries = OF_QUERIES.astype(np.float16) if write is feather else OF_QUERIES
    given = VectorTeacher(corpus, VECTORS, QUERIES, of_queries)
    assert teacher.fingerprint == given.fingerprint
    assert teacher.describe()["vectors"].startswith(f"7 vectors of 6 dimensions from {documents}, ")
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
    vectors, _ = document_vectors(str(tmp_path / "docs.parquet"), "mine", corpus)
    assert vectors[:, 0].tolist() == list(range(count))


WRONG = {
    "no vector": (lambda t: t.slice(0, 5), "2 of 7 documents have none by '_id', such as document 'd1'"),
    "no column": (lambda t: t.rename_columns(["_id", "hidden"]), r"its columns: \['_id', 'hidden'\]; name it"),
    "integers": (lambda t: pa.table({"_id": IDS, "vector": [[1, 2]] * 7}), "expected lists of float32"),
    "bytes": (lambda t: pa.table({"_id": IDS, "vector": [b"12"] * 7}), "holds binary; expected lists of float32"),
    "no id": (lambda t: pa.table({"_id": [*IDS[:6], None], "vector": [[1.0]] * 7}), "row 6: no id or text"),
    "two vectors": (
        lambda t: pa.concat_tables([t, pa.table({"_id": ["d3"], "embeddings": [[1.0] * 6]}).cast(t.schema)]),
        "row 7: another vector of this document came before",
    ),
    "uneven": (
        lambda t: pa.table({"_id": IDS, "vector": [[1.0, 2.0]] * 6 + [[1.0]]}),
        "row 6: a vector has 1 dimensions",
    ),
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


def test_vectors_of_other_documents_are_left_out_with_a_line_and_a_record(corpus, tmp_path):
    documents, queries = parquet(tmp_path)
    more = table({"_id": [*IDS, "other", "another"]}, np.concatenate([VECTORS, VECTORS[:2]]))
    pq.write_table(more, documents)
    line = f"9 vectors of 6 dimensions from {documents}, by '_id'; 2 of them are of documents that the corpus lacks, and left out"
    for _ in range(2):  # the second time from the cache
        with pytest.warns(LeftOutVectorsWarning, match=f"^{re.escape(line)}$"):
            teacher = make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)
    assert teacher.fingerprint == VectorTeacher(corpus, VECTORS, QUERIES, OF_QUERIES).fingerprint
    assert pickle.loads(pickle.dumps(teacher)).describe()["vectors"] == line


def test_of_several_vectors_of_one_document_the_first_stays(tmp_path):
    """Ids of duplicates that the corpus dropped lead to one document; the same id twice may differ by rounding only."""
    corpus = Corpus.from_texts(["Same", "SAME", "other"], ["a", "b", "c"])
    rows = [[1.0, 0.0], [0.9, 0.4], [0.0, 1.0], [0.0, 1.01]]
    pq.write_table(pa.table({"id": ["a", "b", "c", "c"], "vector": rows}), tmp_path / "d.parquet")
    vectors, account = document_vectors(str(tmp_path / "d.parquet"), None, corpus)
    assert vectors.tolist() == [rows[0], rows[2]] and (account.rows, account.left_out) == (4, 0)


def test_a_query_has_one_vector(corpus, tmp_path):
    documents, queries = parquet(tmp_path)
    pq.write_table(table({"query": [*QUERIES, QUERIES[0]]}, OF_QUERIES[[0, 1, 1]]), queries)
    with pytest.raises(InputError, match="row 2: another vector of the query 'first query' came before"):
        make_teacher(f"Vectors({str(documents)!r}, queries={str(queries)!r})", corpus)


BROKEN = {
    "docs.npy": ("is not an array that can be mapped", lambda file: np.save(file, np.array([{}]), allow_pickle=True)),
    "docs.safetensors": ("is not a safetensors file", lambda file: file.write_bytes(b"no tensors")),
    "docs.arrow": ("is not a file in Arrow's IPC format", lambda file: file.write_bytes(b"no table at all")),
    "docs.feather": ("is empty", lambda file: file.write_bytes(b"")),
    "docs.parquet": ("is truncated, or not a parquet file", lambda file: file.write_bytes(b"PAR1 and no more")),
    "docs.lance": ("is not a Lance dataset", lambda file: (file.mkdir(), (file / "notes").write_text("none"))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_is_named(name, corpus, tmp_path):
    message, write = BROKEN[name]
    if name == "docs.lance":
        pytest.importorskip("lance", reason="pylance is not installed (extra 'lance')")
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path / name))} {message}"):
        document_vectors(str(tmp_path / name), None, corpus)


def test_a_list_beside_an_array_is_a_list(corpus, tmp_path):
    documents, _ = npy(tmp_path)
    for content, message in (('{"ids": []}', "holds a dict; expected a list"), ("d1", "is not JSON")):
        documents.with_suffix(".json").write_text(content)
        with pytest.raises(InputError, match=message):
            document_vectors(str(documents), None, corpus)


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
