"""Mining with given embeddings against ``mine_hard_negatives``: time, memory and equality of the rows.

Run ``python -m benchmarks.mining --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import check_against_brute_force, compare, filled
from benchmarks.contender import CONTENDERS
from benchmarks.measure import ROOT, machine, markdown
from benchmarks.synthetic import Task, save_json

OURS, PEERS = CONTENDERS[2:4], CONTENDERS[:2]
DROP_IN = CONTENDERS[4]
TIME_TARGETS: dict[str, Any] = {
    "rounded": {"triplet": 0.18, "n-tuple": 0.22},
    "other": {"triplet": 0.4, "n-tuple": 0.5},
    "float32": 0.85,
}
"""Of ``ours``: where the processor has products of int8 or bfloat16, and where not, by the peer's format; of ``ours-float32``."""
MEMORY_TARGETS = {"peer-faiss": 0.2, "peer-torch": 0.15}
AFTER_TARGET = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--queries", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--documents", type=int, default=75_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--weak", type=float, default=0.1, help="share of queries with a weak positive")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--range-max", type=int, help="candidates per query of the peer; by default its own choice")
    parser.add_argument("--format", choices=("n-tuple", "triplet"), default="n-tuple", help="output of the peer")
    parser.add_argument("--engine", choices=("auto", "int8", "bfloat16"), default="auto", help="engine of ours")
    parser.add_argument("--task", type=Path, help="a folder of vectors, as benchmarks.squad_vectors writes it")
    parser.add_argument("--threads", type=int, help="threads of each contender; by default all cores")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    arguments = parser.parse_args()
    record = {
        "machine": machine(),
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        "sizes": [],
    }
    tables = []
    for queries in arguments.queries:
        size = measure(arguments, queries)
        record["sizes"].append(size)
        tables.append(report(size))
        save_json(arguments.output / "mining.json", record)
    text = "\n\n".join([_title(record), *tables]) + "\n"
    (arguments.output / "mining.md").write_text(text)
    print(text)


def measure(arguments: argparse.Namespace, queries: int) -> dict[str, Any]:
    """All contenders on one task, one after the other, as often as asked."""
    with tempfile.TemporaryDirectory(prefix="posmine-bench-") as folder:
        work = Path(folder)
        task = _task(arguments, queries)
        task.save(work / "task")
        runs, rows = [], {}
        for repeat in range(arguments.repeat):
            for name in arguments.only:
                print(f"{queries:,} queries, {name}, repeat {repeat + 1} of {arguments.repeat}", file=sys.stderr)
                result = work / f"{name}-{repeat}" / "result.json"
                runs.append(_run(arguments, name, work / "task", result) | {"repeat": repeat})
                rows[name] = np.load(result.with_suffix(".npy"))
        return {
            "queries": len(task.queries),
            "documents": len(task.documents),
            "dim": task.documents.shape[1],
            "weak_queries": int(task.weak.sum()),
            "runs": runs,
            "filled": {name: int(filled(r).sum()) for name, r in rows.items()},
            "ratios": ratios(runs, {name: int(filled(r).sum()) for name, r in rows.items()}, queries, arguments.format),
            "rows": _compare_all(task, rows),
        }


def _task(arguments: argparse.Namespace, queries: int) -> Task:
    """Synthetic vectors, or evenly spread queries of a folder of real ones."""
    if arguments.task is None:
        return Task.make(queries, arguments.documents, arguments.dim, arguments.weak)
    task = Task.load(arguments.task)
    at = np.linspace(0, len(task.queries) - 1, min(queries, len(task.queries))).astype(np.int64)
    return Task(task.queries[at], task.documents, task.positives[at], task.weak[at])


