"""FSDP2 as ``recipes/accelerate/fsdp2.yaml`` has it, on two processes: trained, saved, resumed and evaluated as with DDP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from tests.support.stage_runs import INSTRUCTION, collection, decoder, retrieval_file, told
from tests.training.test_resume import interrupt

ROOT = Path(__file__).parents[2]
RECIPES = {
    "full": {},
    "cached": {"mini_batch_size": 2},
    "adapters": {"lora": {"r": 4}},
    "best": {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True},
}


def write(folder: Path, name: str, how: str, **changes: Any) -> Path:
    path = folder / f"{name}-{how}.yaml"
    evals = [{"path": str(folder / "heldout"), "instruction": INSTRUCTION}] if name == "best" else None
    made = told(
        folder / "mistral",
        folder / "pairs.parquet",
        folder / f"{name}-{how}",
        per_device_train_batch_size=4,
        learning_rate=0.003,
        evals=evals,
        **RECIPES[name],
        **changes,
    )
    path.write_text(yaml.safe_dump(made))
    return path


def launch(config: str, *recipes: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.support.sharded_runs", str(ROOT / "recipes" / "accelerate" / config), *map(str, recipes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, cwd=ROOT, timeout=400, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The same stages by DDP and with FSDP2."""
    folder = tmp_path_factory.mktemp("sharded")
    decoder(folder / "mistral")
    retrieval_file(folder / "pairs.parquet")
    collection(folder / "heldout")
    launch("ddp.yaml", *(write(folder, name, "ddp") for name in RECIPES))
    launch("fsdp2.yaml", *(write(folder, name, "fsdp") for name in RECIPES))
    return folder


def weights(path: Path) -> dict[str, np.ndarray]:
    return load_file(path / "model.safetensors")


@pytest.mark.parametrize("name", RECIPES)
def test_sharded_training_equals_ddp_and_ends_in_a_portable_model(folder, name):
    ddp, fsdp, start = (weights(folder / path) for path in (f"{name}-ddp", f"{name}-fsdp", "mistral"))
    moved = max(float(np.abs(value - start[key]).max()) for key, value in ddp.items())
    assert moved > 1e-3 and fsdp.keys() == ddp.keys() == start.keys()
    for key, value in ddp.items():
        np.testing.assert_allclose(fsdp[key], value, rtol=0, atol=1e-3 * moved, err_msg=key)
    plain = [SentenceTransformer(str(folder / f"{name}-{how}"), device="cpu") for how in ("ddp", "fsdp")]
    assert type(plain[1][0]).__module__.startswith("sentence_transformers.")
    np.testing.assert_allclose(*(model.encode_query(["w1 w2"]) for model in plain), rtol=0, atol=1e-4)


def test_evaluations_are_those_of_ddp(folder):
    histories = [
        json.loads((folder / f"best-{how}" / "trainer_state.json").read_text())["log_history"]
        for how in ("ddp", "fsdp")
    ]
    losses = [[entry["loss"] for entry in history if "loss" in entry] for history in histories]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    steps = [[entry["step"] for entry in history if "eval_heldout_ndcg@10" in entry] for history in histories]
    assert steps[0] == steps[1] and len(steps[1]) >= 3
    assert (folder / "best-fsdp" / "eval" / "heldout-6.json").exists()


@pytest.mark.matrix
def test_an_interrupted_sharded_run_resumes_to_the_same_weights(folder):
    """Interrupted after two steps with all weights and with adapters, and while the model of the end was saved."""
    names = ("full", "adapters", "cached")
    expected = {name: weights(folder / f"{name}-fsdp") for name in names}
    for name, step in zip(names, (2, 2, 6), strict=True):
        interrupt(folder / f"{name}-fsdp", step)
    launch("fsdp2.yaml", *(folder / f"{name}-fsdp.yaml" for name in names))
    for name in names:
        again = weights(folder / f"{name}-fsdp")
        assert all(np.array_equal(again[key], value) for key, value in expected[name].items()), name
