"""Checks before torch is imported: misspelt files, filters and samplers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.core.samplers import as_sampler
from hf_posmine.core.settings import MiningSettings
from hf_posmine.core.suggest import did_you_mean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hf_posmine.core.types import Filter

INPUTS = {
    "data": "",
    "corpus": "--corpus ",
    "collection": "",
    "path": "",
    "against": "--against ",
    "dataset": "--dataset ",
}
"""Values that may name a file, and how they are given."""
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".gz", ".txt")


def check_files(args: argparse.Namespace) -> None:
    """Refuse a file that does not exist; what has neither a suffix nor a leading dot or slash may be a Hub id.

    Raises:
        InputError: with the nearest name in its folder.
    """
    for name, option in INPUTS.items():
        value = vars(args).get(name)
        if isinstance(value, str) and _is_file_name(value) and not Path(value).expanduser().exists():
            raise InputError(f"{option}{value} does not exist{_nearest_file(Path(value).expanduser())}")


def _is_file_name(value: str) -> bool:
    return "*" not in value and (value.startswith(("/", "./", "../", "~")) or value.lower().endswith(SUFFIXES))


def _nearest_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    try:
        return did_you_mean(path.name, [file.name for file in folder.iterdir()])
    except OSError:
        return ""


def settings_of(args: argparse.Namespace) -> MiningSettings:
    """The settings that the arguments of ``mine`` give."""
    return MiningSettings(**{name: vars(args)[name] for name in MiningSettings.__dataclass_fields__})


def methods_of(texts: Sequence[str], samplers: Sequence[str] = ()) -> list[tuple[Filter, ...]]:
    """Each text's filters; samplers are only checked."""
    for sampler in samplers:
        as_sampler(sampler)
    return [as_filters(text) for text in texts]
