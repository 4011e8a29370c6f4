"""The plan of a stage before it runs: data sets, batches, tokens, memory, and rows as the model reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.encoding.encode import Encoder
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.models.cost import ModelShape
from hf_posmine.models.transformer import MASK
from hf_posmine.training.blend import Blend, BlendLine, describe
from hf_posmine.training.collator import INSTRUCTION, text_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainingArguments

    from hf_posmine.core.types import Rows
    from hf_posmine.encoding.encode import Role
    from hf_posmine.models.instruct import InstructSentenceTransformer
    from hf_posmine.training.objective import Objective
    from hf_posmine.training.trainer import RecipeTrainer

SAMPLED_ROWS = 512


@dataclass(frozen=True)
class TokenEstimate:
    """What follows from the tokens of the rows.

    Attributes:
        row_tokens: mean tokens of a row, over all its texts.
        padded_tokens: the same with the padding of a batch.
        longest_row: the most tokens of a row.
        activation_gib: estimate of the activations of a step of mean length, each process.
        operations: of all steps, on all processes.
        examples: (data set, column, instruction part, pooled part) of the first rows.
    """

    row_tokens: float
    padded_tokens: float
    longest_row: int
    activation_gib: float
    operations: float
    examples: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True)
class StagePlan:
    """See :func:`make_plan`.

    Attributes:
        lines: the data sets.
        device_batch: rows of one process's step.
        batch: rows of an optimizer step, over all processes and accumulation steps.
        steps: optimizer steps.
        weights: of the student.
        trained_weights: those that are trained.
        weight_gib: weights, gradients and the two moments of Adam, each process.
        tokens: None where the student reads images, whose tokens each architecture counts in its own way.
    """

    lines: tuple[BlendLine, ...]
    device_batch: int
    batch: int
    steps: int
    weights: int
    trained_weights: int
    weight_gib: float
    tokens: TokenEstimate | None


def make_plan(chosen: Objective, trainer: RecipeTrainer, blend: Blend) -> StagePlan:
    """The plan of a stage; tokens are measured on at most 512 rows of each data set.

    Args:
        chosen: the loss.
        trainer: ready to train.
        blend: what it trains on.

    Raises:
        InputError: batches that cannot be made.
    """
    args, model = trainer.args, trainer.model
    batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    steps = trainer.set_initial_training_values(args, trainer.get_train_dataloader())[-1]
    trained = [one for one in model.parameters() if one.requires_grad]
    held, learnt = (sum(one.numel() * one.element_size() for one in of) for of in (model.parameters(), trained))
    return StagePlan(
        lines=describe(blend),
        device_batch=args.train_batch_size,
        batch=batch,
        steps=steps,
        weights=sum(one.numel() for one in model.parameters()),
        trained_weights=sum(one.numel() for one in trained),
        weight_gib=(held + 3 * learnt) / 2**30,
        tokens=None if ModelParts.of(model).reads_images else _estimate(chosen, trainer, blend, steps * batch),
    )


def _estimate(chosen: Objective, trainer: RecipeTrainer, blend: Blend, total_rows: int) -> TokenEstimate:
    """What the tokens of ``total_rows`` rows take."""
    args, model, trained = trainer.args, trainer.model, trainer.train_dataset
    parts = list(trained.values()) if isinstance(trained, dict) else [trained]
    lengths, rows = [_tokens(trainer, part) for part in parts], [len(part) for part in parts]
    padded = [_padded(tokens, args.train_batch_size) for tokens in lengths]
    row_tokens, padded_tokens = (_mean(_row_tokens, of, rows) for of in (lengths, padded))
    computed = (lengths, row_tokens) if model[0].can_flatten_inputs else (padded, padded_tokens)
    shape, repeats = shape_of(model, args), args.gradient_checkpointing + chosen.uses_grad_cache
    row_operations = _mean(lambda of: shape.step(of.ravel(), repeats=repeats) / len(of), computed[0], rows)
    in_flight = _rows_in_flight(chosen, args.train_batch_size, row_tokens)
    token_bytes = shape.saved_bytes(checkpointing=args.gradient_checkpointing)
    return TokenEstimate(
        row_tokens=row_tokens,
        padded_tokens=padded_tokens,
        longest_row=int(max(tokens.sum(axis=1).max() for tokens in lengths)),
        activation_gib=in_flight * computed[1] * token_bytes / 2**30,
        operations=total_rows * row_operations,
        examples=tuple(_examples(trainer, blend)),
    )


def shape_of(model: InstructSentenceTransformer, args: SentenceTransformerTrainingArguments) -> ModelShape:
    """The student's shape, its activations in 16 bits where it is trained so."""
    half = args.bf16 or args.fp16 or str(model.dtype) != "torch.float32"
    return ModelShape.of(model, model[0].config, itemsize=2 if half else 4)


