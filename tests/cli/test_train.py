"""`hf-posmine train` as a user meets it: the plan, mistakes in one line before the first step, and several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from safetensors.numpy import load_file

from hf_posmine.cli.main import main
from hf_posmine.training.trainer import RecipeTrainer
from tests.support.stage_runs import INSTRUCTION, collection, label_file, retrieval_file, saved_student, told, written

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-train")
    saved_student(folder / "still", dropout=0.0)
    retrieval_file(folder / "pairs.parquet")
    label_file(folder / "labels.parquet")
    collection(folder / "heldout")
    for name, columns in {
        "short": {"query": ["w1", "w2"], "positive": ["w3", "w4"], "negatives": [["w5", "w6"], ["w7"]]},
        "texts": {"query": ["w1", "w2"], "positive": ["w3", "w4"], "negatives": ["w5", "w6"]},
        "lists": {"query": [["w1"], ["w2"]], "positive": ["w3", "w4"], "negatives": [["w5", "w6"], ["w7", "w8"]]},
        "empty": {"query": [], "positive": [], "negatives": []},
        "blank": {"query": ["w1", " "], "positive": ["w3", "w4"], "negatives": [["w5", "w6"], ["w7", "w8"]]},
    }.items():
        Dataset.from_dict(columns).to_parquet(str(folder / f"{name}.parquet"))
    return folder


def pairs(folder, name="pairs", **changes):
    path = folder / f"{name}.parquet"
    return {"name": "pairs", "path": str(path), "task": "retrieval", "instruction": INSTRUCTION, **changes}


def recipe_file(folder, tmp_path, **changes):
    made = told(folder / "still" / "st", folder / "pairs.parquet", tmp_path / "out")
    return str(written(tmp_path, {key: value for key, value in (made | changes).items() if value is not None}))


MISTAKES = {
    "no such model": ({"model": "nowhere/at-all"}, "nowhere/at-all"),
    "a folder without a model": ({"model": "{tmp}"}, "cannot load the student"),
    "no such data": ({"datasets": [{"name": "nq", "path": "{tmp}/no.parquet", "task": "retrieval"}]}, "no.parquet"),
    "an unknown column": ({"columns": {"query": "question"}}, "'question'"),
    "a list of negatives of another length": ({"file": "short"}, "row 1: 1 negatives, for num_negatives=2"),
    "one negative where two are wanted": ({"file": "texts"}, "'negatives'"),
    "a raw list column": ({"file": "lists"}, "column 'query', row 0: expected a text"),
    "an empty data set": ({"file": "empty"}, "data set 'pairs'"),
    "a blank query": ({"file": "blank"}, "data set 'pairs': 'query' is blank in training row 1; drop the row"),
    "no instruction": ({"instruction": None}, "no public instruction"),
    "an instruction that leaves no room": (
        {"max_query_length": 3},
        "data set 'pairs': row 0: the instruction leaves no room for the text",
    ),
    "one row without negatives": ({"num": 0, "per_device_train_batch_size": 1}, "batches of one row"),
    "an unknown loss setting": ({"false_negatives": "PercPos(95)"}, "0.95"),
    "evaluation of nothing": ({"load_best_model_at_end": True}, "evals"),
    "a collection that is not there": ({"evals": [{"path": "{tmp}/heldout"}]}, "heldout"),
    "two collections of one name": ({"evals": [{"path": "{held}"}, {"path": "{held}"}]}, "give each its own name"),
    "a metric nobody measures": (
        {"evals": [{"path": "{held}"}], "metric_for_best_model": "eval_loss", "eval_strategy": "steps"},
        "metric_for_best_model='eval_loss' is not evaluated; there are ['heldout_ndcg@10'",
    ),
    "re-entrant checkpointing": (
        {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
        "use_reentrant",
    ),
    "a logger that is not there": ({"report_to": "hammer_and_chisel"}, "hammer_and_chisel"),
    "a logger that is not installed": ({"report_to": ["neptune"]}, "report_to='neptune' is not installed"),
    "a token": ({"hub_token": "hf_abc"}, "hub_token has no place in a recipe"),
    "an unknown key": ({"learnin_rate": 1}, "did you mean 'learning_rate'?"),
    "somebody's folder": ({"output_dir": "{model}"}, "choose another output_dir"),
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry-run"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line_before_the_first_step(folder, tmp_path, capsys, monkeypatch, mistake, dry):
    changes, expected = MISTAKES[mistake]
    places = {"{tmp}": tmp_path, "{held}": folder / "heldout", "{model}": folder / "still" / "st"}
    text = json.dumps(changes)
    for name, place in places.items():
        text = text.replace(name, str(place))
    changes = json.loads(text)
    mine = {key: changes.pop(key) for key in ("columns", "instruction") if key in changes}
    if "num" in changes:
        mine["num_negatives"] = changes.pop("num")
    changes.setdefault("datasets", [pairs(folder, changes.pop("file", "pairs"), **mine)])
    monkeypatch.setattr(RecipeTrainer, "training_step", lambda *_, **__: pytest.fail("a step was taken"))
    before = (folder / "still" / "st" / "model.safetensors").read_bytes()
    assert main(["train", "--config", recipe_file(folder, tmp_path, **changes), *dry]) == 2
    told_lines = [
        line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error: ")
    ]
    assert len(told_lines) == 1 and expected in told_lines[0]
    assert (folder / "still" / "st" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "out" / "modules.json").exists()


def test_the_command_trains_quietly_and_says_where_the_model_is(folder, tmp_path, capsys):
    """The loss of each step is shown; nothing warns, and no bar of loading or writing weights is in between."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["train", "--config", recipe_file(folder, tmp_path), "--max_steps", "3", "--seed=5"]) == 0
    said = capsys.readouterr()
    assert said.out.count("'loss'") == 3
    assert said.out.splitlines()[-1] == f"The model is in {tmp_path / 'out'}"
    taken = "query: query · positive: positive · negatives: negatives · negatives per row: 2"
    assert said.out.splitlines()[0] == f"pairs: {taken}"
    (recorded,) = json.loads((tmp_path / "out" / "provenance.json").read_text())["stages"][0]["datasets"]
    assert recorded["columns"] == {"query": "query", "positive": "positive", "negatives": "negatives"}
    assert recorded["num_negatives"] == 2
    assert "weights" not in said.err and "shards" not in said.err
    told_back = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert (told_back["max_steps"], told_back["seed"]) == (3, 5)


