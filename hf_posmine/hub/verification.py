"""The result of ``verify``: which rows and inputs differ from a record, and how that is printed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.hub.compare import same

if TYPE_CHECKING:
    from hf_posmine.hub.inputs import InputChange

SHOWN = 10
WIDTH = 80
"""Characters of a value in a line of the terminal."""


@dataclass(frozen=True)
class RowDifference:
    """A value in the repository that mining again did not give.

    Attributes:
        split: split of the row.
        row: row number in the repository, from 0.
        query: query of the row.
        column: column of the value.
        recorded: value in the repository; None if the repository has no such row.
        found: value of the row mined again; None if mining gave no such row.
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
        at = next(i for i, pair in enumerate(zip(self.recorded, self.found, strict=True)) if not same(*pair))
        return f"{where}, number {at + 1}: {_short(self.recorded[at])} in the repository, {_short(self.found[at])} now"


@dataclass(frozen=True)
class Verification:
    """The result of mining a pushed dataset again.

    Attributes:
        repo_id: the repository.
        commit: its commit that was read.
        rows: number of rows compared.
        total: number of rows in the repository.
        columns: columns compared; those that mining writes follow from the recorded settings alone.
        differences: values that differ.
        changes: inputs, rows and versions that are not as recorded.
        unchecked: statements of the record that were taken as they are.
    """

    repo_id: str
    commit: str
    rows: int
    total: int
    columns: tuple[str, ...]
    differences: tuple[RowDifference, ...]
    changes: tuple[InputChange, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def rows_equal(self) -> bool:
        """Whether every compared row came out the same, whatever the inputs."""
        return not self.differences

    @property
    def verified(self) -> bool:
        """Whether every compared row came out the same, and every input that decides rows is as recorded."""
        return self.rows_equal and not any(change.decisive for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"verified": self.verified, "rows_equal": self.rows_equal} | dataclasses.asdict(self)

    def __str__(self) -> str:
        rows = len({(d.split, d.row) for d in self.differences})
        compared = (
            f"{self.rows:,} of {self.total:,} rows mined again from the record of {self.repo_id} at {self.commit[:8]}"
        )
        lines = [f"{compared}: {'all are equal' if self.rows_equal else f'{rows:,} differ'}"]
        lines += [f"columns compared: {', '.join(self.columns)}"]
        lines += [f"  {difference}" for difference in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            lines.append(f"  and {len(self.differences) - SHOWN:,} more values")
        for decisive, title in (
            (True, "not verified, as this is not as recorded:"),
            (False, "changed since, without effect on this check:"),
        ):
            found = [change for change in self.changes if change.decisive is decisive]
            lines += [title, *(f"  {change}" for change in found)] if found else []
        lines += ["not checked:", *(f"  {statement}" for statement in self.unchecked)] if self.unchecked else []
        return "\n".join(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
