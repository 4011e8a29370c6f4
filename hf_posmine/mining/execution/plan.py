"""The estimate of a mining job before it starts: what it reads, holds in memory and writes, and how long it takes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.search.block_sizes import Sizes, TorchSizes
from hf_posmine.search.compiling import compiling
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.prepared import row_bytes
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.utils.memory import Budget, ask_size, own_memory, show_size
from hf_posmine.utils.node import show_duration
from hf_posmine.utils.tables import table_text

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Role
    from hf_posmine.mining.miner import PositiveAwareMiner

PROBE_SECONDS = 1.0
PROBE_DOCUMENTS = (4096, 16_384)
ROW_SECONDS = 1e-5
"""Of everything around the search, per row (docs/benchmarks/mining-triplet.md)."""
LONG_SECONDS = 120
LEAST_BATCH, MOST_BATCH = 1000, 5000


@dataclass(frozen=True)
class Step:
    """One part of a job: bytes it reads, holds (of its own, at most) and writes, and seconds if they were estimated."""

    name: str
    amount: str
    reads: int = 0
    holds: int = 0
    writes: int = 0
    seconds: float | None = 0.0


@dataclass(frozen=True)
class JobEstimate:
    """A job before it starts; ``str(plan)`` is a table.

    Attributes:
        steps: one after the other.
        program: bytes that the program and its models hold already.
        limit: bytes of memory it may take, None for no limit.
        free: bytes free on the disk that is written to.
        place: where most is written.
        batch_size: rows per step of the miner that suit this machine.
        notes: what the figures leave out.
    """

    steps: tuple[Step, ...]
    program: int
    limit: int | None
    free: int
    place: str
    batch_size: int
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> int:
        """Bytes of memory at the dearest step, the program included."""
        return self.program + max((step.holds for step in self.steps), default=0)

    @property
    def writes(self) -> int:
        """Bytes written to disk."""
        return sum(step.writes for step in self.steps)

    @property
    def seconds(self) -> float:
        """Of all steps that were estimated."""
        return sum(step.seconds or 0.0 for step in self.steps)

    def check(self) -> JobEstimate:
        """The plan, if disk and memory suffice.

        Raises:
            InputError: what is missing, and how much.
        """
        if self.writes > self.free:
            raise InputError(
                f"the job writes about {show_size(self.writes)} and {self.place} has {show_size(self.free)} left; free some, "
                "choose another disk with --store, or halve the embeddings with --dtype float16"
            )
        if self.limit is not None and self.holds > self.limit:
            raise InputError(
                f"the job needs about {show_size(self.holds)} of memory, of which the program and its model take "
                f"{show_size(self.program)}, and {show_size(self.limit)} are allowed; allow {ask_size(1.1 * self.holds)}"
            )
        return self

    def short(self) -> str:
        """The plan in a line."""
        parts = [
            f"{step.name} {step.amount} ({show_duration(step.seconds)})" for step in self.steps if step.seconds != 0
        ]
        return f"Plan: {'; '.join(parts)}; {show_size(self.holds)} of memory, {show_size(self.writes)} of disk"

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(title="Plan", title_justify="left")
        table.add_column("step")
        table.add_column("")
        for name in ("reads", "holds", "writes", "takes"):
            table.add_column(name, justify="right")
        for step in self.steps:
            sizes = [show_size(size) if size else "" for size in (step.reads, step.holds, step.writes)]
            table.add_row(step.name, step.amount, *sizes, show_duration(step.seconds))
        table.add_section()
        limit = "" if self.limit is None else f"of {show_size(self.limit)} allowed"
        table.add_row("in all", limit, "", show_size(self.holds), show_size(self.writes), show_duration(self.seconds))
        lines = [
            table_text(table, width=100),
            f"The program and its model hold {show_size(self.program)} of that already. Maps of files are not counted: the "
            "system takes them back.",
            f"{self.place} has {show_size(self.free)} free.",
            *self.notes,
        ]
        return "\n".join(lines)


def plan_mining(miner: PositiveAwareMiner, rows: int | None, *, batch_size: int | None = None) -> JobEstimate:
    """Plan a job: count what is to be done, and try a second of each kind of work.

    Args:
        miner: not prepared yet; what its stores hold already is not counted again.
        rows: of the dataset, None where a stream does not say.
        batch_size: rows per step, by default what suits this machine.

    Raises:
        InputError: a memory limit that is too small.
    """
    budget, steps, notes, place = Budget.current(), [], [], None
    for name, teacher in zip(miner.teacher_names, miner.teachers, strict=True):
        if not isinstance(teacher, DenseTeacher):
            steps.append(Step(f"search by {name}", "", seconds=None))
            notes.append(f"What {name} takes is not estimated: it is not a dense teacher.")
            continue
        place = teacher.embeddings.store.root
        found, dimensions = _encoding(teacher)
        steps += [*found, _searching(teacher, dimensions, rows, budget)]
        if teacher.approximate is not None:
            notes.append(f"The time of {teacher.approximate!r} is not known: an exact search would take what is shown.")
    if miner.second_opinion is not None:
        notes.append("What the second opinion takes is not estimated.")
    steps.append(_writing(miner, rows))
    place = _existing(place or Path.cwd())
    return JobEstimate(
        tuple(steps),
        own_memory(),
        budget.memory,
        shutil.disk_usage(place).free,
        str(place),
        batch_size or suited_batch(),
        tuple(
            notes if rows is not None else [*notes, "The stream does not say how many rows it has: none are counted."]
        ),
    )


def suited_batch() -> int:
    """Rows per step that give every core a whole span of queries."""
    import torch

    return int(np.clip(Sizes.queries * torch.get_num_threads(), LEAST_BATCH, MOST_BATCH))


def _encoding(teacher: DenseTeacher) -> tuple[list[Step], int]:
    """A step for documents and one for queries, by the rate of a sample; and the dimensions of their vectors."""
    steps, dimensions, stored = [], 0, teacher.embeddings
    roles: tuple[tuple[Role, str], ...] = (("document", "documents"), ("query", "queries"))
    for role, what in roles:
        parts = [part for its, part in stored.parts() if its == role]
        missing = {part: stored.missing(role, part) for part in parts}
        total, left = sum(map(len, parts)), sum(missing.values())
        if not total:
            continue
        before = own_memory()
        seconds, dimensions = _encode_sample(teacher, role, max(parts, key=len), PROBE_SECONDS if left else 0)
        grown, itemsize = max(0, own_memory() - before), stored.store.dtype.itemsize
        rows = min(total, stored.store.shard_rows)
        amount = f"{left:,} {what}" + (f" ({total - left:,} stored already)" if left < total else "")
        steps.append(
            Step(
                "encode",
                amount,
                reads=sum(_bytes(part) * count // max(1, len(part)) for part, count in missing.items()),
                holds=grown + 8 * rows * dimensions,
                writes=left * dimensions * itemsize,
                seconds=left * seconds,
            )
        )
    return steps, dimensions


def _encode_sample(teacher: DenseTeacher, role: Role, part: TextPart, seconds: float) -> tuple[float, int]:
    """Seconds per text, of texts from all over the part; and the dimensions."""
    size = 16
    dimensions = int(_encode(teacher, role, part, 2).shape[1])
    while True:
        start = time.perf_counter()
        count = len(_encode(teacher, role, part, min(size, len(part))))
        spent = time.perf_counter() - start
        if spent >= seconds / 2 or count == len(part):
            return spent / count, dimensions
        size *= 4


def _encode(teacher: DenseTeacher, role: Role, part: TextPart, count: int) -> Floats:
    rows = np.linspace(0, len(part) - 1, count).astype(np.int64)
    return teacher.model.encoder.encode(part.take("text", rows).to_pylist(), role)


def _searching(teacher: DenseTeacher, dimensions: int, rows: int | None, budget: Budget) -> Step:
    """The search, by the time of searching random vectors on the device it will run on."""
    import torch

    documents, device = teacher.corpus.num_candidates, teacher.search_device
    queries = rows or 0
    with compiling(queries * documents):
        pass  # a large job is searched with compiled loops, so they are what is tried
    fixed, per_document, prepared = _search_sample(teacher, dimensions, device)
    if device == "cpu":
        sizes, threads = Sizes.fit(budget, dimensions, torch.get_num_threads()), torch.get_num_threads()
        columns = documents * row_bytes(dimensions, int8=True)
        holds = sizes.per_thread(dimensions) * threads + (columns if columns <= sizes.held else 0)
        writes = columns if columns > sizes.held else 0
    else:
        holds, writes = Sizes().per_thread(dimensions), 0
        if device.startswith("cuda"):
            TorchSizes.of_gpu(budget, device, dimensions)
    return Step(
        f"search on {device}",
        f"{queries:,} x {documents:,}, d = {dimensions}",
        reads=documents * dimensions * teacher.embeddings.store.dtype.itemsize,
        holds=holds,
        writes=writes,
        seconds=queries * (fixed + documents * per_document) + documents * prepared,
    )


def _search_sample(teacher: DenseTeacher, dimensions: int, device: str) -> tuple[float, float, float]:
    """Seconds per query, per query and document, and per document once, of random vectors."""
    import torch

    rng = np.random.default_rng(0)
    queries = rng.standard_normal((Sizes.queries * torch.get_num_threads(), dimensions), np.float32)
    taken, first = [], 0.0
    for number in (PROBE_DOCUMENTS[0], *PROBE_DOCUMENTS):  # the first time compiles
        index = ExactIndex(
            rng.standard_normal((number, dimensions), np.float32),
            teacher.similarity,
            device=device,
            engine=teacher.engine,
        )
        spent = [_seconds(index, queries) for _ in range(3)]
        taken.append(min(spent) / len(queries))
        first = max(0.0, spent[0] - min(spent)) / number
    per_document = max(0.0, taken[2] - taken[1]) / (PROBE_DOCUMENTS[1] - PROBE_DOCUMENTS[0])
    return max(0.0, taken[1] - PROBE_DOCUMENTS[0] * per_document), per_document, first


def _seconds(index: ExactIndex, queries: Floats) -> float:
    start = time.perf_counter()
    index.search(queries, 4)
    return time.perf_counter() - start


def _writing(miner: PositiveAwareMiner, rows: int | None) -> Step:
    """The mined rows: a query, a positive and the negatives, as long as the corpus's texts are on average."""
    corpus, count = miner.corpus, rows or 0
    text = sum(map(_bytes, corpus.parts)) // max(1, len(corpus))
    size = text * (miner.settings.num_negatives + 1) + 16 * miner.settings.num_negatives + 200
    return Step("write rows", f"{count:,} rows", writes=2 * count * size, seconds=count * ROW_SECONDS)


def _bytes(part: TextPart) -> int:
    return (part.path / "texts.arrow").stat().st_size


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path
