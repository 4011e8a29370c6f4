"""``did you mean``: the nearest of the known names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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
