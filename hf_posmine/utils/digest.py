"""Fingerprints: what something is made of, as 32 hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def json_digest(said: Any) -> str:
    """The fingerprint of a description; equal for equal JSON, whatever the order of keys.

    >>> json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
