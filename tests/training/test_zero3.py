"""DeepSpeed's ZeRO-3 as ``recipes/accelerate/deepspeed_zero3.yaml`` has it, on two processes: as with DDP."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.support.stage_runs import collection, decoder, retrieval_file
from tests.training.test_resume import interrupt
from tests.training.test_sharded import launch, weights, write

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed"),
]
if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("full", "adapters", "best")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The same stages by DDP and with ZeRO-3."""
    folder = tmp_path_factory.mktemp("zero3")
    decoder(folder / "mistral")
    retrieval_file(folder / "pairs.parquet")
    collection(folder / "heldout")
    launch("ddp.yaml", *(write(folder, name, "ddp") for name in NAMES))
    launch("deepspeed_zero3.yaml", *(write(folder, name, "zero", use_cpu=None) for name in NAMES))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_training_equals_ddp_and_ends_in_a_portable_model(folder, name):
    ddp, zero, start = (weights(folder / path) for path in (f"{name}-ddp", f"{name}-zero", "mistral"))
    moved = max(float(np.abs(value - start[key]).max()) for key, value in ddp.items())
    assert moved > 1e-3 and zero.keys() == ddp.keys() == start.keys()
    for key, value in ddp.items():
        np.testing.assert_allclose(zero[key], value, rtol=0, atol=1e-3 * moved, err_msg=key)
    plain = [SentenceTransformer(str(folder / f"{name}-{how}"), device="cpu") for how in ("ddp", "zero")]
    np.testing.assert_allclose(*(model.encode_query(["w1 w2"]) for model in plain), rtol=0, atol=1e-4)


def test_evaluations_are_those_of_ddp(folder):
    histories = [
        json.loads((folder / f"best-{how}" / "trainer_state.json").read_text())["log_history"]
        for how in ("ddp", "zero")
    ]
    values = [
        [entry["eval_heldout_ndcg@10"] for entry in history if "eval_heldout_ndcg@10" in entry] for history in histories
    ]
    assert len(values[0]) >= 3
    np.testing.assert_allclose(*values, rtol=1e-3)


def test_an_interrupted_run_resumes_to_the_same_weights(folder):
    """Interrupted after two steps, and while the best model was saved."""
    steps = {"full": 2, "adapters": 2, "best": 6}
    expected = {name: weights(folder / f"{name}-zero") for name in steps}
    for name, step in steps.items():
        interrupt(folder / f"{name}-zero", step)
    launch("deepspeed_zero3.yaml", *(folder / f"{name}-zero.yaml" for name in steps))
    for name, before in expected.items():
        again = weights(folder / f"{name}-zero")
        assert all(np.array_equal(again[key], value) for key, value in before.items()), name


def test_gradcache_is_refused_before_training(folder):
    """DeepSpeed fails on its second backward pass in a step."""
    with pytest.raises(AssertionError, match="GradCache goes backwards several times"):
        launch("deepspeed_zero3.yaml", write(folder, "cached", "zero", use_cpu=None))
