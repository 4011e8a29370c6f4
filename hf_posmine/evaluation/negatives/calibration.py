"""Results of a calibration: curves with intervals, the threshold for a given rate, and families at equal hardness."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.core.types import Mask, Rows
    from hf_posmine.mining.select import MinedBatch

Doubles: TypeAlias = npt.NDArray[np.float64]
CELLS = 4_000_000
"""Drawn weights held in memory at a time."""


@dataclass(frozen=True)
class Sums:
    """Per setting and query, averages over the ways to hide the query's positives.

    Attributes:
        false: float64 ``[S, Q]``, hidden positives among the negatives.
        negatives: float64 ``[S, Q]``, negatives found.
        score: float64 ``[S, Q]``, their scores, summed.
        positive: float64 ``[S, Q]``, for each of them the score of the row's positive, summed.
        hidden: float64 ``[Q]``, hidden positives.
    """

    false: Doubles
    negatives: Doubles
    score: Doubles
    positive: Doubles
    hidden: Doubles

    @classmethod
    def zeros(cls, settings: int, queries: int) -> Sums:
        """Nothing counted yet."""
        false, negatives, score, positive = np.zeros((4, settings, queries))
        return cls(false, negatives, score, positive, np.zeros(queries))

    def add(self, setting: int, of_query: Rows, weights: Doubles, mined: MinedBatch, false: Mask) -> None:
        """Add mined rows of the queries ``of_query``, each with the weight of its query."""
        scored = (mined.rows >= 0) & np.isfinite(mined.own_scores) & np.isfinite(mined.scores)
        counted = {
            "false": false, "negatives": mined.rows >= 0, "score": np.where(scored, mined.scores, 0),
            "positive": np.where(scored, mined.own_scores, 0),
        }  # fmt: skip
        for name, values in counted.items():
            row_sums = values.sum(axis=1, dtype=np.float64) * weights[of_query]
            np.add.at(vars(self)[name][setting], of_query, row_sums)

    @property
    def shares(self) -> Doubles:
        """Share of false ones among each query's negatives, float64 ``[S, Q]``; NaN without a negative."""
        nothing = np.full_like(self.false, np.nan)
        return np.divide(self.false, self.negatives, out=nothing, where=self.negatives > 0)

    def take(self, queries: Rows) -> Sums:
        """Some of the queries."""
        false, negatives, score, positive = (
            part[:, queries] for part in (self.false, self.negatives, self.score, self.positive)
        )
        return Sums(false, negatives, score, positive, self.hidden[queries])


@dataclass(frozen=True)
class Point:
    """One setting.

    Attributes:
        family: its family.
        method: its filters, as spelled.
        rate: share of the negatives that are hidden positives.
        low: lower end of the rate's interval.
        high: upper end of it.
        risk: share of the hidden positives that are mined: the chance of one unlabelled positive to become a negative.
        hardness: mean score of the negatives divided by the mean score of their positives.
        gap: mean score of the positives minus that of the negatives; the smaller, the harder.
        found: share of the requested negatives that were found.
    """

    family: str
    method: str
    rate: float
    low: float
    high: float
    risk: float
    hardness: float
    gap: float
    found: float


