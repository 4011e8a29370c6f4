"""One contender in a process of its own: warm up, load the inputs, mine, and write down time, memory and rows.

Started by :mod:`benchmarks.mining`, which gives the process empty cache folders.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import MemoryPeak, Watch, busy_seconds, difference, now, release_memory
from benchmarks.synthetic import StubModel, Task, numbers, save_json

if TYPE_CHECKING:
    from collections.abc import Iterator

NEGATIVES, SHARE = 4, 0.95
WARM_UP = (300, 6000)  # queries and documents: enough that some queries need the second scan, which is compiled too
QUERY, POSITIVE = "query", "positive"
CONTENDERS = ("peer-faiss", "peer-torch", "ours", "ours-float32", "ours-drop-in")


class Peer:
    """``sentence_transformers.util.mine_hard_negatives`` with ``use_faiss`` True or False.

    Its search is timed inside, by wrapping the loop over query blocks (``trange``) and the filling of the faiss index.
    """

    def __init__(self, faiss: bool, range_max: int | None, output_format: str) -> None:
        from sentence_transformers.util import hard_negatives

        self.faiss, self.range_max, self.output_format = faiss, range_max, output_format
        self.module = hard_negatives

    def mine(self, watch: Watch, task: Task, pairs: Any, documents: list[str]) -> Any:
        ended: list[tuple[float, float]] = []

        def loop(*args: int, **_: Any) -> Iterator[int]:
            with watch("search"):
                yield from range(*args)
            ended.append(now())

        self.module.trange = loop
        if self.faiss:
            import faiss

            add = faiss.IndexFlatIP.add
            faiss.IndexFlatIP.add = watch.timed("search", add)
        with watch("total"):
            mined = self.mined_by(self.module.mine_hard_negatives, task, pairs, documents)
        end = now()
        if self.faiss:
            faiss.IndexFlatIP.add = add
        after = {"wall": end[0] - ended[-1][0], "cpu": end[1] - ended[-1][1]}
        watch.spans["after search"] = after
        watch.spans["before search"] = difference(watch.spans["total"], watch.spans["search"], after)
        return mined

    def mined_by(self, function: Any, task: Task, pairs: Any, documents: list[str]) -> Any:
        """The rows of a function with the peer's signature."""
        return function(
            pairs,
            StubModel(task),
            corpus=documents,
            relative_margin=1 - SHARE,
            range_max=self.range_max,
            num_negatives=NEGATIVES,
            output_format=self.output_format,
            use_faiss=self.faiss,
            verbose=False,
        )

    def rows(self, mined: Any, queries: int) -> np.ndarray:
        rows = np.full((queries, NEGATIVES), -1, np.int64)
        at = numbers(mined[QUERY])
        if self.output_format == "n-tuple":
            for n in range(NEGATIVES):
                rows[at, n] = numbers(mined[f"negative_{n + 1}"])
            return rows
        first = np.append(True, at[1:] != at[:-1])  # triplets: the negatives of a query are neighbours, best first
        rows[at, np.arange(len(at)) - np.maximum.accumulate(np.where(first, np.arange(len(at)), 0))] = numbers(
            mined["negative"]
        )
        return rows

    def extra(self) -> dict[str, Any]:
        return {}


class DropIn(Peer):
    """``hf_posmine.compat.mine_hard_negatives`` with the peer's arguments; phases are not measured apart."""

    def __init__(self, range_max: int | None, output_format: str) -> None:
        self.faiss, self.range_max, self.output_format = True, range_max, output_format

    def mine(self, watch: Watch, task: Task, pairs: Any, documents: list[str]) -> Any:
        from hf_posmine.compat import mine_hard_negatives

        with watch("total"):
            return self.mined_by(mine_hard_negatives, task, pairs, documents)


