"""Multiply-adds of the searches along axes as shares of the full product, per data set, and their results against the plain scan.

    python -m benchmarks.multiply_adds --output docs/benchmarks/multiply_adds.json [--task SQuAD=out/squad]

Judged collections, every relevant document excluded, 4 negatives below 95 % of the lowest positive's score; by the embedded
all-MiniLM-L6-v2 and by the mean of its word embeddings (``words``). ``--task`` names a folder of ``benchmarks.squad_vectors``.
``noise`` is isotropic: the bound prunes nothing there, and the CPU seconds say what that costs. The scan by torch, which is for
GPUs, is counted along as many axes as a pair's cost on a CPU suggests; on a GPU pairs cost more, and it would take others or none.
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

TORCH = (("torch_axes", "d"), ("torch_share", ".3f"), ("torch_share_of_pairs", ".4f"))


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
    """Counts the multiply-adds of products and of pairs while it is entered."""

    def __init__(self) -> None:
        self.products = self.pairs = 0
        self.before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Counted:
        from hf_posmine.search import kernels, scan_int8, scan_torch

        self._count(kernels, "int16_products", "products", lambda q, d, length, _: len(q) * len(d) * length)
        self._count(kernels, "pair_products", "pairs", lambda q, at, *_: len(at) * q.shape[1])
        self._count(scan_torch, "matrix_product", "products", lambda q, d: len(q) * d.numel())
        self._count(scan_int8, "products", "products", lambda q, d: len(q) * d.numel())
        self._count(scan_torch, "pair_products", "pairs", lambda _, d: d.numel())
        return self

    def _count(self, module: Any, name: str, total: str, count: Any) -> None:
        before = getattr(module, name)

        def counted(*given: Any) -> Any:
            setattr(self, total, getattr(self, total) + count(*given))
            return before(*given)

        self.before.append((module, name, before))
        setattr(module, name, counted)

    def __exit__(self, *_: object) -> None:
        while self.before:
            module, name, before = self.before.pop()
            setattr(module, name, before)


def indexes(documents: np.ndarray) -> dict[str, Any]:
    """One for each scan; that by torch where a few axes need fewer multiply-adds and thresholds are learned in time."""
    from hf_posmine.search.axis_bounds import AxisBounds
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.principal_axes import LEAST_DOCUMENTS, Costs, find_axes

    made = {engine: ExactIndex(documents, "cosine", engine=engine) for engine in ("float32", "int16", "torch")}
    costs = Costs(8.0, 0.0, documents.shape[1], LEAST_DOCUMENTS, 32_768, 64, "count")
    axes = find_axes("cosine", made["torch"].vectors, len(documents), costs)
    if axes is None or len(documents) < LEAST_DOCUMENTS:
        del made["torch"]
    else:
        made["torch"]._first_axes = AxisBounds.of(axes, "cpu", costs.pair)
    return made


def measure(search: Search) -> dict[str, Any]:
    """Multiply-adds, CPU seconds, and whether all scans give the same."""
    found, seconds, products, pairs = {}, {}, {}, {}
    made, full = indexes(search.documents), len(search.queries) * search.documents.size
    with Counted() as counted:
        for engine, index in made.items():
            lowest = np.array(
                [
                    index.score(q[None], np.array([p]))[0].min()
                    for q, p in zip(search.queries, search.positives, strict=True)
                ],
                np.float32,
            )
            ceilings = (0.95 * lowest).astype(np.float32)
            index.search(search.queries[:1], 4, below=ceilings[:1])  # prepares and compiles
            counted.products = counted.pairs = 0
            start = time.process_time()
            found[engine] = index.search(search.queries, 4, below=ceilings, exclude=search.positives)
            seconds[engine] = round(time.process_time() - start, 3)
            products[engine], pairs[engine] = counted.products / full, counted.pairs / full
    same = all(
        np.array_equal(getattr(found["float32"], name), getattr(other, name))
        for name in ("doc_ids", "scores", "above")
        for other in found.values()
    )
    of_torch = (
        {
            "torch_axes": len(made["torch"]._first_axes.basis),
            "torch_share": round(products["torch"] + pairs["torch"], 4),
            "torch_share_of_pairs": round(pairs["torch"], 4),
        }
        if "torch" in made
        else {}
    )
    return {
        "name": search.name,
        "queries": len(search.queries),
        "documents": len(search.documents),
        "share": round(products["int16"] + pairs["int16"], 4),
        "share_of_pairs": round(pairs["int16"], 4),
        **of_torch,
        "cpu_seconds": seconds,
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
        "torch: axes",
        "share of multiply-adds",
        "of it pairs",
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
                    *(f"{r[name]:{form}}" if name in r else "-" for name, form in TORCH),
                    "yes" if r["same"] else "NO",
                ]
                for r in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
