"""Batches of texts and how they run: without padding on a CPU, one thread per forward pass.

On a CPU a batch holds only texts of one token length, and each forward pass runs on one thread while several passes run
side by side. What a model makes of a text then depends on that text alone, not on its neighbours or on the number of
threads. On an accelerator, batches are sorted by length and padded, and the last bits may move with the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hf_posmine.utils.threads import one_thread, one_torch_thread_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import torch

    from hf_posmine.core.types import Floats, Rows

CPU_TOKENS, ACCELERATOR_TOKENS = 1024, 16_384
LEAST_TOKENS = 16
"""Products of fewer rows take another path, whose last bits differ."""

Features = TypeVar("Features")


def plan_batches(lengths: Rows, *, on_cpu: bool, tokens: int | None = None) -> Iterator[Rows]:
    """Batches of rows, longest first: of one length on a CPU, near lengths elsewhere, within the token budget.

    Args:
        lengths: int64 ``[m]``, tokens of each text.
        on_cpu: whether the model computes on a CPU.
        tokens: per batch, padding included; by default 1,024 on a CPU and 16,384 elsewhere.
    """
    budget = tokens or (CPU_TOKENS if on_cpu else ACCELERATOR_TOKENS)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        stop = min(len(order), start + max(1, budget // longest))
        if on_cpu:
            stop = start + int(np.searchsorted(-lengths[order[start:stop]], -longest, side="right"))
        yield order[start:stop]
        start = stop


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the device of a model; to CUDA from pinned memory, so that the copy does not hold up this thread."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def run_batches(
    batches: Iterable[Rows],
    features: Callable[[Rows], Features],
    forward: Callable[[Features], Floats],
    *,
    side_by_side: bool,
) -> Iterator[tuple[Rows, Floats]]:
    """Every batch with what the model makes of it: the next ones are tokenised while some are run on other threads.

    Args:
        batches: rows of each.
        features: what the model reads of them.
        forward: its pass.
        side_by_side: run as many passes at a time as torch has threads, each on one; else one pass at a time, which
            computes on an accelerator, or with threads of its own.
    """
    import torch

    workers = torch.get_num_threads() if side_by_side else 1
    if side_by_side and workers == 1:
        for rows in batches:
            yield rows, forward(features(rows))
        return
    with one_torch_thread_each(workers) if side_by_side else one_thread() as pool:
        pending: list[tuple[Rows, Future[Floats]]] = []
        for rows in batches:
            pending.append((rows, pool.submit(forward, features(rows))))
            while len(pending) > 2 * workers:
                ready, future = pending.pop(0)
                yield ready, future.result()
        for ready, future in pending:
            yield ready, future.result()
