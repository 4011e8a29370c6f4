"""What each stage gains and costs: SciFact first, then a blend with Banking77, STS-B and StackOverflow titles.

Run ``python -m benchmarks.two_stages --output out/bench``; see README.md beside this file. The student is the real
all-MiniLM-L6-v2, the data those beside the checkout. Stage 1 learns from SciFact's training claims with mined negatives;
stage 2 blends them with the other three. Every model is measured on SciFact's test claims (NDCG@10), Banking77's test
(accuracy of the nearest training example), STS-B's test (Spearman) and titles that were not trained on (V-measure). The
untrained student is measured without instructions, as it was trained; the others with them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.measure import ROOT, machine, markdown, now
from benchmarks.synthetic import save_json

DATA = ROOT.parent / "shared" / "data"
RETRIEVE = "Given a scientific claim, retrieve documents that support or refute the claim"
INTENT = "Given an online banking query, find the corresponding intents"
SIMILAR = "Retrieve semantically similar text."
TITLES = "Identify the main topic of StackOverflow titles"
TASKS = ("ndcg@10", "banking77", "stsb", "stackoverflow")


def prepare(folder: Path, rows: int) -> None:
    """The training files."""
    from datasets import Dataset

    from hf_posmine.evaluation import load_collection

    claims = load_collection(DATA / "scifact", "qrels_train")
    positives = claims.corpus.texts(claims.corpus.rows_of_ids([d for _, d in claims.positives])).to_pylist()
    Dataset.from_dict({"query": [claims.queries[q] for q, _ in claims.positives], "positive": positives}).to_parquet(
        folder / "claims.parquet"
    )
    titles = Dataset.from_parquet(str(DATA / "stackoverflow_titles" / "all.parquet")).shuffle(seed=0)
    titles.select(range(rows)).to_parquet(folder / "titles.parquet")
    titles.select(range(len(titles) - 4000, len(titles))).to_parquet(folder / "titles_test.parquet")


def recipe(stage: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The two recipes."""
    mine = {"teacher": "embedded", "filters": ["PercPos(0.95)"]}
    claims = {
        "name": "scifact", "path": str(folder / "claims.parquet"), "task": "retrieval", "instruction": RETRIEVE,
        "mine": {**mine, "corpus": str(folder / "corpus.parquet")},
    }  # fmt: skip
    others = [
        {"name": "banking77", "path": str(DATA / "banking77" / "train.parquet"), "task": "classification",
         "instruction": INTENT, "max_samples": asked.rows},
        {"name": "stsb", "path": str(DATA / "stsb" / "en_train.parquet"), "task": "sts", "instruction": SIMILAR,
         "mine": mine, "max_samples": asked.rows},
        {"name": "stackoverflow", "path": str(folder / "titles.parquet"), "task": "clustering", "instruction": TITLES},
    ]  # fmt: skip
    return {
        "model": "embedded" if stage == "stage1" else str(folder / "stage1"),
        "attn_implementation": "posmine_varlen",
        "max_query_length": 64,
        "max_document_length": asked.length,
        "num_negatives": asked.negatives,
        "temperature": 0.05,
        "false_negatives": "PercPos(0.95)",
        "mini_batch_num_tokens": 4096,
        "datasets": [claims] if stage == "stage1" else [claims, *others],
        "output_dir": str(folder / stage),
        "num_train_epochs": asked.epochs,
        "per_device_train_batch_size": 32,
        "learning_rate": 2e-5,
        "warmup_steps": 0.1,
        "save_strategy": "no",
        "logging_steps": 5,
        "report_to": "none",
        "seed": asked.seed,
    }


