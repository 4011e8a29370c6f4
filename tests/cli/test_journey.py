"""From a CSV to "did it help?": init, split, mine, train, evaluate and compare, as a user gives them."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path

import datasets
import pytest
import yaml

from hf_posmine.cli.main import main
from hf_posmine.data.sources import beir_pairs
from tests.conftest import SAMPLE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The sample as a CSV with columns of other names, and a section for two rows each."""
    folder = tmp_path_factory.mktemp("journey")
    documents = {row["_id"]: row["text"] for row in map(json.loads, (SAMPLE / "corpus.jsonl").open(encoding="utf8"))}
    with (folder / "my.csv").open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "section", "question", "passage"])
        for number, row in enumerate(beir_pairs(SAMPLE)):
            writer.writerow([number, f"Section {number // 2}", row["query"], documents[row["positive_id"]]])
    return folder / "my.csv"


@pytest.fixture(scope="module")
def split(table):
    assert main(["split", str(table), "--by", "section", "--output", str(table.parent / "split")]) == 0
    return table.parent / "split"


def run(*words: object) -> None:
    assert main([*map(str, words), "--quiet"]) == 0


def test_from_a_csv_to_a_compared_model(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("init", table, "--teacher", "embedded", "--model", "embedded")
    run("split", table, "--by", "section", "--output", "held")
    run("init", "held", "--teacher", "embedded", "--model", "embedded", "--force")
    run("mine", "--config", "mine.yaml")
    run("train", "--config", "stage1.yaml", "--num_layers", "2", "--max_steps", "2", "--eval_strategy", "no")
    for model in ("embedded", "stage1"):
        run("evaluate", model, "--on", "held", "--output", "results")
    results = sorted(Path("results").glob("*.json"))
    run("compare", *results, "--baseline", "results/embedded--held.json", "--output", "comparison.json")
    record = json.loads(Path("held/split.json").read_text())
    mined = datasets.load_from_disk("mined")
    assert len(mined) == record["splits"]["train"]["pairs"] and [len(row) for row in mined["negatives"]] == [4] * len(
        mined
    )
    asked = {json.loads(line)["text"] for line in Path("held/queries.jsonl").open(encoding="utf8")}
    assert set(mined["query"]) < asked
    scores = json.loads(results[0].read_text())
    assert scores["queries"] == record["splits"]["test"]["queries"] and len(results) == 2
    assert "stage1" in Path("comparison.json").read_text() and "embedded" in capsys.readouterr().out


def test_the_files_run_as_they_stand(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("init", table, "--folder", "run", "--teacher", "embedded", "--model", "embedded")
    run("mine", "--config", "run/mine.yaml")
    run("train", "--config", "run/stage1.yaml", "--dry-run")


def test_what_was_found_is_written_and_shown(table, tmp_path, capsys):
    documents = tmp_path / "docs.jsonl"
    lines = [{"docid": f"{n:03}", "body": f"text {n}", "title": f"title {n}"} for n in range(5)]
    documents.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["init", str(table), "--corpus", str(documents), "--folder", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "171 rows · query: question · positive: passage · corpus: 5 documents, by docid (title + body)" in line
    mine, stage = (yaml.safe_load((tmp_path / name).read_text("utf8")) for name in ("mine.yaml", "stage1.yaml"))
    assert (mine["query_column"], mine["positive_column"], mine["num_negatives"]) == ("question", "passage", 4)
    named = {name: mine[f"corpus_{name}_column"] for name in ("text", "id", "title")}
    assert named == {"text": "body", "id": "docid", "title": "title"}
    assert stage["datasets"][0]["columns"] == {"query": "question", "positive": "passage"}


def test_files_are_replaced_only_by_force(table, tmp_path, capsys):
    (tmp_path / "stage1.yaml").write_text("seed: 7\n")
    assert main(["init", str(table), "--folder", str(tmp_path)]) == 2
    assert "stage1.yaml exist; --force replaces" in capsys.readouterr().err
    assert (tmp_path / "stage1.yaml").read_text() == "seed: 7\n" and not (tmp_path / "mine.yaml").exists()
    assert main(["init", str(table), "--folder", str(tmp_path), "--force"]) == 0


@pytest.mark.parametrize("verb", ["init", "split"])
def test_ambiguous_columns_are_one_line(verb, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    rows.write_text("query,answer,passage\n" + "".join(f"who is {n},name {n},a text of {n}\n" for n in range(9)))
    more = ["--output", str(tmp_path / "out")] if verb == "split" else ["--folder", str(tmp_path / "out")]
    assert main([verb, str(rows), *more, "--quiet"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "['answer', 'passage']" in error[0] and not (tmp_path / "out").exists()
    assert main([verb, str(rows), *more, "--positive-column", "passage"]) == 0


def test_a_folder_that_is_not_a_split_stays(table, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["split", str(table), "--output", str(tmp_path / "mine")]) == 2
    assert "exists and is not a split" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_column_that_nobody_has_is_named(table, tmp_path, capsys):
    assert main(["split", str(table), "--by", "chapter", "--output", str(tmp_path / "s")]) == 2
    assert "--by chapter: not a column of" in capsys.readouterr().err


def test_the_column_of_the_groups_is_not_taken_for_the_positive(tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    texts = [f"{n} {'abcdefgh'[n % 8] * 9},Article {n // 2},a text of {n}\n" for n in range(30)]
    rows.write_text("query,article,passage\n" + "".join(texts))
    assert main(["split", str(rows), "--by", "article", "--output", str(tmp_path / "s")]) == 0
    assert "query: query · positive: passage · corpus: 30 documents · by: article" in capsys.readouterr().out


def test_a_split_is_read_by_the_measures(split, tmp_path, capsys):
    """`fn-rate` and `calibrate` read it; what each makes of one positive per query is its own matter."""
    from hf_posmine.evaluation import load_collection, load_judged

    counts = json.loads((split / "split.json").read_text())["splits"]
    for name, count in counts.items():
        assert len(load_collection(split, name).scored_queries) == count["queries"]
        assert len(load_judged(split, name, None, 0)[2]) == count["queries"]
    assert main(["split", str(split), "--split", "train", "--output", str(tmp_path / "again")]) == 0


@pytest.fixture
def custom_domain():
    spec = importlib.util.spec_from_file_location("recipe_custom_domain", ROOT / "recipes/custom_domain/train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_parquet(split: Path, folder: Path) -> Path:
    """The same collection as parquet files, the judgements beside them."""
    folder.mkdir()
    for name in ("corpus", "queries"):
        rows = [json.loads(line) for line in (split / f"{name}.jsonl").open(encoding="utf8")]
        datasets.Dataset.from_list(rows).to_parquet(str(folder / f"{name}.parquet"))
    for name in ("train", "test"):
        with (split / "qrels" / f"{name}.tsv").open(encoding="utf8") as file:
            judged = [{**row, "score": int(row["score"])} for row in csv.DictReader(file, delimiter="\t")]
        datasets.Dataset.from_list(judged).to_parquet(str(folder / f"qrels_{name}.parquet"))
    return folder


@pytest.mark.parametrize("layout", ["jsonl", "parquet"])
def test_the_recipe_for_a_domain_runs_on_it(layout, split, tmp_path, monkeypatch, capsys, custom_domain):
    data = split if layout == "jsonl" else as_parquet(split, tmp_path / "pq")
    words = ["train.py", str(data), "--student", "embedded", "--teacher", "embedded", "--epochs", "0.2",
             "--output", str(tmp_path / "model")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.chdir(tmp_path)
    custom_domain.main()
    assert "before" in capsys.readouterr().out and (tmp_path / "model" / "modules.json").is_file()
