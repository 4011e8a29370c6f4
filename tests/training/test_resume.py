"""A run that is interrupted and resumed ends with the bits of an undisturbed one, in every dtype, with and without adapters."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.stage import prepare, run_stage
from tests.support.stage_runs import decoder, recipe, retrieval_file, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    decoder(folder / "mistral")
    retrieval_file(folder / "pairs.parquet")
    retrieval_file(folder / "others.parquet", rows=16, seed=1)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ADAPTERS = {"lora": {"r": 4, "lora_dropout": 0.1}, "merge_adapters": False}
DTYPES = ["float32", "bfloat16", "float16"]
SAMPLERS = {
    "proportional": {},
    "round robin": {"multi_dataset_batch_sampler": "round_robin"},
    "weights": {"weight": 3.0},
    "mixed": {"batches": "mixed"},
    "near rows": {"neighbours": {"teacher": "embedded", "k": 4}},
    "several positives": {"several_positives": "random"},
}
"""Ways to choose the batches of two data sets, beside the random batches of one."""


def said(folder, output, dtype, adapters, **changes):
    trained = {
        "dtype": dtype,
        "learning_rate": 0.003,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.1,
        "adam_epsilon": 1e-4,
    }
    return told(
        folder / "mistral", folder / "pairs.parquet", output, **trained, **(ADAPTERS if adapters else {}), **changes
    )


def saved(path):
    return load_file(
        path / ("adapter_model.safetensors" if (path / "adapter_model.safetensors").exists() else "model.safetensors")
    )


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def interrupt(out, step):
    """Leave what a run that was killed after the checkpoint of a step leaves."""
    for path in out.iterdir():
        if path.is_dir() and path.name.startswith("checkpoint-") and int(path.name.split("-")[1]) > step:
            shutil.rmtree(path)
        elif path.is_file() and path.name != "recipe.json":
            path.unlink()


@pytest.mark.parametrize("adapters", [True, False], ids=["adapters", "all weights"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resumed_run_has_the_bits_of_an_undisturbed_one(folder, tmp_path, dtype, adapters):
    """Weights, both moments of Adam, the schedule and the random numbers of dropout all come back as they were."""
    made = said(folder, tmp_path / "out", dtype, adapters)
    run_stage(recipe(tmp_path, made))
    expected, state = saved(tmp_path / "out"), torch.load(tmp_path / "out" / "checkpoint-6" / "optimizer.pt")
    assert {weight.dtype for weight in expected.values()} == {torch.float32 if adapters else getattr(torch, dtype)}
    interrupt(tmp_path / "out", 2)
    run_stage(recipe(tmp_path, made))
    assert same(saved(tmp_path / "out"), expected)
    again = torch.load(tmp_path / "out" / "checkpoint-6" / "optimizer.pt")
    for number, moments in state["state"].items():
        assert all(torch.equal(moments[name], again["state"][number][name]) for name in moments)
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"] == 6


def two_sets(folder, output, dtype, adapters, *, weight=1.0, **changes):
    """A recipe of two data sets."""
    made = said(folder, output, dtype, adapters, **changes)
    first = made["datasets"][0]
    other = first | {"name": "others", "path": str(folder / "others.parquet"), "weight": weight}
    return made | {"datasets": [first, other]}


@pytest.mark.matrix
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("adapters", [True, False], ids=["adapters", "all weights"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_to_choose_batches_resumes_to_the_same_bits(folder, tmp_path, dtype, adapters, sampler):
    made = two_sets(folder, tmp_path / "out", dtype, adapters, **SAMPLERS[sampler])
    run_stage(recipe(tmp_path, made))
    expected = saved(tmp_path / "out")
    interrupt(tmp_path / "out", 2)
    run_stage(recipe(tmp_path, made))
    assert same(saved(tmp_path / "out"), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_adapters_in_a_folder_reload_in_the_dtype_they_were_trained_in(folder, tmp_path, dtype):
    made = said(folder, tmp_path / "out", dtype, True, max_steps=2)
    model = run_stage(recipe(tmp_path, made))
    again = InstructSentenceTransformer(str(tmp_path / "out"), device="cpu", model_kwargs={"dtype": dtype})
    trained, loaded = (dict(m.named_parameters()) for m in (model, again))
    adapters = [name for name in trained if "lora_" in name]
    assert adapters and all(loaded[name].dtype == torch.float32 for name in adapters)
    assert all(torch.equal(loaded[name], trained[name]) for name in adapters)
    assert np.array_equal(again.encode(["w1 w2"]), model.encode(["w1 w2"]))


def test_a_checkpoint_of_adapters_is_loaded_without_a_second_base(folder, tmp_path, monkeypatch):
    made = said(folder, tmp_path / "out", "bfloat16", True, max_steps=2)
    run_stage(recipe(tmp_path, made))
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "other", "bfloat16", True)))
    monkeypatch.setattr(InstructSentenceTransformer, "__init__", lambda *_, **__: pytest.fail("loaded a second model"))
    trainer._load_from_checkpoint(str(tmp_path / "out" / "checkpoint-2"))
    live = {name: weight for name, weight in trainer.model.named_parameters() if "lora_" in name}
    assert {weight.dtype for weight in live.values()} == {torch.float32}
    file = saved(tmp_path / "out" / "checkpoint-2")
    assert sorted(weight.abs().sum().item() for weight in live.values()) == sorted(
        w.abs().sum().item() for w in file.values()
    )
