"""Whether a checkpoint fits the class it is loaded as: sentence-transformers converts one kind into another with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

SPELLINGS = {
    "CrossEncoder": "Cross",
    "MultiVectorEncoder": "Late",
    "SentenceTransformer": "Dense",
    "SparseEncoder": "Sparse",
}
"""Spelling of the teacher by the class that a model was saved as."""
HEADS = {"CrossEncoder": "ForSequenceClassification", "SparseEncoder": "ForMaskedLM"}
"""The architecture that a checkpoint without modules needs, else the weights of its head are random."""
CLASSIFIER = "ForSequenceClassification"


def check_role(kind: str, name: str, source: str, revision: str | None = None) -> None:
    """Refuse a checkpoint that was saved as another kind of model, or that lacks the head this kind needs.

    Args:
        kind: class of sentence-transformers that it was loaded as.
        name: what the user called it.
        source: folder or Hub id that it was loaded from, whose files are here by now.
        revision: of a Hub model.

    Raises:
        InputError: with the right spelling.
    """
    saved = read_config(source, "config_sentence_transformers.json", revision).get("model_type")
    if saved in SPELLINGS:
        if saved != kind:
            raise _wrong(kind, name, f"was saved as a {saved}", SPELLINGS[saved])
        return
    if _file(source, "modules.json", revision) is not None:  # a model with its modules, by an older version
        return
    architectures = [str(value) for value in read_config(source, "config.json", revision).get("architectures") or ()]
    needed = HEADS.get(kind)
    if needed != CLASSIFIER and any(value.endswith(CLASSIFIER) for value in architectures):
        raise _wrong(kind, name, f"is a {architectures[0]}, a cross-encoder", "Cross")
    if needed and architectures and not any(value.endswith(needed) for value in architectures):
        raise _wrong(kind, name, f"is a {architectures[0]} without the weights of ...{needed}", "Dense")


def read_config(source: str, file: str, revision: str | None) -> Mapping[str, Any]:
    """A JSON file of a model that was loaded; empty if it has none."""
    path = _file(source, file, revision)
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def require_file(source: str, file: str, revision: str | None) -> Path:
    """A file of a model that is on this machine.

    Raises:
        FileNotFoundError: it is not.
    """
    path = _file(source, file, revision)
    if path is None:
        raise FileNotFoundError(file)
    return path


def _file(source: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(source).is_dir():
        path = Path(source) / file
        return path if path.is_file() else None
    try:
        found = try_to_load_from_cache(source, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _wrong(kind: str, name: str, reason: str, spelling: str) -> InputError:
    return InputError(
        f"the model {name!r} {reason}; as a {kind} it would score with random weights. Write {spelling}({name!r})"
    )
