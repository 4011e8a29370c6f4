"""The floating-point operations of a Mistral, and the rate of the device.

The operations are those of the model, of real tokens, counted from its shape. With P weights in the linear
layers of the backbone (embeddings are looked up, not multiplied), A weights in the adapters, T real tokens of rows of
length L, and H = heads x head size, a product of [m, k] and [k, n] being 2mkn operations:

- forward = 2 (P + A) T + 4 layers H sum(L^2): each weight takes part in one multiplication and one addition a token;
  attention has two products, queries with keys and weights with values, 2 L^2 H each, and no causal half to leave out.
- backward of a linear layer has two products of the forward's size: gradients of its input (to go on downwards) and of
  its weights. The base is frozen, so its weights need none: 2 P T. Adapters need both: 4 A T. Attention has two inputs
  to each of its two products, so four products: 8 layers H sum(L^2).
- step = forward + backward = (4 P + 6 A) T + 12 layers H sum(L^2): with LoRA about 2 forwards, not the 3 of full training.

The lowest layer's input needs no gradient, which is not left out (below 0.4 % at 7B). Pooling, norms, rotary embedding,
softmax and the loss are not counted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.embedder_task import Shape


def forward_flops(shape: Shape, lengths: np.ndarray, rank: int = 0) -> float:
    """Operations of a forward pass over rows of these lengths; see the module."""
    base, adapters = weights(shape, rank)
    return 2 * (base + adapters) * float(lengths.sum()) + 4 * _attention(shape, lengths)


def step_flops(shape: Shape, lengths: np.ndarray, rank: int) -> float:
    """Operations of a forward and a backward pass that trains adapters alone; see the module."""
    base, adapters = weights(shape, rank)
    return (4 * base + 6 * adapters) * float(lengths.sum()) + 12 * _attention(shape, lengths)


def weights(shape: Shape, rank: int) -> tuple[int, int]:
    """Weights in the linear layers of the backbone, and in adapters on all of them."""
    keys = shape.hidden // shape.heads * shape.key_heads
    linear = [(shape.hidden, shape.hidden)] * 2 + [(shape.hidden, keys)] * 2 + [(shape.hidden, shape.inner)] * 3
    return shape.layers * sum(i * o for i, o in linear), shape.layers * rank * sum(i + o for i, o in linear)


def _attention(shape: Shape, lengths: np.ndarray) -> float:
    return shape.layers * shape.hidden * float((lengths.astype(float) ** 2).sum())


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
