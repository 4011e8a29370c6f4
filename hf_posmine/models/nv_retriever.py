"""The published NV-Retriever-v1: Mistral's weights under another wrapper's names, and its card's prompts.

The weights are gated and their code is not public; what is known is the model card (its prompts), the architecture
(Mistral-7B, bidirectional, masked mean pooling: paper, section 3) and that Mistral's parameter names are Mistral's. So
names are matched by their end, and one that does not match is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.models.bidirectional import bidirectional_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PretrainedConfig

    from hf_posmine.models.instruct import InstructSentenceTransformer

PREFIXES = ("", "model.", "embedding_model.", "base_model.model.", "embedding_model.model.", "base_model.model.model.")
"""Wrappers' names before Mistral's own, as NV-Embed, GritLM and peft have them."""

QUERY_PROMPT = "Given a web search query, retrieve relevant passages that answer the query:  "
DOCUMENT_PROMPT = "passage:  "
"""The card joins prefix and text by one more space. It prefixes documents too, though the paper prefixes queries only."""

LORA_SCALE = 32 / 16
"""alpha / rank of the paper (Table 10), for a checkpoint with unmerged adapters."""


def load_nv_retriever(
    path_or_id: str | Path, *, dtype: str | torch.dtype = "bfloat16", device: str | None = None, **options: Any
) -> InstructSentenceTransformer:
    """The published checkpoint as an embedder with its card's prompts.

    Args:
        path_or_id: a folder, or a Hub id such as ``nvidia/NV-Retriever-v1`` (gated: log in and accept its terms).
        dtype: of the weights.
        device: where to put it.
        options: as for :func:`~hf_posmine.models.bidirectional.bidirectional_encoder`.

    Raises:
        InputError: no safetensors, no Mistral configuration, or weights that do not match it one to one.
    """
    folder = _folder(path_or_id)
    model = bidirectional_encoder(
        _mistral_config(folder),
        tokenizer=folder,
        document_prompt=DOCUMENT_PROMPT,
        dtype=dtype,
        device=device,
        **options,
    )
    model.prompts["query"] = QUERY_PROMPT
    _fill(model[0].model, folder)
    return model


def _folder(path_or_id: str | Path) -> Path:
    if Path(path_or_id).is_dir():
        return Path(path_or_id)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(path_or_id), allow_patterns=["*.json", "*.safetensors", "tokenizer*"]))


def _mistral_config(folder: Path) -> PretrainedConfig:
    from transformers import MistralConfig

    config = json.loads((folder / "config.json").read_text("utf8"))
    config = config.get("text_config") or config
    known = {*MistralConfig().to_dict(), "rope_theta", "rope_scaling"} - {"model_type"}
    fields = {name: value for name, value in config.items() if name in known}
    if "hidden_size" not in fields:
        raise InputError(
            f"{folder / 'config.json'} has no hidden_size, so it is not Mistral's; its keys are {sorted(config)}"
        )
    return MistralConfig(**{**fields, "architectures": ["MistralModel"]})


def _fill(backbone: torch.nn.Module, folder: Path) -> None:
    """Put every weight of the checkpoint where it belongs.

    Raises:
        InputError: a weight without a place, or a place without a weight.
    """
    wanted = dict(backbone.named_parameters())
    adapters: dict[str, torch.Tensor] = {}
    filled, strange = set(), []
    for name, tensor in _weights(folder):
        short = _own_name(name.replace(".base_layer.", "."), wanted)
        if short is not None:
            if wanted[short].shape != tensor.shape:
                raise InputError(
                    f"weight {name!r} is {tuple(tensor.shape)}, but its place is {tuple(wanted[short].shape)}"
                )
            wanted[short].data.copy_(tensor)
            filled.add(short)
        elif ".lora_A." in name or ".lora_B." in name:
            adapters[name] = tensor
        else:
            strange.append(name)
    missing = sorted(set(wanted) - filled)
    if strange or missing:
        raise InputError(
            f"{folder} does not hold a Mistral's weights: {len(strange)} have no place (first {strange[:2]}), "
            f"{len(missing)} places have none (first {missing[:2]}); known prefixes are {PREFIXES}"
        )
    _add_adapters(wanted, adapters)


def _own_name(name: str, wanted: dict[str, Any]) -> str | None:
    shorts = (name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
    return next((short for short in shorts if short in wanted), None)


def _weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text("utf8"))["weight_map"].values()))
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} has no safetensors file")
    for file in files:
        with safe_open(folder / file, framework="pt") as shard:
            for name in shard.keys():
                yield name, shard.get_tensor(name)


def _add_adapters(wanted: dict[str, torch.Tensor], adapters: dict[str, torch.Tensor]) -> None:
    for name in adapters:
        down, up = name.replace(".lora_B.", ".lora_A."), name.replace(".lora_A.", ".lora_B.")
        place = _own_name(down.split(".lora_A.")[0] + ".weight", wanted)
        if place is None or not {down, up} <= set(adapters):
            raise InputError(f"adapter weight {name!r} has no partner or no place")
        if name == down:
            change = LORA_SCALE * (adapters[up].float() @ adapters[down].float())
            wanted[place].data += change.to(wanted[place])
