"""Runs of the trainer: two data sets with instructions, resumed runs, and two processes against one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import DatasetDict
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler

from hf_posmine.core.errors import InputError
from hf_posmine.encoding import linear_layers
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.transformer import InstructionTransformer
from hf_posmine.training.losses import InfoNCELoss
from hf_posmine.training.trainer import RecipeTrainer
from tests.support import distributed
from tests.support.distributed import CASES, mixed_sets, rows, tiny_model, train, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny model without dropout, and one with."""
    folder = tmp_path_factory.mktemp("trainer")
    tiny_model(folder / "still")
    tiny_model(folder / "moving", dropout=0.1)
    return folder


def trainer_of(folder, data, loss=InfoNCELoss, **args):
    model = distributed.load(folder, "still")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "out"), use_cpu=True, report_to="none", **args
    )
    return RecipeTrainer(model=model, args=arguments, train_dataset=data, loss=loss(model))


def test_two_data_sets_with_instructions_train_in_turns(folder, tmp_path, monkeypatch):
    """Retrieval rows with an instruction, label rows without in-batch negatives: one run, one loss."""
    seen = []
    plain = InstructionTransformer.preprocess
    monkeypatch.setattr(
        InstructionTransformer,
        "preprocess",
        lambda self, items, **options: (seen.extend(items), plain(self, items, **options))[1],
    )
    retrieval = rows(32, 2, True).add_column("query_instruction", ["w1 w2"] * 32)
    labels = rows(32, 1, False, 1).map(
        lambda row, i: {"positive": f"w{i % 2}", "negative_1": f"w{1 - i % 2}"}, with_indices=True
    )
    data = DatasetDict(retrieval=retrieval, labels=labels)
    run = train(
        InstructSentenceTransformer(str(folder / "still" / "st"), device="cpu"),
        tmp_path,
        data,
        lambda model: InfoNCELoss(model, temperature=0.1),
        per_device_train_batch_size=8,
        num_train_epochs=3,
    )
    assert run.state.global_step == 3 * 8
    instructed = [item for item in seen if isinstance(item, tuple)]
    assert sorted(instructed) == sorted(("w1 w2", query) for query in list(retrieval["query"]) * 3)
    log = [entry for entry in run.state.log_history if "loss" in entry]
    assert sum("masked_same_text" in entry for entry in log) == 3 * 4  # the label rows have no in-batch pairs
    assert np.isfinite([entry["loss"] for entry in log]).all()
    start = distributed.load(folder, "still").state_dict()
    assert any(not np.array_equal(value, start[name].numpy()) for name, value in weights(run).items())


