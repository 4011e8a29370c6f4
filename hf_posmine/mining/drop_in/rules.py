"""The peer's rules of selection: bounds that a candidate may touch, ranks among what they leave, a search of limited depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from hf_posmine.core.samplers import Top, Uniform
from hf_posmine.core.types import PADDING, Exclusions, Ranking, Teacher
from hf_posmine.mining.batch import EXCLUSION_REASONS, Batch
from hf_posmine.mining.miner import PositiveAwareMiner
from hf_posmine.teachers.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.core.types import Floats, Mask, RowGenerators, Rows, ScoreKind
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.select import MinedBatch

Parameter: TypeAlias = Literal["absolute_margin", "relative_margin", "max_score", "min_score"]


@dataclass(frozen=True)
class ClosedBound:
    """One of the four bounds of ``mine_hard_negatives``: a candidate whose score equals it stays.

    Attributes:
        parameter: which.
        value: as given; margins may be negative.

    >>> ClosedBound("relative_margin", 0.25).ceiling(np.array([0.5], np.float32)) > np.float32(0.375)
    array([ True])
    """

    parameter: Parameter
    value: float

    @property
    def window(self) -> tuple[int, int | None]:
        """All ranks."""
        return (0, None)

    def ceiling(self, positive_scores: Floats) -> Floats:
        """The least float32 above the bound, since candidates must score strictly below a ceiling."""
        value = np.float32(self.value)
        if self.parameter == "absolute_margin":
            bound = positive_scores - value
        elif self.parameter == "relative_margin":
            bound = positive_scores - np.abs(positive_scores) * value
        else:
            bound = np.full(len(positive_scores), value if self.parameter == "max_score" else np.inf, np.float32)
        return np.nextafter(bound, np.float32(np.inf))

    def floor(self, positive_scores: Floats) -> Floats:
        """``min_score``, which candidates must reach."""
        value = self.value if self.parameter == "min_score" else -np.inf
        return np.full(len(positive_scores), value, np.float32)

    def check(self, score_kind: ScoreKind) -> None:
        """Any scores will do, as in sentence-transformers."""


@dataclass(frozen=True)
class AmongSurvivors:
    """Skips the first candidates that the bounds leave, then takes the best or random ones.

    Attributes:
        first: how many to skip, ``range_min``.
        last: how many to consider, ``range_max``; None for no limit, where the best are taken.
        random: draw from all considered instead of taking the best.
    """

    first: int
    last: int | None
    random: bool

    def pool(self, n: int) -> int:
        """How many candidates are wanted."""
        return self.last if self.random and self.last is not None else self.first + n

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """``n`` columns in descending score, -1 where the row is short."""
        place = np.cumsum(keep, axis=1) - 1
        last = keep.shape[1] if self.last is None else self.last
        left = keep & (place >= self.first) & (place < last)
        return (Uniform(max(n, last)) if self.random else Top()).pick(scores, left, n, rngs)


class WithinDepth(StandIn[Teacher]):
    """A teacher whose search sees the best documents only, the excluded ones counted among them.

    ``mine_hard_negatives`` searches first and removes the positives of a query afterwards, so how many candidates it
    considers depends on how many of them are near.

    Args:
        teacher: who scores.
        depth: documents per query.
    """

    def __init__(self, teacher: Teacher, depth: int) -> None:
        super().__init__(teacher)
        self.depth = depth

    @property
    def fingerprint(self) -> str:
        """Digest of the teacher and the depth."""
        return f"{super().fingerprint}-{self.depth}"

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents below the ceilings that are among the best ``depth`` of all."""
        found = super().search(queries, k, below=below, exclude=exclude)
        own = self.score(queries, _padded(Exclusions.given(exclude, len(queries))))
        order = np.argsort(np.argsort(-np.concatenate([found.scores, own], axis=1), axis=1, kind="stable"), axis=1)
        near = (found.above[:, None] + order[:, : found.scores.shape[1]] < self.depth) & (found.doc_ids >= 0)
        return Ranking(
            np.where(near, found.doc_ids, PADDING),
            np.where(near, found.scores, -np.inf).astype(np.float32),
            np.minimum(found.above, self.depth),
        )


def _padded(exclude: Exclusions) -> Rows:
    """The rows excluded for each query, int64 ``[B, m]``, -1 where there are fewer."""
    counts = np.diff(exclude.bounds)
    rows = np.full((len(counts), max(1, int(counts.max(initial=0)))), PADDING, np.int64)
    rows[np.arange(rows.shape[1]) < counts[:, None]] = exclude.rows
    return rows


class DropInMiner(PositiveAwareMiner):
    """A miner over unique queries whose exclusions are those of ``mine_hard_negatives``: the positives of the query.

    Args:
        include_positives: exclude nothing at all.
        strict: exclude as :class:`~hf_posmine.mining.miner.PositiveAwareMiner` does.
        corpus: the documents.
        teachers: who scores.
        options: as for :class:`~hf_posmine.mining.miner.PositiveAwareMiner`.
    """

    def __init__(
        self, *, include_positives: bool, strict: bool, corpus: Corpus, teachers: Sequence[Teacher], **options: Any
    ) -> None:
        self.include_positives, self.strict = include_positives, strict
        super().__init__(corpus=corpus, teachers=teachers, positive_column="positive", **options)

    def mine(self, queries: Sequence[str], positives: Sequence[list[str]]) -> MinedBatch:
        """The negatives of different queries, each with all of its positives."""
        return self._mine({"query": list(queries), "positive": list(positives)})

    def read(self, columns: Mapping[str, Sequence[Any]]) -> tuple[Batch, Exclusions, dict[str, Rows]]:
        """A batch with what may not be a negative of each row."""
        batch, exclude, counts = super().read(columns)
        if self.include_positives:
            return batch, Exclusions.none(len(batch.queries)), counts
        if self.strict:
            return batch, exclude, counts
        own = batch.reasons == EXCLUSION_REASONS.index("positive")
        batch = Batch(batch.queries, batch.entry_rows[own], batch.codes[own], batch.reasons[own], batch.texts)
        return (batch, *batch.exclusions(self.corpus.num_candidates, np.empty(0, np.int64)))
