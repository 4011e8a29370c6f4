"""The arrays and the seams that everything else is made of.

Shapes use fixed letters: B rows of a batch, k depth, K candidates, n negatives, d dimensions, m pairs, N documents,
Q queries, T teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
RowGenerators: TypeAlias = Callable[[int], np.random.Generator]
"""Row of the batch -> its own generator; made only where a sampler draws."""

ScoreKind: TypeAlias = Literal["cosine", "dot", "distance", "logit", "bm25", "probability"]
CeilingFrom: TypeAlias = Literal["min", "own", "mean", "max"]
Match: TypeAlias = Literal["exact", "normalized", "loose"]
"""Which texts count as the same: equal ones, those equal after normalisation, or also without invisible characters."""

PADDING = -1
"""The document row, or column, that stands for "nothing here"."""


@dataclass(frozen=True)
class Ranking:
    """The best documents of a batch of queries below their ceilings.

    Attributes:
        doc_ids: int64 ``[B, k]``, corpus rows, best first; -1 is padding and only at the end.
        scores: float32 ``[B, k]``, ``-inf`` where padded. Ties are in document order.
        above: int64 ``[B]``, how many documents that are not excluded score at or above the ceiling. It is the rank
            (from 0) of the first document returned; 0 where no ceiling was given.
    """

    doc_ids: Rows
    scores: Floats
    above: Rows

    @classmethod
    def nothing(cls, queries: int, k: int) -> Ranking:
        """No documents for so many queries: what :meth:`put` fills."""
        return cls(
            np.full((queries, k), PADDING, np.int64),
            np.full((queries, k), -np.inf, np.float32),
            np.zeros(queries, np.int64),
        )

    def take(self, rows: Rows | Mask) -> Ranking:
        """The rankings of some of the queries."""
        return Ranking(self.doc_ids[rows], self.scores[rows], self.above[rows])

    def put(self, rows: Rows | Mask, found: Ranking) -> None:
        """Fill in what was found for some of the queries."""
        self.doc_ids[rows], self.scores[rows], self.above[rows] = found.doc_ids, found.scores, found.above


@dataclass(frozen=True)
class Candidates:
    """What a sampler chooses from: one or several teachers side by side.

    Attributes:
        doc_ids: int64 ``[B, K]``, corpus rows, best first within each teacher, -1 where padded.
        scores: float32 ``[B, K]``, each by its own teacher.
        positive_scores: float32 ``[B, K]``, the score of the row's own positive by the same teacher.
        teacher: int16 ``[K]``, the index of the teacher of each column.
    """

    doc_ids: Rows
    scores: Floats
    positive_scores: Floats
    teacher: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Exclusions:
    """Documents that may not be candidates: per query, and for every query.

    Attributes:
        rows: int64 ``[E]``, corpus rows of all queries one after the other, sorted within each.
        bounds: int64 ``[B + 1]``, where each query's rows begin and end.
        everywhere: int64, sorted corpus rows that no query may get.

    >>> Exclusions.of([[7, 2], [], [5]]).of_query(0).tolist()
    [2, 7]
    """

    rows: Rows
    bounds: Rows
    everywhere: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, groups: Sequence[Sequence[int] | Rows], everywhere: Sequence[int] | Rows = ()) -> Exclusions:
        """Exclusions from one group of rows per query."""
        sorted_groups = [np.unique(np.asarray(group, np.int64)) for group in groups]
        bounds = np.cumsum([0, *map(len, sorted_groups)]).astype(np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *sorted_groups])
        return cls(flat, bounds, np.unique(np.asarray(everywhere, np.int64)))

    @classmethod
    def none(cls, num_queries: int) -> Exclusions:
        """Nothing excluded, for ``num_queries`` queries."""
        return cls(np.empty(0, np.int64), np.zeros(num_queries + 1, np.int64))

    @classmethod
    def given(cls, exclude: Exclusions | Sequence[Sequence[int]] | None, num_queries: int) -> Exclusions:
        """The exclusions of a search, given as such, as one group of rows per query, or as None."""
        if isinstance(exclude, Exclusions):
            return exclude
        return cls.none(num_queries) if exclude is None else cls.of(exclude)

    def of_query(self, position: int) -> Rows:
        """The rows excluded for one query."""
        return self.rows[self.bounds[position] : self.bounds[position + 1]]

    def take(self, positions: Rows) -> Exclusions:
        """The exclusions of some of the queries."""
        counts = np.diff(self.bounds)[positions]
        rows = self.rows[spans(self.bounds[positions], counts)]
        return Exclusions(rows, np.append(0, np.cumsum(counts)), self.everywhere)


def spans(starts: Rows, counts: Rows) -> Rows:
    """The whole numbers from each start on, as many as its count, one run after the other.

    >>> spans(np.array([10, 5]), np.array([2, 3])).tolist()
    [10, 11, 5, 6, 7]
    """
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


@dataclass(frozen=True)
class SearchRequest:
    """One search of some of the queries of a batch.

    Attributes:
        rows: int64 ``[b]``, positions in the batch.
        k: depth.
        below: float32 ``[b]``, strict ceilings, ``inf`` for none.
    """

    rows: Rows
    k: int
    below: Floats


class Scorer(Protocol):
    """Scores of queries with documents, and the best documents below a ceiling."""

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings ``below`` (float32 ``[B]``)."""

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of the corpus rows int64 ``[B, m]``; ``-inf`` where the row is -1."""

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i, for documents outside the corpus."""


