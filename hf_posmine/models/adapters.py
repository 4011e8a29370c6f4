"""LoRA adapters of a backbone: added, restored from a folder in the dtype they were saved in, and merged.

peft gives loaded adapters the dtype of the base, and bfloat16 keeps 8 of the 24 bits they were trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel

PAPER_LORA = {"r": 16, "lora_alpha": 32}
"""Rank and alpha of the paper (Table 10); it names neither dropout nor target modules."""

NAME = "default"
"""The name of the one adapter that a backbone of ours has."""

SAVED_PREFIX = "base_model.model."


def as_lora_config(lora: LoraConfig | Mapping[str, Any]) -> LoraConfig:
    """A configuration of adapters; missing arguments are the paper's, on all linear layers."""
    from peft import LoraConfig

    if isinstance(lora, LoraConfig):
        return lora
    return LoraConfig(**{"task_type": "FEATURE_EXTRACTION", "target_modules": "all-linear", **PAPER_LORA, **lora})


def has_adapters(backbone: PreTrainedModel) -> bool:
    """Whether peft adapters are loaded into the backbone."""
    return bool(getattr(backbone, "_hf_peft_config_loaded", False))


def to_float32(backbone: PreTrainedModel) -> None:
    """Adapters in float32, whatever the dtype of the base: bfloat16 would lose small steps."""
    for name, weight in backbone.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()


def restore_adapters(backbone: PreTrainedModel, source: str | Path, **hub: Any) -> None:
    """Give the adapters of a backbone the saved weights, in the dtype of the file.

    Args:
        backbone: with adapters of the same configuration.
        source: a folder with ``adapter_model.safetensors``, or a Hub id.
        hub: ``revision``, ``token``, ``subfolder`` ... of a Hub id.

    Raises:
        InputError: adapters of another configuration.
    """
    from peft import set_peft_model_state_dict
    from peft.utils import load_peft_weights

    saved: dict[str, torch.Tensor] = load_peft_weights(str(source), device="cpu", **hub)
    saved = {name.removeprefix(SAVED_PREFIX): weight for name, weight in saved.items()}
    live = dict(backbone.named_parameters())
    for name, weight in saved.items():
        place = live.get(_live_name(name))
        if place is None or place.shape != weight.shape:
            raise InputError(
                f"{source} holds the adapter weight {name!r} {tuple(weight.shape)}, which this model lacks"
            )
        place.data = place.data.to(weight.dtype)
    absent = [name for name in live if "lora_" in name and name not in set(map(_live_name, saved))]
    if absent:
        raise InputError(f"{source} lacks the adapter weight {absent[0]!r} of this model")
    set_peft_model_state_dict(backbone, saved, adapter_name=NAME)


def _live_name(name: str) -> str:
    """The name of a saved weight in the model: ``layers.0.lora_A.weight`` is there ``layers.0.lora_A.default.weight``."""
    path, _, kind = name.rpartition(".")
    return (
        f"{path}.{NAME}.{kind}" if "lora_" in path.rpartition(".")[2] else f"{name}.{NAME}" if "lora_" in kind else name
    )


def merge_adapters(backbone: PreTrainedModel) -> None:
    """Add the adapters into the weights and drop them; the backbone is a plain one again.

    Raises:
        InputError: there are none, or the base is quantised, which cannot be merged exactly.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not has_adapters(backbone):
        raise InputError("the model has no adapters to merge")
    if getattr(backbone, "quantization_method", None) is not None:
        raise InputError("adapters of a quantised base cannot be merged exactly; load the base in bfloat16, then merge")
    layers = [(name, layer) for name, layer in backbone.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, layer.get_base_layer())
    backbone._hf_peft_config_loaded = False
    del backbone.peft_config
