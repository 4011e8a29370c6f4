"""``did you mean``: the nearest of the known names."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ARGUMENT = re.compile(
    r"""(?P<kept>(?<!\w)'[^']*'|(?<!\w)"[^"]*"|[\w.]+\([^()]*\))|"""
    r"""\b(?P<name>[a-z]\w*)=(?P<value>\.\.\.|\([^()]*\)|\[[^\]]*\]|'[^']*'|"[^"]*"|[\w.+-]*\w)?"""
)
"""A quoted text or a call, which stay as they are, or an argument with its value or ``...``."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a word, whatever its case; None where none is near.

    >>> nearest("percpos", ["PercPos", "SkipTop"])
    'PercPos'
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 1)
    return by_lower[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name.

    >>> did_you_mean("sweeep", ["mine", "sweep"]), did_you_mean("x", ["mine"])
    ("; did you mean 'sweep'?", '')
    """
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


def respelled(message: str, arguments: Mapping[str, str]) -> str:
    """A message with other words for the arguments that it names, such as options of the command line.

    Args:
        message: names arguments as ``seed=3`` or ``seed=...``.
        arguments: argument -> what takes its value; or, with its value, what stands for both. A word with ``...`` takes none.

    >>> respelled("seed='x'; give column=... or cold=True", {"column": "--column", "seed": "--seed", "cold=True": "--cold"})
    "--seed 'x'; give --column or --cold"
    >>> respelled("keep=('scores',), or filters=()", {"keep": "--keep", "filters": "--filters"})
    "--keep 'scores', or --filters none"
    >>> respelled("cannot read 'seed=3' or Random(seed=3)", {"seed": "--seed"})
    "cannot read 'seed=3' or Random(seed=3)"
    """

    def word(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        whole = arguments.get(f"{name}={value}")
        if whole is not None or name not in arguments:
            return found[0] if whole is None else whole
        alone = value is None or value == "..." or "..." in arguments[name]
        members = " ".join(value[1:-1].replace(",", " ").split()) or "none" if value and value[0] in "([" else value
        return arguments[name] if alone else f"{arguments[name]} {members}"

    return ARGUMENT.sub(word, message)
