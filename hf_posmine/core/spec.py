"""One spelling everywhere: ``PercPos(0.95)`` is the repr, the YAML value, the CLI value and the plot label."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import SpecError
from hf_posmine.core.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from _typeshed import DataclassInstance

MOST_CHARACTERS, MOST_NESTED, MOST_NODES = 2000, 20, 500
"""Limits of a spelling, which may come from a record or a card of somebody else."""
SHOWN_CHARACTERS = 80
DECIMAL_COMMA = re.compile(r"(?<![\w.])(\d+),(\d+)(?=\s*[,)])")


def spell(value: Any) -> str:
    """Spell a frozen dataclass by its class name and its values, as :func:`parse` reads it back.

    One field is spelled by value alone, several by name, except where the class sets ``_positional``.
    """
    fields = dataclasses.fields(value)
    positional = len(fields) == 1 or type(value).__dict__.get("_positional", False)
    values = [vars(value)[field.name] for field in fields]
    inner = (repr(v) if positional else f"{f.name}={v!r}" for f, v in zip(fields, values, strict=True))
    return f"{type(value).__name__}({', '.join(inner)})"


def spell_briefly(value: DataclassInstance, name: str) -> str:
    """Spell a frozen dataclass by its first field and every other one that is not the default.

    >>> from hf_posmine.core.filters import PercPos
    >>> spell_briefly(PercPos(0.95), "PercPos")
    'PercPos(0.95)'
    """
    fields = dataclasses.fields(value)
    values = {field.name: vars(value)[field.name] for field in fields}
    first, *rest = fields
    own = [] if values[first.name] == first.default else [repr(values[first.name])]
    others = [f"{field.name}={values[field.name]!r}" for field in rest if values[field.name] != field.default]
    return f"{name}({', '.join([*own, *others])})"


def split_list(text: str) -> list[str]:
    """Spellings separated by commas that are outside parentheses, brackets and quotes.

    >>> split_list("BM25('german'), Dense('a', query_prompt='q, '),late:b")
    ["BM25('german')", "Dense('a', query_prompt='q, ')", 'late:b']
    """
    items, depth, quote = [""], 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[at - 1] != "\\" else quote
        elif letter in "'\"" and depth:  # outside a call it is part of a name
            quote = letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0 and not quote:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items]


def parse(text: str, known: Mapping[str, type], what: str = "value") -> Any:
    """Read ``Name(...)`` back into an object of one of the ``known`` classes; nothing is evaluated.

    A bare name is a call without arguments, and arguments are literals or further such calls.

    Args:
        text: for example ``"SampledTopK(k=10, temperature=1.0)"``.
        known: class by name.
        what: the noun of the error message, such as "filter".

    Raises:
        SpecError: naming the text, and what is known.
    """
    tree = _tree(text, what, known)
    return _build(tree, known, what, shown(text))


def _tree(text: str, what: str, known: Mapping[str, type]) -> ast.expr:
    """The expression, within the limits."""
    nested = max((depth for depth in _depths(text)), default=0)
    if len(text) > MOST_CHARACTERS or nested > MOST_NESTED:
        raise SpecError(
            f"cannot read {what} {shown(text)!r}: it has {len(text):,} characters, nested {nested} deep; at most "
            f"{MOST_CHARACTERS:,} and {MOST_NESTED} are read"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(
            f"cannot read {what} {shown(text)!r}; write it as a call, one of: {', '.join(sorted(known))}{_comma(text)}"
        ) from None
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise SpecError(f"cannot read {what} {shown(text)!r}: it has too many parts")
    if any(isinstance(node, ast.Constant) and node.value == math.inf for node in ast.walk(tree)):
        raise SpecError(f"cannot read {what} {shown(text)!r}: a number in it is too large")
    return tree


def _depths(text: str) -> Iterator[int]:
    """How deep each character is in brackets; a sign before a sign counts, too."""
    depth = signs = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        signs = signs + 1 if character in "+-~" else 0
        yield depth + signs


def shown(text: str) -> str:
    """The text as an error shows it: its beginning, where it is long."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 4]} ..."


def _build(node: ast.expr, known: Mapping[str, type], what: str, text: str) -> Any:
    if isinstance(node, ast.Name) and node.id not in ("True", "False", "None"):
        node = ast.Call(func=node, args=[], keywords=[])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, known, what, text)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise SpecError(f"cannot read {what} {text!r}: {ast.unparse(node)!r} is not a plain value") from None


def _call(node: ast.Call, known: Mapping[str, type], what: str, text: str) -> Any:
    name = node.func.id  # type: ignore[attr-defined]
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near}? " if near else ""
        raise SpecError(f"unknown {what} {shown(name)!r} in {text!r}; {hint}known: {', '.join(sorted(known))}")
    names = [keyword.arg for keyword in node.keywords]
    if len(set(names)) < len(names):
        raise SpecError(f"cannot read {what} {text!r}: an argument is given twice")
    if None in names:
        raise SpecError(f"cannot read {what} {text!r}: write the arguments out, without **")
    args = [_build(arg, known, what, text) for arg in node.args]
    kwargs = {str(k.arg): _build(k.value, known, what, text) for k in node.keywords}
    try:
        return known[name](*args, **kwargs)
    except TypeError:
        takes = ", ".join(field.name for field in dataclasses.fields(known[name]))
        raise SpecError(f"{what} {text!r} has the wrong arguments; {name} takes ({takes}){_comma(text)}") from None


def _comma(text: str) -> str:
    """``PercPos(0,95)`` is a number with a decimal comma; so may be ``PercPos(0,95, zero=0,7)``."""
    point = DECIMAL_COMMA.sub(r"\1.\2", text)
    return f"; did you mean {point}, with a decimal point?" if point != text else ""