class Ours:
    """``PositiveAwareMiner`` and ``datasets.map``; its search is timed by wrapping ``ExactIndex.search``."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.scanned: dict[str, int] = {}

    def mine(self, watch: Watch, task: Task, pairs: Any, documents: list[str]) -> Any:
        from hf_posmine import Corpus, PercPos, PositiveAwareMiner
        from hf_posmine.search import ExactIndex
        from hf_posmine.search.product_speed import quickest_rounding
        from hf_posmine.search.scan_cpu import warm_up

        warm_up(
            quickest_rounding(task.documents.shape[1])
        )  # a warm-up is too small for a compiler; once compiled, this takes nothing

        self.scanned = self._count_scans()
        search = ExactIndex.search
        ExactIndex.search = watch.timed("search", search)
        with watch("total"):
            with watch("corpus and known positives"):
                corpus = Corpus.from_texts(documents)
                miner = PositiveAwareMiner.from_dataset(
                    pairs,
                    StubModel(task),
                    corpus=corpus,
                    teacher_options={
                        "store": tempfile.mkdtemp(prefix="store-"),
                        "fingerprint": f"stub {len(documents)} {len(pairs)}",
                        "engine": self.engine,
                    },
                    filters=[PercPos(SHARE)],
                    num_negatives=NEGATIVES,
                )
            with watch("store"):
                miner.prepare()
            with watch("map"):
                mined = pairs.map(miner, batched=True)
        ExactIndex.search = search
        watch.spans["around search"] = difference(watch.spans["map"], watch.spans["search"])
        return mined

    def _count_scans(self) -> dict[str, int]:
        """Count the queries given to each kind of scan: those given to the second one were not certain by codes."""
        from hf_posmine.search.coarse import RoundedProducts
        from hf_posmine.search.scan_cpu import CpuScan

        counts: dict[str, int] = {}
        scan = getattr(CpuScan.__call__, "original", CpuScan.__call__)

        def call(self: CpuScan, queries: Any, *args: Any) -> Any:
            kind = "float32" if self.coarse is None else type(self.coarse).__name__
            if isinstance(self.coarse, RoundedProducts):
                kind = self.coarse.kind
            counts[kind] = counts.get(kind, 0) + len(queries.vectors)
            return scan(self, queries, *args)

        call.original = scan  # type: ignore[attr-defined]
        CpuScan.__call__ = call  # type: ignore[method-assign]
        return counts

    def rows(self, mined: Any, queries: int) -> np.ndarray:
        rows = np.full((queries, NEGATIVES), -1, np.int64)
        for row, texts in enumerate(mined["negatives"]):
            rows[row, : len(texts)] = numbers(texts)
        return rows

    def extra(self) -> dict[str, Any]:
        return {"queries_scanned": self.scanned}


def make(arguments: argparse.Namespace) -> Peer | Ours:
    """The contender asked for."""
    if arguments.name == "ours-drop-in":
        return DropIn(arguments.range_max, arguments.format)
    if arguments.name.startswith("ours"):
        return Ours(arguments.engine if arguments.name == "ours" else "float32")
    return Peer(arguments.name == "peer-faiss", arguments.range_max, arguments.format)


def inputs(task: Task) -> tuple[Task, Any, list[str]]:
    """What both sides are given: embeddings, the dataset of pairs and the list of documents, all in memory."""
    from datasets import Dataset

    documents = task.document_texts
    positives = [documents[i] for i in task.positives]
    return task, Dataset.from_dict({QUERY: task.query_texts, POSITIVE: positives}), documents


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Warm up (imports, thread pools, compiled kernels), then measure."""
    import datasets
    import torch

    datasets.disable_progress_bars()
    contender, folder = make(arguments), arguments.folder
    dim = np.load(folder / "documents.npy", mmap_mode="r").shape[1]
    contender.mine(Watch(), *inputs(Task.make(*WARM_UP, dim, 0.3, seed=1)))
    given = inputs(Task.load(folder))
    release_memory()
    watch, others = Watch(), busy_seconds()
    with MemoryPeak(watch) as memory:
        mined = contender.mine(watch, *given)
    others = busy_seconds() - others - watch.spans["total"]["cpu"]
    record = {
        "contender": arguments.name,
        "threads": torch.get_num_threads(),
        "phases": {
            phase: {clock: round(value, 3) for clock, value in span.items()} for phase, span in watch.spans.items()
        },
        "memory": memory.report(),
        "cpu_seconds_of_others": round(max(0.0, others), 1),
        **contender.extra(),
    }
    return record, contender.rows(mined, len(given[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--range-max", type=int)
    parser.add_argument("--format", default="n-tuple")
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    record, rows = run(arguments)
    np.save(arguments.result.with_suffix(".npy"), rows)
    save_json(arguments.result, record)


if __name__ == "__main__":
    main()
