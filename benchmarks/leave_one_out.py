"""Is a set that hurts found? A blend with one set of wrong pairs, through ``recipes/leave_one_out.py``.

    python -m benchmarks.leave_one_out --output docs/benchmarks/leave_one_out.json [--work FOLDER] [--seeds 1 2 3 4 5]

The sets: SQuAD in windows and SciFact with mined negatives, Banking77, STS-B, StackOverflow titles, and ``wrong``: questions of
SQuAD, each with the passage of another. The student is the average of MiniLM's word embeddings, measured on 500 questions of other
articles and on SciFact's test claims. A run that is in ``--work`` is not repeated.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")

import numpy as np
from datasets import Dataset

from benchmarks.equal_seconds import DATA, load, squad_windows
from benchmarks.folds import TOKENS
from benchmarks.measure import ROOT, machine, markdown
from benchmarks.students import bag_of_words
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

STEPS, BATCH, ROWS, RATE = 64, 32, 1000, 2e-3
WRONG = "wrong"
MINE = {"teacher": "embedded", "teacher_options": {"max_length": TOKENS}, "filters": ["PercPos(0.95)"]}


def script() -> ModuleType:
    """The recipe that is shown."""
    spec = importlib.util.spec_from_file_location("leave_one_out", ROOT / "recipes" / "leave_one_out.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def prepare(folder: Path) -> None:
    """The student, and the files of the sets that are cut from larger ones."""
    bag_of_words(TOKENS).save(str(folder / "student"), create_model_card=False)
    for name in ("squad", "scifact"):
        task = load(name, folder)
        task.pairs.to_parquet(folder / f"{name}.parquet")
        task.documents.to_parquet(folder / f"{name}-documents.parquet")
    wrong_pairs().to_parquet(folder / f"{WRONG}.parquet")
    titles = Dataset.from_parquet(str(DATA / "stackoverflow_titles" / "all.parquet")).shuffle(seed=0)
    titles.select(range(ROWS)).to_parquet(folder / "titles.parquet")


def wrong_pairs() -> Dataset:
    """Questions of SQuAD, each with the passage that answers the question drawn before it."""
    pairs, documents = (
        Dataset.from_parquet(str(DATA / "squad_v1.1" / f"train_{part}.parquet")) for part in ("pairs", "corpus")
    )
    text = dict(zip(documents["id"][:], documents["text"][:], strict=True))
    drawn = pairs.select(np.random.default_rng(0).choice(len(pairs), ROWS, replace=False))
    answers = [text[document] for document in drawn["positive_id"][:]]
    return Dataset.from_dict({"query": drawn["query"][:], "positive": answers[-1:] + answers[:-1]})


def recipe(folder: Path) -> dict[str, Any]:
    """The blend."""
    mined = [
        {"name": name, "path": str(folder / f"{name}.parquet"), "task": "retrieval", "instruction": "",
         "in_batch_negatives": True, "mine": {**MINE, "corpus": str(folder / f"{name}-documents.parquet")}}
        for name in ("squad", "scifact")
    ]  # fmt: skip
    others = [
        {"name": "banking77", "path": str(DATA / "banking77" / "train.parquet"), "task": "classification", "instruction": "",
         "max_samples": ROWS},
        {"name": "stsb", "path": str(DATA / "stsb" / "en_train.parquet"), "task": "sts", "instruction": "", "mine": MINE,
         "max_samples": ROWS},
        {"name": "stackoverflow", "path": str(folder / "titles.parquet"), "task": "clustering", "instruction": ""},
        {"name": WRONG, "path": str(folder / f"{WRONG}.parquet"), "task": "retrieval", "instruction": "",
         "in_batch_negatives": True, "num_negatives": 0},
    ]  # fmt: skip
    return {
        "model": str(folder / "student"), "num_negatives": 2, "temperature": 0.05, "learning_rate": RATE, "warmup_steps": 0.1,
        "max_steps": STEPS, "per_device_train_batch_size": BATCH, "max_query_length": TOKENS, "max_document_length": TOKENS,
        "datasets": [*mined, *others], "output_dir": str(folder / "runs"), "save_strategy": "no", "logging_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "evals": [{"name": "squad", "path": str(squad_windows(folder) / "dev")},
                  {"name": "scifact", "path": str(DATA / "scifact"), "qrels": "qrels_test"}],
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Markdown: what leaving each set out changes."""
    rows = [
        (
            name,
            f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})",
            f"{one['adjusted_p']:.2g}",
            one["verdict"],
        )
        for name, one in found["without"].items()
    ]
    return markdown(("without", found["measure"], "p (Holm)", ""), rows)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--work", type=Path, default=Path("out/leave_one_out"), help="files and scores of runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    args = parser.parse_args(given)
    from hf_posmine.utils import build_once

    files = build_once(args.work / "files", prepare)
    config = args.work / "blend.yaml"
    config.write_text(json.dumps(recipe(files)))  # JSON is YAML
    code = script().main(["--config", str(config), "--output", str(args.work), "--seeds", *map(str, args.seeds)])
    if code:
        raise SystemExit(code)
    found = json.loads((args.work / "leave_one_out.json").read_text())
    save_json(args.output, {"machine": machine(), "steps": STEPS, "batch": BATCH, "rate": RATE, **found})
    print(table(found))


if __name__ == "__main__":
    main()