@runtime_checkable
class Teacher(Scorer, Protocol):
    """Any retrieval model, lexical index or stored run, by these six members alone.

    A teacher can have more capabilities, such as encoding a corpus beforehand. Each is a Protocol of its own in
    :mod:`hf_posmine.teachers.capabilities`, which also holds the defaults for teachers without it.
    """

    @property
    def name(self) -> str:
        """The name in the output."""

    @property
    def score_kind(self) -> ScoreKind:
        """The scale of its scores, which decides which filters make sense."""

    @property
    def fingerprint(self) -> str:
        """Content digest: equal digests give equal scores."""


@runtime_checkable
class Filter(Protocol):
    """A score ceiling and floor per query, and a window of ranks (paper, sections 3 and 4)."""

    def ceiling(self, positive_scores: Floats) -> Floats:
        """Candidates must score strictly below it; float32 ``[B]`` -> float32 ``[B]``, ``inf`` for none."""

    def floor(self, positive_scores: Floats) -> Floats:
        """Candidates must score at or above it; float32 ``[B]`` -> float32 ``[B]``, ``-inf`` for none."""

    @property
    def window(self) -> tuple[int, int | None]:
        """Ranks ``first <= rank < last`` that may be taken, counted from 0; ``last`` None for no end."""

    def check(self, score_kind: ScoreKind) -> None:
        """Raise :class:`~hf_posmine.core.errors.SpecError` where the filter means nothing on such scores."""


@runtime_checkable
class ByPosition(Protocol):
    """A filter of candidates by where they lie between query and positive; the teacher must have vectors of documents."""

    def keeps(self, to_query: Floats, to_positive: Floats) -> Mask:
        """Which candidates may be taken, bool ``[B, K]``, by cosines float32 ``[B, K]`` with the query and the positive."""


@runtime_checkable
class OfRows(Protocol):
    """A filter of whole rows by the rank of their positive."""

    def keeps_rows(self, outranked: Rows) -> Mask:
        """Which rows are kept, bool ``[B]``, by the number of candidates above the positive, int64 ``[B]``."""


@runtime_checkable
class Sampler(Protocol):
    """Which of the kept candidates become negatives."""

    def pool(self, n: int) -> int:
        """How many kept candidates are wanted to choose ``n`` from."""

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """Columns int64 ``[B, n]`` of the chosen candidates in descending score, -1 where the row is short.

        Args:
            scores: float32 ``[B, K]``, non-increasing along each row.
            keep: bool ``[B, K]``, which candidates may be chosen.
            n: negatives per row.
            rngs: row -> its generator.
        """


@runtime_checkable
class RelativeSampler(Protocol):
    """A sampler that takes scores relative to the positive's where ``relative`` is true."""

    relative: bool


class Index(Protocol):
    """Nearest documents of query vectors below a ceiling."""

    def search(
        self, vectors: Floats, k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """As :meth:`Teacher.search`, for vectors float32 ``[B, d]``."""
