"""Data, vectors and outputs at ``hf://`` addresses, through huggingface_hub's own file system."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from hf_posmine.audit import audit_data
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data import open_training_data
from hf_posmine.mining.provenance import read_provenance
from hf_posmine.utils.remote import fetched
from tests.audit.planted import clean_rows, passage

REPO = "hf://datasets/alice/rows"


@pytest.fixture
def repo(hub):
    api = HfApi()
    api.create_repo("alice/rows", repo_type="dataset")
    return hub.repo("alice/rows")


def put(name: str, content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    HfApi().upload_file(path_or_fileobj=raw, path_in_repo=name, repo_id="alice/rows", repo_type="dataset")
    return f"{REPO}/{name}"


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def content(repo, name: str) -> bytes:
    return repo.at("main").files[name].content


def test_an_audit_reads_and_mends_there(repo, capsys):
    rows = [{"query": r.query, "pos": [r.positive], "neg": list(r.negatives)} for r in clean_rows(8)]
    rows[3]["neg"][1] = rows[3]["pos"][0]
    source = put("data/train.jsonl", lines(rows))
    assert audit_data(open_training_data(source)).rows_with("same_text") == 1
    assert main(["audit", source, "--repair", f"{REPO}/mended.jsonl", "--output", f"{REPO}/audit.json"]) == 0
    assert f"Copied to {REPO}/mended.jsonl" in capsys.readouterr().out
    del rows[3]["neg"][1]
    assert content(repo, "mended.jsonl").decode() == lines(rows)
    assert json.loads(content(repo, "audit.json"))["rows"] == 8
    assert audit_data(open_training_data(f"{REPO}/data")).rows_with("same_text") == 1
    put("data/train.jsonl", lines(rows))
    assert audit_data(open_training_data(f"{REPO}/data")).rows_with("same_text") == 0


def test_vectors_corpus_and_mined_rows(repo, tmp_path):
    texts, vectors = [passage(n) for n in range(6)], np.eye(6, dtype=np.float32)[::-1] + 0.1
    query = vectors[2] + 0.5 * vectors[4]
    data = put("pairs.jsonl", lines([{"query": "q", "positive": texts[2]}]))
    corpus = put("corpus.parquet", parquet([{"_id": str(n), "text": text} for n, text in enumerate(texts)]))
    array = io.BytesIO()
    np.save(array, vectors[::-1])
    documents = put("documents.npy", array.getvalue())
    put("documents.json", json.dumps([str(n) for n in reversed(range(6))]))
    queries = put("queries.parquet", parquet([{"query": "q", "embeddings": query.tolist()}]))
    command = ["mine", data, "--corpus", corpus, "--num-negatives", "1", "--output", f"{REPO}/out/mined.parquet"]
    command += ["--teacher", f"Vectors({documents!r}, queries={queries!r})"]
    assert main(command) == 0
    mined = pq.read_table(io.BytesIO(content(repo, "out/mined.parquet"))).to_pylist()
    assert [row["negatives"] for row in mined] == [[texts[4]]]
    record = read_provenance(fetched(f"{REPO}/out/mined.parquet").with_name("mined.parquet.provenance.json"))
    assert (record.source.path, record.corpus.source.path) == (data, corpus)
    assert record.teachers[0].recipe["vectors"] == f"6 vectors of 6 dimensions from {documents}, by 'documents.json'"


def test_what_the_hub_refuses_is_one_line(repo, monkeypatch, capsys):
    source = put("train.jsonl", lines([{"query": "q", "pos": ["a passage"], "neg": ["another one"]}]))
    with pytest.raises(InputError, match=r"rows/nothing\.jsonl: there is no such file"):
        fetched(f"{REPO}/nothing.jsonl")
    with pytest.raises(InputError, match=r"datasets/alice/nowhere/train\.jsonl: there is no such file"):
        fetched("hf://datasets/alice/nowhere/train.jsonl")
    assert main(["audit", source, "--output", "hf://datasets/alice/nowhere/audit.json"]) == 2
    out = capsys.readouterr()
    assert "datasets/alice/nowhere/audit.json: there is no such repository; create it first" in out.err
    assert "Findings" not in out.out
    repo.private = True
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(InputError, match=r"rows/train\.jsonl: there is no such file"):
        fetched(source)
