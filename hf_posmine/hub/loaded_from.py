"""The Hub dataset that rows in memory were loaded from, read off the cache of ``datasets``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.mining.record import Source
from hf_posmine.utils.upstream import HubRows, hub_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset


def loaded_from(splits: Mapping[str, Any]) -> Source:
    """The Hub dataset that rows were loaded from with ``load_dataset``, also after ``map``; else a source without a path.

    It is read off the cache folder, which ``select`` and ``filter`` keep too. ``remine`` compares digests, so a source
    that holds more than the mined rows is noticed there.
    """
    found = {_of(split) for split in splits.values()}
    split = next(iter(splits)) if len(splits) == 1 else None
    rows = found.pop() if len(found) == 1 else None
    if rows is None:
        return Source(split=split)
    return Source(path=rows.path, name=rows.config, split=split, revision=rows.revision)


def _of(dataset: Dataset) -> HubRows | None:
    return next((hub_rows(file["filename"]) for file in dataset.cache_files[:1]), None)
