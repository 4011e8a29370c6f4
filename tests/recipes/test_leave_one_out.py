"""Leaving one data set of a blend out: a set that was made to hurt is found, and nothing is trained twice."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, disable_progress_bars

from hf_posmine.core.errors import InputError
from hf_posmine.training.recipe import read_recipe
from tests.support.distributed import WORDS, tiny_model

disable_progress_bars()
SCRIPT = Path(__file__).parents[2] / "recipes" / "leave_one_out.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("leave_one_out", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A set that teaches a word to be itself, one that teaches it to be another, and the collection of all words."""
    folder = tmp_path_factory.mktemp("blend")
    words = list(WORDS[:40])
    other = words[7:] + words[:7]
    for name, positives in (("good", words), ("bad", other)):
        queries = [f"{word} {WORDS[-1]}" for word in words]
        Dataset.from_dict({"query": queries, "positive": positives}).to_parquet(str(folder / f"{name}.parquet"))
    judged = folder / "judged"
    judged.mkdir()
    documents = {
        "id": [f"d{n}" for n in range(40)],
        "text": [f"{word} {words[n - 11]}" for n, word in enumerate(words)],
    }
    queries = {"id": [f"q{n}" for n in range(40)], "text": words}
    qrels = {"query_id": queries["id"], "doc_id": documents["id"], "score": [1] * 40}
    for name, columns in (("corpus", documents), ("queries", queries), ("qrels", qrels)):
        Dataset.from_dict(columns).to_parquet(str(judged / f"{name}.parquet"))
    sets = [
        {
            "name": name,
            "path": str(folder / f"{name}.parquet"),
            "task": "retrieval",
            "instruction": "",
            "num_negatives": 0,
        }
        for name in ("good", "bad")
    ]
    stage = {
        "model": str(tiny_model(folder / "tiny")), "datasets": sets, "evals": [{"name": "words", "path": str(judged)}],
        "output_dir": str(folder / "out"), "max_steps": 12, "learning_rate": 2e-2, "per_device_train_batch_size": 20,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    (folder / "stage.yaml").write_text(yaml.safe_dump(stage))
    return folder / "stage.yaml"


def test_a_set_that_hurts_is_found_and_runs_are_kept(script, config, tmp_path, monkeypatch, capsys):
    given = ["--config", str(config), "--output", str(tmp_path), "--seeds", "1", "2", "3"]
    assert script.main(given) == 0
    first = (tmp_path / "leave_one_out.json").read_text()
    without = json.loads(first)["without"]
    assert without["bad"]["verdict"] == "it hurts" and without["bad"]["difference"] > 0.1
    assert without["good"]["verdict"] != "it hurts" and without["good"]["difference"] < 0
    assert "without bad: it hurts" in capsys.readouterr().out
    assert not list((tmp_path / "runs").iterdir())
    monkeypatch.setattr(script, "run_stage", None)  # nothing is trained twice
    assert script.main(given) == 0 and (tmp_path / "leave_one_out.json").read_text() == first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--datasets", "[{name: a, path: a, task: retrieval, instruction: ''}]"], "1 data set"),
        (["--evals", "[]"], "no evals"),
        (["--rounds", "2"], "rounds=2"),
    ],
)
def test_what_cannot_be_left_out_is_refused_before_anything_is_trained(script, config, change, says):
    with pytest.raises(InputError, match=says):
        script.without_each(read_recipe(config, change))


def test_one_seed_shows_no_spread(script, config, tmp_path, capsys):
    assert script.main(["--config", str(config), "--output", str(tmp_path), "--seeds", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err


def test_the_prompt_of_a_set_goes_with_it(script, config):
    ways = script.without_each(read_recipe(config, ["--query_prompt_of", "bad"]))
    assert ways["bad"].contrastive.query_prompt_of is None and ways["good"].contrastive.query_prompt_of == "bad"
    assert [spec.name for spec in ways["bad"].contrastive.datasets] == ["good"]
