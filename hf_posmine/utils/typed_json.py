"""JSON from elsewhere: read within limits, and checked against types, ranges and sizes before any of it is used.

A check is a function of a value and of its path in the document. It raises :class:`UnexpectedValue`, one line that names the
path, the value and what is expected. Checks are combined by :func:`fields`, :func:`items` and :func:`mapping`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_posmine.core.check import is_number, is_whole
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Check: TypeAlias = Callable[[object, str], None]

LONGEST_DOCUMENT = 4_000_000
LONGEST_TEXT = 8_192
DEEPEST = 8
MOST_ITEMS = 10_000
LARGEST = 2**63 - 1
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters except tab and new line, and halves of surrogate pairs, which no file or terminal takes."""


class UnexpectedValue(InputError):
    """A value of another type, out of its range, or too long."""

    def __init__(self, path: str, value: object, expected: str) -> None:
        shown = (
            f"{value!r:.60}" if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
        )
        super().__init__(f"{path or 'the document'} is {shown}; expected {expected}")


def read_json(text: str, where: str) -> Any:
    """The value of a JSON text within limits of size and depth, with finite numbers and without repeated keys.

    Raises:
        InputError: which limit, or no JSON.
    """
    if len(text) > LONGEST_DOCUMENT:
        raise InputError(f"{where} has {len(text):,} characters; expected at most {LONGEST_DOCUMENT:,}")
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise InputError(f"{where} is not JSON that can be read ({reason:.200})") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def text(longest: int = LONGEST_TEXT, pattern: str | None = None, *, lines: bool = False) -> Check:
    """A text of at most ``longest`` characters without control characters.

    Args:
        longest: most characters.
        pattern: regular expression that the whole text matches.
        lines: whether new lines are allowed.
    """
    expected = f"a text of at most {longest:,} characters" + (f" that matches {pattern}" if pattern else "")

    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or len(value) > longest or (pattern and not re.fullmatch(pattern, value)):
            raise UnexpectedValue(path, value, expected)
        if CONTROLS.search(value) or (not lines and "\n" in value):
            raise UnexpectedValue(path, value, "a text without control characters" + ("" if lines else " or new lines"))

    return check


def whole(least: int = 0, most: int = LARGEST) -> Check:
    """A whole number in a range."""

    def check(value: object, path: str) -> None:
        if not is_whole(value, least, most):
            raise UnexpectedValue(path, value, f"a whole number from {least:,} to {most:,}")

    return check


def number(value: object, path: str) -> None:
    """A finite number."""
    if not is_number(value) or abs(value) > LARGEST:
        raise UnexpectedValue(path, value, "a finite number")


def flag(value: object, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise UnexpectedValue(path, value, "true or false")


def one_of(choices: Iterable[str]) -> Check:
    """One of some texts."""
    known = tuple(choices)

    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or value not in known:
            raise UnexpectedValue(path, value, f"one of {', '.join(known)}")

    return check


def optional(inner: Check) -> Check:
    """Null, or what another check accepts."""

    def check(value: object, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def items(inner: Check, most: int = MOST_ITEMS) -> Check:
    """A list whose items a check accepts."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, list) or len(value) > most:
            raise UnexpectedValue(path, value, f"a list of at most {most:,} items")
        for number_, held in enumerate(value):
            inner(held, f"{path}.{number_}")

    return check


def mapping(inner: Check, key: Check | None = None, most: int = MOST_ITEMS) -> Check:
    """An object of any keys whose values a check accepts."""
    key = key or text(256)

    def check(value: object, path: str) -> None:
        for name, held in _object(value, path, most).items():
            key(name, f"{path}, key")
            inner(held, f"{path}.{name}")

    return check


def fields(known: Mapping[str, Check], optional_fields: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields; further ones are of a later version and only limited in size and depth."""
    may = optional_fields or {}

    def check(value: object, path: str) -> None:
        found = _object(value, path, MOST_ITEMS)
        for name in known:
            if name not in found:
                raise InputError(f"{_join(path, name)} is missing")
        for name, held in found.items():
            text(256)(name, f"{path or 'the document'}, key")
            (known.get(name) or may.get(name) or plain)(held, _join(path, name))

    return check


def plain(value: object, path: str, depth: int = DEEPEST) -> None:
    """Any JSON value within the limits of size and depth."""
    if depth == 0:
        raise UnexpectedValue(path, value, f"at most {DEEPEST} levels")
    if isinstance(value, str):
        text(lines=True)(value, path)
    elif isinstance(value, dict):
        mapping(lambda held, where: plain(held, where, depth - 1))(value, path)
    elif isinstance(value, list):
        items(lambda held, where: plain(held, where, depth - 1))(value, path)
    elif value is not None and not isinstance(value, bool):
        number(value, path)


def _object(value: object, path: str, most: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise UnexpectedValue(path, value, f"an object of at most {most:,} fields")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
