"""A model's forward pass without gradients, on a CPU with the quicker of two libraries for its linear layers.

torch multiplies float32 on x86 by MKL, which computes at 0.45 of what an AMD processor with AVX-512 reaches; oneDNN, which torch
brings along for other types, reaches all of it. Which of them is quicker is measured once per process, in milliseconds. A row of
oneDNN's products does not depend on how many rows there are, but for a single one, which is therefore doubled: a vector depends
on its text alone, to the bit, as with MKL. The two differ by rounding (2e-7 in a vector of MiniLM).
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from hf_posmine.utils.threads import least_seconds, one_torch_thread_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROWS, INPUTS, OUTPUTS = 512, 384, 1536
"""A layer of MiniLM, by which the libraries are compared."""
WORTH = 0.8
"""oneDNN is taken where it needs at most so much of the time: where both are alike, nothing changes."""


@contextlib.contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """While entered, this thread computes no gradients, and linear layers of float32 on a CPU take the quicker library."""
    quicker = _LinearByOneDNN() if device.type == "cpu" and by_onednn() else contextlib.nullcontext()
    with torch.inference_mode(), quicker:
        yield


@functools.cache
def by_onednn() -> bool:
    """Whether linear layers are computed by oneDNN on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    states, weight = torch.ones((ROWS, INPUTS)), torch.ones((OUTPUTS, INPUTS))

    def least(product: Callable[..., torch.Tensor]) -> float:
        with torch.inference_mode():
            return least_seconds(lambda: product(states, weight))

    with one_torch_thread_each(1) as pool:
        try:
            ours, usual = (pool.submit(least, product).result() for product in (_onednn, torch.nn.functional.linear))
        except (RuntimeError, AttributeError):  # a private operator of torch: absent or refused on some builds
            return False
    return ours <= WORTH * usual


def _onednn(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """What ``torch.nn.functional.linear`` gives: ``[..., I]`` times ``[O, I]`` is ``[..., O]``, plus ``[O]``."""
    rows = states.reshape(-1, states.shape[-1])
    rows = rows if len(rows) > 1 else rows.repeat(2, 1)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product[: states.shape[:-1].numel()].view(*states.shape[:-1], len(weight))


class _LinearByOneDNN(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.nn.functional.linear and not kwargs and _is_plain(*args):
            return _onednn(*args)
        return func(*args, **(kwargs or {}))


def _is_plain(states: torch.Tensor, *parameters: torch.Tensor | None) -> bool:
    """Whether these are float32 on a CPU, not to be cast, and no class of their own, such as a quantised weight."""
    if torch.is_autocast_enabled("cpu"):
        return False
    tensors = [states, *(parameter for parameter in parameters if parameter is not None)]
    return states.numel() > 0 and all(
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        for tensor in tensors
    )
