"""Files: the rows are those of the bytes whose digest is recorded."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from hf_posmine import Corpus
from hf_posmine.core.errors import InputError
from hf_posmine.data import tables
from hf_posmine.data.sources import load_files
from hf_posmine.mining.provenance import source_of_path
from hf_posmine.utils.digest import file_sha256

WRITERS = {
    ".jsonl": lambda texts: "".join(json.dumps({"text": text}) + "\n" for text in texts),
    ".csv": lambda texts: "text\n" + "".join(f"{text}\n" for text in texts),
    ".tsv": lambda texts: "text\tn\n" + "".join(f"{text}\t1\n" for text in texts),
}


def replace(path, content: str) -> None:
    """Other content of the same length under the same name and time."""
    before = path.stat()
    path.write_text(content)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("suffix", WRITERS)
def test_other_content_of_the_same_name_size_and_time_is_read_anew(tmp_path, suffix):
    path = tmp_path / f"documents{suffix}"
    path.write_text(WRITERS[suffix](["one", "two"]))
    first = load_files(path)
    assert load_files(path)._fingerprint == first._fingerprint  # from the cache
    replace(path, WRITERS[suffix](["six", "ten"]))
    again = load_files(path)
    assert again["text"][:] == ["six", "ten"]
    assert again._fingerprint != first._fingerprint  # else mined rows would be taken for its own
    assert Corpus.from_files(path).texts(np.arange(2)).to_pylist() == ["six", "ten"]


def test_the_record_holds_the_digest_of_what_was_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(WRITERS[".jsonl"](["one"]))
    load_files(path)
    read = file_sha256(path)
    replace(path, WRITERS[".jsonl"](["two"]))
    assert source_of_path(str(path), "train").sha256 == read != file_sha256(path)
    load_files(path)
    assert source_of_path(str(path), "train").sha256 == file_sha256(path)


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pairs.jsonl"
    path.write_text(WRITERS[".jsonl"](["one"]))
    original = tables.file_sha256

    def then_written(file):
        digest = original(file)
        path.write_text(WRITERS[".jsonl"](["two"]))
        return digest

    monkeypatch.setattr(tables, "file_sha256", then_written)
    with pytest.raises(InputError, match=r"pairs\.jsonl' changed while it was read; run again"):
        load_files(path)
