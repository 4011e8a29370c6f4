"""The plan that a command prints before it works, and the limits of its memory."""

from __future__ import annotations

import os
from collections.abc import Sized
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import teacher_names
from hf_posmine.cli.early import settings_of
from hf_posmine.cli.show import show
from hf_posmine.core.filters import by_position
from hf_posmine.teachers.spellings import Dense, as_teacher_spec
from hf_posmine.utils import memory
from hf_posmine.utils.node import has_accelerator

if TYPE_CHECKING:
    import argparse

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.execution.plan import JobEstimate
    from hf_posmine.mining.miner import PositiveAwareMiner

LONG_TEXTS, LONG_PAIRS = 5000, 10**10
"""Texts to encode, or query-document pairs to search, from which on a job is tried out before it starts."""


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The plan and the limits of memory."""
    group = parser.add_argument_group("plan and memory")
    group.add_argument(
        "--plan",
        action="store_true",
        help="print what would be read, held and written and how long it would take, and stop",
    )
    group.add_argument(
        "--max-memory", metavar="SIZE", help="memory of each process, such as 4GiB; does not change the result"
    )
    group.add_argument("--max-gpu-memory", metavar="SIZE", help="GPU memory of each process, such as 40GiB")


def set_limits(args: argparse.Namespace) -> None:
    """Set the limits for everything that runs in this process and its workers."""
    for option, variable in (("max_memory", memory.MEMORY), ("max_gpu_memory", memory.GPU_MEMORY)):
        size = vars(args)[option]
        if size is not None:
            memory.parse_size(size, f"--{option.replace('_', '-')}")
            os.environ[variable] = size


def announce(miner: PositiveAwareMiner, rows: AnyDataset, batch_size: int) -> None:
    """Print the plan of a long job in a line, and refuse one for which memory or disk do not suffice."""
    import torch

    from hf_posmine.search.block_sizes import Sizes
    from hf_posmine.teachers.capabilities import StoredInShards

    Sizes.fit(memory.Budget.current(), 1, torch.get_num_threads())  # no hours of encoding before that fails
    count = len(rows) if isinstance(rows, Sized) else None
    stored = [teacher.stored_shards() for teacher in miner.teachers if isinstance(teacher, StoredInShards)]
    texts = sum(len(part) for shards in stored for _, part in shards.parts())
    if texts < LONG_TEXTS and (count or 0) * len(miner.corpus) < LONG_PAIRS:
        return
    from hf_posmine.mining.execution.plan import LONG_SECONDS

    plan = make_plan(miner, rows, batch_size).check()
    if plan.seconds > LONG_SECONDS:
        show(plan.short())


def may_stay_unloaded(args: argparse.Namespace) -> bool:
    """Whether a plan may do without weights: dense teachers, by torch in float32 on a CPU, in no less memory than they like."""
    dense = [isinstance(as_teacher_spec(name), Dense) for name in teacher_names(args)]
    placed = by_position(settings_of(args).all_filters if args.filters is not None else ())
    on_cpu = args.device == "cpu" or (args.device is None and not has_accelerator())
    usual = args.compute is None and args.backend in (None, "torch") and args.second_opinion is None
    return all(dense) and on_cpu and usual and not placed and memory.Budget.current().memory is None


def make_plan(miner: PositiveAwareMiner, rows: AnyDataset, batch_size: int | None) -> JobEstimate:
    """The plan of mining ``rows``, which may be a stream or a dict of splits."""
    from hf_posmine.mining.execution.plan import plan_mining

    splits = list(rows.values()) if isinstance(rows, dict) else [rows]
    known = all(isinstance(split, Sized) for split in splits)
    return plan_mining(miner, sum(map(len, splits)) if known else None, batch_size=batch_size)
