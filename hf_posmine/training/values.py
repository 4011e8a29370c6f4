"""Values of a YAML file or a command line, as the fields of a dataclass want them."""

from __future__ import annotations

from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from hf_posmine.core.errors import InputError
from hf_posmine.utils.config import of_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST = dict.fromkeys(
    (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "num_negatives",
        "num_positives",
        "num_layers",
        "max_query_length",
        "max_document_length",
        "mini_batch_size",
        "mini_batch_num_tokens",
        "early_stopping_patience",
        "rounds",
        "remine_steps",
    ),
    1,
) | dict.fromkeys(("learning_rate", "num_train_epochs", "seed"), 0)
"""The least value of fields whose class would take any."""


def typed(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, checked against the annotations of a dataclass.

    YAML reads ``1e-5`` as a text and ``no`` as a boolean: texts become numbers where a number is wanted, and false
    becomes "no" where that is one of the choices.

    Raises:
        InputError: a value of another kind, with the kind that is wanted.
    """
    hints = get_type_hints(cls)
    return {key: _typed(key, value, _kinds(hints[key])) for key, value in options.items()}


def is_text(cls: type, key: str) -> bool:
    """Whether a field takes nothing but texts (choices are texts), or nothing at all."""
    kinds = _kinds(get_type_hints(cls)[key])
    return str in kinds and all(kind in (str, NoneType) or _is_choice(kind) for kind in kinds)


def _typed(key: str, value: object, kinds: set[Any]) -> Any:
    if value is False and any(_is_choice(kind) and "no" in {choice.value for choice in kind} for kind in kinds):
        return "no"
    typed_value = of_kind(key, value, kinds)
    if key in LEAST and typed_value is not None and typed_value < LEAST[key]:
        raise InputError(f"{key}={typed_value!r}; expected at least {LEAST[key]}")
    return typed_value


def _kinds(hint: object) -> set[Any]:
    """The classes that an annotation allows."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return {kind for part in get_args(hint) for kind in _kinds(part)}
    if origin is Literal:
        return {type(choice) for choice in get_args(hint)}
    return {origin or hint}


def _is_choice(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)
