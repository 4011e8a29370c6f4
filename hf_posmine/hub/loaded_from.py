"""Where a dataset in memory came from, as far as ``datasets`` still knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.mining.record import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT = re.compile(r"[0-9a-f]{40}")
LEVELS = 4
"""``<user>___<name>/<configuration>/<version>/<commit>``: the cache folder of a Hub dataset, below that of datasets."""


def loaded_from(splits: Mapping[str, Any]) -> Source:
    """The Hub dataset that rows were loaded from with ``load_dataset``, also after ``map``; else a source without a path.

    It is read off the cache folder, which ``select`` and ``filter`` keep too. ``remine`` compares digests, so a source
    that holds more than the mined rows is noticed there.
    """
    found = {_of(split) for split in splits.values()}
    split = next(iter(splits)) if len(splits) == 1 else None
    if len(found) != 1 or None in found:
        return Source(split=split)
    path, name, revision = found.pop()  # type: ignore[misc]
    return Source(path=path, name=name, split=split, revision=revision)


def _of(dataset: Any) -> tuple[str, str | None, str] | None:
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE).resolve()
    for file in dataset.cache_files[:1]:
        folder = Path(file["filename"]).resolve().parent
        if not folder.is_relative_to(cache):
            continue
        parts = folder.relative_to(cache).parts
        if len(parts) == LEVELS and COMMIT.fullmatch(parts[3]) and "___" in parts[0]:
            return parts[0].replace("___", "/", 1), None if parts[1] == "default" else parts[1], parts[3]
    return None
