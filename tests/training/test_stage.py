"""Stages from a recipe to a saved model: what is trained, what is kept, and runs that are killed and given again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.evaluation.results import RetrievalResult
from hf_posmine.models.adapters import has_adapters
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.transformer import InstructionTransformer
from hf_posmine.training import stage
from hf_posmine.training.run_folder import RunFolder
from hf_posmine.training.stage import prepare, run_stage
from hf_posmine.training.trainer import RecipeTrainer
from tests.support.stage_runs import (
    INSTRUCTION,
    collection,
    decoder,
    label_file,
    recipe,
    retrieval_file,
    saved_student,
    scored_file,
    told,
    written,
)

ROOT = Path(__file__).parents[2]
TEXTS = ["w1 w2 w3", "w40 w41", "w7"]
CLASSIFY = "w9 w9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    saved_student(folder / "moving", dropout=0.1)
    saved_student(folder / "still", dropout=0.0)
    decoder(folder / "mistral")
    retrieval_file(folder / "pairs.parquet")
    scored_file(folder / "pairs.parquet", folder / "scored.parquet")
    label_file(folder / "labels.parquet")
    collection(folder / "heldout")
    return folder


def said(folder, output, model="still/st", labels=None, scores=False, guide=None, **changes):
    """A recipe of this module's data; ``labels`` adds the second set, ``scores`` those of the mined rows."""
    if guide is not None:
        changes["guide"] = str(folder / guide)
    made = told(folder / model, folder / "pairs.parquet", output, **changes)
    if scores:
        made["datasets"][0] |= {"path": str(folder / "scored.parquet"), "scores": "teacher"}
    if labels is not None:
        more = {"name": "kinds", "path": str(folder / "labels.parquet"), "task": "classification"}
        made["datasets"].append(more | {"positives": "example", "instruction": CLASSIFY} | labels)
    return made


