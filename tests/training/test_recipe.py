"""Recipes: every key is known and typed, the command line overrides the file, and mistakes are told in one sentence."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import BatchSamplers

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.training.objective import Objective
from hf_posmine.training.recipe import Contrastive, Student, read_recipe, recipe_from
from hf_posmine.training.values import is_text, typed

SETS = [{"name": "a", "path": "a.parquet", "task": "retrieval", "instruction": "find it"}]
LEAST = {"model": "m", "datasets": SETS, "output_dir": "out"}


def of(**changes):
    return recipe_from({**LEAST, **changes})


@pytest.fixture
def file(tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**LEAST, **changes}))
        return path

    return write


def test_the_three_parts_of_a_recipe(file):
    recipe = read_recipe(file(num_layers=2, temperature=0.05, learning_rate=2e-5))
    assert recipe.student == Student("m", num_layers=2)
    assert recipe.objective.temperature == 0.05
    assert [spec.name for spec in recipe.contrastive.datasets] == ["a"]
    assert recipe.trainer == {"output_dir": "out", "learning_rate": 2e-5}


def test_no_key_of_two_parts_and_all_of_the_trainers_are_known():
    names = [entry.name for cls in (Student, Contrastive, Objective) for entry in dataclasses.fields(cls)]
    trainers = {entry.name for entry in dataclasses.fields(SentenceTransformerTrainingArguments) if entry.init}
    assert len(set(names)) == len(names)
    assert not set(names) & trainers


def test_the_trainers_own_defaults_pass_the_check_of_values():
    """The annotations are read as sentence-transformers and transformers write them; a new form would show here."""
    defaults = SentenceTransformerTrainingArguments(output_dir="out", use_cpu=True)
    said = {
        entry.name: entry.default
        for entry in dataclasses.fields(defaults)
        if entry.init and entry.default is not dataclasses.MISSING
    }
    assert len(said) > 100
    assert typed(SentenceTransformerTrainingArguments, said) == said


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("learning_rate", "1e-5", 1e-5),  # as YAML reads it, a text
        ("learning_rate", 1, 1),
        ("warmup_steps", 0.1, 0.1),
        ("max_steps", "1e3", 1000),
        ("eval_strategy", False, "no"),  # as YAML reads no
        ("bf16", True, True),
        ("gradient_checkpointing", None, None),
        ("lr_scheduler_kwargs", {"num_cycles": 2}, {"num_cycles": 2}),
        ("report_to", ["tensorboard"], ["tensorboard"]),
        ("run_name", "7", "7"),
        ("batch_sampler", "no_duplicates", "no_duplicates"),
    ],
)
def test_values_are_read_as_their_fields_want_them(key, value, read):
    said = of(**{key: value}).trainer[key]
    assert said == read
    assert type(said) is type(read)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", "fast", "expected a number"),
        ("learning_rate", [1], "expected a number"),
        ("learning_rate", float("nan"), "expected a number"),
        ("learning_rate", -1e-5, "expected at least 0"),
        ("learning_rate", None, "expected a number"),
        ("seed", 1.5, "expected a whole number"),
        ("seed", True, "expected a whole number"),
        ("bf16", "yes", "expected true or false"),
        ("run_name", 7, "expected a text"),
        ("model", 7, "expected a text"),
        ("lr_scheduler_kwargs", [1], "expected a text or a mapping"),
        ("datasets", {"name": "a"}, "expected a list"),
        ("evals", "heldout", "expected a list"),
        ("lora", 16, "expected a mapping"),
        ("num_layers", 0, "expected at least 1"),
        ("max_query_length", "long", "expected a whole number"),
        ("num_negatives", 0, "expected at least 1"),
        ("mini_batch_size", 0, "expected at least 1"),
        ("per_device_train_batch_size", 0, "expected at least 1"),
        ("temperature", "warm", "expected a number"),
    ],
)
def test_values_of_another_kind_are_refused_with_the_kind_that_is_wanted(key, value, expected):
    with pytest.raises(InputError, match=f"^{key}=.*{expected}"):
        of(**{key: value})


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0), st.integers(1, 10**9))
def test_numbers_mean_the_same_as_texts_and_as_numbers(real, whole):
    kinds = {"learning_rate": real, "max_steps": whole, "temperature": None}
    said = {key: value for key, value in kinds.items() if value is not None}
    as_texts = {key: repr(value) for key, value in said.items()}
    assert typed(SentenceTransformerTrainingArguments, as_texts) == typed(SentenceTransformerTrainingArguments, said)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learnin_rate": 1}, "unknown key 'learnin_rate'; did you mean 'learning_rate'?"),
        ({"temprature": 1}, "did you mean 'temperature'?"),
        ({"model": None}, "has no model"),
        ({"datasets": []}, "has no datasets"),
        ({"output_dir": ""}, "has no output_dir"),
        ({"prompts": "query: "}, "prompts has no effect here: give each data set its instruction"),
        ({"router_mapping": {"query": "query"}}, "router_mapping has no effect"),
        ({"resume_from_checkpoint": "out/checkpoint-1"}, "resume_from_checkpoint has no effect"),
        ({"batches": "both"}, "batches='both' must be"),
        ({"mini_batch_size": 4, "mini_batch_num_tokens": 100}, "not both"),
        ({"temperature": 0}, "temperature 0 must be a number above 0"),
        ({"false_negatives": "TopTen(1)"}, "TopTen"),
        ({"false_negatives": "SkipTop(10)"}, "sets no ceiling"),
        ({"evals": [{"name": "x"}]}, r"evals.0: .*with a path"),
        ({"evals": [{"path": "x", "queries": "y"}]}, r"evals.0: .*'queries'"),
        ({"evals": ["x"]}, "evals.0: 'x'; expected a mapping"),
        ({"datasets": ["a"]}, "expected a mapping with name, path and task"),
        ({"datasets": [{**SETS[0], "taks": "sts"}]}, "unknown key 'taks'"),
        ({"datasets": [{**SETS[0], "instruction": None, "name": "zz"}]}, "data set 'zz': no public instruction"),
    ],
)
def test_bad_recipes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        of(**changes)


def test_keys_that_are_no_texts_are_unknown():
    with pytest.raises(InputError, match="unknown key '7'"):
        recipe_from(LEAST | {7: 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"load_best_model_at_end": True}, "load_best_model_at_end=True needs something to evaluate on"),
        ({"eval_strategy": "steps"}, "eval_strategy='steps' needs something to evaluate on"),
        ({"optim": "adam_and_eve"}, "adam_and_eve"),
        ({"save_strategy": "sometimes"}, "sometimes"),
        ({"batch_sampler": "mine"}, "mine"),
        ({"bf16": True, "fp16": True}, "At most one of fp16 and bf16"),
        (
            {"evals": [{"path": "x"}], "load_best_model_at_end": True, "eval_strategy": "epoch"},
            "save and eval strategy to match",
        ),
    ],
)
def test_arguments_that_the_trainer_refuses_are_told_in_one_line(changes, message):
    recipe = of(use_cpu=True, **changes)
    with pytest.raises(InputError, match=message) as caught:
        recipe.training_arguments()
    assert "\n" not in str(caught.value)


def test_arguments_reach_the_trainer(file, tmp_path, monkeypatch):
    """And nothing else does: a file of arguments beside the program would be read by transformers' own parser."""
    (tmp_path / "program.args").write_text("--seed 99")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "program.py")])
    said = {"learning_rate": "3e-5", "batch_sampler": "no_duplicates", "eval_strategy": "no", "seed": 5}
    args = read_recipe(file(use_cpu=True, **said)).training_arguments()
    assert (args.learning_rate, args.seed) == (3e-5, 5)
    assert args.batch_sampler is BatchSamplers.NO_DUPLICATES
    assert args.eval_strategy.value == "no"
    assert args.dataloader_pin_memory is False


