"""Fingerprints: what something is made of, as 32 hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_read: dict[Path, str] = {}
"""sha256 of the files whose rows this process loaded, when it loaded them."""


def json_digest(value: object) -> str:
    """The fingerprint of a description; equal for equal JSON, whatever the order of keys.

    >>> json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def note_read(path: Path, sha256: str) -> None:
    """Note what a file held when its rows were loaded."""
    _read[path.absolute()] = sha256


def digest_as_read(path: Path) -> str:
    """sha256 of a file as it was when this process loaded its rows; as it is now if it loaded none."""
    return _read.get(path.absolute()) or file_sha256(path)
