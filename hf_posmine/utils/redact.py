"""Secrets and private names taken out of every text that leaves the machine or reaches a terminal, log, record or card."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_NAMES = (
    r"(?:api|access|auth|hub|hf|private|client)?[-_]?(?:api[-_]?key|access[-_]?key|token|secret|passw(?:or)?d|bearer)"
)
_TOKEN = re.compile(r"\b(hf|api_org|gh[pousr]|github_pat|glpat|xox[abp])([_-])[A-Za-z0-9_-]{16,}")
_KEY = re.compile(
    r"\b(sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
)
_HEADER = re.compile(
    r"""(\b(?:proxy-)?authorization\b["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?)[^\s"',}]+""", re.IGNORECASE
)
_BEARER = re.compile(r"(\bbearer +)[\w.~+/=-]{8,}", re.IGNORECASE)
_ASSIGNED = re.compile(rf"""((?<![A-Za-z_-])(?:x-)?{_NAMES}["']? *[:=] *["']?)[^\s"',;&}}]+""", re.IGNORECASE)
_VARIABLE = re.compile(r"(\b[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)=)\S+")
_OPTION = re.compile(rf"(--(?:[a-z]+-)*{_NAMES}(?:=| +))\S+", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&](?:[\w-]*(?:key|token|secret|password|signature|credential)|sig|auth)=)[^&#\s\"']+", re.IGNORECASE
)
_ADDRESS = re.compile(r"(?<=://)[^/?#\s\"']*@")
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PAT)(_|$)")
SHORTEST_SECRET = 8


def redact(text: str) -> str:
    """The text without tokens, API keys, passwords in addresses and other secrets, and with the home folder as ``~``.

    Secrets are found by their form (``hf_...``, ``sk-...``), by their place (``--token x``, ``Authorization: Bearer x``,
    ``https://user:x@host``, ``?api_key=x``), and by their value, where an environment variable with a name such as
    ``OPENAI_API_KEY`` holds it. Redacting twice is the same as once.

    >>> redact("hf-posmine mine me/pairs --token=secret  # hf_abcdefGHIJKLmnop1234")
    'hf-posmine mine me/pairs --token=***  # hf_***'
    >>> redact("GET https://me:pass@host/v1?api_key=abc&n=3 failed")
    'GET https://***@host/v1?api_key=***&n=3 failed'
    """
    for secret in _held_secrets():
        text = text.replace(secret, "***")
    text = _HEADER.sub(r"\1***", text)
    text = _BEARER.sub(r"\1***", text)
    text = _OPTION.sub(r"\1***", text)
    text = _QUERY.sub(r"\1***", text)
    text = _ASSIGNED.sub(r"\1***", text)
    text = _VARIABLE.sub(r"\1***", text)
    text = _TOKEN.sub(r"\1\2***", text)
    text = _KEY.sub(lambda found: f"{found.group(1)}-***" if found.group(1) else "***", text)
    text = _ADDRESS.sub("***@", text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|\s|$)", "~", text) if len(home) > 1 else text


def redacted(value: object) -> Any:
    """A JSON value with every text in it redacted, and without the values under keys that name a token or another secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): redacted(held) for key, held in value.items() if not _names_secret(str(key))}
    if isinstance(value, (list, tuple)):
        return [redacted(held) for held in value]
    return value


def _names_secret(key: str) -> bool:
    lower = key.lower()
    return lower.endswith(("token", "password", "secret")) or lower in ("api_key", "apikey")


def _held_secrets() -> list[str]:
    """Values that this process knows to be secret, the longest first."""
    from huggingface_hub import get_token

    named = [value.strip() for name, value in os.environ.items() if _SECRET_NAME.search(name.upper())]
    known = {
        value for value in (get_token() or "", *named) if len(value) >= SHORTEST_SECRET and not value.startswith("/")
    }
    return sorted(known, key=len, reverse=True)
