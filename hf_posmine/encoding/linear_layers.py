"""Linear layers on a CPU by the quicker of two libraries, in forward passes of models and in training.

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
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from hf_posmine.utils.threads import least_seconds, one_torch_thread_each
from hf_posmine.utils.upstream import onednn_linear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor
    from torch.autograd.function import BackwardCFunction, FunctionCtx

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


@contextlib.contextmanager
def quicker_training(model: torch.nn.Module) -> Iterator[None]:
    """While entered, the linear layers of a model take the quicker library for float32 on a CPU, and so do their gradients.

    Unlike in :func:`inference` the layers are changed, since a backward pass runs some of them again (GradCache, gradient
    checkpointing), where torch has no such modes.
    """
    layers = [layer for layer in model.modules() if type(layer) is torch.nn.Linear and "forward" not in vars(layer)]
    ours = {layer: functools.partial(_forward, layer) for layer in layers} if by_onednn() else {}
    for layer, forward in ours.items():
        layer.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, forward in ours.items():
            if vars(layer).get("forward") is forward:  # nobody else has changed it since
                del layer.forward


@functools.cache
def by_onednn() -> bool:
    """Whether linear layers are computed by oneDNN on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    states, weight = torch.ones((ROWS, INPUTS)), torch.ones((OUTPUTS, INPUTS))

    def least(product: Callable[..., Tensor]) -> float:
        with torch.inference_mode():
            return least_seconds(lambda: product(states, weight))

    with one_torch_thread_each(1) as pool:
        try:
            ours, usual = (pool.submit(least, product).result() for product in (_onednn, torch.nn.functional.linear))
        except (RuntimeError, AttributeError):  # a private operator of torch: absent or refused on some builds
            return False
    return ours <= WORTH * usual


def _onednn(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What ``torch.nn.functional.linear`` gives: ``[..., I]`` times ``[O, I]`` is ``[..., O]``, plus ``[O]``; no gradients."""
    rows = states.reshape(-1, states.shape[-1])
    rows = rows if len(rows) > 1 else rows.repeat(2, 1)
    product = onednn_linear(rows, weight, bias)
    return product[: states.shape[:-1].numel()].view(*states.shape[:-1], len(weight))


class _WithGradients(torch.autograd.Function):
    """:func:`_onednn` with gradients, which are products of the same kind."""

    @staticmethod
    def forward(ctx: FunctionCtx, states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(states, weight)
        return _onednn(states, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        rows, inputs = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (gradient, states))
        of_states, of_weight, of_bias = ctx.needs_input_grad
        return (
            _onednn(gradient, weight.t()) if of_states else None,
            _onednn(rows.t(), inputs.t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class _LinearByOneDNN(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear:
            func = _linear
        return func(*args, **(kwargs or {}))


def _forward(layer: torch.nn.Linear, states: Tensor) -> Tensor:
    return _linear(states, layer.weight, layer.bias)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _is_plain(input, weight, bias):
        return _WithGradients.apply(input, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return torch.nn.functional.linear(input, weight, bias)


def _is_plain(states: Tensor, *parameters: Tensor | None) -> bool:
    """Whether these are float32 on a CPU, not to be cast or compiled, and no class of their own, such as a quantised weight."""
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    tensors = [states, *(parameter for parameter in parameters if parameter is not None)]
    return states.numel() > 0 and all(
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        for tensor in tensors
    )
