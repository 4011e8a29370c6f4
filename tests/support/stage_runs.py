"""Tiny students, data, collections and recipes for the tests of a stage; and a run that dies while it writes.

`python -m tests.support.stage_runs RECIPE STEP` trains, and kills itself halfway through the state of the checkpoint at STEP.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from transformers import MistralConfig, MistralModel, TrainerState

from hf_posmine.training.recipe import Recipe, read_recipe
from hf_posmine.training.stage import run_stage
from tests.support.distributed import WORDS, text, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCTION = "w1 w2"


def saved_student(folder: Path, dropout: float = 0.1, prompts: dict[str, str] | None = None) -> Path:
    """A random BERT of two layers as a saved model."""
    path = tiny_model(folder, dropout)
    if prompts is not None:
        file = path / "config_sentence_transformers.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"prompts": prompts}))
    return path


def decoder(folder: Path) -> Path:
    """A random Mistral of two layers with a tokenizer of its own."""
    from tests.models.conftest import sentencepiece

    tokenizer = sentencepiece()
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    )
    MistralModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def retrieval_file(path: Path, rows: int = 24, negatives: int = 2, seed: int = 0) -> Path:
    """Pairs that share a word nothing else has, with a list of negatives."""
    rng = np.random.default_rng(seed)
    return _written(
        path,
        {
            "query": [f"{WORDS[n % 40]} {text(rng)}" for n in range(rows)],
            "positive": [f"{WORDS[n % 40]} {text(rng)}" for n in range(rows)],
            "negatives": [[text(rng) for _ in range(negatives)] for _ in range(rows)],
        },
    )


def scored_file(pairs: Path, path: Path, seed: int = 3) -> Path:
    """The same rows with scores of a teacher, as mining writes them."""
    rng, rows = np.random.default_rng(seed), Dataset.from_parquet(str(pairs))
    scores = {
        "positive_score": rng.random(len(rows)).tolist(),
        "negatives_scores": [rng.random(len(texts)).tolist() for texts in rows["negatives"]],
    }
    return _written(path, {name: rows[name][:] for name in rows.column_names} | scores)


def label_file(path: Path, rows: int = 24, seed: int = 1) -> Path:
    """Texts of three classes."""
    rng = np.random.default_rng(seed)
    return _written(
        path,
        {"text": [f"{WORDS[n % 3]} {text(rng)}" for n in range(rows)], "label": [f"c{n % 3}" for n in range(rows)]},
    )


def _written(path: Path, columns: dict[str, list[Any]]) -> Path:
    Dataset.from_dict(columns).to_parquet(str(path))
    return path


def collection(folder: Path, queries: int = 8, seed: int = 2) -> Path:
    """A judged collection: one relevant document each."""
    rng = np.random.default_rng(seed)
    (folder / "qrels").mkdir(parents=True)
    words = [WORDS[n] for n in range(queries)]
    for name, prefix in (("corpus", "d"), ("queries", "q")):
        lines = [json.dumps({"_id": f"{prefix}{n}", "text": f"{word} {text(rng)}"}) for n, word in enumerate(words)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    judged = [f"q{n}\td{n}\t1" for n in range(queries)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    return folder


def told(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of six steps on the CPU; None takes a key out."""
    said: dict[str, Any] = {
        "model": str(model),
        "num_negatives": 2,
        "temperature": 0.1,
        "datasets": [{"name": "pairs", "path": str(data), "task": "retrieval", "instruction": INSTRUCTION}],
        "output_dir": str(output),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    } | changes
    return {key: value for key, value in said.items() if value is not None}


def written(folder: Path, said: dict[str, Any]) -> Path:
    """A recipe as a file."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def recipe(folder: Path, said: dict[str, Any], *overrides: str) -> Recipe:
    """A recipe that went through a file."""
    return read_recipe(written(folder, said), overrides)


def die_while_writing(path: str, step: int) -> None:
    """Train until the checkpoint at a step, and be killed in the middle of its last file."""
    whole = TrainerState.save_to_json

    def torn(self: TrainerState, json_path: str) -> None:
        whole(self, json_path)
        if self.global_step == step:
            os.truncate(json_path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    TrainerState.save_to_json = torn
    run_stage(read_recipe(path))


if __name__ == "__main__":
    die_while_writing(sys.argv[1], int(sys.argv[2]))
