"""The content of a model as one digest: weights, modules' configuration, tokenizer, maximum length and dtype."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import xxhash

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.backends import Backend, backend_of, graph_of
from hf_posmine.encoding.model_parts import ModelParts, NativeModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase


def is_native(model: object) -> bool:
    """Whether a model is one of sentence-transformers' own, whose batches are ours to plan."""
    return isinstance(model, NativeModel)


def model_digest(model: SentenceTransformer) -> str:
    """Digest of a SentenceTransformer, SparseEncoder, CrossEncoder and so on.

    Raises:
        InputError: a model whose weights cannot be read.
    """
    backend = backend_of(model)
    if not is_native(model) or backend not in get_args(Backend):
        what = f"has the backend {backend!r}" if is_native(model) else "is not a SentenceTransformer"
        raise InputError(
            f"{type(model).__name__} {what}, so its weights cannot be digested; pass "
            "fingerprint= with a string that changes whenever its vectors would"
        )
    digest = xxhash.xxh3_128()
    for piece in graph_of(model) if backend == "openvino" else _weights(model):
        digest.update(piece)
    digest.update(json.dumps(_modules(model), sort_keys=True, default=str).encode())
    digest.update(_tokenizer_description(model.tokenizer).encode())
    digest.update(_image_processor(model))
    return digest.hexdigest()


def _weights(model: torch.nn.Module) -> Iterator[bytes | memoryview]:
    for name, tensor in sorted(model.state_dict().items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield _tensor_bytes(tensor)


def _modules(model: SentenceTransformer) -> list[Any]:
    described: list[Any] = [model.max_seq_length]
    for module in model:
        config = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
        backbone = getattr(getattr(module, "auto_model", None), "config", None)
        inner = backbone.to_dict() if backbone is not None else {}
        inner = {k: v for k, v in inner.items() if k not in ("_name_or_path", "transformers_version", "_commit_hash")}
        described.append([type(module).__qualname__, config, inner])
    return described


def _tokenizer_description(tokenizer: PreTrainedTokenizerBase) -> str:
    """The state of a tokenizer without truncation and padding, which change with use."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return repr(type(tokenizer))
    described = json.loads(backend.to_str())
    return json.dumps({k: v for k, v in described.items() if k not in ("truncation", "padding")}, sort_keys=True)


def _image_processor(model: SentenceTransformer) -> bytes:
    """How a model that reads images crops and scales them; nothing for others."""
    processor = ModelParts.of(model).image_processor
    return b"" if processor is None else json.dumps(processor.to_dict(), sort_keys=True, default=str).encode()


def _tensor_bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return memoryview(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
