"""Multiply-adds of the search by 16-bit codes as a share of the full product, per data set, and its result against the plain scan.

    python -m benchmarks.multiply_adds --output docs/benchmarks/multiply_adds.json [--task SQuAD=out/squad]

Judged collections, every relevant document excluded, 4 negatives below 95 % of the lowest positive's score; by the embedded
all-MiniLM-L6-v2 and by the mean of its word embeddings (``words``). ``--task`` names a folder of ``benchmarks.squad_vectors``.
``noise`` is isotropic: the bound prunes nothing there, and the CPU seconds say what that costs.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judged_scores import COLLECTIONS, JudgedScores, unit
from benchmarks.measure import machine, markdown
from benchmarks.synthetic import Task
from benchmarks.theory import word_vectors


@dataclass
class Search:
    """Vectors float32 ``[Q, d]`` and ``[N, d]``, and the rows of the positives of each query."""

    name: str
    queries: np.ndarray
    documents: np.ndarray
    positives: list[list[int]]


def collections(name: str) -> list[Search]:
    """A judged collection by both models."""
    data = JudgedScores.load(name)
    positives = [np.flatnonzero(row).tolist() for row in data.relevant]
    mini = data.queries, data.documents
    return [
        Search(f"{name}, {kind}", *vectors, positives)
        for kind, vectors in (("MiniLM", mini), ("words", word_vectors(data)))
    ]


def noise(queries: int, documents: int, dimensions: int = 384) -> Search:
    """Isotropic unit vectors; the positive is a query's nearest document among the first hundred."""
    rng = np.random.default_rng(0)
    q, d = (unit(rng.standard_normal((rows, dimensions)).astype(np.float32)) for rows in (queries, documents))
    return Search("noise", q, d, [[int(row)] for row in (q @ d[:100].T).argmax(axis=1)])


class Counted:
    """Counts the multiply-adds of compiled products while it is entered."""

    def __enter__(self) -> Counted:
        from hf_posmine.search import kernels

        self.codes = self.pairs = 0
        self.module, self.before = kernels, (kernels.int16_products, kernels.pair_products)

        def products(queries: Any, documents: Any, length: int, out: Any) -> Any:
            self.codes += len(queries) * len(documents) * length
            return self.before[0](queries, documents, length, out)

        def pairs(queries: Any, at: Any, *rest: Any) -> Any:
            self.pairs += len(at) * queries.shape[1]
            return self.before[1](queries, at, *rest)

        kernels.int16_products, kernels.pair_products = products, pairs
        return self

    def __exit__(self, *_: object) -> None:
        self.module.int16_products, self.module.pair_products = self.before


def measure(search: Search) -> dict[str, Any]:
    """Multiply-adds, CPU seconds, and whether both engines give the same."""
    from hf_posmine.search.exact import ExactIndex

    found, seconds = {}, {}
    with Counted() as counted:
        for engine in ("float32", "int16"):
            index = ExactIndex(search.documents, "cosine", engine=engine)
            lowest = np.array(
                [
                    index.score(q[None], np.array([p]))[0].min()
                    for q, p in zip(search.queries, search.positives, strict=True)
                ],
                np.float32,
            )
            ceilings = (0.95 * lowest).astype(np.float32)
            index.search(search.queries[:1], 4, below=ceilings[:1])  # prepares and compiles
            counted.codes = counted.pairs = 0
            start = time.process_time()
            found[engine] = index.search(search.queries, 4, below=ceilings, exclude=search.positives)
            seconds[engine] = time.process_time() - start
    full = len(search.queries) * search.documents.size
    same = all(
        np.array_equal(getattr(found["float32"], name), getattr(found["int16"], name))
        for name in ("doc_ids", "scores", "above")
    )
    return {
        "name": search.name,
        "queries": len(search.queries),
        "documents": len(search.documents),
        "share": round((counted.codes + counted.pairs) / full, 4),
        "share_of_pairs": round(counted.pairs / full, 4),
        "cpu_seconds": {engine: round(value, 3) for engine, value in seconds.items()},
        "same": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench/multiply_adds.json"))
    parser.add_argument("--collections", nargs="*", default=COLLECTIONS)
    parser.add_argument("--task", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--noise", nargs=2, type=int, default=(20_000, 20_000), metavar=("QUERIES", "DOCUMENTS"))
    args = parser.parse_args()
    rows = [measure(search) for name in args.collections for search in collections(name)]
    for name, folder in (task.split("=", 1) for task in args.task):
        task = Task.load(Path(folder))
        rows.append(measure(Search(name, task.queries, task.documents, [[int(row)] for row in task.positives])))
    rows.append(measure(noise(*args.noise)))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    header = [
        "vectors",
        "queries",
        "documents",
        "share of multiply-adds",
        "of it pairs",
        "CPU s float32",
        "CPU s 16-bit",
        "same result",
    ]
    print(
        markdown(
            header,
            [
                [
                    r["name"],
                    f"{r['queries']:,}",
                    f"{r['documents']:,}",
                    f"{r['share']:.3f}",
                    f"{r['share_of_pairs']:.3f}",
                    f"{r['cpu_seconds']['float32']:.2f}",
                    f"{r['cpu_seconds']['int16']:.2f}",
                    "yes" if r["same"] else "NO",
                ]
                for r in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
