"""Stage 1 through both trainers: this package without padding, and plain sentence-transformers.

Run ``python -m benchmarks.training --output out/bench``; see README.md beside this file. The student is the real
all-MiniLM-L6-v2; rows are SQuAD questions with their passage and other passages as negatives, in the same order for
both. The peer is ``SentenceTransformerTrainer`` with ``CachedMultipleNegativesRankingLoss``; ours is ``RecipeTrainer``
with ``CachedInfoNCELoss`` and ``posmine_varlen``. Each run is a process of its own, and the two take turns, each
beginning as often as the other. Dropout is off unless ``--dropout`` leaves it as the model has it (0.1): its random numbers
depend on the padding, so that losses and updates of the two can be compared without it alone. ``--bf16`` trains both under
autocast.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.embedder import SQUAD
from benchmarks.measure import MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from datasets import Dataset

CONTENDERS = ("plain", "hf_posmine")
TARGET = 2.0
TEMPERATURE = 0.05


def rows(count: int, negatives: int) -> Dataset:
    """SQuAD questions with their passage and others', as ``query, positive, negative_1..n``.

    No passage comes twice: ours would leave a repeated one out of the batch's negatives, and the peer would not.
    """
    from datasets import Dataset

    corpus = Dataset.from_parquet(str(SQUAD / "train_corpus.parquet")).shuffle(seed=0)
    texts, ids = corpus["text"][: count * (1 + negatives)], corpus["id"][:count]
    pairs = Dataset.from_parquet(str(SQUAD / "train_pairs.parquet"))
    question = dict(zip(pairs["positive_id"], pairs["query"], strict=True))
    columns = {"query": [question[i] for i in ids], "positive": texts[:count]}
    return Dataset.from_dict(
        columns | {f"negative_{n}": texts[count * n : count * (n + 1)] for n in range(1, 1 + negatives)}
    )


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
    """The rows as they come, for both trainers."""
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)


def run(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """One training run in a process of its own."""
    import torch

    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    dataset = rows(asked["batch"] * asked["steps"], asked["negatives"])
    with tempfile.TemporaryDirectory() as folder:
        trainer, model = _trainer(name, dataset, asked, folder)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        release_memory()
        watch = Watch()
        with MemoryPeak(watch) as memory, watch("train"):
            trainer.train()
    update = {
        key: (value - before[key]).numpy() for key, value in model.state_dict().items() if value.is_floating_point()
    }
    tokens = sum(
        len(ids) for column in dataset.column_names for ids in _ids(model, dataset[column][:], asked["length"])
    )
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"contender": name, **watch.spans["train"], "peak_mib": memory.report()["above_inputs_mib"],
            "real_tokens": tokens, "losses": losses, "update": update}  # fmt: skip


def _ids(model: Any, texts: list[str], length: int) -> list[list[int]]:
    return model.tokenizer(texts, truncation=True, max_length=length)["input_ids"]


def _trainer(name: str, dataset: Any, asked: dict[str, Any], folder: str) -> tuple[Any, Any]:
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from torch.nn import Dropout

    from hf_posmine.encoding import model_source
    from hf_posmine.models import InstructSentenceTransformer
    from hf_posmine.training import CachedInfoNCELoss, RecipeTrainer

    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder, per_device_train_batch_size=asked["batch"], max_steps=asked["steps"], learning_rate=2e-5,
        batch_sampler=in_order, save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True, seed=0,
        dataloader_pin_memory=False, bf16=asked["bf16"], use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    if name == "plain":
        model = SentenceTransformer(model_source("embedded"))
        loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=asked["mini_batch"])
        kind = SentenceTransformerTrainer
    else:
        model = InstructSentenceTransformer(
            model_source("embedded"), model_kwargs={"attn_implementation": "posmine_varlen"}
        )
        loss = CachedInfoNCELoss(model, temperature=TEMPERATURE, mini_batch_size=asked["mini_batch"])
        kind = RecipeTrainer
    model.max_seq_length = asked["length"]
    for module in model.modules():
        if isinstance(module, Dropout) and not asked["dropout"]:
            module.p = 0.0
    return kind(model=model, args=arguments, train_dataset=dataset, loss=loss), model


def apart(plain: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """Relative differences of the losses and of the whole update."""
    moved = np.sqrt(sum(float((u.astype(float) ** 2).sum()) for u in plain["update"].values()))
    away = np.sqrt(sum(float(((u.astype(float) - ours["update"][k]) ** 2).sum()) for k, u in plain["update"].items()))
    losses = zip(plain["losses"], ours["losses"], strict=True)
    return {"update": away / moved, "loss": max(abs(a - b) / abs(a) for a, b in losses)}


def compare(runs: list[dict[str, Any]], dropout: bool) -> dict[str, Any]:
    """Ratios by turn, and without dropout how far the two end apart."""
    of = {name: [r for r in runs if r["contender"] == name] for name in CONTENDERS}
    record: dict[str, Any] = {} if dropout else apart(of["plain"][0], of["hf_posmine"][0])
    for clock in ("wall", "cpu"):
        ratios = [p[clock] / u[clock] for p, u in zip(of["plain"], of["hf_posmine"], strict=True)]
        record[f"times_{clock}"] = [round(f(ratios), 3) for f in (min, statistics.median, max)]
    for name, some in of.items():
        record[name] = {
            "seconds": statistics.median(r["wall"] for r in some),
            "cpu_seconds": statistics.median(r["cpu"] for r in some),
            "real_tokens_per_second": statistics.median(r["real_tokens"] / r["wall"] for r in some),
            "peak_mib": max(r["peak_mib"] for r in some),
        }
    return record


def report(about: dict[str, Any], asked: dict[str, Any], record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        f"# Stage 1, this package against plain sentence-transformers\n\n{about['cpu']}, {about['cores']} cores; Python "
        f"{about['python']}; {packages}; commit {about['git_commit']}, source {about['source_digest']}; {about['time']}.\n",
        f"all-MiniLM-L6-v2 on SQuAD, at most {asked['length']} tokens; {asked['steps']} steps of {asked['batch']} rows with "
        f"1 + {asked['negatives']} documents, GradCache in mini-batches of {asked['mini_batch']}; "
        f"dropout {'on' if asked['dropout'] else 'off'}, {'autocast to bfloat16' if asked['bf16'] else 'float32'}; "
        f"{asked['repeat']} turns.\n",
        markdown(
            ["", "seconds", "CPU seconds", "real tokens per s", "peak MiB"],
            [
                [
                    n,
                    record[n]["seconds"],
                    record[n]["cpu_seconds"],
                    f"{record[n]['real_tokens_per_second']:,.0f}",
                    f"{record[n]['peak_mib']:,.0f}",
                ]
                for n in CONTENDERS
            ],
        ),
        "",
    ]
    goals = []
    for clock in ("wall", "cpu"):
        low, middle, high = record[f"times_{clock}"]
        goals.append(
            [f"times as fast ({clock})", low, middle, high, f">= {TARGET:g}", "yes" if middle >= TARGET else "NO"]
        )
    if not asked["dropout"]:
        goals.append(["largest relative difference of a loss", "-", f"{record['loss']:.1e}", "-", "-", "-"])
        goals.append(["relative difference of the whole update", "-", f"{record['update']:.1e}", "-", "-", "-"])
    return "\n".join([*lines, markdown(["measure", "min", "median", "max", "target", "met"], goals), ""])


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--mini-batch", type=int, default=32, help="rows of a GradCache step")
    parser.add_argument("--length", type=int, default=512, help="most tokens of a text")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dropout", action="store_true", help="as the model has it; by default off")
    parser.add_argument("--bf16", action="store_true", help="both under autocast to bfloat16")
    parser.add_argument("--threads", type=int, help="by default torch's choice")
    arguments = parser.parse_args(given)
    asked = {name: value for name, value in vars(arguments).items() if name != "output"}
    about, runs = machine(), []
    for turn in range(arguments.repeat):
        for name in CONTENDERS if turn % 2 == 0 else reversed(CONTENDERS):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                runs.append(pool.apply(run, (name, asked)))
    record = compare(runs, arguments.dropout)
    for entry in runs:
        del entry["update"]
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_json(
        arguments.output / "training.json", {"machine": about, "arguments": asked, "summary": record, "runs": runs}
    )
    text = report(about, asked, record)
    (arguments.output / "training.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
