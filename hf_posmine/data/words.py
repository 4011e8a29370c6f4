r"""Words of texts in any script with spaces: marks, which ``\w`` does not know, belong to them."""

from __future__ import annotations

import unicodedata
from functools import cache


@cache
def rest_of_word() -> str:
    """The pattern of a mark (vowel sign or diacritic, or a joiner, as in Persian) and the letters behind it, within a word."""
    marks = "".join(chr(code) for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)).startswith("M"))
    return rf"[{marks}\u200c\u200d]\w*"
