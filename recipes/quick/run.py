"""Both stages in minutes on a CPU: mine, train, train again, compare with the untrained student.

    python recipes/quick/run.py

Everything happens in out/quick. Questions are held out by their documents, so none of the test's positives is trained on.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from hf_posmine import Corpus
from hf_posmine.cli.main import main as hf_posmine
from hf_posmine.data import SAMPLE, beir_pairs
from hf_posmine.evaluation import (
    Collection,
    RetrievalResult,
    compare_runs,
    evaluate_retrieval,
    load_collection,
    neighbour_accuracy,
)
from hf_posmine.models import InstructSentenceTransformer
from hf_posmine.training import load_student, read_recipe, run_stage

HERE, OUT = Path(__file__).parent, Path("out/quick")
SEEDS = (1, 2, 3)
RETRIEVE = "Given a question, retrieve passages that answer it"
CLASSIFY = "Classify the kind of answer that the question asks for"
KINDS = ("How", "What", "Who", "Which", "When", "Where", "Why")


def main() -> None:
    """All steps, in order."""
    shutil.rmtree(OUT, ignore_errors=True)

    # 1. The embedded sample: 171 questions, split by their documents, 45 % of which are held out.
    train, test = split_sample()

    # 2. Mine: four negatives below 95 % of the positive's score. The held-out questions are not seen.
    hf_posmine(["mine", "--config", str(HERE / "mine.yaml"), "--offline", "--quiet"])

    # 3. The student before training.
    heldout = load_collection(OUT / "heldout")
    student = load_student(read_recipe(HERE / "stage1.yaml").student)
    scores = {"untrained": [measure(student, heldout, train, test)] * len(SEEDS)}

    # 4. Both stages, three times with other seeds.
    for name in ("stage1", "stage2"):
        scores[name] = []
        for seed in SEEDS:
            folder = OUT / f"{name}-{seed}"
            overrides = ["--seed", str(seed), "--output_dir", str(folder)]
            if name == "stage2":
                overrides += ["--model", str(OUT / f"stage1-{seed}")]
            run_stage(read_recipe(HERE / f"{name}.yaml", overrides))
            # 5. What was saved is a plain sentence-transformers model; measure that.
            scores[name].append(measure(InstructSentenceTransformer(str(folder)), heldout, train, test))

    # 6. Is it better, and how sure is that?
    report(scores)


def split_sample() -> tuple[Dataset, Dataset]:
    """Write train.parquet, kinds.parquet and the judged collection heldout/; the kinds of both parts."""
    pairs = beir_pairs(SAMPLE)
    corpus = Corpus.from_beir(SAMPLE)
    positives = corpus.texts(corpus.rows_of_ids(pairs["positive_id"])).to_pylist()
    pairs = pairs.add_column("positive", positives)
    documents = sorted(set(pairs["positive_id"]))
    random.Random(0).shuffle(documents)
    held = set(documents[: len(documents) * 9 // 20])
    train = pairs.filter(lambda row: row["positive_id"] not in held)
    test = pairs.filter(lambda row: row["positive_id"] in held)

    OUT.mkdir(parents=True, exist_ok=True)
    train.to_parquet(OUT / "train.parquet")
    folder = OUT / "heldout"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        shutil.copy(SAMPLE / name, folder / name)
    lines = (SAMPLE / "qrels" / "complete.tsv").read_text().splitlines()
    asked = set(test["query_id"])
    judged = [lines[0], *(line for line in lines[1:] if line.split("\t")[0] in asked)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n")

    kinds = [with_kinds(part) for part in (train, test)]
    kinds[0].to_parquet(OUT / "kinds.parquet")
    return kinds[0], kinds[1]


def with_kinds(rows: Dataset) -> Dataset:
    """The questions that start with a question word, which is their class."""
    questions = [q for q in rows["query"] if q.split()[0] in KINDS]
    return Dataset.from_dict({"question": questions, "kind": [q.split()[0] for q in questions]})


def measure(
    model: InstructSentenceTransformer, heldout: Collection, train: Dataset, test: Dataset
) -> tuple[RetrievalResult, np.ndarray]:
    """NDCG@10 of each held-out question, and whether its kind is that of its nearest training question."""
    found = evaluate_retrieval(model, heldout, query_instruction=RETRIEVE)
    near, far = (model.encode([(CLASSIFY, q) for q in part["question"]]) for part in (train, test))
    return found, neighbour_accuracy(near, train["kind"], far, test["kind"]).items


def report(scores: dict) -> None:
    """A table of means, and the test of their difference."""
    console, table = Console(), Table("model", "NDCG@10", "by seed", "kind of question (1-NN)")
    ndcg = {name: np.array([found.scores["ndcg@10"] for found, _ in runs]) for name, runs in scores.items()}
    kinds = {name: np.array([right for _, right in runs]) for name, runs in scores.items()}
    for name in scores:
        each = " ".join(f"{mean:.3f}" for mean in ndcg[name].mean(axis=1))
        table.add_row(name, f"{ndcg[name].mean():.3f}", each, f"{kinds[name].mean():.3f}")
    console.print(table)
    for a, b in (("untrained", "stage1"), ("untrained", "stage2"), ("stage1", "stage2")):
        console.print(f"NDCG@10: {compare_runs(ndcg[a], ndcg[b]).sentence(a, b)}")
    console.print(f"kinds: {compare_runs(kinds['stage1'], kinds['stage2']).sentence('stage1', 'stage2')}")


if __name__ == "__main__":
    main()
