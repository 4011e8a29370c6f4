"""``hf-posmine evaluate`` and ``hf-posmine compare`` as a user meets them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine.cli.main import main
from hf_posmine.evaluation.results import RetrievalResult
from hf_posmine.evaluation.statistics.significance import compare, compare_runs


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Six documents and three queries, one of them without a positive."""
    folder = tmp_path_factory.mktemp("animals")
    texts = ["cats purr", "dogs bark", "cows moo", "lions roar", "bees buzz", "ducks quack"]
    tables = {
        "corpus": {"id": [f"d{i}" for i in range(6)], "text": texts},
        "queries": {"id": ["q1", "q2", "q3"], "text": ["what do cats do", "the sound of a duck", "nothing"]},
        "qrels": {"query_id": ["q1", "q2", "q2"], "doc_id": ["d0", "d5", "gone"], "score": [1, 2, 1]},
    }
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(str(folder / f"{name}.parquet"))
    return folder


def test_evaluate_writes_what_it_prints(collection, tmp_path, capsys):
    results = tmp_path / "results"
    assert main(["evaluate", "embedded", "--on", str(collection), "--output", str(results), "--runs", "--quiet"]) == 0
    said = capsys.readouterr().out
    file = next(results.glob("embedded--animals*.json"))
    kept = RetrievalResult.load(file)
    assert kept.query_ids == ("q1", "q2") and kept.model == "embedded"
    for mean in kept.means.values():
        assert f"{mean:.4f}" in said
    assert kept.scores["recall@100"].tolist() == [1, 0.5]
    assert "1 judged positives are not in the corpus" in said and str(file) in said
    assert file.with_suffix(".trec").read_text().splitlines()[0].startswith("q1 Q0 d0 1 ")
    assert kept.details["versions"]["sentence-transformers"] and "evaluate embedded" in kept.details["command"]


def test_options_reach_the_evaluation(collection, tmp_path):
    options = ["--measures", "mrr@3", "--depth", "3", "--identical-ids", "keep", "--output", str(tmp_path), "--quiet"]
    on = ["--on", str(collection), "--on", str(collection)]
    assert main(["evaluate", "embedded", *on, *options, "--query-instruction", "One", "Two"]) == 0
    kept = RetrievalResult.load(next(tmp_path.glob("*.json")))
    settings = kept.details["settings"]
    assert (settings["measures"], settings["depth"], settings["ignore_identical_ids"]) == (["mrr@3"], 3, False)
    assert settings["query_instruction"] == "Two"  # the second collection has the same name, and is written last


def saved(folder, model: str, values: np.ndarray, name: str = "animals") -> str:
    ids = tuple(f"q{i}" for i in range(len(values)))
    return str(RetrievalResult(name, model, ids, {"ndcg@10": values}).save(folder / f"{model}--{name}.json"))


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.random(80)
    better, same = base + rng.normal(0.1, 0.1, 80), base + rng.normal(0, 0.1, 80)
    return [saved(tmp_path, name, values) for name, values in (("base", base), ("better", better), ("same", same))]


def test_compare_reports_significance(files, tmp_path, capsys):
    output = tmp_path / "comparison.json"
    assert main(["compare", *files[1:], "--baseline", files[0], "--output", str(output), "--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert (
        "better scores 0." in said and "higher than base" in said and "Not significant: same differs from base" in said
    )
    better, same = json.loads(output.read_text())["comparisons"]
    alone = compare(*(RetrievalResult.load(path).scores["ndcg@10"] for path in files[:2]), seed=5)
    assert (better["p_value"], better["low"], better["high"]) == (alone.p_value, alone.low, alone.high)
    assert better["adjusted_p"] == pytest.approx(2 * alone.p_value) and same["claims"] == 2
    assert better["sentence"] in said


def test_ways_of_training_are_compared_over_their_seeds(tmp_path, capsys):
    rng = np.random.default_rng(2)
    base, files, values = rng.random(60), {}, {}
    for name, gain in (("naive", 0.0), ("mined", 0.08)):
        values[name] = np.clip(base + gain + rng.normal(0, 0.05, (3, 60)), 0, 2)
        files[name] = [saved(tmp_path, f"{name}-{seed}", row) for seed, row in enumerate(values[name])]
    output = tmp_path / "comparison.json"
    arguments = ["--runs", "naive", *files["naive"], "--runs", "mined", *files["mined"], "--output", str(output)]
    assert main(["compare", *arguments]) == 0
    assert "mined scores 0.0" in capsys.readouterr().out
    (found,) = json.loads(output.read_text())["comparisons"]
    alone = compare_runs(values["naive"], values["mined"])
    assert found["difference"] == pytest.approx(alone.difference) and found["p_value"] == pytest.approx(alone.p_value)
    assert len(found["seed_means_a"]) == len(found["seed_means_b"]) == 3
    for wrong, said in (
        (["--runs", "naive", *files["naive"]], "name a baseline and at least one other"),
        (["--runs", "naive", *files["naive"], "--runs", "mined"], "mined: no result on"),
        (["--runs", "naive", *files["naive"], files["mined"][0], "--baseline", files["naive"][0]], "not both"),
        ([], "give RESULT files"),
    ):
        assert main(["compare", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_compare_corrects_over_all_collections(files, tmp_path, capsys):
    rng = np.random.default_rng(1)
    more = [saved(tmp_path, name, rng.random(30), "plants") for name in ("base", "better")]
    assert main(["compare", *files, *more]) == 0
    said = capsys.readouterr().out
    assert "plants: " in said and said.count("correction for 3 comparisons") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "embedded", "--on", "gone"], "is not a folder"),
        (["evaluate", "embedded", "--on", "gone", "--measures", "map"], "no measure 'map'"),
        (["evaluate", "embedded", "--on", "gone", "--runs"], "give --output as well"),
        (
            ["evaluate", "embedded", "--on", "gone", "--query-instruction", "a", "b"],
            "2 query instructions for 1 collections",
        ),
        (["compare", "gone.json"], "no such file: gone.json"),
        (["compare", "gone.json", "--alpha", "5"], "is between 0 and 1"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and said in error[0]


def test_compare_needs_the_same_collections(files, tmp_path, capsys):
    lonely = saved(tmp_path, "better", np.array([0.1, 0.2]), "plants")
    for given, said in (
        ([files[0], lonely], "no result of the baseline 'base' on 'plants'"),
        ([files[0]], "all results are of 'base'"),
        ([*files, str(RetrievalResult.load(files[1]).save(tmp_path / "copy.json"))], "two results of 'better'"),
    ):
        assert main(["compare", *given]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"hf-posmine {command}" in capsys.readouterr().out.split("examples:")[1]
