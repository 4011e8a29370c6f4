"""What a stage would do, before it does it: data sets, batches, tokens, memory, and rows as the model reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.models.transformer import MASK
from hf_posmine.training.blend import Blend, BlendLine, describe
from hf_posmine.training.collator import INSTRUCTION, text_columns

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments

    from hf_posmine.models.encoder import InstructSentenceTransformer
    from hf_posmine.training.recipe import Recipe

SAMPLED_ROWS = 512
SAVED_BYTES = 45
"""Bytes of saved activations for each token, layer and hidden unit in 16 bits: 181 KiB at width 4096, measured on
Mistral's layer with scaled-dot-product attention. 32 bits take twice as much; with gradient checkpointing 2 remain."""


@dataclass(frozen=True)
class Plan:
    """See :func:`make_plan`.

    Attributes:
        lines: the data sets.
        device_batch: rows of one process's step.
        batch: rows of an optimizer step, over all processes and accumulation steps.
        steps: optimizer steps.
        row_tokens: mean tokens of a row, over all its texts.
        padded_tokens: the same with the padding of a batch.
        longest_row: the most tokens of a row.
        weight_gib: weights, gradients and optimizer state, each process.
        activation_gib: activations of a step of mean length, each process.
        examples: (data set, column, instruction part, pooled part) of the first rows.
    """

    lines: tuple[BlendLine, ...]
    device_batch: int
    batch: int
    steps: int
    row_tokens: float
    padded_tokens: float
    longest_row: int
    weight_gib: float
    activation_gib: float
    examples: tuple[tuple[str, str, str, str], ...]


def make_plan(
    recipe: Recipe, args: SentenceTransformerTrainingArguments, model: InstructSentenceTransformer, blend: Blend
) -> Plan:
    """The plan of a stage; tokens are measured on at most 512 rows of each data set."""
    lengths = {name: _tokens(model, rows) for name, rows in blend.datasets.items()}
    weights = np.array([len(rows) for rows in blend.datasets.values()], float)
    row_tokens = np.average([tokens.sum(axis=1).mean() for tokens in lengths.values()], weights=weights)
    padded = [_padded(tokens, args.per_device_train_batch_size) for tokens in lengths.values()]
    rows = int(weights.sum())
    batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    steps = args.max_steps if args.max_steps > 0 else int(-(-rows // batch) * args.num_train_epochs)
    tokens = float(np.average(padded, weights=weights))
    unpadded = model[0].can_flatten_inputs
    in_flight = _rows_in_flight(recipe, args, row_tokens) * (row_tokens if unpadded else tokens)
    return Plan(
        lines=describe(blend),
        device_batch=args.train_batch_size,
        batch=batch,
        steps=steps,
        row_tokens=float(row_tokens),
        padded_tokens=tokens,
        longest_row=int(max(tokens.sum(axis=1).max() for tokens in lengths.values())),
        weight_gib=_weight_bytes(model) / 2**30,
        activation_gib=in_flight * _token_bytes(model, args) / 2**30,
        examples=tuple(_examples(model, blend)),
    )


def _tokens(model: InstructSentenceTransformer, rows: Any) -> np.ndarray:
    """Tokens int64 ``[m, columns]`` of a sample of rows."""
    columns = text_columns(rows.column_names)
    sample = rows.select(range(min(len(rows), SAMPLED_ROWS)))
    counts = []
    for column in columns:
        items = _items(sample, column)
        task = "query" if column == "query" else "document"
        limit = getattr(model[0], f"{task}_length") or model.max_seq_length
        texts = ["".join(row) for row in model[0].rows(items, model.prompts[task])]
        counts.append(np.minimum([len(ids) for ids in model.tokenizer(texts)["input_ids"]], limit))
    return np.stack(counts, axis=1)


def _items(rows: Any, column: str) -> list[Any]:
    name = column + INSTRUCTION
    if name not in rows.column_names:
        return list(rows[column])
    return [(said or None, text) for said, text in zip(rows[name], rows[column], strict=True)]


def _padded(tokens: np.ndarray, batch: int) -> float:
    """Mean tokens of a row when each column of a batch is padded to its longest text."""
    shuffled = np.random.default_rng(0).permutation(tokens)
    parts = [shuffled[start : start + batch] for start in range(0, len(shuffled), batch)]
    return float(sum(part.max(axis=0).sum() * len(part) for part in parts) / len(shuffled))


def _rows_in_flight(recipe: Recipe, args: SentenceTransformerTrainingArguments, row_tokens: float) -> float:
    chosen = recipe.contrastive
    if chosen.mini_batch_num_tokens is not None:
        return min(args.train_batch_size, chosen.mini_batch_num_tokens / row_tokens)
    return min(args.train_batch_size, chosen.mini_batch_size or args.train_batch_size)


def _weight_bytes(model: InstructSentenceTransformer) -> float:
    """Weights, and for the trained ones their gradient and Adam's two moments."""
    return sum(p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters())


def _token_bytes(model: InstructSentenceTransformer, args: SentenceTransformerTrainingArguments) -> float:
    config = model[0].config
    wide = 1 if args.bf16 or args.fp16 or str(model.dtype) != "torch.float32" else 2
    saved = 2 if args.gradient_checkpointing else SAVED_BYTES
    return saved * wide * config.hidden_size * config.num_hidden_layers


def _examples(model: InstructSentenceTransformer, blend: Blend, most: int = 3) -> list[tuple[str, str, str, str]]:
    """The first row of each data set, the first rows where there is one: each text cut where pooling starts."""
    shown = []
    for name, rows in list(blend.datasets.items())[:most]:
        count = 1 if len(blend.datasets) >= most else most // len(blend.datasets)
        sample = rows.select(range(min(len(rows), count)))
        for number in range(len(sample)):
            for column in text_columns(rows.column_names):
                before, pooled = pooled_part(model, _items(sample, column)[number], column)
                shown.append((name, column, before, pooled))
    return shown


def pooled_part(model: InstructSentenceTransformer, item: Any, column: str) -> tuple[str, str]:
    """What the model reads of an item, cut where pooling starts, as its tokens spell it."""
    task = "query" if column == "query" else "document"
    features = model.preprocess([item], prompt=model.prompts[task] or None, task=task)
    ids = features["input_ids"][0].tolist()
    held = features[MASK][0].tolist() if MASK in features else [0] * len(ids)
    decode = model.tokenizer.decode
    return decode([i for i, out in zip(ids, held, strict=True) if out]), decode(
        [i for i, out in zip(ids, held, strict=True) if not out]
    )
