"""``verify``: a pushed dataset mined again and compared row by row with the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import named_rows
from hf_posmine.hub.compare import same
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.pushed import read_pushed
from hf_posmine.hub.rebuild import Rebuilt, rebuild
from hf_posmine.hub.remine import mine_again
from hf_posmine.hub.retry import with_retry
from hf_posmine.hub.verification import RowDifference, Verification

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.hub.pushed import PushedRecord
    from hf_posmine.mining.record import MiningRecord

ROW = "__posmine_row__"


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
    """Mine a pushed dataset again and compare it row by row with the repository.

    The columns compared are those that the recorded settings let mining write, and those of the source where it had to be
    loaded. A column that is missing, a record that the rebuilt miner or the card contradicts, and every other decisive
    change of an input leave the dataset not verified, even if all rows are equal.

    Args:
        repo_id: repository that :func:`~hf_posmine.hub.push.push_dataset` pushed to.
        rows: number of rows to compare, drawn at random; by default all.
        config: configuration of the rows.
        revision: branch, tag or commit; by default main.
        inputs: data or a teacher to mine with instead of those of the record.
        seed: random seed of the sample.
        token: by default that of the logged-in user.

    Raises:
        InputError: no record, or an input that has to be given.
        HubError: the Hub refused or could not be reached.
    """
    if rows is not None and rows < 1:
        raise InputError(f"rows={rows}; compare at least 1 row, or leave rows out for all")
    there = read_pushed(repo_id, config, revision, token)
    pushed = there.load_rows(token)
    rebuilt = with_retry(
        lambda: rebuild(pushed, there.record, inputs or Inputs()), f"reading the inputs recorded by {repo_id}"
    )
    return compare_pushed(there, pushed, rebuilt, rows, seed)


def compare_pushed(
    there: PushedRecord, pushed: Mapping[str, Any], rebuilt: Rebuilt, rows: int | None = None, seed: int = 0
) -> Verification:
    """Compare rows of a repository with those that the rebuilt miner gives; see :func:`verify`."""
    chosen = _sample(pushed, rows, seed)
    differences = [d for name, numbers in chosen.items() for d in _compare(name, pushed[name], numbers, rebuilt)]
    return Verification(
        repo_id=there.there.repo_id,
        commit=there.there.commit,
        rows=sum(map(len, chosen.values())),
        total=sum(map(len, pushed.values())),
        columns=tuple(dict.fromkeys(c for name in pushed for c in _columns(pushed[name], name, rebuilt))),
        differences=tuple(differences),
        changes=(*there.card_changes, *rebuilt.changes),
        unchecked=tuple(_unchecked(there.record, rebuilt)),
    )


def _unchecked(record: MiningRecord, rebuilt: Rebuilt) -> Iterator[str]:
    if not rebuilt.from_source:
        path = "a source without a name" if record.source.path is None else f"the source {record.source.path!r}"
        yield f"that the queries and positives are those of {path}; to compare them, pass it as --dataset"
        if record.settings["skip_bad_rows"]:
            yield "how many rows without a query or a positive were left out of the source"
    yield "when, by which command and with which package versions the rows were mined"


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


def _columns(pushed: AnyDataset, name: str, rebuilt: Rebuilt) -> list[str]:
    """The columns to compare, the query first; one that the repository lacks is a change of its own."""
    own = rebuilt.rows[name].column_names if rebuilt.from_source else ()
    wanted = dict.fromkeys([rebuilt.miner.query_column, *own, *rebuilt.mined_columns])
    return [column for column in wanted if column in pushed.column_names]


def _compare(name: str, pushed: AnyDataset, numbers: list[int], rebuilt: Rebuilt) -> Iterator[RowDifference]:
    if not numbers:
        return
    query, columns = rebuilt.miner.query_column, _columns(pushed, name, rebuilt)
    found = _mined(rebuilt.rows[name], numbers, len(pushed), rebuilt)
    for number, recorded in zip(numbers, named_rows(pushed.select(numbers)), strict=True):
        row = found.get(number)
        for column in columns:
            value = None if row is None else row[column]
            if row is None or not same(recorded[column], value):
                yield RowDifference(name, number, recorded[query], column, recorded[column], value)
                if row is None or column == query:  # another row altogether
                    break
    for number in sorted(found):
        if number >= len(pushed):
            yield RowDifference(name, number, found[number][query], query, None, found[number][query])


def _mined(rows: AnyDataset, numbers: list[int], there: int, rebuilt: Rebuilt) -> dict[int, Any]:
    """Rows mined again by their number in the repository; of a source also those beyond the ``there`` rows in it."""
    if rebuilt.from_source:  # rows may have been dropped in mining, so the numbers are those of the result
        made = mine_again(rows, rebuilt)
        wanted = [number for number in (*numbers, *range(there, len(made))) if number < len(made)]
        return dict(zip(wanted, named_rows(made.select(wanted)), strict=True))
    part = rows.select(numbers).add_column(ROW, numbers)
    return {row[ROW]: row for row in named_rows(mine_again(part, rebuilt))}
