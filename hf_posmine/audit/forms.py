r"""The form in which texts count as the same in an audit, for many texts at once.

It is that of ``match="loose"`` (NFKC, case-folded, white space collapsed, no invisible characters) with plain punctuation:
a text that a word processor or another keyboard wrote is the same text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.data.texts import loosen, normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Rows

PLAIN = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u2035\u02b9\u02bb\u02bc\u00b4\uff07\uff40\u2039\u203a",
    '"': "\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\u300c\u300d\u300e\u300f\u300a\u300b\u301d\u301e\u301f\uff02\uff62\uff63",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d",
    "~": "\u301c\uff5e",
    ",": "\u3001\uff64",
    ".": "\u3002\uff61",
    "...": "\u2026\u22ef",
}
"""ASCII punctuation, and the characters that stand for it: quotes, dashes, and those of other scripts that NFKC leaves."""
_ASCII = {ord(one): plain for plain, others in PLAIN.items() for one in others}
_OTHERS = re.compile(f"[{''.join(map(chr, _ASCII))}]")
TOGETHER = 256
"""ASCII texts that are treated at a time, so that they stay in the processor's cache."""
END = "\0"
SPACE, DELETE = ord(" "), 0x7F


def same_form(text: str) -> str:
    r"""The form of one text.

    >>> same_form("The  \u201cbest\u201d\u200b bees \u2014 Goethe\u2019s\uff01")
    'the "best" bees - goethe\'s!'
    """
    if text.isascii():
        return normalize(text)
    return loosen(text.translate(_ASCII) if _OTHERS.search(text) else text)


def same_forms(texts: Sequence[str]) -> tuple[list[str], list[bytes]]:
    r"""As :func:`same_form` for each text, and the same in UTF-8; ASCII texts are treated together, which is faster.

    >>> same_forms(["The  FIRST", "\u2018step\u2019"])
    (['the first', "'step'"], [b'the first', b"'step'"])
    """
    if all(map(str.isascii, texts)):
        return _of_ascii(texts)
    at = [n for n, text in enumerate(texts) if text.isascii()]
    forms, encoded = [""] * len(texts), [b""] * len(texts)
    for n, form, raw in zip(at, *_of_ascii([texts[n] for n in at]), strict=True):
        forms[n], encoded[n] = form, raw
    for n, text in enumerate(texts):
        if not text.isascii():
            forms[n] = same_form(text)
            encoded[n] = forms[n].encode("utf-8", "surrogatepass")
    return forms, encoded


def _of_ascii(texts: Sequence[str]) -> tuple[list[str], list[bytes]]:
    forms: list[str] = []
    encoded: list[bytes] = []
    for start in range(0, len(texts), TOGETHER):
        some_forms, some_encoded = _lowered(texts[start : start + TOGETHER])
        forms += some_forms
        encoded += some_encoded
    return forms, encoded


def _lowered(texts: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """ASCII texts in lower case; those with white space other than single spaces inside are treated one by one."""
    joined = END.join(texts).lower()
    raw = joined.encode("ascii")
    letters = np.frombuffer(b"\0" + raw + b"\0", np.uint8)
    if np.count_nonzero(letters == 0) != len(texts) + 1:  # a text holds the character that is between texts
        forms = list(map(normalize, texts))
        return forms, [form.encode("ascii") for form in forms]
    forms, encoded = joined.split(END), raw.split(b"\0")
    for n in _unlike(letters, texts).tolist():
        forms[n] = normalize(texts[n])
        encoded[n] = forms[n].encode("ascii")
    return forms, encoded


def _unlike(letters: np.ndarray, texts: Sequence[str]) -> Rows:
    """Texts with control characters, or white space at an end or doubled; ``letters`` are all texts with 0 around each."""
    space = letters <= SPACE
    double = space[1:] & space[:-1]
    control = (letters < SPACE) & (letters > 0)
    if not double.any() and not control.any():
        return np.empty(0, np.int64)
    ends = np.cumsum(
        np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    )  # of each text, the place of the 0 behind it
    at = np.concatenate([np.flatnonzero(double) + 1, np.flatnonzero(control)])
    return np.unique(np.minimum(np.searchsorted(ends, at, side="left"), len(texts) - 1))
