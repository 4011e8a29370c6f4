"""The lines of a TREC run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


class RunLine(NamedTuple):
    """A document of a query, as texts, so that it can be written as it was."""

    query: str
    q0: str
    document: str
    rank: str
    score: str
    tag: str

    @property
    def value(self) -> float:
        """The score; the rank is not read."""
        return float(self.score)


def run_lines(file: str | Path) -> Iterator[RunLine]:
    """All lines of a run in UTF-8, read one by one; empty ones are passed over.

    Raises:
        InputError: a line without six fields, or with a score that is not a number.
    """
    with Path(file).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                found = RunLine(*line.split())
                _ = found.value
            except (TypeError, ValueError):
                raise InputError(
                    f"{file}:{number}: {line.strip()[:80]!r} is not a line of a TREC run, "
                    "'query Q0 document rank score tag'"
                ) from None
            yield found
