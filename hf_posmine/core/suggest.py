"""``did you mean``: the nearest of the known names."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ARGUMENT = re.compile(
    r"""(?P<kept>(?<!\w)'[^']*'|(?<!\w)"[^"]*"|[\w.]+\([^()]*\))|\b(?P<name>[a-z]\w*)=(?P<value>\.\.\.|'[^']*'|[\w.+-]*\w)?"""
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

    An option takes the value; a word that ends with ``...`` stands for both.

    >>> respelled("seed='x'; give query_column=... or seed=3", {"query_column": "--query-column ...", "seed": "--seed"})
    "--seed 'x'; give --query-column ... or --seed 3"
    >>> respelled("cannot read 'seed=3' or Random(seed=3)", {"seed": "--seed"})
    "cannot read 'seed=3' or Random(seed=3)"
    """

    def word(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in arguments:
            return found[0]
        value = "" if "..." in arguments[name] or found["value"] in (None, "...") else f" {found['value']}"
        return arguments[name] + value

    return ARGUMENT.sub(word, message)