@pytest.mark.parametrize(
    ("data", "loss"), [(mixed_sets, "plain"), (lambda: rows(66, 2, True), "cached")], ids=["two sets", "one set"]
)
def test_a_resumed_run_ends_with_the_weights_of_the_uninterrupted_one(folder, tmp_path, data, loss):
    """Within the first epoch and within the second, dropout on."""

    def run(resume):
        return train(
            distributed.load(folder, "moving"),
            tmp_path / ("resumed" if resume else "whole"),
            data(),
            lambda model: distributed.LOSSES[loss](model, False),
            resume=resume,
            per_device_train_batch_size=4,
            num_train_epochs=2,
            optim="adamw_torch",
            learning_rate=0.01,
            save_strategy="steps",
            save_steps=10,
        )

    whole = run(None)
    for step in (10, 20):
        resumed = run(str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert resumed.state.max_steps == whole.state.global_step == 34
        for name, value in weights(resumed).items():
            assert np.array_equal(value, weights(whole)[name]), (step, name)


@pytest.fixture(scope="module")
def two_processes(folder) -> Path:
    """What two processes with half the batch each leave behind."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    ran = subprocess.run(
        [*command, str(root / "tests" / "support" / "distributed.py"), str(folder)],
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder


@pytest.mark.parametrize(("loss", "in_batch"), CASES)
def test_two_processes_equal_one_with_the_joint_batch(two_processes, loss, in_batch):
    one = distributed.equality_run(two_processes, (loss, in_batch), 8)
    two = np.load(two_processes / f"{loss}-{in_batch}.npz")
    start = distributed.load(two_processes, "still").state_dict()
    moved = max(float(np.abs(value - start[name].numpy()).max()) for name, value in weights(one).items())
    for name, value in weights(one).items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-4 * moved, err_msg=name)


@pytest.mark.skipif(not distributed.RESUMES_ON_CPUS, reason="transformers before 5.18 cannot resume on several CPUs")
def test_two_processes_with_different_sets_finish_and_resume_exactly_within_a_later_epoch(two_processes):
    whole, resumed = (np.load(two_processes / f"{name}.npz") for name in ("whole", "resumed"))
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_evaluation_loss_takes_the_same_rows(folder, tmp_path):
    model = distributed.load(folder, "still")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=4, disable_tqdm=True
    )
    held_out = DatasetDict(on=rows(9, 0, True), off=rows(9, 1, False))
    run = RecipeTrainer(model=model, args=arguments, eval_dataset=held_out, loss=InfoNCELoss(model, temperature=0.1))
    metrics = run.evaluate()
    assert metrics["eval_on_loss"] > 0  # nine pairs: the ninth has nobody to be contrasted with
    assert metrics["eval_off_loss"] > 0


def test_weights_and_round_robin_reach_the_sampler(folder):
    data = mixed_sets()
    steps = lambda run: run.get_train_dataloader().batch_sampler.shares  # noqa: E731
    assert steps(trainer_of(folder, data, per_device_train_batch_size=4)) == [10, 7]
    assert steps(
        trainer_of(folder, data, per_device_train_batch_size=4, multi_dataset_batch_sampler="round_robin")
    ) == [7, 7]
    weighted = trainer_of(folder, data, per_device_train_batch_size=4)
    weighted.dataset_weights = {"a": 1, "b": 16}
    assert steps(weighted) == [1, 16]


def test_a_batch_sampler_of_ones_own_is_used(folder):
    class Own(DefaultBatchSampler):
        def __iter__(self):
            yield [0, 1]

    run = trainer_of(folder, rows(8, 1, True), batch_sampler=Own)
    assert isinstance(run.get_train_dataloader().batch_sampler, Own)


def test_the_default_loss_is_infonce(folder):
    assert isinstance(trainer_of(folder, rows(8, 1, True), loss=lambda _: None).loss, InfoNCELoss)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_kwargs")
@pytest.mark.parametrize("name", ["gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"])
def test_reentrant_checkpointing_is_refused_under_its_old_and_new_name(folder, name):
    if name not in SentenceTransformerTrainingArguments.__dataclass_fields__:
        pytest.skip(f"this transformers has no {name}")
    with pytest.raises(InputError, match="use_reentrant"):
        trainer_of(folder, rows(8, 1, True), **{name: {"use_reentrant": True}})


def test_batches_of_one_pair_are_refused_before_training(folder):
    with pytest.raises(InputError, match="per_device_train_batch_size"):
        trainer_of(folder, rows(8, 0, True), per_device_train_batch_size=1).train()
    trainer_of(folder, rows(8, 1, True), per_device_train_batch_size=1).get_train_dataloader()


@pytest.mark.parametrize("loss", ["plain", "cached"])
def test_linear_layers_by_either_library_train_the_same(folder, tmp_path, monkeypatch, loss):
    products, onednn = [], linear_layers._onednn
    monkeypatch.setattr(linear_layers, "_onednn", lambda *args: (products.append(len(args)), onednn(*args))[1])

    def run(by_onednn):
        monkeypatch.setattr(linear_layers, "by_onednn", lambda: by_onednn)
        trained = train(
            distributed.load(folder, "still"),
            tmp_path / str(by_onednn),
            rows(32, 2, True),
            lambda model: distributed.LOSSES[loss](model, False),
            per_device_train_batch_size=8,
            max_steps=3,
            optim="sgd",
            learning_rate=0.01,
        )
        return weights(trained), [entry["loss"] for entry in trained.state.log_history if "loss" in entry]

    usual, losses = run(False)
    assert not products
    ours, also = run(True)
    assert {2, 3} == set(products)  # layers have a bias, their gradients do not
    np.testing.assert_allclose(also, losses, rtol=1e-5)
    for name, value in ours.items():
        np.testing.assert_allclose(value, usual[name], atol=1e-5, err_msg=name)
