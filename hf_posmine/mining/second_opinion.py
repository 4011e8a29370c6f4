"""A second opinion on what the teacher found: another scorer that filters or ranks, asked only where it can matter.

Candidates come in the teacher's order. If the teacher ranks and the second filters, the negatives are the first n
candidates below the second's ceiling, so nothing behind the n-th has to be scored: rows take turns, all in one
stream per turn, until each has its n. That is exact, unlike a guess of who is near the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.check import whole
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters, common_window, highest_floor, lowest_ceiling, refuse_beyond_scores
from hf_posmine.core.types import PADDING, Filter, Ranking, Teacher
from hf_posmine.mining.candidates import SecondScores, TeacherCandidates, positive_scores
from hf_posmine.teachers.capabilities import require_teacher
from hf_posmine.teachers.spellings import TEACHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Floats, Mask, Rows, ScoreKind
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.batch import Batch
    from hf_posmine.teachers.spellings import TeacherSpec

RankBy: TypeAlias = Literal["teacher", "second"]


@dataclass(frozen=True)
class SecondOpinion:
    """Another teacher's word on the candidates, for ``PositiveAwareMiner(..., second_opinion=...)`` (semantics 12).

    The miner's own filters hold for the teacher's scores, these for the second's, whose score of the positive sets the
    ceiling. Rows whose first ``depth`` candidates do not give enough are short.

    Attributes:
        teacher: who is asked: a :class:`~hf_posmine.teachers.cross_encoder.CrossEncoderTeacher` or any other teacher, or a
            name such as ``"cross:<Hub id or folder>"``.
        filters: ceilings and floors on its scores.
        rank_by: ``"teacher"`` keeps the teacher's order, ``"second"`` takes the second's (and scores all).
        depth: candidates of a row that may be scored.
        band: leave out questions about candidates at least so far below the positive by the teacher, which then pass. This
            is a short cut: the second might have thought otherwise. None asks wherever the answer matters.
        first: a cheaper opinion, such as a small cross-encoder. What its filters turn down is rejected, and not scored by this one.
    """

    teacher: Teacher | TeacherSpec | str
    filters: Sequence[Filter | str] | Filter | str = ()
    rank_by: RankBy = "teacher"
    depth: int = 50
    band: float | None = None
    first: SecondOpinion | None = None

    def __post_init__(self) -> None:
        if self.first is not None and (self.first.rank_by, self.first.band, self.first.first) != (
            "teacher",
            None,
            None,
        ):
            raise InputError("first= only turns candidates down by its filters; give it no rank_by=, band= or first=")
        object.__setattr__(self, "filters", as_filters(self.filters))
        object.__setattr__(self, "depth", whole("depth", self.depth, least=1))
        if not isinstance(self.teacher, (str, *TEACHERS.values())):
            require_teacher(self.teacher, "second opinion", "pass a CrossEncoderTeacher, or 'cross:<model>'")
        kind = self.teacher.score_kind if isinstance(self.teacher, Teacher) else None
        check_effect(self.all_filters, self.rank_by, self.band, kind)

    def over(self, corpus: Corpus) -> SecondOpinion:
        """This opinion on a corpus: a teacher that is given by name is made for it."""
        if self.first is not None:
            return replace(replace(self, first=None).over(corpus), first=self.first.over(corpus))
        if isinstance(self.teacher, Teacher):
            return self
        from hf_posmine.teachers.factory import make_teacher

        return replace(self, teacher=make_teacher(self.teacher, corpus))

    @property
    def scorer(self) -> Teacher:
        """The teacher, as an object."""
        return self.teacher  # type: ignore[return-value]

    @property
    def all_filters(self) -> tuple[Filter, ...]:
        """The filters, as objects."""
        return self.filters  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, without the teacher."""
        filters = [repr(filter_) for filter_ in self.all_filters]
        return {"filters": filters, "rank_by": self.rank_by, "depth": int(self.depth), "band": self.band}

    @property
    def scorers(self) -> list[Teacher]:
        """The teacher, and that of the first opinion if there is one."""
        return [self.scorer, *([] if self.first is None else self.first.scorers)]

    def identity(self) -> dict[str, Any]:
        """Everything that decides what it rejects, as plain values."""
        first = {} if self.first is None else {"first": self.first.identity()}
        return {"teacher": self.scorer.fingerprint, **self.to_dict(), **first}

    def _scoring(
        self, found: TeacherCandidates, batch: Batch, settings: MiningSettings
    ) -> Callable[[Rows, Rows], Floats]:
        """Scores float32 ``[m]`` of candidates by row and column; ``inf`` where the first opinion turns them down."""
        ids, queries = found.ranking.doc_ids, batch.queries
        passes = None if self.first is None else self.first._passing(found, batch, settings)

        def ask(rows: Rows, columns: Rows) -> Floats:
            left = np.ones(len(rows), bool) if passes is None else passes(rows, columns)
            scores, at = np.full(len(rows), np.inf, np.float32), rows[left]
            if len(at):
                texts = [queries[row] for row in at.tolist()]
                scores[left] = self.scorer.score(texts, ids[at, columns[left]][:, None])[:, 0]
            return scores

        return ask

    def _bounds(self, batch: Batch, settings: MiningSettings) -> tuple[Floats, Floats, Floats]:
        """The scores of the rows' positives, and the ceilings and floors that follow from them; float32 ``[B]`` each."""
        own, reference_scores = positive_scores(batch, self.scorer, settings.ceiling_from)
        ceilings, _ = lowest_ceiling(self.all_filters, reference_scores)
        return own, ceilings, highest_floor(self.all_filters, reference_scores)

    def _passing(
        self, found: TeacherCandidates, batch: Batch, settings: MiningSettings
    ) -> Callable[[Rows, Rows], Mask]:
        """Whether candidates pass, bool ``[m]``, by row and column."""
        ask, (_, ceilings, floors) = self._scoring(found, batch, settings), self._bounds(batch, settings)

        def passes(rows: Rows, columns: Rows) -> Mask:
            scores = ask(rows, columns)
            return (scores < ceilings[rows]) & (scores >= floors[rows])

        return passes

    def apply(self, found: TeacherCandidates, batch: Batch, settings: MiningSettings) -> TeacherCandidates:
        """What is left of a teacher's candidates, ranked as asked for, with the second scores beside them."""
        own, ceilings, floors = self._bounds(batch, settings)
        opinion = second_opinion(
            self._scoring(found, batch, settings),
            found.keep,
            ceilings,
            floors,
            found.keep.shape[1] if self.rank_by == "second" else settings.one_sampler.pool(settings.num_negatives),
            assumed=None if self.band is None else far_below(found.ranking.scores, found.own, self.band),
        )
        keep = np.zeros(found.keep.shape, bool)
        rows, at = np.nonzero(opinion.columns >= 0)
        keep[rows, opinion.columns[rows, at]] = True
        rejected = (~np.isnan(opinion.scores) & ~opinion.passed).sum(axis=1)
        second = SecondScores(np.where(np.isposinf(opinion.scores), np.nan, opinion.scores), own, rejected)
        left = replace(found, keep=keep, second=second)
        return _by_second(left, second) if self.rank_by == "second" else left


