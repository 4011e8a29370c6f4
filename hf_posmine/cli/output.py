"""Write mined rows, and the record beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.files import unfinished_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.cli.work import MiningInput
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord
    from hf_posmine.mining.summary import MiningSummary

FILES = (".parquet", ".jsonl")
TABLES = (".parquet", ".csv", ".jsonl")
PROVENANCE = "provenance.json"


def write_rows(rows: AnyDataset, file: Path, suffix: str) -> None:
    """Write a Dataset as the kind of file that the suffix names."""
    if suffix == ".jsonl":
        rows.to_json(str(file), force_ascii=False)
    else:
        {".parquet": rows.to_parquet, ".csv": rows.to_csv}[suffix](str(file))


def write_output(mined: AnyDataset, output: Path, record: MiningRecord) -> Path:
    """Write the dataset where the user asked, and its provenance in it or beside it; returns the path of the latter."""
    return write_described(mined, output, PROVENANCE, record.to_json())


def write_described(rows: AnyDataset, output: Path, name: str, description: str) -> Path:
    """Write a dataset, and its description under a name in the folder, or beside the file; returns the path of the latter."""
    from hf_posmine.utils.files import replace_folder, write_file, write_pair

    if output.suffix in FILES:
        beside = _beside(output, name)
        write_pair(
            output,
            lambda temporary: write_rows(rows, temporary, output.suffix),
            beside,
            lambda temporary: temporary.write_text(description, "utf8"),
        )
        return beside

    def write_folder(temporary: Path) -> None:
        rows.save_to_disk(str(temporary))
        write_file(temporary / name, lambda staged: staged.write_text(description, "utf8"))

    replace_folder(output, write_folder)
    return output / name


def _beside(file: Path, name: str) -> Path:
    return file.with_suffix(f"{file.suffix}.{name}")


def account_of(
    work: MiningInput,
    miner: PositiveAwareMiner,
    mined: AnyDataset,
    command: str,
    guarantee: Mapping[str, Any] | None = None,
) -> tuple[MiningSummary, MiningRecord]:
    """What came out of a mining, and the record of how it was made."""
    from hf_posmine.mining.provenance import provenance
    from hf_posmine.mining.summary import MiningSummary

    summary = MiningSummary.from_dataset(mined, miner.settings.num_negatives)
    summary = replace(summary, bad_rows=miner.num_bad_rows, dropped_rows=_dropped(work.rows, miner, summary.rows))
    facts: dict[str, Any] = {
        "source": work.source, "corpus_source": work.corpus_source, "command": command, "guarantee": guarantee,
    }  # fmt: skip
    return summary, provenance(miner, summary=summary, mined=mined, **facts)


def _dropped(rows: AnyDataset, miner: PositiveAwareMiner, left: int) -> int | None:
    """Rows that the settings dropped; None where none can be, or a stream does not say how many it had."""
    from hf_posmine.data.columns import has_numbered_rows, splits_of

    splits = splits_of(rows)
    if not miner.settings.dropping or not all(map(has_numbered_rows, splits)):
        return None
    return sum(map(len, splits)) - left - (miner.num_bad_rows or 0)


def update_line(update: Mapping[str, Any]) -> str:
    """What an update took from the earlier mining, in one line."""
    rows = ", ".join(
        f"{update[f'rows_{name}']:,} {name.replace('_', ' ')}" for name in ("kept", "updated", "mined_again")
    )
    documents = ", ".join(f"{update[f'documents_{name}']:,} {name}" for name in ("added", "removed", "changed"))
    return f"update: rows {rows}; documents {documents}"


def check_no_input(output: Path, inputs: Sequence[str | None]) -> None:
    """Refuse to write over what is read."""
    for source in inputs:
        if source is not None and Path(source).exists() and Path(source).resolve() == output.resolve():
            raise InputError(f"--output {output} is also an input; choose another place")


def check_output(
    output: Path, inputs: Sequence[str | None] = (), name: str = PROVENANCE, what: str = "a mined dataset"
) -> None:
    """Refuse to replace what is not an earlier output, known by its description, before any work is done."""
    check_no_input(output, inputs)
    if output.suffix in FILES:
        beside = _beside(output, name)
        if output.exists() and not beside.is_file() and not unfinished_pair(beside):
            raise InputError(f"--output {output} exists and is not {what}; choose another name or remove it")
        return
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file; write a folder, a .parquet or a .jsonl file")
    if output.suffix and not output.is_dir():
        raise InputError(f"--output {output}: write a folder, a .parquet or a .jsonl file")
    if output.is_dir() and any(output.iterdir()) and not (output / name).is_file():
        raise InputError(f"--output {output} exists and is not {what}; choose another folder or remove it")
