"""Approximate indexes behind the deepening loop against exact search: recall of the negatives, speed, memory, disk.

Run ``python -m benchmarks.approximate --output out/bench``; see README.md beside this file.
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

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.measure import ROOT, MemoryPeak, Watch, busy_seconds, machine, markdown, release_memory
from benchmarks.synthetic import Task, save_json

if TYPE_CHECKING:
    from hf_posmine.search import ExactIndex

SQUAD = ROOT.parent / "shared" / "data" / "squad_v1.1"
NEGATIVES, SHARE, BATCH = 4, 0.95, 1000
SHALLOW = 100
EXACT = {"exact, int8": "int8", "exact, float32": "float32"}
ON_DISK = "Approximate('IVF{lists},SQ8', on_disk=True)"
CONTENDERS = {
    "squad": [
        "Flat", "SQ8", "PQ96x4fs", "IVF128,Flat", "IVF128,SQ8", "Approximate('IVF128,SQ8', {'nprobe': 64})",
        ON_DISK.format(lists=128), "IVF128,PQ96x4fs", "IVF128,PQ96x4fs,RFlat", "HNSW32", "Lance('IVF_RQ')",
        "Lance('IVF_SQ')", "Approximate('OPQ96,IVF128,PQ96x4fs', train_rows=8192)",
    ],
    "synthetic": [
        "Flat", "SQ8", "PQ96x4fs", "IVF1024,Flat", "IVF1024,SQ8", "Approximate('IVF1024,SQ8', {'nprobe': 16})",
        ON_DISK.format(lists=1024), "IVF1024,PQ96x4fs", "IVF4096,SQ8", "HNSW16", "Lance('IVF_RQ')",
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--sets", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--documents", type=int, default=500_000, help="of the synthetic set")
    parser.add_argument("--store", type=Path, help="embeddings of SQuAD, kept between runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="these indexes, besides exact search")
    parser.add_argument("--contender", nargs=3, metavar=("INDEX", "TASK", "RESULT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        index, task, result = arguments.contender
        run(index, Path(task), Path(result))
        return
    shown = {name: str(v) if isinstance(v, Path) else v for name, v in vars(arguments).items()}
    for private in ("store", "contender"):
        shown.pop(private)
    record: dict[str, Any] = {"machine": machine(), "arguments": shown, "sets": {}}
    for name in arguments.sets:
        record["sets"][name] = measure(name, arguments)
        save_json(arguments.output / "approximate.json", record)
    text = report(record)
    (arguments.output / "approximate.md").write_text(text)
    print(text)


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every contender in a process of its own, with empty caches, one after the other."""
    with tempfile.TemporaryDirectory(prefix="posmine-bench-") as folder:
        work = Path(folder)
        task = squad(arguments) if name == "squad" else Task.make(arguments.queries, arguments.documents, 384, 0.1)
        task.save(work / "task")
        shape = {"queries": len(task.queries), "documents": len(task.documents), "dim": task.documents.shape[1]}
        del task
        runs, found = [], {}
        for number, index in enumerate([*EXACT, *(arguments.only or CONTENDERS[name])]):
            print(f"{name}: {index}", file=sys.stderr, flush=True)
            result = work / f"{number}" / "result.json"
            runs.append(_start(index, work / "task", result, arguments.threads))
            found[index] = dict(np.load(result.with_suffix(".npz")))
        best = found[next(iter(EXACT))]
        return {**shape, "runs": [record | compare(found[record["index"]], best) for record in runs]}


def squad(arguments: argparse.Namespace) -> Task:
    """Vectors of SQuAD's passages, some of its questions, and each one's passage."""
    from hf_posmine import Corpus, DenseTeacher
    from hf_posmine.data import load_files

    corpus = Corpus.from_dataset(load_files(SQUAD / "train_corpus.parquet"), "text", "id")
    pairs = load_files(SQUAD / "train_pairs.parquet").shuffle(seed=0).select(range(arguments.queries))
    store = arguments.store or Path(tempfile.mkdtemp(prefix="posmine-squad-"))
    teacher = DenseTeacher("embedded", corpus, store=store, device="cpu")
    teacher.prepare()
    documents = teacher.exact.vectors[np.arange(len(corpus))]
    positives = corpus.required_rows(pairs["positive_id"], "positive_id")
    return Task(teacher.embed_queries(pairs["query"]), documents, positives, np.zeros(len(pairs), bool))


