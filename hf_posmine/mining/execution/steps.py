"""Steps of a plan; those of a dense teacher that was not loaded follow from its configuration, a sample of texts and a product."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.encoding.batches import CPU_TOKENS
from hf_posmine.search.block_sizes import Sizes
from hf_posmine.search.prepared import axis_row_bytes, row_bytes
from hf_posmine.utils.threads import num_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Role
    from hf_posmine.encoding.store import EmbeddingStore
    from hf_posmine.teachers.unloaded import UnloadedTeacher

WHAT: dict[Role, str] = {"document": "documents", "query": "queries"}
SAMPLE = 256
"""Texts of a role whose tokens are counted."""
PROBE_SECONDS = 0.1
USED = 0.7
"""Share of the rate of products that passes of MiniLM reach (AVX2)."""
LIBRARIES = 400 << 20
"""Bytes that the program holds with torch, transformers and datasets, without a model (Linux, CPU builds)."""


@dataclass(frozen=True)
class Step:
    """One part of a job: bytes it reads, holds (of its own, at most) and writes, and seconds if they were estimated.

    ``about`` marks what it holds and takes as not tried.
    """

    name: str
    amount: str
    reads: int = 0
    holds: int = 0
    writes: int = 0
    seconds: float | None = 0.0
    about: bool = False


def encode_step(
    what: str,
    missing: Mapping[TextPart, int],
    store: EmbeddingStore,
    dimensions: int,
    holds: int,
    seconds: float,
    *,
    about: bool,
) -> Step:
    """The step of encoding what the store lacks of some parts, in so many bytes besides the vectors of a shard."""
    total, left = sum(map(len, missing)), sum(missing.values())
    return Step(
        "encode",
        f"{left:,} {what}" + (f" ({total - left:,} stored already)" if left < total else ""),
        reads=sum(text_bytes(part) * count // max(1, len(part)) for part, count in missing.items()),
        holds=holds + 8 * min(total, store.shard_rows) * dimensions,
        writes=left * dimensions * store.dtype.itemsize,
        seconds=seconds,
        about=about,
    )


def cpu_search_bytes(documents: int, dimensions: int, sizes: Sizes, threads: int) -> tuple[int, int]:
    """Bytes that a search on a CPU holds and writes, at most: where it takes 16-bit numbers."""
    columns = documents * max(row_bytes(dimensions, "bfloat16"), axis_row_bytes(dimensions))
    held = columns <= sizes.held
    return sizes.per_thread(dimensions) * threads + columns * held, columns * (not held)


def sample_texts(part: TextPart, count: int) -> list[str]:
    """Texts from all over a part."""
    return part.take("text", np.linspace(0, len(part) - 1, count).astype(np.int64)).to_pylist()


def text_bytes(part: TextPart) -> int:
    """The size of a part's texts on disk."""
    return (part.path / "texts.arrow").stat().st_size


@dataclass(frozen=True)
class Rate:
    """Operations a second: of one thread in products of float32 matrices, and how many threads there are."""

    one: float
    threads: int

    @classmethod
    def measure(cls, hidden: int) -> Rate:
        """Try the product of a layer so wide."""
        from threadpoolctl import threadpool_limits

        rng = np.random.default_rng(0)
        left, right = (rng.standard_normal(shape, np.float32) for shape in ((CPU_TOKENS, hidden), (hidden, 4 * hidden)))
        taken: list[float] = []
        with threadpool_limits(1, "blas"):
            _ = left @ right
            while sum(taken) < PROBE_SECONDS:
                start = time.thread_time()
                _ = left @ right
                taken.append(time.thread_time() - start)
        return cls(2 * left.size * right.shape[1] * len(taken) / sum(taken), num_threads())

    def seconds(self, operations: float) -> float:
        """For so many operations on all threads, where no other program runs."""
        return operations / (USED * self.one * self.threads)


def plan_unloaded(teacher: UnloadedTeacher, rows: int | None) -> tuple[list[Step], list[str]]:
    """The steps of encoding and searching, and how they were estimated."""
    facts, sampled, known = teacher.facts, [], 0
    rate, steps = Rate.measure(facts.hidden), list[Step]()
    for role, what in WHAT.items():
        parts = teacher.parts(role)
        missing = {part: len(part) - count for part, count in parts}
        total, left = sum(map(len, missing)), sum(missing.values())
        if not total:
            continue
        part, seconds = max(missing, key=len), 0.0
        if left:
            texts = sample_texts(part, min(SAMPLE, len(part)))
            seconds = rate.seconds(left * facts.operations(texts, role))
            sampled.append(f"{len(texts)} of {total:,} {what}")
        known += total - left
        passes = rate.threads * CPU_TOKENS * 12 * facts.hidden * 4
        steps.append(encode_step(what, missing, teacher.store, facts.dimensions, passes, seconds, about=True))
    queries, documents, dimensions = rows or 0, teacher.corpus.num_candidates, facts.dimensions
    holds, writes = cpu_search_bytes(documents, dimensions, Sizes(), rate.threads)
    reads = documents * dimensions * teacher.store.dtype.itemsize
    seconds, amount = (
        rate.seconds(2 * queries * documents * dimensions),
        f"{queries:,} x {documents:,}, d = {dimensions}",
    )
    steps.append(Step("search on cpu", amount, reads, holds, writes, seconds, about=True))
    tokens = f"the tokens of {' and '.join(sampled)}, and from " if sampled else ""
    notes = [
        f"{teacher.name} was not loaded: times follow from {tokens}{USED * rate.one / 1e9:.0f} GFLOP/s",
        f"on each of {rate.threads} threads, {USED:.0%} of what a product of matrices reaches here, where no other program runs.",
    ]
    if known:
        notes.append(
            f"Stored already is what the manifests of the store name {teacher.name}: its weights were not compared."
        )
    return steps, notes
