"""The benchmarks of the embedder: their count of operations is right, and both run to their end on a CPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import embedder, embedder_gpu
from benchmarks.embedder_flops import forward_flops, step_flops
from benchmarks.embedder_task import Computed, Lengths, Shape, batch

SHAPE = Shape(hidden=64, layers=3, heads=4, key_heads=2, inner=160)
RANK, ROWS, LENGTH = 5, 3, 40


def counted(lora: dict | None, backward: bool) -> float:
    """Operations of the backbone as torch sees them dispatched; eager attention is made of plain products."""
    model = SHAPE.model("eager", device="cpu", dtype="float32", lora=lora)[0].model.train()
    with FlopCounterMode(display=False) as counter:
        states = model(input_ids=torch.zeros((ROWS, LENGTH), dtype=torch.int64)).last_hidden_state
        if backward:
            states.sum().backward()
    return counter.get_total_flops()


def test_operations_of_a_forward_pass():
    lengths = np.full(ROWS, LENGTH)
    assert forward_flops(SHAPE, lengths) == counted(None, backward=False)


def test_operations_of_a_training_step_with_a_frozen_base():
    keys = SHAPE.hidden // SHAPE.heads * SHAPE.key_heads
    # the embeddings are frozen, so the lowest layer's queries, keys and values pass no gradient on to their input
    left_out = 2 * ROWS * LENGTH * (SHAPE.hidden * (SHAPE.hidden + 2 * keys) + 3 * RANK * SHAPE.hidden)
    lora = {"r": RANK, "lora_dropout": 0.0}
    assert step_flops(SHAPE, np.full(ROWS, LENGTH), RANK) - left_out == counted(lora, backward=True)


def test_what_is_left_out_is_as_small_at_7b_as_is_said():
    big = embedder_gpu.SIZES["7b"]
    lengths = np.full(64, 150)
    keys = big.hidden // big.heads * big.key_heads
    left_out = 2 * lengths.sum() * (big.hidden * (big.hidden + 2 * keys) + 3 * 16 * big.hidden)
    assert left_out < 0.004 * step_flops(big, lengths, 16)


@pytest.mark.parametrize("attention", ["sdpa", "posmine_varlen"])
def test_texts_have_the_lengths_that_were_drawn(attention):
    lengths = Lengths(np.array([7]), np.array([3, 30]), "two lengths")
    model = SHAPE.model(attention, device="cpu", dtype="float32")
    columns = lengths.columns(rows=4, negatives=1, seed=0)
    words = [len(text.split()) for text in columns[1]]
    assert sorted(set(words)) == [3, 30]
    with Computed(model) as computed:
        vectors = model(batch(model, columns)[1])["sentence_embedding"]
    assert vectors.shape == (4, SHAPE.hidden)
    assert computed.real == sum(words) + 4  # <s> in front of each
    assert computed.all == (computed.real if attention == "posmine_varlen" else 4 * (max(words) + 1))


def test_the_cpu_benchmark_finds_equal_losses_and_no_padding(tmp_path):
    asked = ["--size", "tiny", "--batch", "3", "--negatives", "2", "--documents", "12", "--repeat", "1"]
    embedder.main([*asked, "--threads", "1", "--squad", str(tmp_path / "none"), "--output", str(tmp_path)])
    said = json.loads((tmp_path / "embedder.json").read_text())
    assert max(said["differences"].values()) < embedder.LARGEST_DIFFERENCE
    assert said["lengths"].startswith("query: lognormal")
    tokens = {(run["phase"], run["contender"]): run["real_tokens"] for run in said["runs"]}
    for phase in embedder.PHASES:
        assert tokens[phase, "padded"] == tokens[phase, "unpadded"]
        assert said["summary"][phase]["unpadded"]["padding"] == 0
    assert said["summary"]["train, plain"]["padded"]["padding"] > 0
    assert "train, cached: unpadded" in (tmp_path / "embedder.md").read_text()


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setitem(embedder_gpu.MATRIX, "tiny", 64)
    asked = ["--size", "tiny", "--device", "cpu", "--batch", "3", "--negatives", "2", "--documents", "12"]
    embedder_gpu.main([*asked, "--mini-batch-tokens", "300", "--repeat", "1", "--output", str(tmp_path)])
    said = json.loads((tmp_path / "embedder-gpu.json").read_text())
    assert set(said["failed"]) <= {"flash_attention_2"}
    unpadded = [run for run in said["runs"] if run["attention"] == "posmine_varlen"]
    padded = [run for run in said["runs"] if run["attention"] == "sdpa"]
    assert [run["phase"] for run in unpadded] == [*embedder_gpu.TRAINING, *embedder_gpu.ENCODING]
    assert [run["padding"] for run in unpadded] == [0] * 4
    for name in ("real_tokens", "flops"):
        assert [run[name] for run in unpadded] == [run[name] for run in padded]
    same = said["differences"]["posmine_varlen"]
    assert same["loss"] < 0.01 and same["gradient"] < 0.05 and same["cosine"] > 0.999
    assert "posmine_varlen" in (tmp_path / "embedder-gpu.md").read_text()
