"""Time and memory of mining as documents and queries grow: one process per point, everything on disk made piece by piece.

Run ``python -m benchmarks.growth --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import ROOT, MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.synthetic import numbers, save_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NEGATIVES, SHARE = 4, 0.95
MEMBERS = 40
"""Documents per cluster, however many there are."""
DOCUMENTS = (20_000, 63_000, 200_000, 630_000, 2_000_000, 5_000_000)
QUERIES = (10_000, 32_000, 100_000, 316_000, 1_000_000)
FEW_DOCUMENTS, FEW_QUERIES = 20_000, 2000
PHASES = ("corpus", "positives", "encode", "prepare", "search", "mine")
BLOCK = 8192
RECALLED = 2000
"""Rows whose negatives are compared with those of exact search."""


class WaveModel:
    """Vectors that are a function of the number in the text, so that no table of them is held: clusters of waves.

    A document is the centre of its cluster and noise; a query lies between its document's noise and some of its own.
    """

    similarity_fn_name = "cosine"
    device = "cpu"
    prompts: dict[str, str] = {}  # noqa: RUF012 - as sentence-transformers has it

    def __init__(self, documents: int, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.documents = documents
        self.centre, self.noise, self.own = (rng.uniform(0, 2 * np.pi, (2, dim)) for _ in range(3))

    def encode_document(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        return self._document(numbers(texts))[0]

    def encode_query(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        rows = numbers(texts)
        _, centre, noise = self._document(positive_of(rows, self.documents))
        near = 0.1 + 0.9 * (rows % 97 / 97)[:, None]
        return (centre + 0.8 * (near * noise + np.sqrt(1 - near**2) * _waves(rows, self.own))).astype(np.float32)

    def _document(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cluster = (rows * 2_654_435_761 % 2**32) % max(1, self.documents // MEMBERS)
        centre, noise = _waves(cluster, self.centre), _waves(rows, self.noise)
        return (centre + 0.8 * noise).astype(np.float32), centre, noise


def _waves(rows: np.ndarray, phases: np.ndarray) -> np.ndarray:
    return np.cos(rows[:, None] * phases[0] + phases[1])


def positive_of(rows: np.ndarray, documents: int) -> np.ndarray:
    """The document that answers each query."""
    return rows * 7919 % documents


def pairs_on_disk(path: Path, queries: int, documents: int) -> Any:
    """The dataset of pairs, memory-mapped from a file that was written block by block."""
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema({"query": pa.string(), "positive": pa.string()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, queries, BLOCK):
            rows = np.arange(start, min(queries, start + BLOCK))
            texts = (
                [f"question number {n}" for n in rows],
                [f"passage number {n}" for n in positive_of(rows, documents)],
            )
            writer.write_batch(pa.record_batch(dict(zip(schema.names, texts, strict=True))))
    return Dataset.from_file(str(path))


def texts(documents: int) -> Iterator[str]:
    return (f"passage number {n}" for n in range(documents))


def work(folder: Path, documents: int, queries: int, dim: int, index: str | None, watch: Watch) -> dict[str, Any]:
    """Mine as the command line does; returns how many rows are filled, and the recall of an index."""
    import pyarrow.compute as pc

    from hf_posmine import Corpus, DenseTeacher, PercPos, PositiveAwareMiner, Qrels, mine
    from hf_posmine.search import ExactIndex
    from hf_posmine.search.approximate import ApproximateIndex

    rows = pairs_on_disk(folder / "pairs.arrow", queries, documents)
    with watch("total"):
        with watch("corpus"):
            corpus = Corpus.from_texts(texts(documents), cache_dir=folder / "cache")
        with watch("positives"):
            known = Qrels.from_dataset(rows, "query", "positive", cache_dir=folder / "cache")
        with watch("encode"):
            model = WaveModel(documents, dim)
            teacher = DenseTeacher(
                model, corpus, queries=known.queries, store=folder / "store", fingerprint=f"waves {documents} {dim}",
                index=index,
            )  # fmt: skip
            miner = PositiveAwareMiner(
                corpus=corpus,
                teachers=teacher,
                known_positives=known,
                query_column="query",
                positive_column="positive",
                filters=[PercPos(SHARE)],
                num_negatives=NEGATIVES,
            )
            miner.prepare()
        with watch("prepare"):
            teacher.index.search(np.ones((1, dim), np.float32), 1)
        kind = ExactIndex if index is None else ApproximateIndex
        search = kind.search
        kind.search = watch.timed("search", search)
        with watch("mine"):
            mined = mine(rows, miner, work_dir=folder / "mined", batch_size=1000)
        kind.search = search
    lengths = (pc.list_value_length(part) for part in mined.data.table["negatives"].chunks)
    filled = sum(pc.sum(pc.equal(part, NEGATIVES)).as_py() for part in lengths)
    return {"filled": filled, **({} if index is None else {"recall": recall(mined, teacher)})}


def recall(mined: Any, teacher: Any) -> dict[str, float]:
    """The share of the negatives of some rows that exact search gives, too, and of the rows that are the same."""
    some = mined.select(range(0, len(mined), max(1, len(mined) // RECALLED)))
    positives = teacher.corpus.rows_of_texts(some["positive"][:])
    vectors = teacher.embed_queries(some["query"][:])
    below = SHARE * teacher.exact.score(vectors, positives[:, None])[:, 0]
    exact = teacher.exact.search(vectors, NEGATIVES, below=below, exclude=positives[:, None].tolist())
    found = [teacher.corpus.rows_of_texts(row).tolist() for row in some["negatives"][:]]
    shared = [len({*a} & {*b.tolist()}) for a, b in zip(found, exact.doc_ids, strict=True)]
    same = sum(number == NEGATIVES for number in shared) / len(some)
    return {"rows": len(some), "negatives": sum(shared) / (NEGATIVES * len(some)), "same_rows": same}


def point(arguments: argparse.Namespace) -> None:
    """One point in this process: warm up (imports, compiled kernels), then measure."""
    import datasets
    import torch

    from hf_posmine.search.product_speed import quickest_rounding
    from hf_posmine.search.scan_cpu import warm_up

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    warm_up(quickest_rounding(arguments.dim))
    points = (("warm-up", 3000, 300, None), ("point", arguments.documents, arguments.queries, arguments.index))
    for name, documents, queries, index in points:
        with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix=f"{name}-") as folder:
            os.environ["HF_POSMINE_HOME"] = folder
            release_memory()
            watch = Watch()
            with MemoryPeak(watch) as memory:
                found = work(Path(folder), documents, queries, arguments.dim, index, watch)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    record = {
        "documents": arguments.documents,
        "queries": arguments.queries,
        "dim": arguments.dim,
        "cpu_seconds": {phase: round(span["cpu"], 2) for phase, span in watch.spans.items()},
        "wall_seconds": {phase: round(span["wall"], 2) for phase, span in watch.spans.items()},
        "memory": memory.report(),
        "disk_mib": round(size / 2**20, 1),
        "index": arguments.index,
        **found,
    }
    save_json(arguments.result, record)


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All points, each in a fresh process of one thread."""
    series = (
        {"square": [(n, n) for n in arguments.square]}
        if arguments.square
        else {
            "documents": [(n, FEW_QUERIES) for n in arguments.documents],
            "queries": [(FEW_DOCUMENTS, q) for q in arguments.queries],
        }
    )
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(one, "1") | {"PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    record: dict[str, list[dict[str, Any]]] = {name: [] for name in series}
    with tempfile.TemporaryDirectory(prefix="posmine-growth-") as scratch:
        for name, points in series.items():
            for documents, queries in points:
                print(f"{documents:,} documents, {queries:,} queries", file=sys.stderr)
                result = Path(scratch) / "result.json"
                command = [sys.executable, "-m", "benchmarks.growth", "--point", str(documents), str(queries)]
                command += ["--dim", str(arguments.dim), "--scratch", scratch, "--result", str(result)]
                command += [] if arguments.index is None else ["--index", arguments.index]
                subprocess.run(command, check=True, env=environment, cwd=ROOT)
                record[name].append(json.loads(result.read_text()))
    return record


def fitted(points: list[dict[str, Any]], grows: str) -> dict[str, Any]:
    """How time and memory follow what grows: exponent of the search time, and bytes of memory per unit."""
    x = np.array([point[grows] for point in points], float)
    record = {}
    for phase in ("search", "total"):
        seconds = np.array([point["cpu_seconds"][phase] for point in points])
        record[f"exponent of {phase} CPU time"] = _slope(np.log(x), np.log(seconds))
        record[f"{phase} CPU microseconds each"] = _slope(x, 1e6 * seconds)
    for name in ("above_inputs_anonymous_mib", "above_inputs_mib"):
        record[f"{name}, bytes each"] = _slope(x, 2**20 * np.array([point["memory"][name] for point in points]))
    return record


def _slope(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Least squares, with a 95 % interval of the slope (Student's t)."""
    from scipy import stats

    fit = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr) if len(x) > 2 else float("nan")
    return {"slope": float(fit.slope), "low": float(fit.slope) - half, "high": float(fit.slope) + half}


def figure(record: dict[str, Any], path: Path) -> None:
    """CPU time and memory against documents, and against queries."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels, axes = plt.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    for column, grows in enumerate(record["points"]):
        points = record["points"][grows]
        x = [point[grows] for point in points]
        time, memory = axes[0][column], axes[1][column]
        for phase, style in (("total", "o-"), ("search", "s--")):
            time.loglog(x, [point["cpu_seconds"][phase] for point in points], style, label=phase)
        for name, label, style in (
            ("above_inputs_mib", "with mapped files", "^:"),
            ("above_inputs_anonymous_mib", "the process's own", "o-"),
        ):
            memory.semilogx(x, [point["memory"][name] for point in points], style, label=label)
        memory.set_ylim(bottom=0)
        fixed = "queries" if grows == "documents" else "documents"
        time.set_title(f"{points[0][fixed]:,} {fixed}")
        memory.set_xlabel(grows)
        for axis in (time, memory):
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
    axes[0][0].set_ylabel("CPU seconds")
    axes[1][0].set_ylabel("peak memory above the start, MiB")
    panels.savefig(path, dpi=110)


def report(record: dict[str, Any]) -> str:
    """Tables of all points and of the fits."""
    about = record["machine"]
    lines = [
        "# Growth of time and memory",
        f"{about['cpu']}, one thread; commit {about['git_commit']}, source {about['source_digest']}; {about['time']}. "
        f"{record['arguments']['dim']} dimensions, {NEGATIVES} negatives below {SHARE} of the positive's score. "
        "Made by `python -m benchmarks.growth`.",
        "![CPU time and memory against documents and queries](growth.png)",
    ]
    for grows, points in record["points"].items():
        lines += [f"## More {grows}", _table(points), _fits(record["fits"][grows])]
    return "\n\n".join(lines) + "\n"


def _table(points: list[dict[str, Any]]) -> str:
    header = [
        "documents",
        "queries",
        *(f"{phase}, s" for phase in (*PHASES, "total")),
        "own MiB",
        "with maps",
        "disk MiB",
    ]
    rows = []
    for point in points:
        memory = point["memory"]
        sizes = [memory["above_inputs_anonymous_mib"], memory["above_inputs_mib"], point["disk_mib"]]
        seconds = [float(point["cpu_seconds"].get(phase, 0)) for phase in (*PHASES, "total")]
        rows.append([f"{point['documents']:,}", f"{point['queries']:,}", *seconds, *(f"{size:,.0f}" for size in sizes)])
    return markdown(header, rows)


def _fits(fits: dict[str, dict[str, float]]) -> str:
    rows = [[name, f"{fit['slope']:.3g}", f"{fit['low']:.3g} to {fit['high']:.3g}"] for name, fit in fits.items()]
    return markdown(["fit", "slope", "95 % interval"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--documents", type=int, nargs="+", default=DOCUMENTS)
    parser.add_argument("--queries", type=int, nargs="+", default=QUERIES)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument(
        "--square", type=int, nargs="+", help="so many documents and as many queries, instead of the two series"
    )
    parser.add_argument("--index", help="how to search, such as IVF4096,SQ8; by default exactly")
    parser.add_argument("--point", type=int, nargs=2, metavar=("DOCUMENTS", "QUERIES"), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        arguments.documents, arguments.queries = arguments.point
        point(arguments)
        return
    points = measure(arguments)
    record = {
        "machine": machine(),
        "arguments": {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()},
        "points": points,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.square:
        save_json(arguments.output / "scale.json", record)
        print(_table(points["square"]))
        return
    record["fits"] = {grows: fitted(found, grows) for grows, found in points.items()}
    save_json(arguments.output / "growth.json", record)
    figure(record, arguments.output / "growth.png")
    text = report(record)
    (arguments.output / "growth.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
