"""Programs that grade the outcome of a task: each looks at files, and returns what is wrong, or None."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from hf_posmine.audit import audit_data
from hf_posmine.data import normalize, open_training_data

Check: TypeAlias = Callable[[Path, Any], "str | None"]
FALSE = ("same_text", "same_normalized", "near_copy", "duplicate_negative", "empty_text")


def exists(folder: Path, names: list[str]) -> str | None:
    """All of these files or folders are there, and not empty."""
    lost = [name for name in names if not (folder / name).exists() or (folder / name).stat().st_size == 0]
    return f"missing or empty: {lost}" if lost else None


def rows(folder: Path, wanted: dict[str, int]) -> str | None:
    """A file has so many rows."""
    for name, count in wanted.items():
        there = len(_rows(folder / name))
        if there != count:
            return f"{name} has {there} rows, not {count}"
    return None


def columns(folder: Path, wanted: dict[str, list[str]]) -> str | None:
    """A file has these columns."""
    for name, names in wanted.items():
        lost = set(names) - set(_rows(folder / name)[0])
        if lost:
            return f"{name} lacks the columns {sorted(lost)}"
    return None


def negatives(folder: Path, wanted: dict[str, int]) -> str | None:
    """Each row of a file in any layout has at least one and at most so many negatives, and most rows have all."""
    for name, count in wanted.items():
        found = [len(view.negatives) for views in open_training_data(folder / name).batches() for view in views]
        if not 0 < min(found) <= max(found) <= count or sum(n == count for n in found) < len(found) / 2:
            return f"{name} has {min(found)} to {max(found)} negatives a row, not {count}"
    return None


def clean(folder: Path, names: list[str]) -> str | None:
    """No row of these files has a copy of a positive among its negatives, a repeated or an empty one."""
    for name in names:
        result = audit_data(open_training_data(folder / name))
        found = [kind for kind in FALSE if result.rows_with(kind)]
        if found:
            return f"{name} still has {found}"
    return None


def known(folder: Path, wanted: dict[str, str]) -> str | None:
    """Every negative of a file is a document of another."""
    for name, corpus in wanted.items():
        texts = {normalize(row["text"]) for row in _rows(folder / corpus)}
        views = [view for views in open_training_data(folder / name).batches() for view in views]
        strange = [text for view in views for text in view.negatives if normalize(text) not in texts]
        if strange:
            return f"{name} has negatives that {corpus} lacks, such as {strange[0]!r}"
    return None


def recorded(folder: Path, wanted: dict[str, dict[str, Any]]) -> str | None:
    """The provenance beside an output holds these values, by dotted path; of lists one member."""
    for name, values in wanted.items():
        record = json.loads((folder / f"{name}.provenance.json").read_text("utf-8"))
        for path, value in values.items():
            there = record
            for part in path.split("."):
                there = there[int(part)] if part.isdigit() else there[part]
            if there != value and not (isinstance(there, list) and value in there):
                return f"{name} was made with {path} = {there!r}, not {value!r}"
    return None


def answer(folder: Path, wanted: dict[str, Any]) -> str | None:
    """``answer.json`` holds these values."""
    given = json.loads((folder / "answer.json").read_text("utf-8"))
    wrong = {key: given.get(key) for key, value in wanted.items() if given.get(key) != value}
    return f"wrong answers: {wrong}" if wrong else None


def justified(folder: Path, words: list[str]) -> str | None:
    """``because`` of ``answer.json`` gives one of the reasons."""
    reason = str(json.loads((folder / "answer.json").read_text("utf-8")).get("because", "")).lower()
    return None if any(word in reason for word in words) else f"the reason {reason!r} names none of {words}"


def json_has(folder: Path, wanted: dict[str, dict[str, int]]) -> str | None:
    """The JSON of an audit has so many rows with a finding."""
    for name, kinds in wanted.items():
        found = json.loads((folder / name).read_text("utf-8"))["findings"]
        wrong = {
            kind: found.get(kind, {}).get("rows", 0)
            for kind, count in kinds.items()
            if found.get(kind, {}).get("rows", 0) != count
        }
        if wrong:
            return f"{name} has {wrong}, not {kinds}"
    return None


def exits(folder: Path, wanted: dict[str, int]) -> str | None:
    """The command in a file, run again, has this exit status."""
    from hf_posmine.cli.main import main
    from skills.evaluation.run import words_of, working_in

    for name, status in wanted.items():
        with working_in(folder):
            try:
                there = main(words_of((folder / name).read_text()))
            except SystemExit as end:
                there = int(end.code or 0)
        if there != status:
            return f"the command of {name} ends with {there}, not {status}"
    return None


def prints(folder: Path, wanted: dict[str, str]) -> str | None:
    """A script runs and prints this."""
    for name, text in wanted.items():
        done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or text not in done.stdout:
            return f"{name} ends with {done.returncode} and prints {done.stdout[-200:]!r} {done.stderr[-300:]!r}"
    return None


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (exists, rows, columns, negatives, clean, known, recorded, answer, justified, json_has, exits, prints)
}


def grade(folder: Path, checks: dict[str, Any]) -> list[str]:
    """What is wrong with the outcome in a folder; nothing for a pass."""
    wrong = []
    for name, argument in checks.items():
        try:
            found = CHECKS[name](folder, argument)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found:
            wrong.append(f"{name}: {found}")
    return wrong


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
