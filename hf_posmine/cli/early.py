"""Checks before torch and datasets are imported: misspelt files, columns, teachers, filters and samplers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.core.samplers import as_sampler
from hf_posmine.core.settings import MiningSettings
from hf_posmine.core.spec import split_list
from hf_posmine.core.suggest import did_you_mean
from hf_posmine.data.columns import require_column
from hf_posmine.encoding.encode import model_source
from hf_posmine.teachers.spellings import Cross, Dense, Late, MaxP, Sparse, as_teacher_spec
from hf_posmine.utils.config import read_mapping

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
    "judged": "--judged ",
    "dataset": "--dataset ",
}
"""Values that may name a file, and how they are given."""
COLUMNS = {
    "data": {"query_column": "query", "positive_column": "positive", "positive_id_column": "positive id"},
    "corpus": {f"corpus_{part}_column": part for part in ("text", "id", "title", "image")},
}
"""Options that name a column of a file, and what the column holds."""
TEACHERS = ("teacher", "second_opinion")
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".feather", ".gz", ".txt")


def check_names(args: argparse.Namespace) -> None:
    """Refuse misspelt files, configurations, columns of parquet files, and teachers.

    Raises:
        InputError: with the nearest name.
        ColumnError: a column that the file lacks.
    """
    check_files(args)
    given = vars(args)
    if given.get("config") is not None and not Path(given["config"]).exists():
        read_mapping(given["config"])  # the error that reading it gives
    for name, columns in COLUMNS.items():
        wanted = {column: what for option, what in columns.items() if (column := given.get(option))}
        if name == ("corpus" if given.get("corpus") else "data"):
            wanted |= dict.fromkeys(given.get("exclude_same") or (), "exclude_same")
        if wanted and isinstance(given.get(name), str) and Path(given[name]).suffix == ".parquet":
            _check_columns(Path(given[name]).expanduser(), wanted)
    for name in TEACHERS:
        if isinstance(given.get(name), str):
            _check_teachers(given[name])


def _check_columns(path: Path, wanted: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():  # a pattern
        return
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException):  # whoever reads the rows says more
        return
    for column, what in wanted.items():
        require_column(names, column, what)


def _check_teachers(names: str) -> None:
    for name in split_list(names):
        spec = as_teacher_spec(name)
        spec = spec.of_passages if isinstance(spec, MaxP) else spec
        if not isinstance(spec, (Cross, Dense, Late, Sparse)):
            continue
        if _is_path(spec.model) and not Path(spec.model).expanduser().exists():
            raise InputError(
                f"teacher {name}: {spec.model} does not exist{_nearest_file(Path(spec.model).expanduser())}"
            )
        model_source(spec.model)


def check_files(args: argparse.Namespace) -> None:
    """Refuse a file that does not exist; what has neither a suffix nor a leading dot or slash may be a Hub id.

    Raises:
        InputError: with the nearest name in its folder.
    """
    for name, option in INPUTS.items():
        value = vars(args).get(name)
        if isinstance(value, str) and _is_file_name(value) and not Path(value).expanduser().exists():
            raise InputError(f"{option}{value} does not exist{_nearest_file(Path(value).expanduser())}")


def _is_path(value: str) -> bool:
    return value.startswith(("/", "./", "../", "~"))


def _is_file_name(value: str) -> bool:
    return "*" not in value and (_is_path(value) or value.lower().endswith(SUFFIXES))


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
