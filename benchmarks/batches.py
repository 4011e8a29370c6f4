"""In-batch negatives of random and of near rows: how many are above a ceiling, and how hard the others are.

    python -m benchmarks.batches [--rows 4096] [--batch 64] [--seeds 3] --output docs/benchmarks/batches.json

Questions of SQuAD with their passages, by the vectors of the embedded all-MiniLM-L6-v2; no training.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"
CEILING = "PercPos(0.95)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars

    from hf_posmine.training import Neighbours
    from hf_posmine.training.guide import Guide
    from hf_posmine.training.neighbour_batches import NeighbourBatches
    from hf_posmine.training.samplers import NoDuplicateTexts

    disable_progress_bars()
    rows = read_pairs(args.split, args.rows)
    guide = Guide.over("embedded", {"": rows})
    held = Neighbours("embedded", CEILING).within(rows, guide)
    queries, documents = guide.query_vectors(held.queries), guide.document_vectors(held.documents[:, 0])
    how = {
        "random": None,
        "random, ceiling": Neighbours("embedded", CEILING, k=0),
        "neighbours": Neighbours("embedded"),
        "neighbours, ceiling": Neighbours("embedded", CEILING),
    }
    table = []
    for name, near in how.items():
        found, spent = [], []
        for seed in range(args.seeds):
            plain = (rows, args.batch, True, None, None, seed)
            start = time.process_time()
            sampler = (
                NoDuplicateTexts(*plain) if near is None else NeighbourBatches(*plain, near=near.within(rows, guide))
            )
            batches = list(sampler)
            spent.append(time.process_time() - start)
            found.append(measure(batches, queries, documents, held.ceilings))
        figures = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        table.append({"batches": name, **figures, "seconds_per_epoch": float(np.mean(spent))})
        print(json.dumps(table[-1]))
    facts = {"rows": len(rows), "batch": args.batch, "seeds": args.seeds, "ceiling": CEILING, "split": args.split}
    Path(args.output).write_text(json.dumps({**facts, "table": table}, indent=1) + "\n")


def read_pairs(split: str, rows: int):
    """Questions with the texts of their passages."""
    from hf_posmine.data import load_files

    corpus = load_files(DATA / f"{split}_corpus.parquet")
    texts = dict(zip(corpus["id"], corpus["text"], strict=True))
    pairs = load_files(DATA / f"{split}_pairs.parquet").shuffle(seed=0)
    pairs = pairs.select(range(min(rows, len(pairs))))
    return pairs.map(lambda row: {"positive": texts[row["positive_id"]]}).select_columns(["query", "positive"])


def measure(batches: list[list[int]], queries: np.ndarray, documents: np.ndarray, ceilings: np.ndarray) -> dict:
    """Shares and means over the in-batch pairs of a query and the positive of another row."""
    above, pairs, mean, hardest = 0, 0, [], []
    for batch in batches:
        scores = queries[batch] @ documents[batch].T
        own, other = np.diag(scores), ~np.eye(len(batch), dtype=bool)
        over = (scores >= ceilings[batch, None]) & other
        above, pairs = above + int(over.sum()), pairs + int(other.sum())
        mean.append((scores * other).sum(axis=1) / (len(batch) - 1) / own)
        hardest.append(np.where(other & ~over, scores, -1).max(axis=1) / own)
    return {
        "above_ceiling": above / pairs,
        "pairs_above": above,
        "mean_hardness": float(np.concatenate(mean).mean()),
        "hardest_below_ceiling": float(np.concatenate(hardest).mean()),
    }


if __name__ == "__main__":
    main()
