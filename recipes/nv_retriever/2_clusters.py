"""Make the clustering sets of stage 2 from the papers' titles, abstracts and categories, as clusters.yaml has it.

    python recipes/nv_retriever/2_clusters.py
    python recipes/nv_retriever/2_clusters.py --trial 500 --output out/trial/clusters

MTEB drew its clustering tests from the same files, so papers with a title of a test are left out here. No GPU is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, load_dataset
from rich.console import Console

from hf_posmine.data import normalize
from nv.sets import draw

HERE = Path(__file__).parent


def main(given: list[str] | None = None) -> None:
    """All steps, in order."""
    args = arguments(given)
    plan = yaml.safe_load(args.config.read_text("utf8"))
    args.output.mkdir(parents=True, exist_ok=True)
    for name, archive in plan["archives"].items():
        # 1. All papers of the archive, and the titles that MTEB tests with.
        papers = load_dataset(archive["papers"], split="train")
        test = load_dataset(archive["tests"], split="test")
        tested = {normalize(title) for titles in test["sentences"] for title in titles}

        # 2. Those that are not tested, drawn.
        untested = papers.select([row for row, title in enumerate(papers["title"]) if normalize(title) not in tested])
        kept = draw(untested, args.trial or plan["rows"], seed=0)

        # 3. Columns: title (S2S), title and abstract (P2P), label.
        rows = clusters(kept, archive["label"])
        rows.to_parquet(args.output / f"{name}.parquet")
        Console().print(f"{name}: {len(rows):,} of {len(papers):,} papers in {len(set(rows['label'])):,} categories")


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "clusters.yaml")
    parser.add_argument("--output", type=Path, default=Path("out/nv_retriever/clusters"))
    parser.add_argument("--trial", type=int, metavar="ROWS", help="at most so many papers of each archive")
    return parser.parse_args(given)


def clusters(papers: Any, column: str) -> Dataset:
    """Of several categories, such as ``math.CO cs.DM``, the first: main and secondary category, as the task says."""
    labels = [(category.split() if column == "categories" else [category])[0] for category in papers[column]]
    titles = papers["title"][:]
    texts = [f"{title} {abstract}" for title, abstract in zip(titles, papers["abstract"], strict=True)]
    return Dataset.from_dict({"title": titles, "text": texts, "label": labels})


if __name__ == "__main__":
    main()