def _run(arguments: argparse.Namespace, name: str, task: Path, result: Path) -> dict[str, Any]:
    """One contender in a fresh process with empty caches."""
    folder = result.parent
    (folder / "tmp").mkdir(parents=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / "tmp"),
        "HF_POSMINE_HOME": str(folder / "posmine"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_POSMINE_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if arguments.threads:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment |= dict.fromkeys(names, str(arguments.threads))
    command = [sys.executable, "-m", "benchmarks.contender", name, str(task), str(result)]
    command += ["--format", arguments.format, "--engine", arguments.engine]
    if arguments.range_max:
        command += ["--range-max", str(arguments.range_max)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    return json.loads(result.read_text())


def _compare_all(task: Task, rows: dict[str, np.ndarray]) -> dict[str, Any]:
    record: dict[str, Any] = {
        f"{mine} and {peer}": compare(task, rows[mine], rows[peer])
        for mine in (*OURS, DROP_IN)
        for peer in PEERS
        if {mine, peer} <= rows.keys()
    }
    for mine in set(OURS) & rows.keys():
        record[f"{mine} and float64 brute force"] = check_against_brute_force(task, rows[mine])
    if set(OURS) <= rows.keys():
        record["ours equals ours-float32"] = bool((rows[OURS[0]] == rows[OURS[1]]).all())
    return record


def best(runs: list[dict[str, Any]], name: str, phase: str, clock: str) -> float:
    """The lowest of the repeats: other people's work only ever adds."""
    return min(run["phases"][phase][clock] for run in runs if run["contender"] == name)


def peak(runs: list[dict[str, Any]], name: str) -> float:
    """Median over the repeats of the peak memory above the inputs."""
    return statistics.median(run["memory"]["above_inputs_mib"] for run in runs if run["contender"] == name)


def ratios(runs: list[dict[str, Any]], counts: dict[str, int], queries: int, form: str) -> list[dict[str, Any]]:
    """Ours over the peer for each target, and whether it is met."""
    rows = []
    for mine, peer in itertools.product(OURS, PEERS):
        if not {mine, peer} <= counts.keys():
            continue
        target = _time_target(runs, mine, form)
        for what, clock in (("wall time", "wall"), ("CPU time", "cpu")):
            values = [best(runs, mine, "total", clock), best(runs, peer, "total", clock)]
            rows.append(_ratio(mine, peer, what, *values, target))
        for what, clock in (("after search, wall", "wall"), ("after search, CPU", "cpu")):
            values = [best(runs, mine, "around search", clock), best(runs, peer, "after search", clock)]
            rows.append(_ratio(mine, peer, what, *values, AFTER_TARGET))
        values = [peak(runs, mine), peak(runs, peer)]
        rows.append(_ratio(mine, peer, "peak memory above inputs", *values, MEMORY_TARGETS[peer]))
    for mine in set(OURS) & counts.keys():
        share = counts[mine] / queries
        rows.append(
            {
                "ours": mine,
                "peer": "-",
                "measure": "queries with all their negatives",
                "ours_value": counts[mine],
                "peer_value": queries,
                "ratio": share,
                "target": 1.0,
                "met": share == 1,
            }
        )
    return rows


def _time_target(runs: list[dict[str, Any]], mine: str, form: str) -> float:
    scanned = next(run["queries_scanned"] for run in runs if run["contender"] == mine)
    if mine == "ours-float32":
        return TIME_TARGETS["float32"]
    return TIME_TARGETS["rounded" if {"int8", "bfloat16"} & {*scanned} else "other"][form]


def _ratio(mine: str, peer: str, measure: str, value: float, other: float, target: float) -> dict[str, Any]:
    ratio = value / other if other > 0 else float("inf")
    return {
        "ours": mine,
        "peer": peer,
        "measure": measure,
        "ours_value": value,
        "peer_value": other,
        "ratio": round(ratio, 4),
        "target": target,
        "met": ratio <= target,
    }


def _title(record: dict[str, Any]) -> str:
    about = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    return (
        f"# Mining with given embeddings, {record['arguments']['format']} rows\n\n"
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; Python "
        f"{about['python']}; {packages}; commit {about['git_commit']}, source {about['source_digest']}; "
        f"{about['time']}. The peer writes {record['arguments']['format']} rows."
    )


def report(size: dict[str, Any]) -> str:
    """Tables of one size: the figures, the ratios with their targets, and the equality of the rows."""
    return "\n\n".join([_heading(size), _figures(size), _targets(size), _equality(size)])


def _heading(size: dict[str, Any]) -> str:
    return (
        f"## {size['queries']:,} queries, {size['documents']:,} documents, {size['dim']} dimensions, "
        f"{size['weak_queries']:,} weak positives"
    )


def _figures(size: dict[str, Any]) -> str:
    """Seconds as wall / CPU, of the repeat with the lowest CPU time."""
    phases = ("before search", "corpus and known positives", "store", "search", "after search", "around search")
    rows = []
    for name in size["filled"]:
        runs = [run for run in size["runs"] if run["contender"] == name]
        run = min(runs, key=lambda r: r["phases"]["total"]["cpu"])
        spans = [run["phases"].get(phase) for phase in (*phases, "total")]
        memory = run["memory"]
        rows.append(
            [
                name,
                *(f"{span['wall']:.2f} / {span['cpu']:.2f}" if span else "-" for span in spans),
                f"{memory['above_inputs_mib']:,.0f} ({memory['above_inputs_anonymous_mib']:,.0f})",
                f"{size['filled'][name]:,}",
                ", ".join(f"{count:,} {kind}" for kind, count in run.get("queries_scanned", {}).items()) or "-",
            ]
        )
    header = ["seconds: wall / CPU", *phases, "total", "peak MiB (anonymous)", "queries filled", "queries scanned"]
    return markdown(header, rows)


def _targets(size: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['ours']} / {r['peer']}: {r['measure']}",
            float(r["ours_value"]),
            float(r["peer_value"]),
            f"{r['ratio']:.3f}",
            f"{'<=' if r['peer'] != '-' else '='} {r['target']:g}",
            "yes" if r["met"] else "NO",
        ]
        for r in size["ratios"]
    ]
    return markdown(["measure", "ours", "peer", "ratio", "target", "met"], rows)


def _equality(size: dict[str, Any]) -> str:
    rows = []
    for name, record in size["rows"].items():
        if isinstance(record, bool):
            rows.append([name, "-", "-", "-", "yes" if record else "NO"])
        elif "identical" in record:
            reasons = ", ".join(f"{count} {reason}" for reason, count in record["reasons"].items())
            only = record["filled_by_ours_only"]
            rows.append([name, record["filled_by_both"], only, record["identical"], reasons or "none"])
        else:
            equal = record["queries"] - len(record["different"])
            reasons = ", ".join(entry["reason"] for entry in record["different"])
            rows.append([name, record["queries"], "-", equal, reasons or "none"])
    return markdown(["rows of", "compared", "filled by ours only", "identical", "differences"], rows)


if __name__ == "__main__":
    main()
