"""Every command prints and records the data that it took, and leaves bad rows out where it is asked to."""

from __future__ import annotations

import json

import pytest
import yaml

from hf_posmine.cli.main import main

TOWNS = ("Lund", "Brno", "Graz", "Turku", "Ghent", "Porto", "Delft", "Siena")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A judged collection with a positive that it lacks, and pairs with two bad rows and a positive outside the corpus."""
    place = tmp_path_factory.mktemp("towns")
    judged = place / "judged"
    (judged / "qrels").mkdir(parents=True)

    def write(file, rows):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf8")

    texts = [f"{town} is an old town, part {part}" for town in TOWNS for part in (1, 2, 3)]
    documents = [{"docno": f"d{n}", "headline": f"No {n}", "contents": text} for n, text in enumerate(texts)]
    write(judged / "corpus.jsonl", documents)
    write(judged / "queries.jsonl", [{"_id": f"q{n}", "text": f"where is {town}"} for n, town in enumerate(TOWNS)])
    lines = [f"q{n}\td{3 * n + part}\t1" for n in range(len(TOWNS)) for part in (0, 1)]
    for name, more in (("qrels", []), ("test", ["q0\tlost\t1"])):
        (judged / "qrels" / f"{name}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines, *more]) + "\n")
    write(place / "docs.jsonl", documents)
    pairs = [{"question": f"where is {town}", "reply": f"{town} is an old town, part {part}", "note": f"{part}"}
             for town in TOWNS for part in (1, 2)]  # fmt: skip
    pairs += [{"question": "where is Oulu", "reply": "Oulu is far", "note": "3"}]
    write(place / "good.jsonl", pairs)
    write(place / "pairs.jsonl", [{**pairs[0], "question": " "}, *pairs, {**pairs[0], "reply": None}])
    return place


COLLECTION = (
    " · positive: by judgements · corpus: 24 documents by docno (headline + contents) · positives in corpus: 16 of "
)
COMMANDS = {
    "fn-rate": ["fn-rate", "judged", "--teacher", "bm25", "--methods", "naive", "--output", "out.json"],
    "calibrate": ["calibrate", "judged", "--teacher", "bm25", "--filters", "PercPos(0.5)", "--rate", "0.9", "--estimate",
                  "--output", "out.json"],
    "evaluate": ["evaluate", "embedded", "--on", "judged", "--output", "out"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_judged_collection_is_shown_and_recorded(command, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("A_TOKEN", tmp_path.name)  # a secret among the arguments
    words = [
        str(folder / word) if word == "judged" else str(tmp_path / word) if word.startswith("out") else word
        for word in COMMANDS[command]
    ]
    assert main([*words, "--offline", "--quiet"]) == 0
    line = f"query: 8 by id{COLLECTION}{17 if command == 'evaluate' else 16}"
    assert line in capsys.readouterr().out
    (file,) = [tmp_path / "out.json"] if command != "evaluate" else (tmp_path / "out").iterdir()
    record = json.loads(file.read_text())
    assert record.get("data", record.get("details", {}).get("data")) == line
    assert "***" in record.get("command", record.get("details", {}).get("command"))
    assert tmp_path.name not in file.read_text()


PAIRS = "query: question · positive: reply · corpus: 24 documents by docno (contents) · positives in corpus: 16 of "
NAMED = ["--positive-column", "reply", "--corpus-text-column", "contents"]
READING = {
    "calibrate": (["--teacher", "bm25", "--filters", "PercPos(0.5)", "--rate", "0.9", "--estimate"], PAIRS),
    "sweep": (["--teacher", "bm25", "--filters", "naive", "PercPos(0.9)"], PAIRS),
    "split": (["--output", "out", "--test", "0.3"], "positives in corpus: 16 of 17"),
    "init": (["--folder", "out"], "17 rows"),
    "encode": (["--store", "out"], "shards encoded"),
}


@pytest.mark.parametrize("command", READING)
def test_bad_rows_stop_every_command_unless_they_are_left_out(command, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more, line = READING[command]
    words = [command, str(folder / "pairs.jsonl"), "--corpus", str(folder / "docs.jsonl"), *NAMED, *more, "--offline"]
    assert main([*words, "--quiet"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        "columns 'question' and 'reply': 2 rows cannot be mined, 1 with an empty query (row 0), 1 with no positive"
        in error
    )
    assert main([*words, "--skip-bad-rows", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert line in printed
    if command != "encode":
        assert "rows left out: 1 with an empty query (row 0), 1 with no positive (row 18)" in printed
    if command == "init":
        assert yaml.safe_load((tmp_path / "out" / "mine.yaml").read_text())["skip_bad_rows"] is True


def test_what_is_left_of_a_sweep_is_that_of_the_good_rows(folder, tmp_path, monkeypatch, capsys):
    from datasets import load_dataset

    monkeypatch.chdir(tmp_path)
    tables = []
    for name, more in (("pairs", ["--skip-bad-rows"]), ("good", [])):
        words = ["sweep", str(folder / f"{name}.jsonl"), *NAMED[:2], "--teacher", "bm25", "--output", f"{name}.parquet"]
        assert main([*words, *more, "--offline", "--quiet"]) == 0
        tables.append(load_dataset("parquet", data_files=f"{name}.parquet", split="train").to_list())
        record = json.loads((tmp_path / f"{name}.parquet.record.json").read_text())
        assert record["data"] in capsys.readouterr().out and record["data"].startswith(
            "query: question · positive: reply"
        )
        assert [teacher["kind"] for teacher in record["teachers"]] == ["bm25"] and record["settings"]["depth"] == 200
    assert tables[0] == tables[1] and tables[0][0]["rows"] == 17


def test_rows_with_several_positives_are_written_without_the_one_score(tmp_path, capsys):
    """The score is that of the lowest positive; triplets with it would train another one towards it."""
    from datasets import load_dataset

    rows = [{"query": f"where is {town}", "positives": [f"{town} here", f"{town} there"]} for town in TOWNS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["mine", str(tmp_path / "rows.jsonl"), "--teacher", "bm25", "--filters", "none", "--num-negatives", "2", "--format",
             "triplet", "--output", str(tmp_path / "out.parquet"), "--offline", "--quiet"]  # fmt: skip
    assert main(words) == 0
    assert "scores left out of the rows: several positives of a row have one score" in capsys.readouterr().out
    made = load_dataset("parquet", data_files=str(tmp_path / "out.parquet"), split="train")
    assert made.column_names == ["query", "positives", "negative"] and len(made) == len(TOWNS) * 2 * 2