def _start(index: str, task: Path, result: Path, threads: int) -> dict[str, Any]:
    folder = result.parent
    folder.mkdir()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "LANCE_CPU_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "HF_POSMINE_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "benchmarks.approximate", "--contender", index, str(task), str(result)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    return json.loads(result.read_text())


def run(index: str, folder: Path, result: Path) -> None:
    """Build, search in batches as mining does, and write down time, memory and rows."""
    import datasets

    from hf_posmine.search.approximate import ApproximateIndex
    from hf_posmine.search.index_factory import as_index, open_index

    datasets.disable_progress_bars()
    warm_up()
    exact, queries, below, positives = given(index, folder)
    watch, others = Watch(), busy_seconds()
    release_memory()
    with MemoryPeak(watch) as building, watch("build"):
        kind = None if index in EXACT else as_index(index)
        searched = exact if kind is None else ApproximateIndex(exact, open_index(kind, exact))
        if kind is None:
            exact.search(queries[:1], NEGATIVES)  # what it prepares once
    release_memory()
    rankings = []
    with MemoryPeak(watch) as searching, watch("search"):
        for start in range(0, len(queries), BATCH):
            part = slice(start, start + BATCH)
            rankings.append(find(searched, queries[part], below[part], positives[part]))
    others = busy_seconds() - others - sum(span["cpu"] for span in watch.spans.values())
    ids, scores, above, rounds = (np.concatenate(parts) for parts in zip(*rankings, strict=True))
    np.savez(result.with_suffix(".npz"), ids=ids, scores=scores, above=above, rounds=rounds)
    record = {
        "index": index,
        "seconds": {phase: {clock: round(v, 3) for clock, v in span.items()} for phase, span in watch.spans.items()},
        "building": building.report(),
        "searching": searching.report(),
        "disk_mib": disk_mib(result.parent / "home"),
        "options": getattr(getattr(searched, "searcher", None), "options", {}),
        "filled_by_first_100": None if kind is None else shallow(searched, queries, below, positives),
        "cpu_seconds_of_others": round(max(0.0, others), 1),
    }
    save_json(result, record)


def given(index: str, folder: Path) -> tuple[ExactIndex, np.ndarray, np.ndarray, np.ndarray]:
    """Exact search over the mapped documents, the queries, their ceilings, and their positives."""
    from hf_posmine import PercPos
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search import ExactIndex

    documents = np.load(folder / "documents.npy", mmap_mode="r")
    queries, positives = np.load(folder / "queries.npy"), np.load(folder / "positives.npy")
    shards = tuple(documents[start : start + 65_536] for start in range(0, len(documents), 65_536))
    exact = ExactIndex(Vectors(shards), "cosine", engine=EXACT.get(index, "auto"))
    return exact, queries, PercPos(SHARE).ceiling(exact.score(queries, positives[:, None])[:, 0]), positives


def find(index: Any, queries: np.ndarray, below: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, ...]:
    """Negatives, their scores, documents above the ceilings, and rounds, of one batch."""
    from hf_posmine.core import Exclusions

    options = {"below": below, "exclude": Exclusions.of(positives[:, None])}
    if hasattr(index, "search_in_rounds"):
        ranking, rounds = index.search_in_rounds(queries, NEGATIVES, **options)
    else:
        ranking, rounds = index.search(queries, NEGATIVES, **options), np.zeros(len(queries), np.int64)
    return ranking.doc_ids, ranking.scores, ranking.above, rounds


