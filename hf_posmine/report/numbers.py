"""The numbers of a mined dataset as flat arrays: one value per row, or one per negative, row after row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats, Mask, Rows
    from hf_posmine.report.rows import MinedRows

STATS = "negatives_stats"
Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """The numbers that the miner wrote; None for columns that were not kept.

    Attributes:
        counts: int64 ``[R]``, negatives of each row.
        positive: float32 ``[R]``, the positive's score; NaN where a run does not hold it.
        scores: float32 ``[N]``, of the negatives, NaN where missing.
        own: float32 ``[N]``, the positive's score by the teacher of each negative.
        ranks: int64 ``[N]``, -1 for negatives drawn at random.
        teachers: int64 ``[N]``, number of the teacher in ``teacher_names``.
        teacher_names: of an ensemble; empty for one teacher.
        ceiling: float32 ``[R]``, infinite where there is none.
        above: int64 ``[R]``, candidates at or above the ceiling.
        second: float32 ``[N]``, scores of the second opinion, NaN where it was not needed.
        second_positive: float32 ``[R]``, its score of the positive.
        judged: bool ``[N]``, negatives that a judge took for positives.
        filled: int64 ``[R]``, negatives drawn at random.
        weak: bool ``[R]``, flagged as having a weak positive.
    """

    counts: Rows
    positive: Floats | None = None
    scores: Floats | None = None
    own: Floats | None = None
    ranks: Rows | None = None
    teachers: Rows | None = None
    teacher_names: tuple[str, ...] = ()
    ceiling: Floats | None = None
    above: Rows | None = None
    second: Floats | None = None
    second_positive: Floats | None = None
    judged: Mask | None = None
    filled: Rows | None = None
    weak: Mask | None = None

    @cached_property
    def bounds(self) -> Rows:
        """The bounds of rows, int64 ``[R + 1]``: the negatives of row r are those from ``bounds[r]`` to ``bounds[r + 1]``."""
        return np.append(0, np.cumsum(self.counts))

    @cached_property
    def row_of(self) -> Rows:
        """The row of each negative, int64 ``[N]``."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def reference(self) -> Floats | None:
        """The score of the positive that each negative is compared with, float32 ``[N]``."""
        if self.own is not None:
            return self.own
        return None if self.positive is None else np.repeat(self.positive, self.counts)

    @cached_property
    def margins(self) -> Floats | None:
        """The positive's score less the negative's, float32 ``[N]``."""
        return None if self.scores is None or self.reference is None else self.reference - self.scores


def read_numbers(mined: MinedRows) -> Numbers:
    """Read the columns of numbers, all rows at once: some 30 bytes per negative."""
    names = mined.names
    counts = pc.list_value_length(mined.numbers(["negatives"])["negatives"])
    made: dict[str, Any] = {"counts": pc.fill_null(counts, 0).to_numpy().astype(np.int64)}
    total = int(made["counts"].sum())
    for name, column, kind in (
        ("scores", "negatives_scores", np.float32),
        ("own", "negatives_positive_scores", np.float32),
        ("ranks", "negatives_ranks", np.int64),
        ("second", "negatives_second_scores", np.float32),
        ("judged", "negatives_suspect", bool),
    ):
        values = _flat(mined, column, kind) if column in names else None
        if values is not None and len(values) == total:  # a column of another length does not belong to these negatives
            made[name] = values
    for name, column, kind in (
        ("positive", "positive_score", np.float32),
        ("second_positive", "positive_second_score", np.float32),
        ("filled", "num_random", np.int64),
        ("weak", "weak_positive", bool),
    ):
        if column in names:
            made[name] = _plain(mined.numbers([column])[column], kind)
    if "negatives_teachers" in names:
        coded = pc.list_flatten(mined.numbers(["negatives_teachers"])["negatives_teachers"])
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        coded = coded.dictionary_encode()
        made |= {"teachers": coded.indices.to_numpy().astype(np.int64)}
        made |= {"teacher_names": tuple(coded.dictionary.to_pylist())}
    if STATS in names:
        stats = mined.numbers([STATS])[STATS].combine_chunks()
        made["ceiling"] = _plain(pc.struct_field(stats, "ceiling"), np.float32)
        made["above"] = _plain(pc.struct_field(stats, "num_above_ceiling"), np.int64)
    return Numbers(**made)


def _flat(mined: MinedRows, column: str, kind: type[object]) -> np.ndarray:
    return _plain(pc.list_flatten(mined.numbers([column])[column]), kind)


def _plain(values: pa.Array, kind: type[object]) -> np.ndarray:
    """Arrow values as numpy, missing ones NaN, -1 or False."""
    nothing = {np.float32: float("nan"), np.int64: -1, bool: False}[kind]
    arrow = {np.float32: pa.float32(), np.int64: pa.int64(), bool: pa.bool_()}[kind]
    return pc.fill_null(values.cast(arrow), nothing).to_numpy(zero_copy_only=False)
