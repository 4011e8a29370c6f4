"""The paper's ablation from one stored run against mining once: time, and equality of every row.

    python -m benchmarks.ablation [--rows 20000] [--check 5]

Five methods with about 20 settings each, and both samplers over k = 10, 20, ..., 100, on SQuAD with all-MiniLM-L6-v2.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"


def methods() -> list:
    from hf_posmine import MarginPos, MaxScore, PercPos, SkipTop

    steps = [round(0.05 * i, 2) for i in range(21)]
    return [
        [[]],
        [[SkipTop(n)] for n in range(0, 100, 5)],
        [[MaxScore(s)] for s in steps],
        [[MarginPos(s)] for s in steps],
        [[PercPos(s)] for s in [*steps, 0.98, 1.05]],
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int)
    parser.add_argument("--check", type=int, default=4, help="settings that are also mined directly, and compared")
    parser.add_argument("--depth", type=int, default=200)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    os.environ["HF_POSMINE_HOME"] = tempfile.mkdtemp(prefix="posmine-ablation-")
    from datasets import concatenate_datasets, disable_progress_bars

    from hf_posmine import Corpus, DenseTeacher, PercPos, PositiveAwareMiner, mine
    from hf_posmine.data import load_files
    from hf_posmine.evaluation import sweep
    from hf_posmine.teachers import StoredRun

    disable_progress_bars()
    loaded = {name: load_files(DATA / f"train_{name}.parquet") for name in ("corpus", "pairs")}
    pairs = loaded["pairs"] if args.rows is None else loaded["pairs"].shuffle(seed=0).select(range(args.rows))
    corpus = Corpus.from_dataset(loaded["corpus"], "text", "id")
    columns = {"query_column": "query", "positive_id_column": "positive_id"}

    start = time.perf_counter()
    teacher = DenseTeacher("embedded", corpus)
    once = PositiveAwareMiner.from_dataset(pairs, teacher, filters=PercPos(0.95), **columns)
    once.teachers[0] = teacher = DenseTeacher("embedded", corpus, queries=once.known_positives.queries)
    once.prepare()
    encoded = time.perf_counter() - start
    mine(pairs, once)
    mined = time.perf_counter() - start

    start = time.perf_counter()
    run = StoredRun.build(teacher, pairs, args.depth, **columns)
    built = time.perf_counter() - start
    start = time.perf_counter()
    tables = [sweep(run, pairs, filters=[m for group in methods() for m in group], **columns)]
    filtered = time.perf_counter() - start
    start = time.perf_counter()
    samplers = [f"{name}(k={k})" for name in ("SampledTopK", "Top1Sampled") for k in range(10, 101, 10)]
    tables.append(sweep(run, pairs, filters=[PercPos(0.95)], samplers=samplers, **columns))
    sampled = time.perf_counter() - start
    table = concatenate_datasets([t.remove_columns("overlap") for t in tables])

    for row in table.shuffle(seed=0).select(range(args.check)):
        filters = [] if row["filters"] == "naive" else row["filters"].split(" + ")
        direct = PositiveAwareMiner.from_dataset(
            pairs, teacher, filters=filters, sampler=row["sampler"], keep=("scores", "ranks"), **columns
        )
        rows = pairs.map(direct, batched=True)
        scores = [score for scores in rows["negatives_scores"] for score in scores]
        assert len(scores) == row["negatives"], row
        assert abs(sum(scores) / max(1, len(scores)) - row["mean_score"]) < 1e-6, row
    print(json.dumps({
        "rows": len(pairs), "settings": len(table), "encode_s": encoded, "mine_once_s": mined, "build_run_s": built,
        "filters_s": filtered, "samplers_s": sampled,
        "ratio": (encoded + built + filtered + sampled) / mined,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
