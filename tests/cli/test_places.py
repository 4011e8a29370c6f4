"""Data, vectors and outputs behind an fsspec address; a store is refused there."""

from __future__ import annotations

import json

import fsspec
import numpy as np
import pytest

from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.utils.remote import fetched
from tests.audit.planted import clean_rows, passage

ROOT = "memory://bucket/place"


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def put(files, name: str, rows) -> str:
    files.pipe(f"/bucket/place/{name}", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return f"{ROOT}/{name}"


def test_an_audit_reads_and_writes_there(bucket, capsys):
    rows = [{"query": r.query, "pos": [r.positive], "neg": list(r.negatives)} for r in clean_rows(8)]
    rows[3]["neg"][1] = rows[3]["pos"][0]
    source = put(bucket, "train.jsonl", rows)
    assert main(["audit", source, "--repair", f"{ROOT}/out/mended.jsonl", "--output", f"{ROOT}/out/audit.json"]) == 0
    assert "Copied to memory://bucket/place/out/mended.jsonl" in capsys.readouterr().out
    mended = [json.loads(line) for line in bucket.cat("/bucket/place/out/mended.jsonl").splitlines()]
    del rows[3]["neg"][1]
    assert mended == rows
    assert json.loads(bucket.cat("/bucket/place/out/audit.json"))["rows"] == 8
    assert bucket.exists("/bucket/place/out/mended.jsonl.repairs.jsonl")
    put(bucket, "train.jsonl", rows)
    assert main(["audit", source, "--fail-on", "same_text"]) == 0  # the copy of the old file is not taken again


@pytest.mark.matrix
def test_vectors_corpus_and_mined_rows(bucket, tmp_path):
    texts = [passage(n) for n in range(6)]
    data = put(bucket, "pairs.jsonl", [{"query": "q", "positive": texts[2]}])
    corpus = put(bucket, "corpus/part.jsonl", [{"_id": str(n), "text": text} for n, text in enumerate(texts)])
    vectors = np.eye(6)[::-1] + 0.1
    documents = put(bucket, "d.jsonl", [{"_id": str(n), "vector": v.tolist()} for n, v in enumerate(vectors)])
    queries = put(bucket, "q.jsonl", [{"query": "q", "vector": (vectors[2] + 0.5 * vectors[4]).tolist()}])
    command = [
        "mine",
        data,
        "--corpus",
        corpus.rpartition("/")[0],
        "--num-negatives",
        "1",
        "--output",
        f"{ROOT}/mined.jsonl",
    ]
    command += ["--teacher", f"Vectors({documents!r}, queries={queries!r})"]
    assert main([*command, "--store", f"{ROOT}/store"]) == 2
    assert main(command) == 0
    assert json.loads(bucket.cat("/bucket/place/mined.jsonl"))["negatives"] == [texts[4]]
    assert json.loads(bucket.cat("/bucket/place/mined.jsonl.provenance.json"))


def test_what_a_failed_check_wrote_is_copied(bucket):
    rows = [{"query": r.query, "pos": [r.positive], "neg": [r.positive]} for r in clean_rows(4)]
    source = put(bucket, "train.jsonl", rows)
    with pytest.raises(SystemExit, match="1"):
        main(["audit", source, "--output", f"{ROOT}/audit.json", "--fail-on", "same_text"])
    assert json.loads(bucket.cat("/bucket/place/audit.json"))["rows"] == 4


def test_what_is_not_there_is_named(bucket, capsys, monkeypatch):
    assert main(["audit", f"{ROOT}/nothing.jsonl"]) == 2
    assert "memory://bucket/place/nothing.jsonl: there is no such file" in capsys.readouterr().err
    monkeypatch.setenv("HF_POSMINE_OFFLINE", "0")
    with pytest.raises(InputError, match="Protocol not known"):
        fetched("nowhere://x/y")
