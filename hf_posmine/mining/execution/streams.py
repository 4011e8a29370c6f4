"""Reading a stream in batches from a place that an earlier run reached, and proof that it is the same stream."""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from hf_posmine.core.errors import InputError
from hf_posmine.data.stream_faults import named_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import IterableDataset


@dataclass(frozen=True)
class StreamCheckpoint:
    """Where in a stream a shard ended.

    Attributes:
        rows: rows up to there.
        state: of the stream before the last batch up to there; None if the stream has none that JSON could hold.
        batch_rows: rows of that batch.
        digest: of that batch.
    """

    rows: int = 0
    state: dict[str, Any] | None = None
    batch_rows: int = 0
    digest: str = ""


class StreamReader:
    """Batches of a stream, one after the other, from a place on.

    A stream's own state leads there without reading what lies before, but some streams (shuffled ones) then give other
    rows. So the batch before the place is read again: where it is another, the stream is read from its beginning.

    Args:
        stream: an IterableDataset with features.
        batch_rows: rows per batch.
        place: where to begin.

    Raises:
        InputError: even from its beginning the stream does not give the rows that it gave.
    """

    def __init__(self, stream: IterableDataset, batch_rows: int, place: StreamCheckpoint) -> None:
        self._batch_rows, self._read, self._start = batch_rows, place.rows, place
        self._last: tuple[dict[str, Any] | None, pa.Table] | None = None
        if not place.rows:
            self._open(stream, None)
            return
        if place.state is not None:
            # the state of a stream that was put together otherwise fails in any way, or leads astray
            with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
                if self._is_at(place, stream, place.state):
                    return
        if self._is_at(place, stream.skip(place.rows - place.batch_rows), None):
            return
        raise InputError(
            f"the stream does not give the same rows as when its first {place.rows:,} rows were mined; pass the same stream "
            "(a shuffled one with its seed), or begin in another folder"
        )

    @property
    def place(self) -> StreamCheckpoint:
        """Where the batches so far end."""
        if self._last is None:
            return self._start
        state, table = self._last
        return StreamCheckpoint(self._read, _plain(state), len(table), rows_key(table))

    def batches(self, rows: int) -> Iterator[pa.Table]:
        """The next ``rows`` rows, or as many as there are."""
        end = self._read + rows
        while self._read < end and (table := self._next(min(self._batch_rows, end - self._read))) is not None:
            self._read += len(table)
            yield table

    def close(self) -> None:
        """Let go of open files."""
        self._rows.close()

    def _is_at(self, place: StreamCheckpoint, stream: IterableDataset, state: dict[str, Any] | None) -> bool:
        """Open a stream before the last batch up to a place, and read that batch: whether it is the one."""
        self._open(stream, state)
        table = self._next(place.batch_rows)
        if table is not None and rows_key(table) == place.digest:
            return True
        self.close()
        return False

    def _open(self, stream: IterableDataset, state: dict[str, Any] | None) -> None:
        self._arrow, self._state = stream.with_format("arrow"), state
        if state is not None:
            self._arrow.load_state_dict(state)
        self._rows = named_faults(self._arrow)

    def _next(self, rows: int) -> pa.Table | None:
        """Rows are asked for one by one: only so is the stream's state exact wherever its own batches end."""
        batch = list(itertools.islice(self._rows, rows))
        if not batch:
            return None
        table = pa.concat_tables(batch).combine_chunks()
        self._last, self._state = (self._state, table), self._arrow.state_dict()
        return table


def first_row_key(stream: IterableDataset) -> str:
    """A digest of the columns and of the first row of a stream: tells most streams apart.

    Raises:
        InputError: the stream is empty.
    """
    with contextlib.closing(named_faults(stream.with_format("arrow"))) as rows:
        first = next(rows, None)
    if first is None:
        raise InputError("the stream has no rows; there is nothing to mine")
    return rows_key(first)


def rows_key(table: pa.Table) -> str:
    """A digest of the values of some rows."""
    return xxhash.xxh3_128_hexdigest(json.dumps(table.to_pydict(), default=str).encode())


def _plain(state: object) -> dict[str, Any] | None:
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError):
        return None