def test_overrides_win_over_the_file_also_within_lists_and_mappings(file):
    path = file(learning_rate=1.0, lora={"r": 8}, temperature=0.5)
    overrides = ["--learning-rate", "1e-5", "--datasets.0.max_samples=10", "--lora.r", "16", "--max_steps", "-1"]
    recipe = read_recipe(path, [*overrides, "--bf16", "true", "--lora.lora_alpha", "32", "--temperature=2e-2"])
    assert recipe.trainer["learning_rate"] == 1e-5
    assert recipe.trainer["max_steps"] == -1
    assert recipe.trainer["bf16"] is True
    assert recipe.student.lora == {"r": 16, "lora_alpha": 32}
    assert recipe.contrastive.datasets[0].max_samples == 10
    assert recipe.objective.temperature == 0.02


@pytest.mark.parametrize("text", ["no", "yes: no", "007", "[a]", "1e5", "{text}"])
def test_overrides_of_texts_stay_texts(file, text):
    """Whether the file has one there, or the field wants one."""
    recipe = read_recipe(file(), [f"--datasets.0.instruction={text}", f"--run_name={text}"])
    assert recipe.contrastive.datasets[0].instruction == text
    assert recipe.trainer["run_name"] == text


def test_null_takes_a_value_back(file):
    recipe = read_recipe(
        file(false_negatives="PercPos(0.95)", num_layers=2), ["--false_negatives=null", "--num_layers=null"]
    )
    assert (recipe.objective.false_negatives, recipe.student.num_layers) == (None, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["learning_rate", "1"], "cannot read 'learning_rate'; override as --key value"),
        (["--learning_rate"], "cannot read '--learning_rate'"),
        (["--bf16", "--seed", "3"], "cannot read '--bf16'"),
        (["--datasets.1.name", "b"], "--datasets.1.name: '1' is not a number from 0 to 0"),
        (["--datasets.first.name", "b"], "'first' is not a number"),
        (["--lora.r", "16"], "the recipe has no 'lora' there"),
        (["--output_dir.x", "16"], "--output_dir.x: the recipe has no 'x' there"),
        (["--lora", "{r: 16"], "--lora: cannot read '{r: 16' as YAML"),
        (["--learnin_rate", "1"], "unknown key 'learnin_rate'; did you mean 'learning_rate'"),
        (["--datasets.0.task", "guessing"], "task='guessing'"),
    ],
)
def test_bad_overrides_are_refused(file, overrides, message):
    with pytest.raises(InputError, match=message):
        read_recipe(file(), overrides)


