"""Score ceilings and rank windows: every mining method of the paper (section 3) is one of these, or two combined.

The ceiling follows from the positive's score, which is known before any search. Naive Top-K has no filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import SpecError
from hf_posmine.core.neutral import NeutralFilter, check_number, check_whole
from hf_posmine.core.pair_filters import Consistency, FartherFromPositive, NearerToPositive
from hf_posmine.core.quotas import PerGroup, quotas_of
from hf_posmine.core.spec import parse, shown
from hf_posmine.core.types import ByPosition, Filter, OfRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats, ScoreKind


@dataclass(frozen=True, repr=False)
class SkipTop(NeutralFilter):
    """Top-K shifted by N: leave out the first ``count`` ranks (paper, section 3; best N = 10, Table 3).

    Ranks are counted among the candidates that are not excluded, before any score filter.
    """

    count: int

    def __post_init__(self) -> None:
        check_whole(self, "count", 0)

    @property
    def window(self) -> tuple[int, int | None]:
        return (self.count, None)


@dataclass(frozen=True, repr=False)
class RankWindow(NeutralFilter):
    """Ranks ``first <= rank < last``, counted from 0 among the candidates that are not excluded.

    ``RankWindow(30, 100)`` is SFR-Embedding's "range 30-100", ``RankWindow(10, 110)`` what RAGatouille describes.
    """

    first: int
    last: int
    _positional = True

    def __post_init__(self) -> None:
        check_whole(self, "first", 0)
        check_whole(self, "last", 1)
        if self.last <= self.first:
            raise SpecError(f"RankWindow({self.first}, {self.last}) is empty; last must be greater than first")

    @property
    def window(self) -> tuple[int, int | None]:
        return (self.first, self.last)


@dataclass(frozen=True, repr=False)
class MaxScore(NeutralFilter):
    """TopK-Abs: candidates score strictly below one constant (paper, section 3; best 0.7, Table 3)."""

    score: float

    def __post_init__(self) -> None:
        check_number(self, "score")

    def ceiling(self, positive_scores: Floats) -> Floats:
        return np.full(len(positive_scores), self.score, np.float32)

    def check(self, score_kind: ScoreKind) -> None:
        _in_score_range(self, self.score, score_kind)


@dataclass(frozen=True, repr=False)
class MinScore(NeutralFilter):
    """Candidates score at or above one constant: leaves out what is too easy."""

    score: float

    def __post_init__(self) -> None:
        check_number(self, "score")

    def floor(self, positive_scores: Floats) -> Floats:
        return np.full(len(positive_scores), self.score, np.float32)

    def check(self, score_kind: ScoreKind) -> None:
        _in_score_range(self, self.score, score_kind)


@dataclass(frozen=True, repr=False)
class MarginPos(NeutralFilter):
    """TopK-MarginPos: strictly below the positive's score minus a margin (paper, equation 1; best 0.05, Table 3)."""

    margin: float

    def __post_init__(self) -> None:
        check_number(self, "margin")
        if self.margin < 0:
            raise SpecError(
                f"MarginPos({self.margin:g}) lets negatives score above the positive; the margin is subtracted, so give 0 or more"
            )

    def ceiling(self, positive_scores: Floats) -> Floats:
        return (positive_scores.astype(np.float64) - self.margin).astype(np.float32)

    def check(self, score_kind: ScoreKind) -> None:
        if score_kind in ("cosine", "probability") and self.margin > 2:  # noqa: PLR2004 - their whole range
            raise SpecError(
                f"MarginPos({self.margin:g}) is wider than all {score_kind} scores; did you mean {self.margin / 100:g}?"
            )