@dataclass(frozen=True)
class Opinion:
    """What a second scorer made of candidates.

    Attributes:
        columns: int64 ``[B, n]``, the chosen candidates, -1 where the row is short.
        scores: float32 ``[B, K]``, NaN where it was not asked.
        passed: bool ``[B, K]``, which candidates passed, or were assumed to pass and not scored.
    """

    columns: Rows
    scores: Floats
    passed: Mask


def second_opinion(
    ask: Callable[[Rows, Rows], Floats], there: Mask, ceilings: Floats, floors: Floats, n: int, *, assumed: Mask | None = None
) -> Opinion:  # fmt: skip
    """The first ``n`` candidates of each row whose second score is in ``[floor, ceiling)``, asking for no more than that takes.

    Args:
        ask: scores float32 ``[m]`` of candidates by row and column, int64 ``[m]`` each.
        there: bool ``[B, K]``, which candidates exist, best first.
        ceilings: float32 ``[B]``, on the second scale.
        floors: float32 ``[B]``, likewise.
        n: candidates wanted per row.
        assumed: bool ``[B, K]``, candidates that pass without being scored, as those far below their positive may
            (:func:`far_below`).
    """
    assumed = np.zeros(there.shape, bool) if assumed is None else assumed & there
    scores = np.full(there.shape, np.nan, np.float32)
    passed, open_ = assumed.copy(), there & ~assumed
    while True:
        # Asked is what counts even if everything before it passes; one at a time would ask about the same candidates.
        before = np.cumsum(passed | open_, axis=1) - (passed | open_)
        rows, columns = np.nonzero(open_ & (before < n))
        if not len(rows):
            break
        scores[rows, columns] = ask(rows, columns)
        open_[rows, columns] = False
        values = scores[rows, columns]
        passed[rows, columns] = (values < ceilings[rows]) & (values >= floors[rows])
    order = np.argsort(~passed, axis=1, kind="stable")[:, :n]
    chosen = np.where(np.take_along_axis(passed, order, axis=1), order, PADDING)
    chosen = np.pad(chosen, ((0, 0), (0, n - chosen.shape[1])), constant_values=PADDING)
    return Opinion(chosen.astype(np.int64), scores, passed)


