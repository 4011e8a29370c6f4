"""Files, memory, threads, HTTP, progress and digests: nothing here knows about mining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.utils.cache import build_once
    from hf_posmine.utils.digest import json_digest
    from hf_posmine.utils.files import remove_stale, replace_folder, store_root, write_file
    from hf_posmine.utils.node import Node
    from hf_posmine.utils.progress import progress_bar, quiet_bars

__all__ = [
    "Node",
    "build_once",
    "json_digest",
    "progress_bar",
    "quiet_bars",
    "remove_stale",
    "replace_folder",
    "store_root",
    "write_file",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cache": ("build_once",),
        "digest": ("json_digest",),
        "files": ("remove_stale", "replace_folder", "store_root", "write_file"),
        "node": ("Node",),
        "progress": ("progress_bar", "quiet_bars"),
    },
)
