"""An update after one per cent of the documents changed, against a full mining of the same rows; given embeddings.

    python -m benchmarks.update --output out/bench

Each change is mined twice in this process: in full, and as an update of the same earlier mining. CPU seconds of ``mine`` alone,
one thread; the rows of both must be equal.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Watch, machine, markdown
from benchmarks.synthetic import Task, save_json

SHARE = 0.95


@dataclasses.dataclass(frozen=True)
class Version:
    """The documents of one state, by their number in the task, and their vectors."""

    task: Task
    numbers: np.ndarray
    vectors: np.ndarray
    engine: Any

    def miner(self, rows: Any) -> Any:
        from hf_posmine import Corpus, PositiveAwareMiner
        from hf_posmine.teachers import VectorTeacher

        corpus = Corpus.from_texts([f"passage number {n}" for n in self.numbers.tolist()])
        queries = self.task.query_texts
        teacher = VectorTeacher(corpus, self.vectors, queries, self.task.queries, engine=self.engine)
        return PositiveAwareMiner.from_dataset(
            rows, teacher, corpus=corpus, query_column="query", positive_column="positive", filters=f"PercPos({SHARE})",
            keep=("scores", "ids", "ranks", "stats"),
        )  # fmt: skip


def versions(task: Task, count: int, engine: str) -> dict[str, Version]:
    """The earlier documents, and those after each change; no positive of a row is touched."""
    rng, everything = np.random.default_rng(1), np.arange(len(task.documents))
    free = np.setdiff1d(everything, task.positives)
    old, fresh = np.setdiff1d(everything, free[-count:]), rng.choice(free[:-count], count, replace=False)
    without, changed = np.setdiff1d(old, fresh), task.documents.copy()
    changed[fresh] = task.documents[free[-count:]]
    return {
        "earlier": Version(task, old, task.documents[old], engine),
        "nothing": Version(task, old, task.documents[old], engine),
        "1 % added": Version(task, everything, task.documents, engine),
        "1 % removed": Version(task, without, task.documents[without], engine),
        "1 % changed": Version(task, old, changed[old], engine),
    }


def mined(watch: Watch, name: str, version: Version, rows: Any, folder: Path, since: Any = None) -> Any:
    from hf_posmine import mine

    miner = version.miner(rows)
    with watch(name):
        return mine(rows, miner, work_dir=folder, since=since)


def main() -> None:
    import torch
    from datasets import Dataset, disable_progress_bars

    from hf_posmine.mining.execution.keeper import update_of

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--weak", type=float, default=0.1, help="share of queries with a weak positive")
    parser.add_argument("--engine", default="auto", help="float32: as on processors that are not faster at int8")
    parser.add_argument("--changes", nargs="+", default=["nothing", "1 % added", "1 % removed", "1 % changed"])
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    watch, lines = Watch(), []
    record: dict[str, Any] = {"machine": machine(), "arguments": {k: str(v) for k, v in vars(arguments).items()}}
    task = Task.make(arguments.queries, arguments.documents, arguments.dim, arguments.weak)
    passages = task.document_texts
    rows = Dataset.from_dict({"query": task.query_texts, "positive": [passages[n] for n in task.positives.tolist()]})
    with tempfile.TemporaryDirectory(prefix="posmine-update-") as scratch:
        os.environ["HF_POSMINE_HOME"] = scratch
        every = versions(task, arguments.documents // 100, arguments.engine)
        every = {name: version for name, version in every.items() if name in ("earlier", *arguments.changes)}
        warm = rows.select(range(200))
        mined(watch, "warm-up", every["earlier"], warm, Path(scratch) / "warm")  # imports, compiled kernels
        earlier = mined(watch, "earlier", every.pop("earlier"), rows, Path(scratch) / "earlier")
        for number, (name, version) in enumerate(every.items()):
            full = mined(watch, f"full: {name}", version, rows, Path(scratch) / f"full-{number}")
            update = mined(watch, f"update: {name}", version, rows, Path(scratch) / f"update-{number}", earlier)
            if full.with_format("arrow")[:] != update.with_format("arrow")[:]:
                raise SystemExit(f"{name}: the rows differ")
            counts = update_of(update)
            whole, part = (watch.spans[f"{kind}: {name}"]["cpu"] for kind in ("full", "update"))
            record[name] = {"full": whole, "update": part, "ratio": part / whole, **(counts or {})}
            reused = [f"{record[name][f'rows_{kind}']:,}" for kind in ("kept", "updated", "mined_again")]
            lines.append([name, f"{whole:.2f}", f"{part:.2f}", f"{part / whole:.3f}", *reused])
            print(lines[-1], flush=True)
            save_json(arguments.output / "update.json", record)
    head = ["change", "full, CPU s", "update, CPU s", "ratio", "rows kept", "updated", "searched again"]
    (arguments.output / "update.md").write_text(markdown(head, lines) + "\n")
    print(markdown(head, lines))


if __name__ == "__main__":
    main()