@pytest.mark.parametrize("content", [None, "a: [", "- a", b"\xff\xfe\xff"])
def test_files_that_are_no_recipe_are_refused(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"recipe\.yaml") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_as_json_holds_every_default():
    said = of(lora={"r": 4}, datasets=[{**SETS[0], "columns": {"query": "q"}}]).as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["temperature"] == Objective().temperature
    assert said["datasets"][0]["columns"] == {"query": "q"} and said["datasets"][0]["weight"] == 1.0
    assert said["lora"] == {"r": 4}


def test_fields_that_take_nothing_but_texts():
    texts = {name for name in ("model", "num_layers", "lora", "dtype") if is_text(Student, name)}
    assert texts == {"model", "dtype"}
    assert is_text(SentenceTransformerTrainingArguments, "save_strategy")  # a choice
    assert not is_text(SentenceTransformerTrainingArguments, "lr_scheduler_kwargs")


def test_a_home_folder_is_the_same_one_for_the_trainer(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = of(output_dir="~/out", use_cpu=True)
    assert recipe.trainer["output_dir"] == recipe.training_arguments().output_dir == str(tmp_path / "out")


def test_the_error_of_a_filter_is_one_of_spelling():
    with pytest.raises(SpecError):
        of(false_negatives="PercPos(95)")