@dataclass(frozen=True, repr=False)
class PercPos(NeutralFilter):
    """TopK-PercPos: strictly below a share of the positive's score (paper, equation 2; best 0.95, Table 3).

    The ceiling is ``p - |p - zero| (1 - share)``: with a zero of 0 the paper's ``p * share`` for positive scores, and still
    below the positive for negative ones.

    Attributes:
        share: of the positive's score.
        zero: what counts as no similarity. Where a teacher gives unrelated pairs 0.7, ``PercPos(0.95)`` leaves a seventh of
            what ``PercPos(0.95, zero=0.7)`` compares; ``hf-posmine calibrate`` finds it.

    >>> PercPos(0.9, zero=0.5).ceiling(np.array([0.7], np.float32)).round(4).tolist()
    [0.6800000071525574]
    """

    share: float
    zero: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_number(self, "share")
        check_number(self, "zero")
        if not 0 <= self.share <= 1.5:  # noqa: PLR2004 - the paper sweeps 0 to 1.05 (its version 2)
            cure = f"; did you mean {self.share / 100:g}?" if 1.5 < self.share <= 150 else ""  # noqa: PLR2004
            raise SpecError(
                f"PercPos({self.share:g}) is out of range: the share of the positive's score is between 0 and 1.5{cure}"
            )

    def ceiling(self, positive_scores: Floats) -> Floats:
        p = positive_scores.astype(np.float64)
        known = np.where(np.isfinite(p), p, 0)  # a positive below the depth of a run scores -inf, and so is its ceiling
        return np.where(np.isfinite(p), p - np.abs(known - self.zero) * (1 - self.share), p).astype(np.float32)

    def __repr__(self) -> str:
        return f"PercPos({self.share!r}, zero={self.zero!r})" if self.zero else f"PercPos({self.share!r})"

    def check(self, score_kind: ScoreKind) -> None:
        if score_kind in ("logit", "distance") and not self.zero:
            raise SpecError(
                f"{self!r} takes a share of a score, and a {score_kind} has no meaningful zero; use MarginPos, give the score "
                "of unrelated pairs as zero=, or take a teacher that maps its scores (a sigmoid for logits)"
            )
        if self.zero:
            _in_score_range(self, self.zero, score_kind)


@dataclass(frozen=True, repr=False)
class MaxFNRate(NeutralFilter):
    """The hardest filter of a ladder whose false-negative rate is at most ``rate``, with a confidence, by evidence.

    It stands for a filter that is chosen before mining, by ``hf-posmine mine`` or
    :func:`~hf_posmine.evaluation.negatives.certify.certify`; no miner takes it itself, and a record holds what was chosen.

    Attributes:
        rate: mean over queries of the share of false ones among a query's negatives.
        confidence: in the rate of whatever is chosen.
    """

    rate: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, example in (("rate", 0.05), ("confidence", 0.95)):
            check_number(self, name)
            value = vars(self)[name]
            if not 0 < value < 1:
                cure = f"; did you mean {value / 100:g}?" if 1 <= value < 100 else ""  # noqa: PLR2004
                raise SpecError(f"MaxFNRate: {name}={value:g} is not a share between 0 and 1, such as {example}{cure}")

    def __repr__(self) -> str:
        return f"MaxFNRate({self.rate!r}, confidence={self.confidence!r})"

    def check(self, score_kind: ScoreKind) -> None:
        raise SpecError(
            f"{self!r} is chosen from evidence before mining, by hf-posmine mine; in Python give filters=certify(...).filters"
        )


FILTERS = {
    cls.__name__: cls
    for cls in (
        SkipTop, RankWindow, MaxScore, MinScore, MarginPos, PercPos, FartherFromPositive, NearerToPositive, Consistency,
        PerGroup, MaxFNRate,
    )
}  # fmt: skip


def parse_filter(text: str) -> Filter:
    """Read a filter from its spelling.

    >>> parse_filter("PercPos(0.95)")
    PercPos(0.95)
    """
    return _check_type(parse(text, FILTERS, "filter"), text)


NAIVE = ("none", "naive")
"""Spellings of no filter at all, which is Naive Top-K."""