def measure(model: Any, folder: Path, instructed: bool) -> dict[str, Any]:
    """The values of each task, per query or test row where there are any."""
    from datasets import Dataset

    from hf_posmine.evaluation import (
        clustering_v_measure,
        evaluate_retrieval,
        load_collection,
        neighbour_accuracy,
        sts_spearman,
    )

    def vectors(texts: list[str], instruction: str) -> Any:
        return model.encode_by_tokens([(instruction, text) for text in texts] if instructed else texts, "query")

    claims = load_collection(DATA / "scifact", "qrels_test")
    found = evaluate_retrieval(model, claims, query_instruction=RETRIEVE if instructed else None)
    train, test = (Dataset.from_parquet(str(DATA / "banking77" / f"{part}.parquet")) for part in ("train", "test"))
    intents = neighbour_accuracy(
        vectors(train["text"][:], INTENT), train["label"][:], vectors(test["text"][:], INTENT), test["label"][:]
    )
    sts = Dataset.from_parquet(str(DATA / "stsb" / "en_test.parquet"))
    similar = sts_spearman(
        vectors(sts["sentence1"][:], SIMILAR), vectors(sts["sentence2"][:], SIMILAR), sts["score"][:]
    )
    titles = Dataset.from_parquet(str(folder / "titles_test.parquet"))
    topics = clustering_v_measure(vectors(titles["text"][:], TITLES), titles["label"][:])
    scores = {"banking77": intents, "stsb": similar, "stackoverflow": topics}
    return {
        "ndcg@10": [found.means["ndcg@10"], None, None],
        "per_query": found.scores["ndcg@10"].tolist(),
        "per_row": intents.items.tolist(),
    } | {name: [score.value, score.low, score.high] for name, score in scores.items()}


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--rows", type=int, default=1000, help="of each further data set")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--negatives", type=int, default=2)
    parser.add_argument("--length", type=int, default=128, help="most tokens of a document")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(given)

    from hf_posmine.encoding import model_source
    from hf_posmine.evaluation import compare
    from hf_posmine.models import InstructSentenceTransformer
    from hf_posmine.training import recipe_from, run_stage

    folder = asked.output / "two_stages"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.parquet").write_bytes((DATA / "scifact" / "corpus.parquet").read_bytes())
    prepare(folder, asked.rows)
    untrained = InstructSentenceTransformer(model_source("embedded"))
    untrained[0].query_length, untrained[0].document_length = 64, asked.length
    scores, seconds = {"untrained": measure(untrained, folder, False)}, {}
    for stage in ("stage1", "stage2"):
        start = now()[0]
        model = run_stage(recipe_from(recipe(stage, folder, asked)))
        seconds[stage] = round(now()[0] - start, 1)
        scores[stage] = measure(model, folder, True)

    about = machine()
    pairs = [("untrained", "stage1"), ("untrained", "stage2"), ("stage1", "stage2")]
    claims = [
        f"SciFact NDCG@10: {compare(scores[a]['per_query'], scores[b]['per_query']).sentence(a, b)}" for a, b in pairs
    ] + [f"Banking77 1-NN: {compare(scores[a]['per_row'], scores[b]['per_row']).sentence(a, b)}" for a, b in pairs]
    shown = [[name, *[_cell(scores[name][task]) for task in TASKS]] for name in scores]
    text = (
        f"# Two stages on real data\n\nall-MiniLM-L6-v2, {about['cpu']}, {about['cores']} cores; commit {about['git_commit']}, "
        f"source {about['source_digest']}; {about['time']}; `python -m benchmarks.two_stages --rows {asked.rows} "
        f"--epochs {asked.epochs:g} --negatives {asked.negatives} --length {asked.length} --seed {asked.seed}`. One seed, so "
        f"intervals cover test rows, not training runs. Training took {seconds['stage1']:.0f} s and {seconds['stage2']:.0f} s."
        "\n\n"
        + markdown(["model", "SciFact NDCG@10", "Banking77 1-NN", "STS-B Spearman", "StackOverflow V-measure"], shown)
        + "\n\n" + "\n".join(f"- {claim}" for claim in claims) + "\n"
    )  # fmt: skip
    save_json(
        asked.output / "two_stages.json", {"machine": about, "scores": scores, "seconds": seconds, "claims": claims}
    )
    (asked.output / "two_stages.md").write_text(text)
    print(text)


def _cell(score: list[float | None]) -> str:
    value, low, high = score
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
