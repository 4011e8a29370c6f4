"""What a repair is worth: a student trained on clean rows, on rows with planted faults, and on the mended copy.

    python -m benchmarks.repaired --output out/bench [--rows 2000] [--times 1 4] [--seeds 1 2 3 4 5] [--steps 32]

Rows are questions of SQuAD with their passage and the three passages that follow it, often of the same article. Six kinds
of faults are planted at ``--times`` their rates (10.5 % of the rows at 1), and ``audit_data(repair=...)`` mends them without
knowing where they are. The student is a bag of words: the average of MiniLM's word embeddings. It is trained by plain
sentence-transformers (triplets, MultipleNegativesRankingLoss), every way for the same number of steps, and evaluated on
1,000 questions of SQuAD's development articles over all their passages. Values of each run are kept, and a run that is
there is not repeated. Writes ``repaired.json`` and prints a table; intervals are over seeds and articles.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from datasets import Dataset, disable_progress_bars

from benchmarks.measure import ROOT, machine, markdown
from benchmarks.students import bag_of_words
from benchmarks.synthetic import save_json
from tests.audit import planted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation import Collection

SQUAD = ROOT.parent / "shared" / "data" / "squad_v1.1"
QUESTIONS, BATCH, RATE, LENGTH = 1000, 64, 5e-3, 192
MEASURE = "ndcg@10"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=32)
    args = parser.parse_args(given)
    disable_progress_bars()
    collection, articles = test_collection()
    ways, counts = training_rows(args.rows, args.times)
    file = args.output / "repaired_runs.json"
    settings = {name: vars(args)[name] for name in ("rows", "times", "steps")}
    runs = _kept(file, settings)
    for seed in args.seeds:
        for way, rows in ways.items():
            if f"{way} {seed}" not in runs:
                runs[f"{way} {seed}"] = values(rows, collection, seed, args.steps)
                save_json(file, {"settings": settings, "runs": runs})
                print(f"{way}, seed {seed}: {np.mean(runs[f'{way} {seed}']):.4f}", flush=True)
    scores = {way: np.array([runs[f"{way} {seed}"] for seed in args.seeds]) for way in ways}
    result = {
        "settings": settings | {"seeds": args.seeds, "learning_rate": RATE, "batch": BATCH, "questions": QUESTIONS},
        "triplets": {way: len(rows) for way, rows in ways.items()}, "faults": counts,
        "means": {way: float(found.mean()) for way, found in scores.items()},
        "differences": differences(scores, articles), "machine": machine(),
    }  # fmt: skip
    save_json(args.output / "repaired.json", result)
    print(table(result))


def _kept(file: Path, settings: dict[str, Any]) -> dict[str, list[float]]:
    """Runs of before with these settings."""
    if not file.is_file():
        return {}
    held = json.loads(file.read_text())
    return held["runs"] if held["settings"] == settings else {}


def test_collection() -> tuple[Collection, list[str]]:
    """Questions of the development articles over all their passages, and the article of each question."""
    from hf_posmine.evaluation import Collection

    pairs = Dataset.from_parquet(str(SQUAD / "dev_pairs.parquet")).shuffle(seed=0).select(range(QUESTIONS))
    documents = Dataset.from_parquet(str(SQUAD / "dev_corpus.parquet")).select_columns(["id", "text"])
    judged = [(row["id"], row["positive_id"], 1) for row in pairs]
    collection = Collection.of("squad-dev", documents, {row["id"]: row["query"] for row in pairs}, judged)
    title = dict(zip(pairs["id"][:], pairs["title"][:], strict=True))
    return collection, [title[query] for query in collection.qrels]


def training_rows(rows: int, times: Sequence[float]) -> tuple[dict[str, list[dict[str, str]]], dict[str, Any]]:
    """Triplets of each way, and the number of planted and of removed rows and negatives."""
    clean = planted.real_rows("squad_v1.1", rows)
    ways = {"clean": triplets((row.query, [row.positive], row.negatives) for row in clean)}
    counts: dict[str, Any] = {}
    for factor in times:
        faults = planted.plant(clean, seed=0, times=factor)
        ways[f"raw x{factor:g}"] = triplets((row.query, [row.positive], row.negatives) for row in faults.rows)
        ways[f"repaired x{factor:g}"], changed = repaired(faults.rows)
        counts[f"x{factor:g}"] = {kind: len(where) for kind, where in faults.where.items()} | {"removed": changed}
    return ways, counts


def repaired(rows: Sequence[planted.MadeRow]) -> tuple[list[dict[str, str]], int]:
    """Triplets of the mended copy, and the number of rows and negatives that it lacks."""
    from hf_posmine.audit import audit_data
    from hf_posmine.data import open_training_data

    with tempfile.TemporaryDirectory(prefix="posmine-repaired-") as folder:
        source, target = planted.mined_rows(rows, Path(folder)), Path(folder) / "mended.parquet"
        result = audit_data(open_training_data(source), repair=target)
        mended = Dataset.from_parquet(str(target), keep_in_memory=True)
        found = triplets((row["query"], [row["positive"]], row["negatives"]) for row in mended)
    assert result.repair is not None
    return found, result.repair.rows_removed + result.repair.negatives_removed


def triplets(rows: Any) -> list[dict[str, str]]:
    """One row per negative; rows without any are left out."""
    return [
        {"query": query, "positive": positive, "negative": negative}
        for query, positives, negatives in rows
        for positive in positives
        for negative in negatives
    ]


def values(rows: Sequence[dict[str, str]], collection: Collection, seed: int, steps: int) -> list[float]:
    """NDCG@10 of each question after training."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from hf_posmine.evaluation import evaluate_retrieval

    model = bag_of_words(LENGTH)
    with tempfile.TemporaryDirectory(prefix="posmine-student-") as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=RATE, warmup_steps=0.1, seed=seed,
            data_seed=seed, save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        SentenceTransformerTrainer(
            model, arguments, Dataset.from_list(list(rows)), loss=MultipleNegativesRankingLoss(model)
        ).train()
    return evaluate_retrieval(model, collection, measures=(MEASURE,)).scores[MEASURE].tolist()


def differences(scores: dict[str, np.ndarray], articles: Sequence[str]) -> list[dict[str, Any]]:
    """Of raw and repaired rows against clean ones, and of repaired against raw, Holm-corrected."""
    from hf_posmine.evaluation import compare_runs, corrected

    pairs = [("clean", way) for way in scores if way != "clean"]
    pairs += [(way, way.replace("raw", "repaired")) for way in scores if way.startswith("raw")]
    found = corrected({(a, b): compare_runs(scores[a], scores[b], groups=articles) for a, b in pairs})
    return [
        {"baseline": a, "way": b, "difference": one.difference, "low": one.low, "high": one.high, "p": one.p_value,
         "p_holm": one.adjusted_p}
        for (a, b), one in found.items()
    ]  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Means, then differences."""
    means = [(way, result["triplets"][way], f"{mean:.4f}") for way, mean in result["means"].items()]
    rows = [
        (
            f"{d['way']} against {d['baseline']}", f"{d['difference']:+.4f}", f"{d['low']:+.4f} to {d['high']:+.4f}",
            f"{d['p_holm']:.3f}",
        )
        for d in result["differences"]
    ]  # fmt: skip
    header = ("comparison", MEASURE, "95 % interval", "p (Holm)")
    return f"{markdown(('rows', 'triplets', MEASURE), means)}\n\n{markdown(header, rows)}"


if __name__ == "__main__":
    main()
