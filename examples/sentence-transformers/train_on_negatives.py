"""Mine hard negatives, then train with them: MultipleNegativesRankingLoss takes all further columns as negatives."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset, load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hf_posmine.compat import mine_hard_negatives


def load_pairs(name: str) -> Dataset:
    """A dataset of the Hub, or a file of this machine."""
    kind = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}.get(Path(name).suffix)
    return load_dataset(kind, data_files=name, split="train") if kind else load_dataset(name, split="train")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", default="sentence-transformers/natural-questions", help="dataset or file of pairs")
parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="mines, and is then trained")
parser.add_argument("--num-negatives", type=int, default=4, help="negatives for each pair")
parser.add_argument("--output", default="trained", help="folder of the trained model")
parser.add_argument("--max-steps", type=int, default=-1, help="stop after this many steps")
arguments = parser.parse_args()

# 1. Load a model and a dataset of (anchor, positive) pairs
model = SentenceTransformer(arguments.model)
pairs = load_pairs(arguments.pairs)

# 2. Mine n-tuples: (anchor, positive, negative_1, ..., negative_n)
train_dataset = mine_hard_negatives(
    pairs, model, relative_margin=0.05, num_negatives=arguments.num_negatives, output_format="n-tuple"
)

# 3. Train on them
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir=arguments.output,
        max_steps=arguments.max_steps,
        num_train_epochs=1,
        per_device_train_batch_size=32,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=train_dataset,
    loss=MultipleNegativesRankingLoss(model),
)
trainer.train()

# 4. Save the trained model
model.save_pretrained(arguments.output)
