"""What the whole recipe takes on a node, before any data or weights are there: one line for each step.

    python recipes/nv_retriever/0_plan.py
    python recipes/nv_retriever/0_plan.py --node 8xH100@0.35

Operations follow from the shape of Mistral-7B, Table 9's numbers of samples and the sizes in sizes.yaml, which are rough; each
step's own --dry-run counts the tokens of its data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import AutoConfig

from hf_posmine.models import ModelShape
from hf_posmine.training import Recipe, read_recipe
from hf_posmine.utils import Node
from nv.cost import BATCH_TOKENS, Line, Texts, show

HERE = Path(__file__).parent
PAPER_HOURS_PER_MILLION = 1.5  # v2, appendix B.5: documents of at most 4,096 tokens, by e5-mistral on 8 A100


def main(given: list[str] | None = None) -> None:
    """All steps, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="8xA100", help="the GPUs (default: %(default)s)")
    node = Node.parse(parser.parse_args(given).node)
    sizes = yaml.safe_load((HERE / "sizes.yaml").read_text("utf8"))
    plan = yaml.safe_load((HERE / "mine.yaml").read_text("utf8"))
    stages = [read_recipe(HERE / f"stage{number}.yaml") for number in (1, 2)]
    samples = {spec.name: spec.max_samples or 0 for spec in stages[1].contrastive.datasets}

    # 1. Mining encodes the candidates of each set, and the queries that stage 2 trains on.
    mined = round_all({name: (1 + plan["spare"]) * samples[name] for name in sizes["mining"]})
    documents = sum(of["documents"] for of in sizes["mining"].values())
    paper = f"{PAPER_HOURS_PER_MILLION * documents / 1e6:.0f} h"
    lines = [encoding("1 mine", sizes, sizes["mining"], mined, plan["teacher"]["max_length"], paper)]

    # 2. The clustering sets need no GPU; the stages train on all samples in every epoch.
    lines += [training(f"{2 + number} stage {number}", sizes, stage) for number, stage in enumerate(stages, 1)]

    # 3. Evaluation encodes the 15 corpora of MTEB.
    asked = {name: of["queries"] for name, of in sizes["evaluation"].items()}
    lines.append(encoding("5 evaluate", sizes, sizes["evaluation"], asked, 512, "120 h"))
    show("NV-Retriever", lines, node)


def round_all(values: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers."""
    return {name: round(value) for name, value in values.items()}


def encoding(
    step: str, sizes: dict[str, Any], sets: dict[str, Any], queries: Mapping[str, int], most: int, paper: str
) -> Line:
    """The line of a step that encodes documents and queries."""
    shape = ModelShape.of_config(AutoConfig.for_model(**sizes["model"]))
    texts = []
    for name, of in sets.items():
        texts.append(texts_of(sizes, of["documents"], of["document_words"], most))
        texts.append(texts_of(sizes, queries[name], of["query_words"], most, sizes["instruction_tokens"]))
    documents, asked = sum(of.count for of in texts[::2]), sum(of.count for of in texts[1::2])
    tokens = sum(of.count * of.tokens for of in texts)
    amount = f"{documents / 1e6:.1f} M documents and {asked / 1e6:.2f} M queries, {tokens / 1e9:.2f} G tokens"
    gib = shape.encoding_bytes(BATCH_TOKENS) / 2**30
    return Line(step, amount, sum(of.operations(shape) for of in texts), gib, paper)


def training(step: str, sizes: dict[str, Any], stage: Recipe) -> Line:
    """The line of a stage: every sample of every epoch, with its positive and negatives."""
    trainer, student, negatives = stage.trainer, stage.student, stage.contrastive.num_negatives or 0
    shape = ModelShape.of_config(AutoConfig.for_model(**sizes["model"]), lora_rank=dict(student.lora or {}).get("r"))
    most, rows, operations, tokens = (student.max_query_length, student.max_document_length), 0, 0.0, 0.0
    for spec in stage.contrastive.datasets:
        of = (sizes["mining"] | sizes["others"])[spec.name]
        query = texts_of(sizes, 1, of["query_words"], most[0], sizes["instruction_tokens"])
        document = texts_of(sizes, 1, of["document_words"], most[1])
        lengths = np.concatenate([query.lengths, np.repeat(document.lengths, 1 + negatives)])
        samples = spec.max_samples or 0
        operations += samples * shape.step(lengths, repeats=bool(trainer["gradient_checkpointing"]))
        rows, tokens = rows + samples, tokens + samples * float(lengths.sum())
    epochs, batch = trainer["num_train_epochs"], trainer["per_device_train_batch_size"]
    held = batch * tokens / rows * shape.saved_bytes(checkpointing=trainer["gradient_checkpointing"])
    amount = f"{epochs} x {rows:,} rows of {1 + negatives} documents, {epochs * tokens / 1e9:.1f} G tokens"
    return Line(
        step,
        amount,
        epochs * operations,
        (shape.training_bytes() + held) / 2**30,
        "90 h, both" if step[0] == "3" else "",
    )


def texts_of(sizes: dict[str, Any], count: int, words: float, most: int, before: int = 0) -> Texts:
    """Texts of a mean number of words."""
    return Texts.of_words(count, words, sizes["tokens_per_word"], most, before)


if __name__ == "__main__":
    main()
