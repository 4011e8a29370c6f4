"""What may not leave the machine: tokens, and the name of the home folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{16,}")
_OPTION = re.compile(
    r"((?:--(?:hub[-_])?token|\bHF_TOKEN|\bhub_token|\bauthorization: *bearer)[= :]+)\S+", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def redact(text: str) -> str:
    """The text with tokens and passwords blotted out, and the home folder as ``~``.

    >>> redact("hf-posmine mine me/pairs --token=secret  # hf_abcdefGHIJKLmnop1234")
    'hf-posmine mine me/pairs --token=***  # hf_***'
    """
    text = _OPTION.sub(r"\1***", text)
    text = _TOKEN.sub(r"\1_***", text)
    text = _ADDRESS.sub("***@", text)
    own = _own_token() if "_" in text else None
    if own:
        text = text.replace(own, "***")
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|\s|$)", "~", text) if len(home) > 1 else text


def redacted(value: Any) -> Any:
    """A JSON value with every text in it redacted, and every value under a key that names a token left out."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(key): redacted(held) for key, held in value.items() if not str(key).endswith("token")}
    if isinstance(value, (list, tuple)):
        return [redacted(held) for held in value]
    return value


def _own_token() -> str | None:
    """The token of whoever is logged in, of any form."""
    from huggingface_hub import get_token

    return get_token()
