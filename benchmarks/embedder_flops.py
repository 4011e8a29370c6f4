"""The operations of a Mistral on real tokens, as ``hf_posmine.models.cost`` counts them, and the rate of the device.

The base is frozen, so a step with LoRA is about 2 forward passes, not the 3 of full training.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from hf_posmine.models import ModelShape

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.embedder_task import Shape


def forward_flops(shape: Shape, lengths: np.ndarray, rank: int = 0) -> float:
    """Operations of a forward pass over rows of these lengths."""
    return _counted(shape, rank).forward(lengths)


def step_flops(shape: Shape, lengths: np.ndarray, rank: int) -> float:
    """Operations of a forward and a backward pass that trains adapters alone."""
    return _counted(shape, rank).step(lengths)


@functools.cache
def _counted(shape: Shape, rank: int) -> ModelShape:
    return ModelShape.of_config(shape.config(), lora_rank=rank or None)


def matrix_rate(device: str, size: int) -> float:
    """Operations a second of a bfloat16 product ``[size, size]``: the best of five times ten in a row."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    seconds = []
    for _ in range(5):
        start = clock(device)
        for _ in range(10):
            a @ b
        seconds.append((clock(device) - start) / 10)
    return 2 * size**3 / min(seconds)


def clock(device: str) -> float:
    """Seconds, once the device has done what it was given."""
    import torch

    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
