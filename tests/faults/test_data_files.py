"""Data files that are cut, damaged, in another encoding or hostile: rows or one line, at every command that reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine.cli.main import main
from tests.faults.cases import TRACEBACK

disable_progress_bars()
ROWS = {"query": [f"red cat {n}" for n in range(12)], "positive": [f"a red cat number {n}" for n in range(12)]}
LINES = "".join(json.dumps(dict(zip(ROWS, row, strict=True))) + "\n" for row in zip(*ROWS.values(), strict=True))


def sound(kind: str, folder) -> bytes:
    path = folder / f"sound.{kind}"
    rows = Dataset.from_dict(ROWS)
    if kind == "parquet":
        rows.to_parquet(str(path))
    elif kind == "csv":
        rows.to_csv(str(path))
    else:
        path.write_text(LINES)
    return path.read_bytes()


def flipped(content: bytes, at: float) -> bytes:
    place = int(at * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


DAMAGES = {
    **{
        f"cut at {share}": (lambda content, share=share: content[: int(len(content) * share)])
        for share in (0.01, 0.3, 0.7, 0.99)
    },
    **{
        f"flipped at {share}": (lambda content, share=share: flipped(content, share))
        for share in (0.0, 0.2, 0.5, 0.8, 1.0)
    },
    "empty": lambda content: b"",
    "noise": lambda content: np.random.default_rng(0).bytes(2000),
    "zeros": lambda content: b"\0" * 500,
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "latin-1": lambda content: content.replace(b"red", "ré\xff".encode("latin-1")),
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "control characters": lambda content: content.replace(b"cat", b"\x1b[2J"),
    "deep": lambda content: b"[" * 50_000,
    "a list": lambda content: b'[1, "two", null]',
    "twice": lambda content: content + content[: len(content) // 2],
}


@pytest.mark.parametrize("command", ["mine", "corpus", "report"])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_hostile_file_is_read_or_refused_in_a_line(command, kind, damage, tmp_path, fresh_home, capsys):
    good = tmp_path / "good.jsonl"
    good.write_text(LINES)
    bad = tmp_path / f"bad.{kind}"
    bad.write_bytes(DAMAGES[damage](sound(kind, tmp_path)))
    options = ["--teacher", "bm25", "--output", str(tmp_path / "out.jsonl"), "--quiet"]
    arguments = {
        "mine": ["mine", str(bad), *options],
        "corpus": ["mine", str(good), "--corpus", str(bad), *options],
        "report": ["report", str(bad), "--output", str(tmp_path / "page.html"), "--quiet"],
    }[command]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    written = capsys.readouterr().err
    errors = [line for line in written.splitlines() if line.startswith("error: ")]
    assert TRACEBACK not in written and "\x1b" not in written
    assert (status == 0 and not errors) or (status in (1, 2) and len(errors) == 1), (status, written)
    assert not [path for path in tmp_path.rglob("*") if ".tmp-" in path.name]
