"""Texts of data, records and services, as a terminal may show them."""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, marks that reorder what is read, and halves of characters."""


def printable(text: object) -> str:
    r"""A text whose control characters are written out, so that none moves the cursor or colours the screen.

    >>> print(printable("red \x1b[31m, and a bell \x07"))
    red \x1b[31m, and a bell \x07
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    r"""The same in one line.

    >>> one_line("two\n  lines")
    'two lines'
    """
    return printable(" ".join(str(text).split()))