@pytest.mark.parametrize("width", ["100", "160"])
def test_the_plan_fits_the_screen_and_trains_nothing(folder, tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(RecipeTrainer, "training_step", lambda *_, **__: pytest.fail("a step was taken"))
    long = " ".join(["Given a question, retrieve passages that answer it"] * 3)
    kinds = {"name": "kinds", "path": str(folder / "labels.parquet"), "task": "classification", "positives": "example"}
    path = recipe_file(
        folder,
        tmp_path,
        datasets=[pairs(folder), {**kinds, "instruction": long, "num_negatives": 1}],
        evals=[{"path": str(folder / "heldout"), "name": "held out"}],
        mini_batch_num_tokens=100,
        lora={"r": 2},
    )
    assert main(["train", "--config", path, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["data", "set"]
    assert lines[1].split()[:6] == ["pairs", "retrieval", "24", "2", "yes", lines[1].split()[5]]
    assert lines[2].strip() == "query: query · positive: positive · negatives: negatives · negatives per row: 2"
    assert lines[3].strip() == f"before queries: {INSTRUCTION}"
    assert lines[4].strip() == "rows in 24, rows out 24"
    assert lines[5].split()[:5] == ["kinds", "classification", "24", "1", "no"]
    assert " ".join(" ".join(lines[7:10]).split()).startswith(f"before queries: {long}")
    plan = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines if line and line[0] != " "}
    assert plan["steps"] == "12"
    assert plan["batch"] == "8 rows per optimizer step, 8 on a device at a time, homogeneous"
    assert plan["loss"] == "InfoNCE at temperature 0.1, GradCache in parts of 100 tokens"
    assert plan["evaluation"] == "held out"
    first = next(line for line in lines if line.startswith("  pairs query"))
    assert INSTRUCTION in first.split("⟦")[0] and first.endswith("⟧")
    assert all(len(line) <= int(width) for line in lines if not line.startswith("  kinds query"))
    assert not any((tmp_path / "out").glob("*"))


def test_quiet_leaves_no_bar(folder, tmp_path, capsys):
    import datasets
    from transformers.utils import logging

    try:
        path = recipe_file(folder, tmp_path, disable_tqdm=None)
        assert main(["train", "--config", path, "--max_steps", "2", "--quiet"]) == 0
    finally:
        datasets.enable_progress_bars()
        logging.enable_progress_bar()
    said = capsys.readouterr()
    assert "it/s" not in said.err and "Loading the blend" not in said.err


def test_two_processes_train_the_model_of_one_with_the_joint_batch(folder, tmp_path):
    """Under torchrun, with evaluation, in-batch negatives from both processes, and the folder noted once."""
    evals = [{"path": str(folder / "heldout"), "instruction": INSTRUCTION}]
    made = {"optim": "sgd", "learning_rate": 0.1, "evals": evals, "eval_strategy": "steps", "eval_steps": 3}
    files = {}
    for name, batch in (("one", 8), ("two", 4)):
        (tmp_path / name).mkdir()
        files[name] = recipe_file(folder, tmp_path / name, per_device_train_batch_size=batch, **made)
    assert main(["train", "--config", files["one"]]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ran = subprocess.run(
        [*command, "-m", "hf_posmine.cli", "train", "--config", files["two"], "--use_cpu", "true"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stdout.count("The model is in") == 1
    one, two = (load_file(tmp_path / name / "out" / "model.safetensors") for name in ("one", "two"))
    start = load_file(folder / "still" / "st" / "model.safetensors")
    moved = max(float(np.abs(one[name] - start[name]).max()) for name in one)
    assert moved > 0.01
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-4 * moved, err_msg=name)
    states = [json.loads((tmp_path / name / "out" / "trainer_state.json").read_text()) for name in ("one", "two")]
    scores = [[entry["eval_heldout_ndcg@10"] for entry in s["log_history"] if "eval_runtime" in entry] for s in states]
    assert len(scores[0]) == 3 and scores[0] == pytest.approx(scores[1], abs=1e-6)