@dataclass(frozen=True)
class AtHardness:
    """A family at the hardness of another setting.

    Attributes:
        family: its name.
        rate: its false-negative rate there, between its two nearest settings.
        low: lower end of the interval of the rate.
        high: upper end of it.
        difference: this rate minus the setting's.
        difference_low: lower end of the interval of the difference.
        difference_high: upper end of it. If the interval holds 0, the two are not significantly different.
    """

    family: str
    rate: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class Calibration:
    """Rates and hardness of settings, with bootstrap intervals over queries.

    Attributes:
        settings: family and filters of each setting, as spelled.
        sums: what was counted.
        num_negatives: requested negatives per row.
        resamples: R, of the queries.
        level: of the intervals.
        seed: of the resamples.
    """

    settings: tuple[tuple[str, str], ...]
    sums: Sums
    num_negatives: int
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.level < 1:
            raise InputError(
                f"resamples={self.resamples}, level={self.level}; give at least 1, and a level such as 0.95"
            )

    @property
    def queries(self) -> int:
        """Queries with a positive to hide."""
        return len(self.sums.hidden)

    def on(self, queries: Rows) -> Calibration:
        """The calibration of some of the queries, by their positions."""
        return replace(self, sums=self.sums.take(queries))

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Every setting, in the order given."""
        sums, whole = self.sums, np.ones((1, self.queries))
        rates, gaps = (values[0] for values in self._figures(whole))
        lows, highs = self._ends(self._resampled[0])
        highs = np.maximum(highs, self._not_excluded(self.queries))
        requested = self.queries * self.num_negatives
        return tuple(
            Point(
                family, method, float(rates[at]), float(lows[at]), float(highs[at]),
                float(_ratio(sums.false[at].sum(), sums.hidden.sum())),
                float(_ratio(sums.score[at].sum(), sums.positive[at].sum())), float(gaps[at]),
                float(sums.negatives[at].sum() / requested),
            )
            for at, (family, method) in enumerate(self.settings)
        )  # fmt: skip

    def predicted(self, queries: int) -> list[tuple[float, float]]:
        """Per setting, the prediction interval of the rate on ``queries`` other queries, at the level.

        Wider than the interval of the rate itself, since the other queries are a sample, too.
        """
        if queries < 1:
            raise InputError(f"queries={queries}; predict for at least 1")
        rng = np.random.default_rng(self.seed)
        differences = []
        for rows in _chunks(self.resamples, self.queries):
            here, there = (self._figures(self._draw(size, rows, rng))[0] for size in (self.queries, queries))
            differences.append(there - here)
        low, high = self._ends(np.concatenate(differences))
        least = self._not_excluded(min(queries, self.queries))
        return [
            (max(0.0, point.rate + float(a)), min(1.0, max(least, point.rate + float(b))))
            for point, a, b in zip(self.points, low, high, strict=True)
        ]

    @cached_property
    def bounds(self) -> tuple[float, ...]:
        """Upper bounds of the settings' rates, float ``[S]``, for a choice among all families.

        A single setting's ``high`` is not a bound of a setting that was chosen since its ``high`` is low. Within a family
        settings are tested one after the other, the easiest negatives first, until one does not pass: such a fixed
        sequence needs no correction (Bauer, 1991; "Learn then Test", Angelopoulos et al., 2021). The level is divided by the
        number of families (Bonferroni).
        """
        tail = (1 - self.level) / 2 / len(self.families)
        highs = np.quantile(self._resampled[0], 1 - tail, axis=0)
        return tuple(np.maximum(highs, self._not_excluded(self.queries, tail)).tolist())

    def propose(self, rate: float, *, family: str | None = None, confident: bool = True) -> Point:
        """The hardest setting whose false-negative rate is at most ``rate``.

        Args:
            rate: wanted, such as 0.05.
            family: among its settings only.
            confident: with the calibration's level of confidence, over the whole choice (see :attr:`bounds`). Otherwise the
                estimates are compared, and that of the chosen setting is too low: it is the lowest of many.

        Raises:
            InputError: no setting reaches it, with the lowest rate there is.
        """
        if not 0 <= rate < 1:
            cure = f"; did you mean {rate / 100:g}?" if 1 <= rate < 100 else ""  # noqa: PLR2004
            raise InputError(f"rate={rate:g} is not a share of the negatives between 0 and 1{cure}")
        among = [at for at, point in enumerate(self.points) if family in (None, point.family) and point.found > 0]
        if not among:
            raise InputError(f"family={family!r} has no setting; there are {', '.join(self.families)}")
        good = self._passing(among, rate) if confident else [at for at in among if self.points[at].rate <= rate]
        if not good:
            raise InputError(self._none_reaches(among, rate, confident=confident))
        return min((self.points[at] for at in good), key=lambda point: point.gap)

    def _passing(self, among: Sequence[int], rate: float) -> list[int]:
        """The settings of each family, from the easiest negatives on, up to the first whose bound is above the rate."""
        good: list[int] = []
        for family in self.families:
            ordered = sorted(
                (at for at in among if self.points[at].family == family), key=lambda at: -self.points[at].gap
            )
            good += itertools.takewhile(lambda at: self.bounds[at] <= rate, ordered)
        return good

    def _none_reaches(self, among: Sequence[int], rate: float, *, confident: bool) -> str:
        level = f" with {self.level:.0%} confidence over all {len(self.points)} settings" if confident else ""
        at = min(among, key=lambda at: self.bounds[at] if confident else self.points[at].rate)
        best = self.points[at]
        bound = f", at most {self.bounds[at]:.2%} with that confidence" if confident else ""
        return (
            f"no setting has a false-negative rate of {rate:.2%} or less{level}; the lowest is {best.method} with "
            f"{best.rate:.2%} ({best.low:.2%} to {best.high:.2%}{bound})"
        )

    @property
    def families(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(family for family, _ in self.settings))

    def at_hardness_of(self, point: Point) -> list[AtHardness]:
        """Every family at the hardness of one setting; those whose settings are all harder or all easier are left out.

        Rates are read off between settings, by the gap; intervals are of resampled queries, the same for all families.
        """
        rates, gaps = self._figures(np.ones((1, self.queries)))
        number = self.settings.index((point.family, point.method))
        found = []
        for family in self.families:
            mine = [at for at, (name, _) in enumerate(self.settings) if name == family]
            if not gaps[0, mine].min() <= point.gap <= gaps[0, mine].max():
                continue
            whole = float(_read_off(gaps[:, mine], rates[:, mine], gaps[:, number])[0])
            drawn_rates, drawn_gaps = self._resampled
            drawn = _read_off(drawn_gaps[:, mine], drawn_rates[:, mine], drawn_gaps[:, number])
            low, high = self._ends(drawn)
            difference_low, difference_high = self._ends(drawn - drawn_rates[:, number])
            found.append(
                AtHardness(
                    family, whole, float(low), float(high), whole - point.rate, float(difference_low), float(difference_high)
                )
            )  # fmt: skip
        return found

    def table(self) -> Any:
        """One row per setting, as a Dataset."""
        from dataclasses import asdict

        from datasets import Dataset

        return Dataset.from_list([asdict(point) for point in self.points])

    def _figures(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Rates and gaps, ``[R, S]`` each, of queries with weights ``[R, Q]``."""
        sums = self.sums
        false, negatives, score, positive = (
            weights @ part.T for part in (sums.false, sums.negatives, sums.score, sums.positive)
        )
        return _ratio(false, negatives), _ratio(positive - score, negatives)

    @cached_property
    def _resampled(self) -> tuple[Doubles, Doubles]:
        rng = np.random.default_rng(self.seed)
        drawn = [self._figures(self._draw(self.queries, rows, rng)) for rows in _chunks(self.resamples, self.queries)]
        return np.concatenate([rates for rates, _ in drawn]), np.concatenate([gaps for _, gaps in drawn])

    def _draw(self, size: int, rows: int, rng: np.random.Generator) -> Doubles:
        """How often each query is drawn in samples of ``size`` queries, ``[rows, Q]``."""
        return rng.multinomial(size, np.full(self.queries, 1 / self.queries), size=rows).astype(np.float64)

    def _not_excluded(self, queries: int, tail: float | None = None) -> float:
        """The rate that so many queries without one false negative do not exclude, if a hit query has one.

        Resamples of nothing are nothing: without it the rate of a setting that was lucky would be 0.
        """
        return float(1 - (tail or (1 - self.level) / 2) ** (1 / queries)) / self.num_negatives

    def _ends(self, drawn: Doubles) -> tuple[Doubles, Doubles]:
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        return low, high


def _ratio(above: Doubles, below: Doubles) -> Any:
    """A quotient, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=np.asarray(below) != 0)


def _read_off(x: Doubles, y: Doubles, at: Doubles) -> Doubles:
    """Values of curves ``[R, S]`` at ``[R]`` points, between their settings in order of ``x``."""
    order = np.argsort(x, axis=1)
    x, y = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
    return np.array([np.interp(point, xs, ys) for point, xs, ys in zip(at, x, y, strict=True)])


def _chunks(draws: int, width: int) -> Iterator[int]:
    step = max(1, CELLS // max(1, width))
    for start in range(0, draws, step):
        yield min(step, draws - start)
