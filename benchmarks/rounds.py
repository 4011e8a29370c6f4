"""Rounds of mining against mining once: NDCG@10 after the same number of steps, or of each round.

    python -m benchmarks.rounds --output docs/benchmarks/rounds.json [--seeds 5] [--cells FOLDER]

SQuAD in windows as in benchmarks/equal_seconds.py; four negatives a question below the ceiling of all-MiniLM-L6-v2, in-batch
negatives on, batches of 64. The student is the average of MiniLM's word embeddings. Rounds: ``hf_posmine.training.run_rounds``.
Every cell is a file in ``--cells``, and one that is there is not repeated; the output has what is done after each seed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.equal_seconds import load
from benchmarks.folds import MEASURE, Records, differences, kept, means, number
from benchmarks.measure import machine, markdown
from benchmarks.students import bag_of_words
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.equal_seconds import Task

STEPS, BATCH, NEGATIVES, LENGTH, RATE = 32, 64, 4, 64, 5e-3
"""The learning rate is that of recipes/ablation/in_batch.yaml, chosen on other articles."""
CEILING = "PercPos(0.95)"
FURTHER = {"rounds": 2, "round_start": "previous", "max_steps": STEPS // 2}
WAYS: dict[str, dict[str, Any]] = {
    "once": {"max_steps": STEPS},
    "two rounds, trained further": FURTHER,
    "two rounds, the student's ceiling": FURTHER | {"round_ceiling": "student"},
    "two rounds, each from the start": {"rounds": 2, "round_start": "student", "max_steps": STEPS},
    "mined every 8 steps": {"max_steps": STEPS, "remine_steps": STEPS // 4},
    "every 8 steps, the student's ceiling": {
        "max_steps": STEPS,
        "remine_steps": STEPS // 4,
        "round_ceiling": "student",
    },
}


@dataclass(frozen=True)
class Way:
    """A name in :data:`WAYS`."""

    way: str


@dataclass
class Runs:
    """Results, each a file below ``folder``."""

    folder: Path
    task: Task
    student: Path
    ways: Mapping[str, Mapping[str, Any]]

    def get(self, way: Way, seed: int) -> dict[str, Any]:
        """NDCG@10 of each test question, the share of negatives that the last mining changed, and CPU seconds."""
        path = self.folder / f"{list(self.ways).index(way.way)}-{seed}.json"
        if not path.is_file():
            save_json(path, self._run(self.ways[way.way], seed))
        return json.loads(path.read_text())

    def _run(self, changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
        from hf_posmine.evaluation import evaluate_retrieval
        from hf_posmine.training import recipe_from, run_rounds, run_stage

        begun = time.process_time()
        with tempfile.TemporaryDirectory(prefix="posmine-rounds-") as folder:
            recipe = recipe_from(self._stage(Path(folder), seed) | dict(changes))
            changed: float | None = None
            if "rounds" in changes:
                model, rounds = run_rounds(recipe)
                changed = float(np.mean(list((rounds[-1].changed or {}).values())))
            else:
                model = run_stage(recipe)
            seconds = time.process_time() - begun
            result = evaluate_retrieval(model, self.task.test, measures=(MEASURE,))
        scores = dict(zip(result.query_ids, result.scores[MEASURE].round(6).tolist(), strict=True))
        return {"scores": scores, "counts": {"changed": changed, "cpu_seconds": round(seconds, 1)}}

    def _stage(self, folder: Path, seed: int) -> dict[str, Any]:
        self.task.pairs.to_parquet(folder / "pairs.parquet")
        self.task.documents.to_parquet(folder / "documents.parquet")
        mine = {"teacher": "embedded", "filters": [CEILING], "corpus": str(folder / "documents.parquet")}
        data = {"name": self.task.name, "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": "",
                "in_batch_negatives": True, "mine": mine}  # fmt: skip
        return {
            "model": str(self.student), "num_negatives": NEGATIVES, "temperature": 0.05, "learning_rate": RATE, "warmup_steps": 0.1,
            "per_device_train_batch_size": BATCH, "max_query_length": LENGTH, "max_document_length": LENGTH, "seed": seed,
            "datasets": [data], "output_dir": str(folder / "run"), "save_strategy": "no", "logging_strategy": "no",
            "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        }  # fmt: skip


def measure(runs: Runs, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The table after each seed."""
    records: Records[Way] = {}
    ways = [Way(name) for name in runs.ways]
    for seed in seeds:
        for way in ways:
            found = records.setdefault(way, {})[seed] = runs.get(way, seed)
            print(f"seed {seed}, {way.way}: {np.mean(list(found['scores'].values())):.4f}", flush=True)
        asked = {"against mining once": [(ways[0], way) for way in ways[1:]]}
        yield {"rows": means(records), "differences": differences(records, asked, lambda way: way.way)}


def tables(found: Mapping[str, Any]) -> str:
    """Markdown: means, and differences from mining once."""
    apart = {d["way"]: d for d in found["differences"]}
    rows = [
        (
            r["way"],
            f"{r['mean']:.4f}",
            _apart(apart.get(r["way"])),
            number(r["changed"], ".0%"),
            f"{r['cpu_seconds']:.0f}",
        )
        for r in found["rows"]
    ]
    return markdown(("", MEASURE, "against mining once", "new negatives of the last round", "CPU s"), rows)


def _apart(d: Mapping[str, Any] | None) -> str:
    if d is None:
        return ""
    return f"{d['difference']:+.4f} ({d['low']:+.4f} to {d['high']:+.4f}), p {d['p_holm']:.2g}"


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cells", type=Path, default=Path("out/rounds"), help="where each cell is kept")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(given)
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars

    from hf_posmine.utils import build_once

    disable_progress_bars()
    args.cells.mkdir(parents=True, exist_ok=True)
    settings = {"steps": STEPS, "batch": BATCH, "negatives": NEGATIVES, "length": LENGTH, "rate": RATE, "ways": WAYS}
    kept(args.output, settings, args.cells)
    student = build_once(
        args.cells / "student", lambda folder: bag_of_words(LENGTH).save(str(folder), create_model_card=False)
    )
    runs = Runs(args.cells, load("squad", args.cells), student, WAYS)
    for found in measure(runs, range(1, args.seeds + 1)):
        save_json(args.output, {"settings": settings, "machine": machine(), "collections": {"squad": found}})
    print(f"\n{tables(found)}\n", flush=True)


if __name__ == "__main__":
    main()
