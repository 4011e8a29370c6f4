"""The part of a dataset card's metadata that ``load_dataset`` reads: configurations, files and features.

The classes that read and write it are those of ``datasets`` itself, so that pushes from here and
from ``push_to_hub`` can share one repository.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.upstream import dataset_infos, metadata_configs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hf_posmine.hub.variants import Config


def merge_configs(metadata: Mapping[str, Any], configs: Sequence[Config], files: Mapping[str, Path]) -> dict[str, Any]:
    """Metadata with these configurations; splits that are not pushed now stay.

    Args:
        metadata: of the card as it is.
        configs: configurations to push.
        files: their local files, by path in the repository.

    Raises:
        InputError: a split that stays has other columns or types than those that are pushed.
    """
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from huggingface_hub import DatasetCardData

    data: Any = DatasetCardData(**metadata)
    infos = dataset_infos().from_dataset_card_data(data)
    for config in configs:
        if config.suffix != "parquet":  # load_dataset reads all configurations of a repository in one format
            continue
        features = next(iter(config.splits.values())).features
        old = infos.get(config.name)
        kept = [s for s in splits_there(metadata, config.name) if s not in config.splits]
        if kept and old is not None and old.features is not None and old.features != features:
            raise InputError(
                f"configuration {config.name!r} keeps the split {kept[0]!r} with the columns {list(old.features)}, but the "
                f"pushed rows have {list(features)} or other types; push all splits together"
            )
        splits = {name: info for name, info in ((old and old.splits) or {}).items() if name in kept}
        for name, rows in config.splits.items():
            size = sum(files[path].stat().st_size for path in files if fnmatch.fnmatchcase(path, pattern(config, name)))
            splits[name] = SplitInfo(name, num_bytes=size, num_examples=len(rows))
        total = sum(info.num_bytes for info in splits.values())
        info = DatasetInfo(features=features, splits=SplitDict(splits), download_size=total, dataset_size=total)
        dataset_infos({config.name: info}).to_dataset_card_data(data)
        held = [entry for entry in _data_files(metadata, config.name) if entry["split"] in kept]
        held += [{"split": name, "path": pattern(config, name)} for name in config.splits]
        metadata_configs({config.name: {"data_files": held}}).to_dataset_card_data(data)
    return data.to_dict()


def data_folder(config: str) -> str:
    """The folder of a configuration, as ``datasets`` itself names it."""
    return "data" if config == "default" else config


def pattern(config: Config, split: str) -> str:
    """The files of a split, as the card names them."""
    return f"{data_folder(config.name)}/{split}-*"


def splits_there(metadata: Mapping[str, Any], config: str) -> set[str]:
    """The splits that a configuration has in the repository."""
    return {entry["split"] for entry in _data_files(metadata, config)}


def replaced_files(metadata: Mapping[str, Any], configs: Sequence[Config], there: frozenset[str]) -> set[str]:
    """Files in the repository that held the splits which are pushed now."""
    gone: set[str] = set()
    for config in configs:
        for split in config.splits:
            old = [e["path"] for e in _data_files(metadata, config.name) if e["split"] == split]
            patterns = [p for paths in old for p in ([paths] if isinstance(paths, str) else paths)]
            gone |= {
                path for path in there for p in (*patterns, pattern(config, split)) if fnmatch.fnmatchcase(path, p)
            }
    return gone


def _data_files(metadata: Mapping[str, Any], config: str) -> list[dict[str, Any]]:
    """The entries of a configuration that name a split and its files."""
    found = [c for c in metadata.get("configs") or [] if isinstance(c, dict) and c.get("config_name") == config]
    entries = found[0].get("data_files") if found else None
    return (
        [e for e in entries if isinstance(e, dict) and "split" in e and "path" in e]
        if isinstance(entries, list)
        else []
    )