def shallow(index: Any, queries: np.ndarray, below: np.ndarray, positives: np.ndarray) -> int:
    """Queries that have all their negatives among the engine's first 100: what a search to a fixed depth fills."""
    ids = index.searcher.candidates(queries, SHALLOW, 1)
    valid = (index.score(queries, ids) < below[:, None]) & (ids >= 0) & (ids != positives[:, None])
    return int((valid.sum(axis=1) >= NEGATIVES).sum())


def warm_up() -> None:
    """Imports, thread pools and compiled kernels."""
    from hf_posmine.search import ExactIndex

    vectors = np.random.default_rng(0).standard_normal((6000, 384)).astype(np.float32)
    for engine in ("int8", "float32"):
        ExactIndex(vectors, "cosine", engine=engine).search(vectors[:300], 4, below=np.zeros(300, np.float32))


def disk_mib(home: Path) -> float:
    return round(sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 2**20, 1)


def compare(found: dict[str, np.ndarray], best: dict[str, np.ndarray]) -> dict[str, Any]:
    """What an index found beside exact search; equal scores count as found."""
    from hf_posmine.search.approximate import EXHAUSTIVE

    wanted = (best["ids"] >= 0).sum(axis=1)
    there = found["ids"] >= 0
    same = (found["ids"][:, :, None] == best["ids"][:, None]).any(axis=2)
    tied = (found["scores"][:, :, None] == best["scores"][:, None]).any(axis=2)
    hits = np.minimum(((same | tied) & there).sum(axis=1), wanted)
    return {
        "recall": float(hits.sum() / wanted.sum()),
        "unchanged": float((hits == wanted).mean()),
        "deepened": float((found["rounds"] > 0).mean()),
        "exhausted": float((found["rounds"] == EXHAUSTIVE).mean()),
        "counted": float(found["above"].sum() / best["above"].sum()),
        "filled": int((there.sum(axis=1) == NEGATIVES).sum()),
        "fewer_than_exact": int((there.sum(axis=1) < wanted).sum()),
    }


def report(record: dict[str, Any]) -> str:
    """A table for each set."""
    about = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    title = (
        f"# Approximate search\n\n{about['cpu']}, {about['cores']} cores, {record['arguments']['threads']} used; Python "
        f"{about['python']}; {packages}; commit {about['git_commit']}, source {about['source_digest']}; {about['time']}.\n\n"
        f"{NEGATIVES} negatives below {SHARE:.0%} of the positive's score, in batches of {BATCH:,}. Seconds are CPU seconds. "
        "Memory is anonymous memory above the inputs, which are mapped. Recall, deeper and exactly are explained in "
        "[the README of the benchmarks](../../benchmarks/README.md)."
    )
    return "\n\n".join([title, *(table(name, measured) for name, measured in record["sets"].items())]) + "\n"


def table(name: str, measured: dict[str, Any]) -> str:
    header = [
        "index", "build s", "MiB building", "MiB on disk", "search s", "MiB searching", "recall", "rows unchanged", "deeper",
        "exactly", "above counted", "filled by first 100", "filled", "fewer than exact",
    ]  # fmt: skip
    rows = [
        [
            r["index"], r["seconds"]["build"]["cpu"], f"{r['building']['above_inputs_anonymous_mib']:,.0f}",
            f"{r['disk_mib']:,.0f}", r["seconds"]["search"]["cpu"], f"{r['searching']['above_inputs_anonymous_mib']:,.0f}",
            f"{r['recall']:.2%}", f"{r['unchanged']:.1%}", f"{r['deepened']:.1%}", f"{r['exhausted']:.1%}",
            f"{r['counted']:.2%}", "-" if r["filled_by_first_100"] is None else f"{r['filled_by_first_100']:,}",
            f"{r['filled']:,}", r["fewer_than_exact"],
        ]
        for r in measured["runs"]
    ]  # fmt: skip
    what = "SQuAD's passages with all-MiniLM-L6-v2" if name == "squad" else "Synthetic clusters, 10 % weak positives"
    heading = (
        f"## {what}: {measured['queries']:,} queries, {measured['documents']:,} documents, {measured['dim']} dimensions"
    )
    return f"{heading}\n\n{markdown(header, rows)}"


if __name__ == "__main__":
    main()
