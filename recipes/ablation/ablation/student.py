"""Students that no folder holds yet: with prompts of their own, or without their transformer layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core import InputError
from hf_posmine.encoding import load_model, model_source
from hf_posmine.utils import build_once, json_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STUDENT_KEYS = ("bag_of_words", "prompts")


def changed_student(
    model: str, folder: Path, *, bag_of_words: bool = False, prompts: Mapping[str, str] | None = None
) -> Path:
    """A copy of a sentence-transformers model below a folder, made once.

    Args:
        model: as a training stage names it.
        folder: of all such copies.
        bag_of_words: take its transformer layers off, so that a text is the mean of its word embeddings: a student that
            learns within seconds on a CPU.
        prompts: what goes before its queries and documents, such as E5's, where its own folder has none.

    Raises:
        InputError: a model that is not an encoder with layers to take off.
    """
    identity = {"model": model_source(model), "bag_of_words": bag_of_words, "prompts": dict(prompts or {})}

    def save(new: Path) -> None:
        student: Any = load_model(model)
        if bag_of_words:
            _take_layers_off(student, model)
        student.prompts.update(identity["prompts"])
        student.save(str(new), create_model_card=False)

    return build_once(folder / json_digest(identity)[:16], save)


def _take_layers_off(student: Any, name: str) -> None:
    from torch import nn

    backbone = student[0].model
    if not hasattr(backbone, "encoder") or not hasattr(backbone.encoder, "layer"):
        raise InputError(f"bag_of_words: {name!r} is not a BERT-like encoder, whose layers could be taken off")
    backbone.encoder.layer = nn.ModuleList()
    backbone.config.num_hidden_layers = 0
