"""Records that commands write beside, or as, their result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def save_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as JSON, whole or not at all, without secrets: records are kept and shared."""
    from hf_posmine.utils.files import write_file
    from hf_posmine.utils.redact import redacted

    text = json.dumps(redacted(dict(record)), indent=1, ensure_ascii=False) + "\n"
    write_file(path, lambda file: file.write_text(text, "utf-8", "surrogatepass"))
