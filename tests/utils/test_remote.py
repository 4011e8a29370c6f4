"""Files on the web and in file systems of fsspec: copied once, again when they change, and refused with one line."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import fsspec
import pytest
from datasets import Dataset

from hf_posmine import Corpus
from hf_posmine.audit import audit_data
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data import open_training_data
from hf_posmine.data.sources import load_source
from hf_posmine.mining.provenance import source_of_path
from hf_posmine.utils.digest import file_sha256
from hf_posmine.utils.remote import address_of, check_target, fetched, sent
from tests.audit.planted import clean_rows
from tests.support.web import Website


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_OFFLINE", "0")
    folder = tmp_path / "site"
    folder.mkdir()
    site = Website(folder)
    site.folder = folder
    yield site
    site.close()


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


@pytest.mark.parametrize("versions", [True, False], ids=["Last-Modified", "no version"])
def test_a_page_is_copied_once_and_again_when_it_changes(site, versions):
    site.versions = versions
    file, address = site.folder / "rows.jsonl", f"{site.url}/rows.jsonl"
    file.write_text('{"text": "one"}\n')
    first = fetched(address)
    assert first.read_bytes() == file.read_bytes() and address_of(first) == address
    assert fetched(address) == first
    file.write_text('{"text": "two"}\n')  # as long as before
    os.utime(file, (1, 1))
    assert fetched(address).read_text() == '{"text": "two"}\n' and fetched(address) != first


def test_a_large_page_that_is_in_the_cache_is_not_sent_again(site):
    content = os.urandom(30 << 20)
    (site.folder / "large.parquet").write_bytes(content)
    assert fetched(f"{site.url}/large.parquet").read_bytes() == content
    sent_once = site.sent["/large.parquet"]
    fetched(f"{site.url}/large.parquet")
    assert site.sent["/large.parquet"] - sent_once < len(content) // 2


def test_data_on_the_web_is_read_by_every_reader(site, capsys):
    rows = [{"query": r.query, "pos": [r.positive], "neg": list(r.negatives)} for r in clean_rows(8)]
    rows[3]["neg"][1] = rows[3]["pos"][0]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (site.folder / "train.jsonl").write_text(text)
    (site.folder / "packed.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    address = f"{site.url}/train.jsonl"
    assert main(["audit", address]) == 0 and "same_text" in capsys.readouterr().out
    assert audit_data(open_training_data(address)).rows_with("same_text") == 1
    assert load_source(f"{site.url}/packed.jsonl.gz").to_list() == rows
    (site.folder / "corpus.jsonl").write_text("".join(json.dumps({"text": row["pos"][0]}) + "\n" for row in rows))
    assert len(Corpus.of(f"{site.url}/corpus.jsonl")) == 8
    assert address_of("my.csv") is None and address_of("files/my.csv") is None
    source = source_of_path(str(fetched(address)), None)
    assert (source.path, source.sha256) == (address, file_sha256(site.folder / "train.jsonl"))


def test_what_the_web_refuses_is_one_line(site, monkeypatch):
    with pytest.raises(InputError, match=r"/nothing\.jsonl: there is no such file"):
        fetched(f"{site.url}/nothing.jsonl")
    site.status = 403
    with pytest.raises(InputError, match=r"rows\.jsonl cannot be read \(HTTPStatusError: .*403"):
        fetched(f"{site.url}/rows.jsonl")
    with pytest.raises(InputError, match="can only be read; write to a file"):
        check_target(f"{site.url}/rows.jsonl")
    site.close()
    with pytest.raises(InputError, match=r"rows\.jsonl cannot be read \(ConnectError"):
        fetched(f"{site.url}/rows.jsonl")
    monkeypatch.setenv("HF_POSMINE_OFFLINE", "1")
    with pytest.raises(InputError, match=r"rows\.jsonl: no network request is made"):
        fetched(f"{site.url}/rows.jsonl")
    with pytest.raises(InputError, match="no network request is made"):
        check_target("hf://datasets/me/rows/mined.parquet")


def test_the_record_beside_a_file_comes_with_it(bucket):
    bucket.pipe("/bucket/mined.parquet", b"rows")
    bucket.pipe("/bucket/mined.parquet.provenance.json", b"{}")
    assert not fetched("memory://bucket/mined.parquet.provenance.json").with_name("mined.parquet").exists()
    copy = fetched("memory://bucket/mined.parquet")
    assert copy.read_bytes() == b"rows"
    assert copy.with_name("mined.parquet.provenance.json").read_text() == "{}"


def test_a_name_does_not_lead_out_of_the_cache(bucket):
    bucket.pipe("/bucket/rows/../../../evil.jsonl", b"{}")
    bucket.store["/bucket/rows/../../../evil.jsonl"] = bucket.store.popitem()[1]
    with pytest.raises(InputError, match=r"leads out of its folder"):
        fetched("memory://bucket/rows")


def test_a_folder_goes_there_and_comes_back(bucket, tmp_path):
    Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(tmp_path / "out" / "rows")
    sent(tmp_path / "out", "memory://bucket/there/rows")
    assert load_source("memory://bucket/there/rows").to_list() == [{"text": "one"}, {"text": "two"}]


def test_an_output_that_cannot_be_copied_is_kept(bucket, tmp_path, monkeypatch, capsys):
    rows = [{"query": r.query, "pos": [r.positive], "neg": list(r.negatives)} for r in clean_rows(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def refuse(*_, **__):
        raise PermissionError("the bucket is closed")

    monkeypatch.setattr(type(bucket), "put_file", refuse)
    assert main(["audit", str(tmp_path / "train.jsonl"), "--output", "memory://bucket/audit.json"]) == 2
    error = capsys.readouterr().err
    assert "memory://bucket/audit.json cannot be written (PermissionError: the bucket is closed)" in error
    kept = error.rpartition("what was written is kept in ")[2].strip()
    assert json.loads(Path(kept, "audit.json").read_text())["rows"] == 8
