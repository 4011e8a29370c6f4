"""The plan of a stage: its numbers against counts made in another way, and the examples against the text alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_posmine.core.errors import InputError
from hf_posmine.models.cost import SAVED_BYTES
from hf_posmine.training.plan import make_plan
from hf_posmine.training.stage import prepare
from tests.support.stage_runs import INSTRUCTION, decoder, label_file, recipe, retrieval_file, saved_student, told

LABELS = {"name": "labels", "task": "classification", "positives": "example", "instruction": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    saved_student(folder / "bert")
    decoder(folder / "mistral")
    retrieval_file(folder / "pairs.parquet", rows=27)
    label_file(folder / "labels.parquet")
    return folder


def planned(folder, tmp_path, model="bert/st", labels=False, **changes):
    said = told(folder / model, folder / "pairs.parquet", tmp_path / "out", **changes)
    if labels:
        said["datasets"].append(
            {**LABELS, "path": str(folder / "labels.parquet"), **(labels if labels is not True else {})}
        )
    read = recipe(tmp_path, said)
    trainer, blend = prepare(read)
    return make_plan(read.objective, trainer, blend), trainer, blend


def row_tokens(trainer, rows):
    """Tokens of each row and column, counted on what the collator makes of each row alone."""
    counted = []
    for row in rows:
        batch = trainer.data_collator([row])
        names = [name for name in batch if name.endswith("attention_mask")]
        counted.append([int(batch[name].sum()) for name in names])
    return np.array(counted)


@pytest.mark.parametrize(("model", "query", "document"), [("bert/st", 6, 8), ("mistral", 20, 15)])
def test_tokens_are_those_of_the_collator(folder, tmp_path, model, query, document):
    """Instructions, special tokens and truncation included."""
    plan, trainer, blend = planned(folder, tmp_path, model, max_query_length=query, max_document_length=document)
    counted = row_tokens(trainer, blend.datasets["pairs"])
    assert (counted[:, 0] == query).any() and (counted[:, 1:] == document).any()
    assert plan.tokens.row_tokens == pytest.approx(counted.sum() / len(counted))
    assert plan.tokens.longest_row == counted.sum(axis=1).max()


def test_padding_is_that_of_batches_of_that_size(folder, tmp_path):
    """With one row nothing is padded; with all rows in a batch each column is as wide as its longest text."""
    alone, trainer, blend = planned(folder, tmp_path, per_device_train_batch_size=1)
    assert alone.tokens.padded_tokens == pytest.approx(alone.tokens.row_tokens)
    together, *_ = planned(folder, tmp_path, per_device_train_batch_size=27)
    assert together.tokens.padded_tokens == row_tokens(trainer, blend.datasets["pairs"]).max(axis=0).sum()
    some, *_ = planned(folder, tmp_path)
    assert alone.tokens.row_tokens < some.tokens.padded_tokens < together.tokens.padded_tokens


def test_two_sets_count_by_their_rows_and_mixed_ones_as_they_are_trained(folder, tmp_path):
    plan, trainer, blend = planned(folder, tmp_path, labels={"num_negatives": 1})
    counted = [row_tokens(trainer, rows).sum(axis=1) for rows in blend.datasets.values()]
    assert plan.tokens.row_tokens == pytest.approx(np.concatenate(counted).mean())
    assert [line.negatives for line in plan.lines] == [2, 1]
    assert [line.in_batch_negatives for line in plan.lines] == [True, False]
    mixed, trainer, _ = planned(folder, tmp_path, labels={"num_negatives": 1}, batches="mixed")
    rows = trainer.train_dataset
    assert len(rows) == 27 + 24
    assert mixed.tokens.row_tokens == pytest.approx(row_tokens(trainer, rows).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("changes", "steps", "batch"),
    [
        ({}, 2 * 4, 8),  # 27 rows: the fourth batch has three
        ({"dataloader_drop_last": True}, 2 * 3, 8),
        ({"max_steps": 5}, 5, 8),
        ({"num_train_epochs": 2.5}, 10, 8),
        ({"gradient_accumulation_steps": 3}, 2 * 2, 24),
        ({"labels": True}, 2 * (4 + 3), 8),
        ({"labels": True, "multi_dataset_batch_sampler": "round_robin"}, 2 * (3 + 3), 8),
        ({"labels": True, "batches": "mixed"}, 2 * 7, 8),
    ],
)
def test_steps_are_those_that_the_trainer_takes(folder, tmp_path, changes, steps, batch):
    plan, trainer, _ = planned(folder, tmp_path, **changes)
    assert (plan.steps, plan.batch, plan.device_batch) == (steps, batch, 8)
    trainer.args.save_strategy = "no"
    trainer.train()
    assert trainer.state.global_step == steps


def bert_weights(vocabulary=65, width=16, inner=32, layers=2, positions=64):
    """By the book: embeddings, their norm, and per layer four projections, two of the feed-forward and two norms."""
    norm = 2 * width
    layer = 4 * (width * width + width) + (width * inner + inner) + (inner * width + width) + 2 * norm
    pooler = width * width + width
    return (vocabulary + positions + 2) * width + norm + layers * layer + pooler


def test_memory_of_weights_is_exact(folder, tmp_path):
    plan, *_ = planned(folder, tmp_path)
    assert plan.weights == plan.trained_weights == bert_weights()
    assert plan.weight_gib * 2**30 == 16 * plan.weights  # weight, gradient and two moments, 4 bytes each


def test_memory_of_adapters_is_exact(folder, tmp_path):
    """The base has no gradient and keeps two bytes; rank 4 on query, key, value, output, gate, up and down."""
    plan, *_ = planned(folder, tmp_path, "mistral", dtype="bfloat16", lora={"r": 4})
    shapes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    adapters = 2 * sum(4 * (wide + long) for wide, long in shapes)
    assert plan.trained_weights == adapters
    assert plan.weight_gib * 2**30 == 2 * (plan.weights - adapters) + 16 * adapters


def test_activations_follow_what_is_held_at_a_time(folder, tmp_path):
    whole, *_ = planned(folder, tmp_path)
    per_token = SAVED_BYTES * 2 * 16 * 2
    assert whole.tokens.activation_gib * 2**30 == pytest.approx(8 * whole.tokens.padded_tokens * per_token)
    rows, *_ = planned(folder, tmp_path, mini_batch_size=2)
    assert rows.tokens.activation_gib == pytest.approx(whole.tokens.activation_gib / 4)
    tokens, *_ = planned(folder, tmp_path, mini_batch_num_tokens=50)
    assert tokens.tokens.activation_gib * 2**30 == pytest.approx(
        50 * per_token * whole.tokens.padded_tokens / whole.tokens.row_tokens
    )
    checkpointed, *_ = planned(folder, tmp_path, activation_checkpointing=True)
    assert checkpointed.tokens.activation_gib < whole.tokens.activation_gib
    unpadded, *_ = planned(folder, tmp_path, "mistral", attn_implementation="posmine_varlen")
    padded, *_ = planned(folder, tmp_path, "mistral")
    assert unpadded.tokens.activation_gib / padded.tokens.activation_gib == pytest.approx(
        padded.tokens.row_tokens / padded.tokens.padded_tokens
    )


@pytest.mark.parametrize(
    ("model", "changes"), [("bert/st", {}), ("mistral", {}), ("mistral", {"attn_implementation": "posmine_varlen"})]
)
def test_the_pooled_part_of_an_example_is_the_text_alone(folder, tmp_path, model, changes):
    plan, trainer, blend = planned(folder, tmp_path, model, labels=True, **changes)
    specials = trainer.model.tokenizer.all_special_tokens
    rows = {name: part[0] for name, part in blend.datasets.items()}
    shown = {(name, column): (before, pooled) for name, column, before, pooled in plan.tokens.examples}
    assert len(shown) == len(plan.tokens.examples) == 2 * 4

    def bare(text):
        for special in specials:
            text = text.replace(special, "")
        return text.strip()

    decode = lambda text: bare(trainer.model.tokenizer.decode(trainer.model.tokenizer(text)["input_ids"]))  # noqa: E731
    for (name, column), (before, pooled) in shown.items():
        assert bare(pooled) == decode(rows[name][column])
        instructed = (name, column) == ("pairs", "query")
        assert bare(before).rstrip(" :") == (INSTRUCTION if instructed else "")


def test_one_set_shows_its_first_three_rows(folder, tmp_path):
    plan, _, blend = planned(folder, tmp_path)
    queries = [pooled for _, column, _, pooled in plan.tokens.examples if column == "query"]
    assert [q.removesuffix(" [SEP]") for q in queries] == blend.datasets["pairs"]["query"][:3]


def test_batches_that_cannot_be_made_are_met_by_the_plan(folder, tmp_path):
    pairs = {"name": "pairs", "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": ""}
    with pytest.raises(InputError, match="batches of one row"):
        planned(folder, tmp_path, per_device_train_batch_size=1, datasets=[{**pairs, "num_negatives": 0}])


def test_a_plan_leaves_the_weights_alone(folder, tmp_path):
    _, trainer, _ = planned(folder, tmp_path)
    _, again, _ = planned(folder, tmp_path)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