def far_below(scores: Floats, positive_scores: Floats, band: float) -> Mask:
    """Candidates bool ``[B, K]`` at least ``band`` below their positive by the teacher: too far to be worth a question.

    Args:
        scores: float32 ``[B, K]``, by the teacher.
        positive_scores: float32 ``[B]``, by the teacher.
        band: distance on the teacher's scale.
    """
    if band < 0:
        raise InputError(f"band={band:g}; give a distance of 0 or more")
    return scores <= (positive_scores.astype(np.float64) - band)[:, None]


def check_effect(filters: Sequence[Filter], rank_by: str, band: float | None, score_kind: ScoreKind | None) -> None:
    """Refuse a second opinion that could not take effect, and filters that mean nothing on its scores.

    Raises:
        InputError: what has no effect, with the cure.
    """
    if rank_by not in get_args(RankBy):
        raise InputError(f"rank_by={rank_by!r}; expected one of {', '.join(get_args(RankBy))}")
    refuse_beyond_scores(filters, "a second opinion")
    if common_window(filters) != (0, None):
        raise InputError(f"{list(filters)} limits ranks, which are the teacher's; give it to the miner")
    if rank_by == "teacher" and not filters:
        raise InputError(
            "a second opinion that neither ranks nor filters has no effect; give filters or rank_by='second'"
        )
    if rank_by == "second" and band is not None:
        raise InputError("rank_by='second' scores every candidate, so band= has no effect; leave it out")
    if band is not None and band < 0:
        raise InputError(f"band={band:g}; give a distance of 0 or more")
    if score_kind is not None:
        for filter_ in filters:
            filter_.check(score_kind)


def _by_second(found: TeacherCandidates, second: SecondScores) -> TeacherCandidates:
    """The candidates in the order of the second scores; those that were not scored are not kept, and come last."""
    ranking, scores = found.ranking, second.scores
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=1, kind="stable")

    def sort(values: np.ndarray) -> Any:
        return np.take_along_axis(values, order, axis=1)

    ranking = Ranking(sort(ranking.doc_ids), sort(ranking.scores), ranking.above)
    second = replace(second, scores=sort(scores))
    return replace(found, ranking=ranking, ranks=sort(found.ranks), keep=sort(found.keep), second=second)
