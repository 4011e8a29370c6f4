r"""Words of texts in any script with spaces: marks, which ``\w`` does not know, belong to them."""

from __future__ import annotations

import re
import unicodedata
from functools import cache


@cache
def mark_ranges() -> str:
    """All marks (vowel signs, diacritics) and joiners, as in Persian, as ranges for a class of characters."""
    marks = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)).startswith("M")]
    codes = sorted([*marks, 0x200C, 0x200D])
    first = [code for before, code in zip([0, *codes], codes, strict=False) if code != before + 1]
    last = [code for code, after in zip(codes, [*codes[1:], 0], strict=True) if after != code + 1]
    return "".join(f"{chr(one)}-{chr(other)}" for one, other in zip(first, last, strict=True))


@cache
def rest_of_word() -> str:
    r"""The pattern of a mark and the letters behind it, within a word.

    Its look ahead leaves Latin letters to one comparison, where the class would take some hundred.
    """
    return rf"(?![\x00-\u02ff])[{mark_ranges()}]\w*"


@cache
def _whole_word() -> re.Pattern[str]:
    return re.compile(rf"\w+(?:{rest_of_word()})*")


@cache
def _inside_word() -> re.Pattern[str]:
    return re.compile(rf"[\w{mark_ranges()}]")


def words_of(text: str) -> list[str]:
    """The words of a text with their marks.

    >>> words_of("बाल, बल! a_1")
    ['बाल', 'बल', 'a_1']
    """
    return _whole_word().findall(text)


def has_whole(text: str, part: str) -> bool:
    """Whether a part stands in a text with neither letters nor marks beside it.

    >>> has_whole("एक बल", "बल"), has_whole("एक बला", "बल"), has_whole("unpaired", "pair")
    (True, False, False)
    """
    at = text.find(part)
    while at >= 0:
        end = at + len(part)
        if not any(_inside_word().match(beside) for beside in (text[max(0, at - 1) : at], text[end : end + 1])):
            return True
        at = text.find(part, at + 1)
    return False
