"""Training runs that the trainer tests do in one process and in two: `torchrun --nproc_per_node 2 distributed.py FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from datasets import Dataset, DatasetDict
from packaging.version import Version
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
from hf_posmine.training.trainer import RecipeTrainer

WORDS = [f"w{number}" for number in range(60)]
LOSSES = {
    "plain": lambda model, gather: InfoNCELoss(
        model, temperature=0.1, false_negatives="PercPos(1.0)", gather_across_devices=gather
    ),
    "cached": lambda model, gather: CachedInfoNCELoss(
        model, temperature=0.1, false_negatives="PercPos(1.0)", gather_across_devices=gather, mini_batch_size=3
    ),
}
RESUMES_ON_CPUS = Version(transformers.__version__) >= Version("5.18")
"""Earlier releases load the optimizer onto ``cpu:0``, which torch refuses, when several CPU processes resume."""
CASES = [(loss, in_batch) for loss in LOSSES for in_batch in (True, False)]


def tiny_model(folder: Path, dropout: float = 0.0) -> Path:
    """Save a random BERT of two layers and 16 dimensions as a SentenceTransformer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "words.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=65,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.5,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "words.txt")).save_pretrained(folder / "bert")
    SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(16)], device="cpu").save(str(folder / "st"))
    return folder / "st"


def text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(2, 9)))


def rows(count: int, negatives: int, in_batch: bool, seed: int = 0) -> Dataset:
    """Random rows; texts of eight random words at most, so a few of them repeat."""
    rng = np.random.default_rng(seed)
    names = ["query", "positive", *(f"negative_{n}" for n in range(1, negatives + 1))]
    columns = {name: [text(rng) for _ in range(count)] for name in names}
    return Dataset.from_dict(columns | {"in_batch_negatives": [in_batch] * count})


def load(folder: Path, name: str) -> SentenceTransformer:
    return SentenceTransformer(str(folder / name / "st"), device="cpu")


def train(model, output: Path, data: Dataset | DatasetDict, make_loss, *, resume: str | None = None, **args):
    """A run on the CPU; the trainer, after it."""
    settings = {
        "output_dir": str(output),
        "use_cpu": True,
        "seed": 7,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    arguments = SentenceTransformerTrainingArguments(**(settings | args))
    trainer = RecipeTrainer(model=model, args=arguments, train_dataset=data, loss=make_loss(model))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in trainer.model.state_dict().items()}


def equality_run(folder: Path, case: tuple[str, bool], batch: int):
    """Six steps of one case: what two processes with half the batch must repeat."""
    loss, in_batch = case
    return train(
        load(folder, "still"),
        folder / f"run-{loss}-{in_batch}",
        rows(48, 2, in_batch),
        lambda model: LOSSES[loss](model, in_batch),
        per_device_train_batch_size=batch,
        num_train_epochs=1,
    )


def mixed_sets() -> DatasetDict:
    """Two sets with different numbers of negatives: processes that draw different sets never finish a gathering."""
    return DatasetDict(a=rows(40, 1, True, 1), b=rows(28, 3, True, 2))


def resumable(folder: Path, resume: str | None):
    return train(
        load(folder, "moving"),
        folder / ("resumed" if resume else "whole"),
        mixed_sets(),
        lambda model: LOSSES["plain"](model, True),
        resume=resume,
        per_device_train_batch_size=4,
        num_train_epochs=2,
        optim="adamw_torch",
        learning_rate=0.01,
        save_strategy="steps",
        save_steps=4,
    )


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    for case in CASES:
        trainer = equality_run(folder, case, 4)
        if rank == 0:
            np.savez(folder / f"{case[0]}-{case[1]}.npz", **weights(trainer))
        (folder / f"{case[0]}-{case[1]}-rank{rank}.json").write_text(json.dumps(trainer.state.log_history))
    if RESUMES_ON_CPUS:
        resume(folder, rank)


def resume(folder: Path, rank: int) -> None:
    whole = weights(resumable(folder, None))
    torch.distributed.barrier()
    resumed = weights(resumable(folder, str(folder / "whole" / "checkpoint-12")))
    if rank == 0:
        np.savez(folder / "whole.npz", **whole)
        np.savez(folder / "resumed.npz", **resumed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
