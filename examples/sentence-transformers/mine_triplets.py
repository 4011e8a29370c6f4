"""Mine hard negatives that score at least 5 % below their positive, and save them as triplets with scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset, load_dataset
from sentence_transformers import SentenceTransformer

from hf_posmine.compat import mine_hard_negatives


def load_pairs(name: str) -> Dataset:
    """A dataset of the Hub, or a file of this machine."""
    kind = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}.get(Path(name).suffix)
    return load_dataset(kind, data_files=name, split="train") if kind else load_dataset(name, split="train")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pairs", default="sentence-transformers/natural-questions", help="dataset or file of pairs")
parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="model that finds the negatives")
parser.add_argument("--num-negatives", type=int, default=4, help="negatives for each pair")
parser.add_argument("--output", default="triplets", help="folder of the mined dataset")
arguments = parser.parse_args()

# 1. Load a model to find negatives with, and a dataset of (anchor, positive) pairs
model = SentenceTransformer(arguments.model)
pairs = load_pairs(arguments.pairs)

# 2. Mine: every pair gets its negatives, however many of its nearest documents are too close
triplets = mine_hard_negatives(
    pairs,
    model,
    relative_margin=0.05,
    num_negatives=arguments.num_negatives,
    output_format="triplet",
    output_scores=True,
    keep_columns=True,
)

# 3. Look at one, and save them all
print(triplets[0])
triplets.save_to_disk(arguments.output)
