"""Backends of a model's forward passes: torch, or OpenVINO, which is faster on some CPUs."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError, SlowComputeWarning
from hf_posmine.encoding.model_parts import OnBackend
from hf_posmine.utils.threads import least_seconds, one_torch_thread_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

Backend: TypeAlias = Literal["torch", "openvino"]
Compute: TypeAlias = Literal["float32", "bfloat16", "float16"]

PRECISIONS: dict[str, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
PRECISION = "INFERENCE_PRECISION_HINT"
SLOWER = 1.2
"""Products that take so many times as long as float32's are worth a warning; less is noise."""


def loading_options(backend: Backend, compute: Compute | None, device: str | None) -> dict[str, Any]:
    """Keyword arguments that load a SentenceTransformer on a backend, in a precision.

    Raises:
        InputError: an unknown backend or precision, or OpenVINO on a device other than the CPU.
        MissingExtraError: OpenVINO is not installed.
    """
    if compute is not None and compute not in get_args(Compute):
        raise InputError(f"compute={compute!r}; choose one of {', '.join(get_args(Compute))}")
    if backend not in get_args(Backend):
        raise InputError(f"backend={backend!r}; choose one of {', '.join(get_args(Backend))}")
    if backend == "torch":
        return {"device": device} | ({"model_kwargs": {"dtype": compute}} if compute else {})
    if device not in (None, "cpu"):
        raise InputError(f"backend='openvino' computes on the CPU, not on device={device!r}; leave one of them out")
    try:
        import openvino  # noqa: F401
        import optimum.intel  # noqa: F401
    except ImportError:
        raise MissingExtraError("backend='openvino'", "openvino") from None
    import torch

    # OpenVINO would take bfloat16 by itself where the processor has it, and a thread per core
    config = {PRECISION: PRECISIONS[compute or "float32"], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return {"device": "cpu", "backend": backend, "model_kwargs": {"ov_config": config}}


def warn_if_slow(compute: Compute) -> None:
    """Warn of a 16-bit type that this processor multiplies more slowly than float32, as those without AMX may."""
    share = product_share(compute)
    if share > SLOWER:
        warnings.warn(
            f"compute={compute!r}: this processor multiplies it in {share:.1f} times float32's time, so that embeddings take "
            "longer and are less precise; leave it out, or compute on a GPU",
            SlowComputeWarning,
            stacklevel=3,
        )


@functools.cache
def product_share(compute: Compute) -> float:
    """Time of a product in ``compute`` on the CPU as a share of float32's, measured once in some milliseconds."""
    import torch

    from hf_posmine.encoding.linear_layers import INPUTS, OUTPUTS, ROWS, inference

    def least(dtype: torch.dtype) -> float:
        states, weight = torch.ones((ROWS, INPUTS), dtype=dtype), torch.ones((OUTPUTS, INPUTS), dtype=dtype)
        with inference(states.device):
            return least_seconds(lambda: torch.nn.functional.linear(states, weight))

    with one_torch_thread_each(1) as pool:
        halves, float32 = (pool.submit(least, dtype).result() for dtype in (getattr(torch, compute), torch.float32))
    return halves / max(float32, 1e-9)


def check_device(device: str | None) -> None:
    """Refuse a device that torch does not have here, before it is asked to load a model there.

    Raises:
        InputError: no device by that name, or one that is absent.
    """
    import torch

    if device is None:
        return
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InputError(
            f"device={device!r} does not name a device of torch; choose one such as 'cpu', 'cuda' or 'cuda:1'"
        ) from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={device!r}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices here; leave the device "
            "out to use what there is, or install a build of torch for your GPU"
        )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(
            f"device={device!r}: torch does not find a GPU of Apple here; leave the device out to use what there is"
        )


def backend_of(model: object) -> str:
    """The backend of one of sentence-transformers' models."""
    return str(model.get_backend()) if isinstance(model, OnBackend) else "torch"


def describe_backend(model: SentenceTransformer) -> dict[str, str]:
    """Backend and precision for the record: empty for torch, else the arguments of :func:`loading_options`.

    Raises:
        InputError: a model under OpenVINO that leaves the precision to the processor, so that no record could repeat it.
    """
    if backend_of(model) != "openvino":
        return {}
    names, found = {short: name for name, short in PRECISIONS.items()}, _precision(model[0].auto_model)
    if found not in names:
        raise InputError(
            f"a model under OpenVINO with {PRECISION}={found} computes in what the processor has; load it with "
            "model_kwargs={'ov_config': {'INFERENCE_PRECISION_HINT': 'f32'}}, or name it and say backend='openvino'"
        )
    return {"backend": "openvino", "compute": names[found]}


def _precision(compiled: Any) -> str:
    return str((compiled.ov_config or {}).get(PRECISION))


def graph_of(model: SentenceTransformer) -> Iterator[bytes]:
    """All that decides what a model under OpenVINO computes: the operations in order, their constants, the precision.

    Two exports of the same weights give the same.
    """
    for module in model:
        compiled = getattr(module, "auto_model", None)
        if compiled is None:
            continue
        yield _precision(compiled).encode()
        for operation in compiled.model.get_ordered_ops():
            kind = operation.get_type_name()
            yield f"{kind} {[str(output.get_partial_shape()) for output in operation.outputs()]}".encode()
            if kind == "Constant":
                yield np.ascontiguousarray(operation.data).tobytes()
            else:
                yield repr(sorted((name, str(value)) for name, value in operation.get_attributes().items())).encode()
