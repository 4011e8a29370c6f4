"""The estimate of a mining job before it starts: what it reads, holds in memory and writes, and how long it takes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution.steps import (
    LIBRARIES,
    WHAT,
    Step,
    cpu_search_bytes,
    encode_step,
    plan_unloaded,
    sample_texts,
    text_bytes,
)
from hf_posmine.search.block_sizes import Sizes, TorchSizes
from hf_posmine.search.compiling import compiling
from hf_posmine.search.exact import ExactIndex
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.unloaded import UnloadedTeacher
from hf_posmine.utils.memory import Budget, ask_size, own_memory, show_size
from hf_posmine.utils.node import show_duration
from hf_posmine.utils.tables import table_text
from hf_posmine.utils.threads import num_threads

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
        about = {step: "about " * step.about for step in self.steps}
        for step, mark in about.items():
            reads, writes = (show_size(size) if size else "" for size in (step.reads, step.writes))
            holds = mark + show_size(step.holds) if step.holds else ""
            table.add_row(step.name, step.amount, reads, holds, writes, _takes(mark, step.seconds))
        table.add_section()
        limit, mark = (
            "" if self.limit is None else f"of {show_size(self.limit)} allowed",
            max(about.values(), default=""),
        )
        holds, takes = mark + show_size(self.holds), _takes(mark, self.seconds)
        table.add_row("in all", limit, "", holds, show_size(self.writes), takes)
        lines = [
            table_text(table, width=110),
            f"The program and its model {'will ' * bool(mark)}hold {mark}{show_size(self.program)} of that"
            f"{'' if mark else ' already'}. Maps of files are not counted: the system takes them back.",
            f"{self.place} has {show_size(self.free)} free.",
            *self.notes,
        ]
        return "\n".join(lines)


def _takes(mark: str, seconds: float | None) -> str:
    """A duration, with its mark unless it is a bound or unknown."""
    shown = show_duration(seconds)
    return mark + shown if shown and not shown.startswith("under") else shown


def plan_mining(miner: PositiveAwareMiner, rows: int | None, *, batch_size: int | None = None) -> JobEstimate:
    """Plan a job: count what is to be done, and try a second of each kind of work.

    Args:
        miner: not prepared yet; what its stores hold already is not counted again.
        rows: of the dataset, None where a stream does not say.
        batch_size: rows per step, by default what suits this machine.

    Raises:
        InputError: a memory limit that is too small.
    """
    budget, steps, notes, place, program = Budget.current(), [], [], None, 0
    for name, teacher in zip(miner.teacher_names, miner.teachers, strict=True):
        if not isinstance(teacher, DenseTeacher):
            steps.append(Step(f"search by {name}", "", seconds=None))
            notes.append(f"What {name} takes is not estimated: it is not a dense teacher.")
            continue
        if isinstance(teacher, UnloadedTeacher):
            found, lines = plan_unloaded(teacher, rows)
            place, program = teacher.store.root, max(program, LIBRARIES) + teacher.facts.size
            notes += lines
        else:
            place = teacher.embeddings.store.root
            found, dimensions = _encoding(teacher)
            found.append(_searching(teacher, dimensions, rows, budget))
        steps += found
        if teacher.approximate is not None:
            notes.append(f"The time of {teacher.approximate!r} is not known: an exact search would take what is shown.")
    if miner.second_opinion is not None:
        notes.append("What the second opinion takes is not estimated.")
    steps.append(_writing(miner, rows))
    place = _existing(place or Path.cwd())
    return JobEstimate(
        tuple(steps),
        max(program, own_memory()),
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
    return int(np.clip(Sizes.queries * num_threads(), LEAST_BATCH, MOST_BATCH))


def _encoding(teacher: DenseTeacher) -> tuple[list[Step], int]:
    """A step for documents and one for queries, by the rate of a sample; and the dimensions of their vectors."""
    steps, dimensions, stored = [], 0, teacher.embeddings
    for role, what in WHAT.items():
        parts = [part for its, part in stored.parts() if its == role]
        missing = {part: stored.missing(role, part) for part in parts}
        left = sum(missing.values())
        if not sum(map(len, parts)):
            continue
        before = own_memory()
        seconds, dimensions = _encode_sample(teacher, role, max(parts, key=len), PROBE_SECONDS if left else 0)
        grown = max(0, own_memory() - before)
        steps.append(encode_step(what, missing, stored.store, dimensions, grown, left * seconds, about=False))
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
    return teacher.model.encoder.encode(sample_texts(part, count), role)


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
        holds, writes = cpu_search_bytes(documents, dimensions, sizes, threads)
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
    text = sum(map(text_bytes, corpus.parts)) // max(1, len(corpus))
    size = text * (miner.settings.num_negatives + 1) + 16 * miner.settings.num_negatives + 200
    return Step("write rows", f"{count:,} rows", writes=2 * count * size, seconds=count * ROW_SECONDS)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path
