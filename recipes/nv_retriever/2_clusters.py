"""Make the clustering sets of stage 2 from the papers' titles, abstracts and categories.

    python recipes/nv_retriever/2_clusters.py

MTEB drew its clustering tests from the same files, so papers with a title of a test are left out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from rich.console import Console

from hf_posmine.data import normalize

OUT = Path("out/nv_retriever/clusters")
ROWS = 200_000  # ours: that many arXiv papers (of two million) are enough to draw 35,000 rows and their documents from
LABELS = {"arxiv": "categories", "biorxiv": "category", "medrxiv": "category"}


def main() -> None:
    """All steps, in order."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, column in LABELS.items():
        # 1. All papers of the archive, and the titles that MTEB tests with.
        papers = load_dataset(f"mteb/raw_{name}", split="train")
        test = load_dataset(f"mteb/{name}-clustering-s2s", split="test")  # id and column not checked
        tested = {normalize(title) for titles in test["sentences"] for title in titles}

        # 2. Those that are not tested.
        kept = [row for row, title in enumerate(papers["title"]) if normalize(title) not in tested]
        if len(kept) > ROWS:
            kept = np.sort(np.random.default_rng(0).choice(kept, ROWS, replace=False)).tolist()

        # 3. Columns: title (S2S), title and abstract (P2P), label.
        rows = clusters(papers.select(kept), column)
        rows.to_parquet(OUT / f"{name}.parquet")
        Console().print(f"{name}: {len(rows):,} of {len(papers):,} papers in {len(set(rows['label'])):,} categories")


def clusters(papers: Any, column: str) -> Dataset:
    """Of several categories, such as ``math.CO cs.DM``, the first: main and secondary category, as the task says."""
    labels = [(category.split() if column == "categories" else [category])[0] for category in papers[column]]
    titles = papers["title"][:]
    texts = [f"{title} {abstract}" for title, abstract in zip(titles, papers["abstract"], strict=True)]
    return Dataset.from_dict({"title": titles, "text": texts, "label": labels})


if __name__ == "__main__":
    main()