def _mean(of: Callable[[Rows], float], lengths: Sequence[Rows], rows: Sequence[int]) -> float:
    """Mean over all rows of what is counted on samples ``[m, columns]`` of each data set."""
    return float(np.average([of(tokens) for tokens in lengths], weights=rows))


def _row_tokens(lengths: Rows) -> float:
    return float(lengths.sum(axis=1).mean())


def _tokens(trainer: RecipeTrainer, rows: Dataset) -> np.ndarray:
    """Tokens int64 ``[m, columns]`` of a sample of rows."""
    sample = rows.select(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED_ROWS)).astype(np.int64))
    columns, prompts = trainer.data_collator.embedded(rows.column_names), trainer.args.prompts
    lengths = []
    for column in columns:
        prompt = prompts.get(column, "")
        encoder = Encoder(trainer.model, query_prompt=prompt, document_prompt=prompt)
        lengths.append(encoder.lengths(_items(sample, column), _role(column)))
    return np.stack(lengths, axis=1)


def _role(column: str) -> Role:
    return "query" if column == "query" else "document"


def _items(rows: Dataset, column: str) -> list[Any]:
    name = column + INSTRUCTION
    if name not in rows.column_names:
        return list(rows[column])
    return [(prompt or None, text) for prompt, text in zip(rows[name], rows[column], strict=True)]


def _padded(tokens: Rows, batch: int) -> Rows:
    """Tokens int64 ``[m, columns]`` when each column of a batch is padded to its longest text."""
    shuffled = np.random.default_rng(0).permutation(tokens)
    parts = [shuffled[start : start + batch] for start in range(0, len(shuffled), batch)]
    return np.concatenate([np.broadcast_to(part.max(axis=0), part.shape) for part in parts])


def _rows_in_flight(chosen: Objective, batch: int, row_tokens: float) -> float:
    """Rows whose activations are held at a time."""
    if chosen.mini_batch_num_tokens is not None:
        return min(batch, chosen.mini_batch_num_tokens / row_tokens)
    return min(batch, chosen.mini_batch_size or batch)


def _examples(trainer: RecipeTrainer, blend: Blend, most: int = 3) -> list[tuple[str, str, str, str]]:
    """The first row of each data set, the first rows where there is one: each text cut where pooling starts."""
    shown = []
    for name, rows in list(blend.datasets.items())[:most]:
        count = 1 if len(blend.datasets) >= most else most // len(blend.datasets)
        sample = rows.select(range(min(len(rows), count)))
        for number in range(len(sample)):
            for column in text_columns(rows.column_names):
                before, pooled = _pooled_part(trainer, _items(sample, column)[number], column)
                shown.append((name, column, before, pooled))
    return shown


def _pooled_part(trainer: RecipeTrainer, item: str | tuple[str, str], column: str) -> tuple[str, str]:
    """What the model reads of an item, cut where pooling starts, as its tokens spell it."""
    model = trainer.model
    features = model.preprocess([item], prompt=trainer.args.prompts.get(column), task=_role(column))
    ids = features["input_ids"][0].tolist()
    held = features[MASK][0].tolist() if MASK in features else [0] * len(ids)
    before, pooled = ([i for i, out in zip(ids, held, strict=True) if out == part] for part in (1, 0))
    return model.tokenizer.decode(before), model.tokenizer.decode(pooled)