def weights(path):
    return load_file(path / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@contextmanager
def one_thread():
    """As the runs in other processes have it: sums are in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASES = {
    "one set": {},
    "two sets": {"labels": {}},
    "mixed": {"labels": {}, "batches": "mixed"},
    "by weight": {"labels": {"weight": 2.0}},
    "GradCache by tokens": {"labels": {}, "mini_batch_num_tokens": 64, "false_negatives": "PercPos(0.95)"},
    "distillation, guide and nested dimensions": {
        "scores": True,
        "distillation": {"objective": "margin_mse", "temperature": 0.5, "weight": 0.5},
        "false_negatives": "PercPos(0.9)",
        "false_negatives_until": "PercPos(0.99)",
        "false_negatives_warmup": 0.2,
        "guide": "moving/st",
        "matryoshka_dims": [16, 8],
        "mini_batch_size": 4,
    },
    "adapters of a decoder": {"model": "mistral", "lora": {"r": 4}, "learning_rate": 0.003},
}


@pytest.mark.parametrize("case", CASES)
def test_the_saved_model_is_plain_and_gives_equal_vectors_with_its_prompts(folder, tmp_path, case):
    changes = CASES[case]
    read = recipe(tmp_path, said(folder, tmp_path / "out", **changes))
    model = run_stage(read)
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert type(plain[0]).__module__.startswith("sentence_transformers.")
    assert plain.prompts["pairs"] == plain.prompts["query"] == f"{INSTRUCTION}: "
    assert plain.prompts.get("kinds") == (f"{CLASSIFY}: " if "labels" in changes else None)
    assert np.array_equal(plain.encode_query(TEXTS), model.encode([(INSTRUCTION, text) for text in TEXTS]))
    assert np.array_equal(plain.encode_document(TEXTS), model.encode(TEXTS))
    if "labels" in changes:
        instructed = model.encode([(CLASSIFY, text) for text in TEXTS])
        assert np.array_equal(plain.encode(TEXTS, prompt_name="kinds"), instructed)
    start = prepare(recipe(tmp_path, said(folder, tmp_path / "untrained", **changes)))[0].model
    assert np.abs(start.encode(TEXTS) - model.encode(TEXTS)).max() > 1e-3
    assert json.loads((tmp_path / "out" / "recipe.json").read_text()) == read.as_dict()


def seen_by_the_model(monkeypatch):
    """Every batch of items that the model reads, with its prompt and its role."""
    seen = []
    read = InstructionTransformer.preprocess

    def spy(self, inputs, prompt=None, **options):
        seen.append((list(inputs), prompt, options.get("task")))
        return read(self, inputs, prompt=prompt, **options)

    monkeypatch.setattr(InstructionTransformer, "preprocess", spy)
    return seen


def test_prompts_that_a_model_stores_are_applied_in_training(folder, tmp_path, monkeypatch):
    """To its documents, and to queries that bring no instruction of their own."""
    prompts = {"query": "w50 ", "document": "w51 "}
    model = saved_student(tmp_path / "prompted", prompts=prompts)
    sets = [
        {"name": name, "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": instruction}
        for name, instruction in (("with", INSTRUCTION), ("without", ""))
    ]
    prepared = prepare(
        recipe(tmp_path, told(model, folder, tmp_path / "out", datasets=sets, max_steps=6, save_strategy="no"))
    )[0]
    seen = seen_by_the_model(monkeypatch)
    prepared.train()
    queries = [(items, prompt) for items, prompt, role in seen if role == "query"]
    documents = [(items, prompt) for items, prompt, role in seen if role == "document"]
    assert len(queries) == 6 and len(documents) == 6 * 3
    assert {prompt for _, prompt in queries} == {"w50 "} and {prompt for _, prompt in documents} == {"w51 "}
    kinds = {isinstance(items[0], tuple) for items, _ in queries}
    assert kinds == {True, False}
    assert all(item[0] == INSTRUCTION for items, _ in queries for item in items if isinstance(item, tuple))
    assert prepared.model.prompts["query"] == "w50 "


def test_the_instruction_of_an_earlier_stage_is_no_prompt_of_the_model(folder, tmp_path):
    model = saved_student(tmp_path / "stage1", prompts={"query": "w50: ", "document": "", "earlier": "w50: "})
    sets = [{"name": "without", "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": ""}]
    prepared = prepare(recipe(tmp_path, told(model, folder, tmp_path / "out", datasets=sets, save_strategy="no")))[0]
    assert not prepared.args.prompts


def test_homogeneous_batches_are_of_one_set_and_mixed_ones_are_not(folder, tmp_path, monkeypatch):
    seen = seen_by_the_model(monkeypatch)
    for batches in ("homogeneous", "mixed"):
        made = said(folder, tmp_path / batches, labels={}, batches=batches, num_train_epochs=1, save_strategy="no")
        trainer, _ = prepare(recipe(tmp_path, made))
        seen.clear()
        trainer.train()
        told_apart = [{item[0] for item in items} for items, _, role in seen if role == "query"]
        assert len(told_apart) == 6
        assert set().union(*told_apart) == {INSTRUCTION, CLASSIFY}
        assert (max(map(len, told_apart)) == 1) is (batches == "homogeneous")


def test_weights_of_the_sets_reach_the_trainer(folder, tmp_path):
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "out", labels={"weight": 2.0})))
    assert trainer.dataset_weights == {"pairs": 1.0, "kinds": 2.0}
    assert trainer.get_train_dataloader().batch_sampler.shares == [2, 4]
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "out", labels={})))
    assert trainer.dataset_weights is None


def test_gradcache_trains_the_same_model(folder, tmp_path):
    made = {"optim": "sgd", "learning_rate": 0.1, "labels": {}}
    run_stage(recipe(tmp_path, said(folder, tmp_path / "whole", **made)))
    run_stage(recipe(tmp_path, said(folder, tmp_path / "parts", mini_batch_size=3, **made)))
    start, whole, parts = (weights(path) for path in (folder / "still" / "st", tmp_path / "whole", tmp_path / "parts"))
    moved = max(np.abs(whole[name] - start[name]).max() for name in whole)
    assert moved > 0.01
    assert max(np.abs(whole[name] - parts[name]).max() for name in whole) < 1e-4 * moved


def test_adapters_start_from_the_seed_and_are_merged_at_the_end(folder, tmp_path):
    made = {"model": "mistral", "lora": {"r": 4}, "learning_rate": 0.003}
    merged = run_stage(recipe(tmp_path, said(folder, tmp_path / "merged", **made)))
    torch.manual_seed(99)  # whatever was drawn before
    apart = run_stage(recipe(tmp_path, said(folder, tmp_path / "apart", merge_adapters=False, **made)))
    assert not has_adapters(merged[0].model) and has_adapters(apart[0].model)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert (tmp_path / "apart" / "adapter_config.json").exists()
    np.testing.assert_allclose(merged.encode(TEXTS), apart.encode(TEXTS), atol=1e-5)
    again = InstructSentenceTransformer(str(tmp_path / "apart"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), apart.encode(TEXTS), atol=1e-6)


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": True}
CURVE = (0.3, 0.5, 0.2, 0.7, 0.6, 0.4)
"""NDCG@10 after each of six steps; MRR@10 is one minus it, so the best of the one is step 4 and the least of the other too."""


def script_the_evaluation(monkeypatch, curve=CURVE):
    """Give the first model that is evaluated the first value of a curve, and so on; known weights keep their value.

    The shape of a real learning curve hangs on the last bits of six chaotic steps, and so on the processor.
    """
    values, fresh = {}, iter(curve)

    def scripted(model, collection, **_):
        weights_of_model = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
        key = hashlib.sha256(weights_of_model).hexdigest()
        if key not in values:
            values[key] = next(fresh)
        scores = {"ndcg@10": np.array([values[key]]), "mrr@10": np.array([1 - values[key]])}
        return RetrievalResult(collection.name, "student", collection.scored_queries[:1], scores)

    monkeypatch.setattr("hf_posmine.evaluation.evaluator.evaluate_retrieval", scripted)


@pytest.mark.parametrize(
    ("changes", "metric", "wanted"),
    [
        ({}, "eval_heldout_ndcg@10", 0.7),
        ({"metric_for_best_model": "heldout_mrr@10", "greater_is_better": False}, "eval_heldout_mrr@10", 0.3),
        ({"model": "mistral", "lora": {"r": 4}}, "eval_heldout_ndcg@10", 0.7),
    ],
    ids=["main measure", "a measure of choice", "adapters"],
)
def test_the_best_model_is_kept(folder, tmp_path, monkeypatch, changes, metric, wanted):
    """The fourth of six steps is the best by construction. Only the best and the last are kept."""
    script_the_evaluation(monkeypatch)
    evals = [{"path": str(folder / "heldout"), "instruction": INSTRUCTION}]
    made = said(folder, tmp_path / "out", evals=evals, save_total_limit=1, **EVALUATED | changes)
    model = run_stage(recipe(tmp_path, made))
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 4 and state["global_step"] == 6
    kept = tmp_path / "out" / "checkpoint-4"
    if "lora" not in changes:
        assert same(weights(tmp_path / "out"), weights(kept))
    expected = InstructSentenceTransformer(str(kept), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    final = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert final[metric] == pytest.approx(wanted, abs=1e-6)
    assert (tmp_path / "out" / "eval" / "heldout-6.json").exists()


def test_several_collections_and_the_first_is_the_main_one(folder, tmp_path):
    evals = [{"path": str(folder / "heldout"), "name": name} for name in ("first", "second")]
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "out", evals=evals, **EVALUATED)))
    assert trainer.args.metric_for_best_model == "eval_first_ndcg@10"
    assert {"eval_first_ndcg@10", "eval_second_mrr@10"} <= set(trainer.evaluate())


def test_a_killed_stage_ends_with_the_weights_of_an_undisturbed_one(folder, tmp_path):
    """Killed from outside when a checkpoint appears, then in the middle of writing another, then run to its end."""
    changes = {"labels": {}, "num_train_epochs": 4, "model": "moving/st"}
    path = written(tmp_path, said(folder, tmp_path / "killed", **changes))
    out, command = tmp_path / "killed", [sys.executable, "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    options = {"env": environment, "cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    first = subprocess.Popen([*command, "hf_posmine.cli", "train", "--config", str(path)], **options)
    while first.poll() is None and not (out / "checkpoint-4").exists():
        time.sleep(0.005)
    first.kill()
    assert first.wait() == -signal.SIGKILL, first.stderr.read()
    first.stderr.close()
    reached = RunFolder(out).last_checkpoint
    assert reached is not None and not RunFolder(out).finished
    torn = int(reached.name.split("-")[1]) + 4
    second = subprocess.run([*command, "tests.support.stage_runs", str(path), str(torn)], check=False, **options)
    assert second.returncode == -signal.SIGKILL, second.stderr
    assert (out / f"checkpoint-{torn}" / "model.safetensors").exists()
    assert RunFolder(out).last_checkpoint == out / f"checkpoint-{torn - 2}"
    with one_thread():
        run_stage(recipe(tmp_path, said(folder, tmp_path / "killed", **changes)))
        run_stage(recipe(tmp_path, said(folder, tmp_path / "whole", **changes)))
    assert same(weights(out), weights(tmp_path / "whole"))
    whole, killed = (json.loads((tmp_path / name / "trainer_state.json").read_text()) for name in ("whole", "killed"))
    assert whole["global_step"] == killed["global_step"] == 24


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_steps": 4},
        {"max_steps": 5, "model": "mistral", "lora": {"r": 4}},
        {"max_steps": 5, **EVALUATED},
    ],
    ids=["end of an epoch", "within an epoch", "adapters", "the best"],
)
def test_a_stage_killed_while_it_saves_its_model_ends_the_same(folder, tmp_path, monkeypatch, changes):
    """The last checkpoint is there, and the trainer by itself would take one step more."""
    script_the_evaluation(monkeypatch)
    evals = [{"path": str(folder / "heldout"), "instruction": INSTRUCTION}] if "eval_steps" in changes else None
    made = said(folder, tmp_path / "out", evals=evals, **changes)
    with one_thread():
        run_stage(recipe(tmp_path, made))
        expected = weights(tmp_path / "out")
        state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
        assert evals is None or state["best_global_step"] == 4
        (tmp_path / "out" / "trainer_state.json").unlink()
        (tmp_path / "out" / "model.safetensors").write_bytes(b"torn")
        run_stage(recipe(tmp_path, made))
    assert same(weights(tmp_path / "out"), expected)
    again = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert again["global_step"] == state["global_step"]


def test_a_finished_stage_given_again_changes_nothing(folder, tmp_path, monkeypatch):
    def files():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (tmp_path / "out").rglob("*")
            if path.is_file()
        }

    model = run_stage(recipe(tmp_path, said(folder, tmp_path / "out")))
    before = files()
    monkeypatch.setattr(RecipeTrainer, "train", lambda *_, **__: pytest.fail("trained again"))
    again = run_stage(recipe(tmp_path, said(folder, tmp_path / "out"), "--logging_steps", "7"))
    assert files() == before
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--learning_rate", "1"], "holds a run whose learning_rate was 0.01, now 1; choose another output_dir"),
        (["--datasets.0.max_samples", "5"], "whose datasets.0.max_samples was None, now 5"),
        (["--evals", "[{path: x}]"], r"whose evals was \[\], now"),
        (["--lora", "{r: 4}"], r"whose lora was None, now \{'r': 4\}"),
    ],
)
def test_the_folder_of_another_recipe_is_left_alone(folder, tmp_path, overrides, message):
    first = recipe(tmp_path, said(folder, tmp_path / "out"))
    RunFolder(tmp_path / "out").note(first)
    (tmp_path / "out" / "checkpoint-2").mkdir()
    (tmp_path / "out" / "checkpoint-2" / "trainer_state.json").write_text("{}")
    with pytest.raises(InputError, match=message):
        run_stage(recipe(tmp_path, said(folder, tmp_path / "out"), *overrides))
    assert json.loads((tmp_path / "out" / "recipe.json").read_text()) == first.as_dict()


def test_a_model_that_is_not_ours_is_not_written_over(folder, tmp_path):
    with pytest.raises(InputError, match="holds a model or checkpoints that no recipe of ours left there"):
        run_stage(recipe(tmp_path, said(folder, folder / "still" / "st")))


def test_a_folder_whose_run_never_saved_anything_is_free(folder, tmp_path):
    out = RunFolder(tmp_path / "out")
    out.note(recipe(tmp_path, said(folder, tmp_path / "out")))
    out.check(recipe(tmp_path, said(folder, tmp_path / "out", learning_rate=1.0)))


def test_torn_checkpoints_are_passed_over(tmp_path):
    run = RunFolder(tmp_path)
    assert run.last_checkpoint is None and not run.finished
    for step, state in ((2, "{}"), (10, "{}"), (11, '{"glo'), (12, None), ("best", "{}")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert run.last_checkpoint == tmp_path / "checkpoint-10"


def test_checkpoints_without_their_optimizer_are_not_gone_on_from(folder, tmp_path):
    """Another optimizer would end elsewhere, so the run starts again."""
    with one_thread():
        made = {"save_only_model": True, "model": "moving/st"}
        run_stage(recipe(tmp_path, said(folder, tmp_path / "out", **made)))
        expected = weights(tmp_path / "out")
        (tmp_path / "out" / "trainer_state.json").unlink()
        run_stage(recipe(tmp_path, said(folder, tmp_path / "out", **made)))
    assert same(weights(tmp_path / "out"), expected)


def test_processes_that_do_not_save_write_no_model(folder, tmp_path, monkeypatch):
    """They would write into the files of the one that does."""
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "out")))
    monkeypatch.setattr(type(trainer.args), "should_save", False)
    trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_the_bars_of_transformers_come_back(folder, tmp_path):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    with stage.quiet_models():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()
    if not before:
        logging.disable_progress_bar()


def test_without_accelerate_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"hf-posmine\[train\]"):
        stage.need_train_extra()


def test_adapters_that_cannot_be_made_are_refused_before_any_data_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "999.1")
    monkeypatch.setattr("hf_posmine.training.stage.load_blend", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(InputError, match=r"needs peft 999\.1 or newer for LoRA, and peft \d.* is installed"):
        run_stage(recipe(tmp_path, said(folder, tmp_path / "out", lora={"r": 2})))


def test_the_stored_query_prompt_is_that_of_the_largest_set_or_of_a_named_one(folder, tmp_path):
    retrieval_file(tmp_path / "small.parquet", rows=8)
    sets = [
        {"name": name, "path": str(path), "task": "retrieval", "instruction": instruction}
        for name, path, instruction in (
            ("small", tmp_path / "small.parquet", "w5"),
            ("large", folder / "pairs.parquet", "w6"),
        )
    ]
    made = {"datasets": sets, "save_strategy": "no"}
    for changes, expected in (({}, "w6: "), ({"query_prompt_of": "small"}, "w5: ")):
        prepared = prepare(recipe(tmp_path, said(folder, tmp_path / "out", **made, **changes)))[0]
        assert prepared.model.prompts["query"] == expected
    with pytest.raises(
        InputError, match=r"query_prompt_of='big' is not a data set of the blend; there are \['small', 'large'\]"
    ):
        prepare(recipe(tmp_path, said(folder, tmp_path / "out", query_prompt_of="big", **made)))


def test_the_card_has_no_placeholder_and_no_instruction_as_a_sentence(folder, tmp_path):
    made = said(folder, tmp_path / "out", datasets=[
        {"name": "pairs", "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": "w58 w59 w57"}
    ], max_steps=1)  # fmt: skip
    run_stage(recipe(tmp_path, made))
    card = (tmp_path / "out" / "README.md").read_text("utf8")
    head = card.split("---")[1]
    assert "widget:" in head and "w58 w59 w57" not in head
    assert "sentence_transformers_model_id" not in card and 'SentenceTransformer("out")' in card
    assert "<!--" not in card and "Unknown" not in card


@pytest.mark.parametrize("torn", [True, False], ids=["killed while it saved", "killed at a checkpoint"])
def test_a_stage_that_has_not_ended_is_no_student(folder, tmp_path, torn):
    made = said(folder, tmp_path / "first", max_steps=2)
    run_stage(recipe(tmp_path, made))
    (tmp_path / "first" / "trainer_state.json").unlink()
    if not torn:
        (tmp_path / "first" / "modules.json").unlink()
    second = recipe(tmp_path, told(tmp_path / "first", folder / "pairs.parquet", tmp_path / "second"))
    with pytest.raises(
        InputError, match=r"holds a stage that has not ended \(its last checkpoint is checkpoint-2\); run its recipe"
    ):
        run_stage(second)


def test_a_stage_learns_to_rank_as_the_teacher_scored(folder, tmp_path):
    changes = {"scores": True, "distillation": {"temperature": 0.1}, "num_train_epochs": 15, "learning_rate": 0.01}
    read = recipe(tmp_path, said(folder, tmp_path / "out", **changes))
    trainer, blend = prepare(read)
    batch = trainer.data_collator(list(blend.datasets["pairs"]))

    def divergence():
        trainer.model.eval()
        with torch.no_grad():
            return trainer.compute_loss(trainer.model, dict(batch)).item()

    before = divergence()
    trainer.train()
    assert divergence() < 0.6 * before


def test_training_ends_where_the_measure_stops_improving(folder, tmp_path):
    changes = {"evals": [{"path": str(folder / "heldout"), "qrels": "test"}], "eval_strategy": "steps", "eval_steps": 1}
    changes |= {"save_steps": 1, "learning_rate": 0.0, "load_best_model_at_end": True, "early_stopping_patience": 2}
    trainer, _ = prepare(recipe(tmp_path, said(folder, tmp_path / "out", **changes)))
    trainer.train()
    assert (trainer.state.global_step, trainer.state.max_steps) == (3, 6)  # the first is the best of equal ones


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"early_stopping_patience": 2}, "load_best_model_at_end"),
        ({"distillation": {"temperature": 1}}, "give a data set scores"),
        ({"scores": True}, "scores have no effect without distillation"),
        ({"guide": "moving/st"}, "guide has no effect without false_negatives"),
        ({"false_negatives_until": "PercPos(0.99)"}, "no effect without false_negatives"),
        ({"matryoshka_dims": [16, 16]}, "different whole numbers"),
        ({"matryoshka_dims": [8]}, "must be all of the student's dimensions"),
    ],
)
def test_keys_without_their_partner_are_refused(folder, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        prepare(recipe(tmp_path, said(folder, tmp_path / "out", **changes)))
