"""``verify``: a pushed dataset mined again and compared row by row with what is in the repository."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.hub.inputs import InputChange, Inputs
from hf_posmine.hub.rebuild import Rebuilt, rebuild
from hf_posmine.hub.remine import load_pushed, mine_again
from hf_posmine.hub.retry import with_retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOLERANCE = 1e-4
"""Scores of another machine or batch differ in their last bits."""
ROW = "__posmine_row__"
SHOWN = 10


@dataclass(frozen=True)
class RowDifference:
    """A value that came out otherwise.

    Attributes:
        split: of the row.
        row: its number in the repository.
        query: its query.
        column: which column.
        recorded: the value in the repository.
        found: the value that the mining gave now; None if it gave no such row.
    """

    split: str
    row: int
    query: str
    column: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        where = f"{self.split}, row {self.row}, {self.query[:60]!r}, column {self.column!r}"
        if (
            not isinstance(self.recorded, list)
            or not isinstance(self.found, list)
            or len(self.recorded) != len(self.found)
        ):
            return f"{where}: {_short(self.recorded)} in the repository, {_short(self.found)} now"
        at = next(i for i, pair in enumerate(zip(self.recorded, self.found, strict=True)) if not _same(*pair))
        return f"{where}, number {at + 1}: {_short(self.recorded[at])} in the repository, {_short(self.found[at])} now"


@dataclass(frozen=True)
class Verification:
    """What a repetition of the mining gave.

    Attributes:
        repo_id: the repository.
        commit: its commit that was read.
        rows: rows compared.
        total: rows in the repository.
        differences: values that differ.
        changes: inputs, rows and versions that are not as recorded.
    """

    repo_id: str
    commit: str
    rows: int
    total: int
    differences: tuple[RowDifference, ...]
    changes: tuple[InputChange, ...]

    @property
    def equal(self) -> bool:
        """Whether every row that was compared came out the same."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"equal": self.equal} | dataclasses.asdict(self)

    def __str__(self) -> str:
        rows = len({(d.split, d.row) for d in self.differences})
        compared = (
            f"{self.rows:,} of {self.total:,} rows mined again from the record of {self.repo_id} at {self.commit[:8]}"
        )
        lines = [f"{compared}: {'all are equal' if self.equal else f'{rows:,} differ'}"]
        lines += [f"  {difference}" for difference in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            lines.append(f"  and {len(self.differences) - SHOWN:,} more values")
        for decisive, title in ((True, "not as recorded:"), (False, "moved on, without effect on this check:")):
            found = [change for change in self.changes if change.decisive is decisive]
            lines += [title, *(f"  {change}" for change in found)] if found else []
        return "\n".join(lines)


def verify(
    repo_id: str,
    rows: int | None = None,
    *,
    config: str = "default",
    revision: str | None = None,
    inputs: Inputs | None = None,
    seed: int = 0,
    token: str | None = None,
) -> Verification:
    """Mine a pushed dataset again and compare it row by row with what is in the repository.

    Args:
        repo_id: what :func:`~hf_posmine.hub.push.push_dataset` pushed.
        rows: compare a sample of so many rows; by default all.
        config: configuration of the rows.
        revision: branch, tag or commit; by default main.
        inputs: data or a teacher to mine with instead of what the record names.
        seed: of the sample.
        token: by default that of whoever is logged in.

    Raises:
        InputError: no record, or an input that has to be given.
        HubError: the Hub refused or could not be reached.
    """
    if rows is not None and rows < 1:
        raise InputError(f"rows={rows}; compare at least 1 row, or leave rows out for all")
    there, record, pushed = load_pushed(repo_id, config, revision, token)
    rebuilt = with_retry(lambda: rebuild(pushed, record, inputs or Inputs()), f"reading what {repo_id} was made of")
    total = sum(map(len, pushed.values()))
    chosen = _sample(pushed, rows, seed)
    differences = [d for name, numbers in chosen.items() for d in _compare(name, pushed[name], numbers, rebuilt)]
    compared = sum(map(len, chosen.values()))
    return Verification(there.repo_id, there.commit, compared, total, tuple(differences), rebuilt.changes)


def _sample(pushed: Mapping[str, Any], rows: int | None, seed: int) -> dict[str, list[int]]:
    """The numbers of the rows to compare, by split; each split has its share."""
    total = sum(map(len, pushed.values()))
    if rows is None or rows >= total:
        return {name: list(range(len(split))) for name, split in pushed.items()}
    drawn = np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))
    starts = np.cumsum([0, *(len(split) for split in pushed.values())])
    return {
        name: (drawn[(drawn >= a) & (drawn < b)] - a).tolist()
        for name, a, b in zip(pushed, starts[:-1], starts[1:], strict=True)
    }


def _compare(name: str, pushed: Any, numbers: list[int], rebuilt: Rebuilt) -> Iterator[RowDifference]:
    if not numbers:
        return
    query, rows = rebuilt.miner.query_column, rebuilt.rows[name]
    if rebuilt.from_source:  # rows may have been dropped in mining, so the numbers are those of what comes out
        made = mine_again(rows, rebuilt)
        found = {number: made[number] for number in numbers if number < len(made)}
    else:
        part = rows.select(numbers).add_column(ROW, numbers)
        found = {row[ROW]: row for row in mine_again(part, rebuilt)}
    compared = [
        c for c in rebuilt.miner.features(rows.features) if c not in rows.column_names and c in pushed.column_names
    ]
    for number, recorded in zip(numbers, pushed.select(numbers), strict=True):
        row = found.get(number)
        for column in [query, *compared]:
            value = None if row is None else row[column]
            if row is None or not _same(recorded[column], value):
                yield RowDifference(name, number, recorded[query], column, recorded[column], value)
                if row is None or column == query:  # another row altogether
                    break


def _same(one: Any, two: Any) -> bool:
    """Equal values; numbers with a fraction within the tolerance."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    return bool(one == two)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line of a terminal
