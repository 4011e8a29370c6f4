"""Whether a model attends in both directions, found out by running it: a causal one gives wrong vectors in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

MARK = "bidirectional"
"""Key of ``config_sentence_transformers.json``: the model was trained bidirectional, though its family is causal."""

CONFIG_FILE = "config_sentence_transformers.json"


def check_loaded(model: SentenceTransformer, source: str) -> None:
    """Refuse a saved bidirectional model that the installed transformers runs causally; any other model passes unread.

    Args:
        model: a SentenceTransformer; another object passes.
        source: the Hub id or folder that it was loaded from.

    Raises:
        InputError: it was saved as bidirectional, and a token does not see the ones behind it.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.transformer import Transformer

    if not isinstance(model, SentenceTransformer) or not isinstance(model[0], Transformer):
        return
    if model[0].config.to_dict().get("is_causal") is False or is_marked(source):
        check_bidirectional(model, source)


def is_marked(source: str) -> bool:
    """Whether a saved model is marked as bidirectional."""
    from sentence_transformers.util import load_file_path

    file = load_file_path(source, CONFIG_FILE, local_files_only=True)
    return file is not None and json.loads(Path(file).read_text("utf8")).get(MARK) is True


def check_bidirectional(model: SentenceTransformer, source: str | None = None) -> None:
    """Run a model on rows that differ in their last token: the states before it must differ, and padding must not matter.

    Args:
        model: its first module is a transformer.
        source: where it was loaded from; None for a model that is being built.

    Raises:
        InputError: it is causal, or attends to its padding.
    """
    backbone = model[0].model
    name, attention = type(backbone).__name__, backbone.config._attn_implementation
    first, last = _two_tokens(model)
    near, far = [first] * 3 + [last], [first] * 4
    full = _states(model, [near, far], [[1] * 4] * 2)
    padded = _states(model, [[*near, first, first]], [[1] * 4 + [0] * 2])
    scale = full[:, :3].square().mean().sqrt()
    if (full[0, :3] - full[1, :3]).abs().max() < scale * 1e-2:
        raise InputError(_causal(name, attention, source))
    if (full[0, :3] - padded[0, :3]).abs().max() > scale * 0.2:
        raise InputError(f"{name} attends to its padding with attn_implementation={attention!r}; try 'eager'")


def _causal(name: str, attention: str, source: str | None) -> str:
    from transformers import __version__

    if source is None:
        return (
            f"{name} stays causal although config.is_causal is False; transformers makes Mistral, Llama, Qwen2, Qwen3, "
            f"Gemma, Phi-3, Mixtral and others bidirectional, but not this one with attn_implementation={attention!r}"
        )
    return (
        f"{source!r} was saved as a bidirectional model, but transformers {__version__} runs its {name} causally with "
        f"attn_implementation={attention!r}, which gives other vectors; its config.json must have is_causal: false, and "
        "transformers must be 5.2 or newer"
    )


def _two_tokens(model: SentenceTransformer) -> tuple[int, int]:
    special = set(model.tokenizer.all_special_ids)
    ids = [number for number in range(model[0].config.vocab_size) if number not in special]
    return ids[len(ids) // 3], ids[2 * len(ids) // 3]


def _states(model: SentenceTransformer, ids: list[list[int]], mask: list[list[int]]) -> torch.Tensor:
    import torch

    backbone = model[0].model
    training = backbone.training
    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        output = backbone.eval()(**{name: value.to(backbone.device) for name, value in inputs.items()})
    backbone.train(training)
    return output.last_hidden_state.float()
