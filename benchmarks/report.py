"""The report on synthetic mined rows: how long it takes to write, its memory and size, and how fast Chromium opens it.

Run ``python -m benchmarks.report --output out/bench [--rows 100000]``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.measure import MemoryPeak, Watch, busy_seconds, machine
from benchmarks.synthetic import save_json
from tests.report import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

VOCABULARY = 30_000
QUERY_WORDS, DOCUMENT_WORDS = 9, 100
BATCH = 5000
OPEN_SECONDS = 3.0
ACTS = {
    "search": lambda tab: tab.fill("#search", "word17"),
    "sort": lambda tab: tab.click("th.margin button"),
    "filter": lambda tab: tab.select_option("#kind", "any"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--megabytes", type=float, help="of the table in the page (default: the report's own)")
    parser.add_argument("--repeat", type=int, default=5, help="times the page is opened")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posmine-report-"))
    try:
        record = {
            "machine": machine(),
            "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
            **measure(arguments, folder),
        }
    finally:
        shutil.rmtree(folder)
    save_json(arguments.output / f"report-{arguments.rows}.json", record)
    print({name: record[name] for name in ("page", "opened", "others") if name in record})


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the rows, then the page, then open it as often as asked."""
    import datasets

    from hf_posmine.report import MinedRows, TableLimits, write_report

    datasets.disable_progress_bars()
    write_rows(folder / "mined.parquet", arguments.rows, arguments.documents, arguments.negatives)
    mined = MinedRows.load(folder / "mined.parquet")  # as the command does; datasets makes an Arrow file of it
    limits = TableLimits() if arguments.megabytes is None else TableLimits(megabytes=arguments.megabytes)
    watch, page = Watch(), folder / "report.html"
    before = busy_seconds(), resource.getrusage(resource.RUSAGE_SELF)
    with MemoryPeak(watch) as memory, watch("report"):
        report = write_report(mined, page, None, limits)
    others = busy_seconds() - before[0] - watch.spans["report"]["cpu"]
    return {
        "page": watch.spans["report"] | {
            "megabytes": page.stat().st_size / 1e6, "rows": report.rows, "in_table": report.shown,
            "memory_before": memory.base, "memory_peak": memory.peak,
        },
        "others": others,
        "opened": chromium.missing() or opened(page, arguments.repeat),
    }  # fmt: skip


def opened(page: Path, repeat: int) -> dict[str, Any]:
    """Seconds from the address to a table that can be used, of a search through all texts, of a sort and of a filter."""
    times: dict[str, list[float]] = {}
    with chromium.browser() as browser:
        for _ in range(repeat):
            tab = browser.new_page()
            start = time.perf_counter()
            tab.goto(page.resolve().as_uri())
            tab.locator("html[data-ready]").wait_for(state="attached")  # the page's policy forbids wait_for_function
            times.setdefault("open", []).append(time.perf_counter() - start)
            for name, act in ACTS.items():
                tab.evaluate("document.getElementById('status').textContent = ''")
                start = time.perf_counter()
                act(tab)
                tab.locator("#status:not(:empty)").wait_for()
                times.setdefault(name, []).append(time.perf_counter() - start)
            tab.close()
    return {name: {"median": float(np.median(values)), "all": values} for name, values in times.items()} | {
        "target_open": OPEN_SECONDS,
        "met": float(np.median(times["open"])) < OPEN_SECONDS,
    }


def write_rows(path: Path, rows: int, documents: int, negatives: int) -> None:
    """Mined rows with all that ``keep`` adds; words have the frequencies of a language, so that texts compress as such."""
    import pyarrow.parquet as pq

    writer = None
    for table in tables(rows, documents, negatives):
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def tables(rows: int, documents: int, negatives: int) -> Iterator[Any]:
    import pyarrow as pa

    from hf_posmine.mining.columns import STATS

    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCABULARY + 1)
    share /= share.sum()
    words = np.array([f"word{i}" if i < 100 else f"w{i:x}" for i in range(VOCABULARY)], object)

    def texts(number: int, length: int) -> np.ndarray:
        drawn = words[rng.choice(VOCABULARY, (number, length), p=share)]
        return np.array([" ".join(line) for line in drawn], object)

    corpus = texts(documents, DOCUMENT_WORDS)
    for start in range(0, rows, BATCH):
        size = min(BATCH, rows - start)
        positive = rng.beta(8, 4, size).astype(np.float32)
        scores = -np.sort(-positive[:, None] * rng.uniform(0.5, 0.95, (size, negatives)).astype(np.float32))
        picked = (
            np.minimum(rng.zipf(1.3, (size, negatives)), 1 << 40) * 7919 + rng.integers(0, 50, (size, 1))
        ) % documents
        ranks = np.sort(rng.geometric(0.2, (size, negatives)), axis=1)
        stats = {
            "reference_score": positive, "ceiling": positive * np.float32(0.95), "ceiling_by": ["PercPos(0.95)"] * size,
            "num_above_ceiling": rng.geometric(0.05, size),
        }  # fmt: skip
        zero = np.zeros(size, np.int64)
        yield pa.table({
            "query": texts(size, QUERY_WORDS),
            "positive": corpus[rng.integers(0, documents, size)],
            "negatives": pa.array([line.tolist() for line in corpus[picked]]),
            "negatives_scores": pa.array(list(scores)),
            "positive_score": positive,
            "negatives_ids": pa.array([[f"d{i}" for i in line] for line in picked.tolist()]),
            "negatives_ranks": pa.array(list(ranks)),
            "negatives_stats": pa.array(
                [dict(zip(STATS.names, values, strict=True)) for values in zip(
                    *(stats.get(name, zero) for name in STATS.names), strict=True)], STATS),
        })  # fmt: skip


if __name__ == "__main__":
    main()
