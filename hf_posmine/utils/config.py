"""Configuration files: YAML in any Unicode encoding, and values of the kind that is wanted."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hf_posmine.core.errors import InputError
from hf_posmine.core.suggest import did_you_mean

MOST_BYTES = 4 << 20
"""A configuration is written by hand; a larger file is something else."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    Mapping: "a mapping",
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for at, key in enumerate(keys):
            if isinstance(key, str) and key in keys[:at]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file; ``num-negatives`` and ``num_negatives`` are the same key.

    Raises:
        InputError: a file that cannot be read, is not YAML or has no keys, with the file.
    """
    try:
        values = yaml.load(_text(Path(path)), _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold options as 'name: value' lines")
    named: dict[str, Any] = {}
    for name, value in values.items():
        key = str(name).replace("-", "_")
        if key in named:
            raise InputError(f"{path}: {key!r} is given twice")
        named[key] = value
    return named


def _text(path: Path) -> str:
    """The text of a file, by its byte order mark, else UTF-8."""
    try:
        size = path.stat().st_size
        content = b"" if size > MOST_BYTES else path.read_bytes()
    except OSError as error:
        near = _like(path)
        raise InputError(f"cannot read {path}: {error.strerror or error}{near}") from None
    if size > MOST_BYTES:
        raise InputError(f"{path} has {size:,} bytes, too many for a configuration of names and values")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not {encoding.removesuffix('-sig').upper()}: byte {content[error.start]:#04x} at {error.start:,}; "
            "save it as UTF-8"
        ) from None


def _like(path: Path) -> str:
    try:
        return did_you_mean(path.name, [file.name for file in path.parent.iterdir()])
    except OSError:
        return ""


def unknown_key(path: str | Path | None, key: str, known: Mapping[str, Any]) -> InputError:
    """The error about a key that no option has, with the nearest or all of them."""
    hint = did_you_mean(key, known) or f"; known: {', '.join(sorted(known))}"
    return InputError(f"{'' if path is None else f'{path}: '}unknown key {key!r}{hint}")


def of_kind(name: str, value: object, kinds: set[Any]) -> Any:
    """A value of YAML as one of the kinds that are wanted.

    YAML reads ``1e-5`` as a text: a text becomes a number where only a number is wanted.

    Args:
        name: of the option, for the error.
        value: as read.
        kinds: classes, such as ``{int, NoneType}``.

    Raises:
        InputError: a value of another kind, with the kinds that are wanted.
    """
    if isinstance(value, str) and str not in kinds:
        value = _number(value, kinds)
    if isinstance(value, list) and tuple in kinds:
        value = tuple(value)
    accepted = tuple(kinds | ({int} if float in kinds else set()))
    unfit = (isinstance(value, bool) and bool not in kinds) or (isinstance(value, float) and not math.isfinite(value))
    if unfit or not isinstance(value, accepted):
        wanted = " or ".join(dict.fromkeys(WORDS[kind] for kind in WORDS if kind in kinds))
        quotes = "; write it in quotes" if str in kinds and not isinstance(value, (list, dict, type(None))) else ""
        raise InputError(f"{name}={value!r}; expected {wanted}{quotes}")
    return value


def _number(text: str, kinds: set[Any]) -> Any:
    if not kinds & {int, float}:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if float not in kinds and number.is_integer() else number
