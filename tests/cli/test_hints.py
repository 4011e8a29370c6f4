"""Errors and warnings of a command name its options; the same ones from Python name the arguments."""

from __future__ import annotations

import json
import re

import pytest

from hf_posmine import Corpus, PositiveAwareMiner
from hf_posmine.cli.hints import with_options
from hf_posmine.cli.main import main
from hf_posmine.cli.parser import VERBS, command_of
from hf_posmine.core.errors import PosmineError
from hf_posmine.data.sources import load_files

ROWS = {
    "two positives": [{"query": f"who is {n}", "response": f"name {n}", "passage": f"a text of {n}"} for n in range(6)],
    "two texts": [{"doc_id": f"d{n}", "passage": f"a text of {n}", "contents": f"all of {n}"} for n in range(6)],
    "ids": [{"query": f"who is {n}", "positive_id": f"d{n}"} for n in range(6)],
    "blank": [{"query": " " if n == 2 else f"who is {n}", "passage": f"a text of {n}"} for n in range(6)],
    "pairs": [{"query": f"who is {n}", "passage": f"a text of {n}"} for n in range(6)],
}
CASES = {
    "init, positives": ("init", "two positives", ["--folder", "new"], r"name one with --positive-column$"),
    "split, positives": ("split", "two positives", ["--output", "new"], r"name one with --positive-column$"),
    "mine, positives": ("mine", "two positives", ["--output", "new"], r"name one with --positive-column$"),
    "encode, corpus": ("encode", "pairs", ["--corpus", "two texts"], r"name one with --corpus-text-column$"),
    "mine, corpus": ("mine", "pairs", ["--corpus", "two texts", "--output", "new"], r"name one with --corpus-text-column$"),
    "sweep, ids": ("sweep", "ids", [], r"holds ids; pass --corpus with"),
    "mine, a blank query": ("mine", "blank", ["--output", "new"], r"leave them out with --skip-bad-rows$"),
    "split, shares": ("split", "pairs", ["--output", "new", "--dev", ".6", "--test", ".4"], r"^error: --dev 0\.6 and --test 0\.4;"),
    "sweep, nothing": ("sweep", "pairs", ["--choose", "new.yaml"], r"Give --judgements and --max-false-negatives; or"),
    "mine, short rows": (
        "mine", "pairs",
        ["--output", "new", "--on-short", "random", "--second-opinion", "bm25", "--second-filters", "PercPos(0.9)"],
        r"^error: --on-short 'random' fills rows without a second opinion",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hints")
    for name, rows in ROWS.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@pytest.mark.parametrize("case", CASES)
def test_an_error_names_options(case, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    verb, rows, more, expected = CASES[case]
    words = [str(folder / f"{word}.jsonl") if word in ROWS else word for word in more]
    words += ["--teacher", "bm25"] * (verb in ("mine", "sweep", "encode"))
    assert main([verb, str(folder / f"{rows}.jsonl"), *words, "--offline", "--quiet"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(expected, error), error
    assert not re.search(r"\b[a-z]+_[a-z_]+=", error), error


def test_the_same_errors_name_arguments_in_python(folder):
    rows = load_files(folder / "two positives.jsonl")
    with pytest.raises(PosmineError, match=r"name one with positive_column=\.\.\.$"):
        PositiveAwareMiner.from_dataset(rows, "bm25")
    with pytest.raises(PosmineError, match=r"name one with text=\.\.\.$"):
        Corpus.from_dataset(load_files(folder / "two texts.jsonl"))
    with pytest.raises(PosmineError, match=r"skip_bad_rows=True$"):
        PositiveAwareMiner.from_dataset(load_files(folder / "blank.jsonl"), "bm25")


def test_a_warning_names_options(folder, tmp_path, capsys, recwarn):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"page {n}: a text of {n}, and more"}) + "\n" for n in range(6)))
    words = [
        "mine",
        str(folder / "pairs.jsonl"),
        "--corpus",
        str(corpus),
        "--teacher",
        "bm25",
        "--output",
        str(tmp_path / "o"),
    ]
    import warnings

    from hf_posmine.cli.hints import hints_of

    assert main([*words, "--offline", "--quiet"]) == 0
    told = next(w for w in recwarn if "positive_id_column=" in str(w.message))
    with hints_of(command_of("mine")):
        line = warnings.formatwarning(told.message, told.category, "file", 1)
    assert "unless --no-exclude-lookalikes;" in line and line.rstrip().endswith("(--positive-id-column)")


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_quoted_or_is_no_option_stays(verb):
    message = "row 3 ('what does seed=3 or split=x do'): Random(seed=3), nothing_known=4"
    assert with_options(message, command_of(verb)) == message