def as_filters(filters: Sequence[Filter | str] | Filter | str) -> tuple[Filter, ...]:
    """Filters from objects or spellings, one or several; ``"none"`` is no filter.

    >>> as_filters("SkipTop(10) + PercPos(0.95)"), as_filters("none")
    ((SkipTop(10), PercPos(0.95)), ())
    """
    several: list[Any] = list(filters) if isinstance(filters, (list, tuple)) else [filters]
    if len(several) == 1 and isinstance(several[0], str):
        several = [] if several[0].strip().lower() in NAIVE else several[0].split(" + ")
    return tuple(parse_filter(f) if isinstance(f, str) else _check_type(f, f) for f in several)


def lowest_ceiling(filters: Sequence[Filter], positive_scores: Floats) -> tuple[Floats, np.ndarray]:
    """The ceiling of all filters together, float32 ``[B]``, and which filter sets it, int64 ``[B]`` (-1: none)."""
    if not filters:
        return np.full(len(positive_scores), np.inf, np.float32), np.full(len(positive_scores), -1)
    all_ceilings = np.stack([f.ceiling(positive_scores) for f in filters])
    which = all_ceilings.argmin(axis=0)
    ceiling = all_ceilings.min(axis=0)
    return ceiling, np.where(np.isposinf(ceiling), -1, which)


def highest_floor(filters: Sequence[Filter], positive_scores: Floats) -> Floats:
    """The floor of all filters together, float32 ``[B]``."""
    floors = [np.full(len(positive_scores), -np.inf, np.float32), *(f.floor(positive_scores) for f in filters)]
    return np.max(np.stack(floors), axis=0)


def common_window(filters: Sequence[Filter]) -> tuple[int, int | None]:
    """The ranks that every filter's window allows.

    >>> common_window([SkipTop(10), RankWindow(0, 50)])
    (10, 50)
    """
    first = max((f.window[0] for f in filters), default=0)
    ends = [f.window[1] for f in filters if f.window[1] is not None]
    last = min(ends, default=None)
    if last is not None and last <= first:
        raise SpecError(f"filters {list(filters)} leave no rank: the first allowed is {first}, the last before {last}")
    return first, last


def by_position(filters: Sequence[Filter]) -> tuple[ByPosition, ...]:
    """The filters that look at where a candidate lies between query and positive."""
    return tuple(f for f in filters if isinstance(f, ByPosition))


def of_rows(filters: Sequence[Filter]) -> tuple[OfRows, ...]:
    """The filters that keep or drop whole rows."""
    return tuple(f for f in filters if isinstance(f, OfRows))


def refuse_of_rows(filters: Sequence[Filter], where: str) -> None:
    """Refuse filters that drop rows or count by columns of the corpus.

    Raises:
        SpecError: there is one; ``where`` says what keeps all rows, and no columns.
    """
    if quotas_of(filters):
        raise SpecError(
            f"{quotas_of(filters)[0]!r} counts by a column of the corpus, and {where} keeps none; mine with it"
        )
    if of_rows(filters):
        raise SpecError(f"{of_rows(filters)[0]!r} drops rows, and {where} keeps all; mine with it")


def refuse_beyond_scores(filters: Sequence[Filter], where: str) -> None:
    """Refuse filters that look at more than the score of a candidate.

    Raises:
        SpecError: there is one; ``where`` says what takes none.
    """
    unfit = [*by_position(filters), *of_rows(filters), *quotas_of(filters)]
    if unfit:
        raise SpecError(f"{unfit[0]!r} has no effect on {where}; give it to the miner")


def _check_type(value: object, text: object) -> Filter:
    if isinstance(value, type) or not isinstance(value, Filter):
        raise SpecError(f"{shown(repr(text))} is not a filter; known: {', '.join(sorted(FILTERS))}")
    return value


def _in_score_range(filter_: Filter, score: float, score_kind: ScoreKind) -> None:
    low, high = {"cosine": (-1.0, 1.0), "probability": (0.0, 1.0)}.get(score_kind, (-math.inf, math.inf))
    if not low <= score <= high:
        cure = f"; did you mean {score / 100:g}?" if low <= score / 100 <= high else ""
        raise SpecError(
            f"{type(filter_).__name__}({score:g}) lies outside {score_kind} scores [{low:g}, {high:g}]{cure}"
        )
