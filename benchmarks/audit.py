"""Audits of generated training rows: rows per CPU second, and the peak of memory with its slope in the number of rows.

    python -m benchmarks.audit --output out/bench [--rows 250000 500000 1000000 ...] [--layout mined rows|FlagEmbedding]

Each size is a process of its own with one thread. A row has a query, a positive and four negatives of some 45 words, all
texts of all rows differ; 1 % of the rows have a positive among their negatives. Writes ``audit.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

POOL, WORDS, BATCH = 20_000, 20_000, 10_000
LEAST_WORDS, MOST_WORDS = 30, 60
NEGATIVES = 4
FAULTY = 100
"""Every so many-th row has its positive among its negatives."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--layout", choices=("mined rows", "FlagEmbedding"), default="mined rows")
    parser.add_argument(
        "--faults", action="store_true", help="the table of planted faults in SQuAD and SciFact instead"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    if args.faults:
        result = {"faults": planted_faults(), "machine": machine()}
        save_json(args.output / "audit_faults.json", result)
        print(table_of_faults(result["faults"]))
        return
    points = []
    with tempfile.TemporaryDirectory(prefix="posmine-audit-rows-") as folder:
        for rows in args.rows:
            points.append({"rows": rows} | _apart(write_rows(Path(folder), rows, args.layout)))
            print(points[-1], flush=True)
    result = {"layout": args.layout, "points": points, "slope": slope(points), "machine": machine()}
    save_json(args.output / "audit.json", result)
    print(table(result))


def _apart(file: Path) -> dict[str, Any]:
    """Measure in a new process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_POSMINE_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.audit", "--one", str(file)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    file.unlink()
    return json.loads(done.stdout)


def measure(file: Path) -> dict[str, Any]:
    """CPU seconds and memory of one audit."""
    import pyarrow as pa

    from hf_posmine.audit import audit_data
    from hf_posmine.data import open_training_data

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    release_memory()
    watch = Watch()
    with MemoryPeak(watch) as memory, watch("audit"):
        result = audit_data(open_training_data(file))
    peak, base = ({name: round(value, 1) for name, value in part.items()} for part in (memory.peak, memory.base))
    return {
        "bytes": file.stat().st_size,
        "cpu_seconds": watch.spans["audit"]["cpu"],
        "rows_per_cpu_second": round(result.rows / watch.spans["audit"]["cpu"]),
        "peak_mib": peak["VmRSS"], "peak_anonymous_mib": peak["RssAnon"], "base_mib": base["VmRSS"],
        "same_text": result.rows_with("same_text"), "kinds": sorted(result.findings),
    }  # fmt: skip


def slope(points: list[dict[str, Any]]) -> dict[str, float] | None:
    """The fitted growth of the peak in MiB per million rows, and the peak at 5 million that it makes."""
    if len(points) < 2:
        return None
    rows, peaks = ([point[name] for point in points] for name in ("rows", "peak_mib"))
    gradient, start = np.polyfit(np.array(rows) / 1e6, peaks, 1)
    return {
        "mib_per_million_rows": round(float(gradient), 1),
        "mib_at_5_million": round(float(start + 5 * gradient), 1),
    }


def table(result: dict[str, Any]) -> str:
    """For the documentation."""
    header = ("rows", "MB of the file", "CPU s", "rows per CPU s", "peak MiB", "of it anonymous")
    rows = [
        (
            f"{p['rows']:,}", f"{p['bytes'] / 1e6:,.0f}", f"{p['cpu_seconds']:.1f}", f"{p['rows_per_cpu_second']:,}",
            f"{p['peak_mib']:.0f}", f"{p['peak_anonymous_mib']:.0f}",
        )
        for p in result["points"]
    ]  # fmt: skip
    return markdown(header, rows)


def planted_faults(sources: Sequence[str] = ("squad_v1.1", "scifact")) -> list[dict[str, Any]]:
    """For each source and layout: planted rows that were found, and clean rows with a finding, by kind."""
    from hf_posmine.audit import AuditSettings, audit_data
    from hf_posmine.data import open_training_data
    from tests.audit import planted

    found = []
    for source in sources:
        rows = planted.real_rows(source, 2000)
        faults = planted.plant(rows)
        clean = set(range(len(rows))) - set().union(*faults.where.values())
        for layout, write in planted.LAYOUTS.items():
            with tempfile.TemporaryDirectory(prefix="posmine-planted-") as folder:
                data = open_training_data(write(faults.rows, Path(folder)))
                result = audit_data(data, AuditSettings(examples=10**9))
            hits = {kind: {example.row for example in one.examples} for kind, one in result.findings.items()}
            for kind, where in faults.where.items():
                there = hits.get(kind, set())
                found.append({
                    "source": source, "layout": layout, "rows": len(rows), "kind": kind, "planted": len(where),
                    "found": len(where & there), "clean": len(clean), "alarms": len(clean & there),
                })  # fmt: skip
    return found


def table_of_faults(found: list[dict[str, Any]]) -> str:
    """By source and kind, over all layouts: the lowest recall and the highest share of false alarms."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        groups.setdefault((one["source"], one["kind"]), []).append(one)
    rows = [
        (
            f"{source}, {kind}", members[0]["planted"], f"{min(m['found'] / m['planted'] for m in members):.1%}",
            f"{max(m['alarms'] / m['clean'] for m in members):.2%}",
        )
        for (source, kind), members in groups.items()
    ]  # fmt: skip
    return markdown(("rows, kind", "planted", "found", "false alarms"), rows)


def write_rows(folder: Path, rows: int, layout: str) -> Path:
    """A file of rows: parquet for mined rows, JSON lines for FlagEmbedding."""
    import pyarrow.parquet as pq

    if layout == "mined rows":
        path, writer = folder / f"{rows}.parquet", None
        for part in tables(rows):
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        assert writer is not None
        writer.close()
        return path
    path = folder / f"{rows}.jsonl"
    with path.open("w") as file:
        for part in tables(rows):
            for row in part.to_pylist():
                line = {"query": row["query"], "pos": [row["positive"]], "neg": row["negatives"]}
                file.write(json.dumps(line) + "\n")
    return path


def tables(rows: int) -> Iterator[pa.Table]:
    """Rows, a batch at a time; a text is one of a pool of passages with a number of its own."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    pool = passages(rng)
    for start, stop in pairwise([*range(0, rows, BATCH), rows]):
        picked = rng.integers(len(pool), size=(stop - start, 1 + NEGATIVES)).tolist()
        texts = [
            [f"{pool[at]} Number {number * 10 + place}." for place, at in enumerate(row)]
            for number, row in enumerate(picked, start)
        ]
        for number, row in enumerate(texts, start):
            if number % FAULTY == 0:
                row[1 + number % NEGATIVES] = row[0]
        yield pa.table({
            "query": [f"question {number} about {text[:30]}" for number, (text, *_) in enumerate(texts, start)],
            "positive": [text for text, *_ in texts],
            "negatives": [negatives for _, *negatives in texts],
        })  # fmt: skip


def passages(rng: np.random.Generator) -> list[str]:
    """Texts of words with the frequencies of a language."""
    letters = np.array(list("etaoinshrdlucmfw"))
    words = ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(WORDS)]
    weights = 1 / np.arange(10, WORDS + 10)
    drawn = rng.choice(WORDS, size=(POOL, MOST_WORDS), p=weights / weights.sum())
    lengths = rng.integers(LEAST_WORDS, MOST_WORDS + 1, POOL)
    return [" ".join(words[n] for n in row[:length]).capitalize() for row, length in zip(drawn, lengths, strict=True)]


if __name__ == "__main__":
    main()
