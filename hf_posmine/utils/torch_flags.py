"""Switches of torch that trade precision for speed in the whole process, off where a proof needs them off."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTCUTS = (
    "allow_fp16_accumulation",
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
)


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 summed in float32 on every device, whichever of torch's two interfaces switched something else on.

    From torch 2.9 on ``fp32_precision`` decides; the older ``allow_tf32`` cannot even be read where both were used, as by
    ``tf32: true`` of a training stage. ``set_float32_matmul_precision("medium")`` reaches CPUs, too: their products are
    then rounded to bfloat16.
    """
    import torch

    matmul = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [(matmul, name, False) for name in SHORTCUTS if hasattr(matmul, name)]
    by_module = hasattr(matmul, "fp32_precision")
    if by_module:
        switches += [(module, "fp32_precision", "ieee") for module in (matmul, torch.backends.mkldnn.matmul)]
    before = [(module, name, getattr(module, name)) for module, name, _ in switches]
    legacy = None if by_module else torch.get_float32_matmul_precision()
    try:
        for module, name, value in switches:
            setattr(module, name, value)
        if legacy is not None:
            torch.set_float32_matmul_precision("highest")
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        if legacy is not None:
            torch.set_float32_matmul_precision(legacy)
