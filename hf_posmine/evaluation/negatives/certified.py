"""The choice among tested settings, and what is known about the chosen one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.negatives.betting import is_below, queries_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hf_posmine.core.filters import MaxFNRate
    from hf_posmine.core.types import Filter
    from hf_posmine.evaluation.negatives.calibrate import Trial
    from hf_posmine.evaluation.negatives.calibration import Calibration, Doubles, Sums


@dataclass(frozen=True)
class Certified:
    """A setting whose false-negative rate is at most ``promise.rate``, with ``promise.confidence``.

    Attributes:
        promise: what holds.
        filters: the setting, to mine with.
        estimate: the share of false negatives (with a judge: of relevant verdicts) in the evidence.
        gap: mean score of the positives minus that of the negatives; the smaller, the harder.
        queries: of the evidence, that got negatives.
        evidence: ``complete`` judgements, one of several positives ``held out``, or a ``judge``.
        ladder: per family its settings, the safest first.
        passed: per family, how many of them were certified.
        assumptions: without which it does not hold.
        corpus: fingerprint of the documents of the evidence.
        judge: its counts and their ends; None without one.
    """

    promise: MaxFNRate
    filters: tuple[Filter, ...]
    estimate: float
    gap: float
    queries: int
    evidence: str
    ladder: Mapping[str, tuple[str, ...]]
    passed: Mapping[str, int]
    assumptions: tuple[str, ...]
    corpus: str
    judge: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        promise, number = self.promise, sum(map(len, self.ladder.values()))
        what = "false negatives" if self.judge is None else "verdicts of relevance"
        return (
            f"filters: {' + '.join(map(repr, self.filters))}, chosen among {number} settings: a false-negative rate of at "
            f"most {promise.rate:g} with {promise.confidence:.0%} confidence ({self.estimate:.2%} {what} on "
            f"{self.queries:,} queries); it assumes: {'; '.join(self.assumptions)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        plain = {name: value for name, value in vars(self).items() if name != "promise"}
        return plain | {
            "rate": self.promise.rate,
            "confidence": self.promise.confidence,
            "filters": [repr(f) for f in self.filters],
            "ladder": {name: list(family) for name, family in self.ladder.items()},
            "passed": dict(self.passed),
            "assumptions": list(self.assumptions),
        }


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was mined with each setting, and what is to be shown.

    Attributes:
        trial: rows and settings; families in order, the settings of each the safest first.
        sums: of their negatives.
        promise: what is to hold.
        kind: of the evidence.
        judge: counts of the judge; None without one.
    """

    trial: Trial
    sums: Sums
    promise: MaxFNRate
    kind: str
    judge: Mapping[str, Any] | None = None

    @cached_property
    def mined(self) -> Calibration:
        """Hardness of each setting."""
        return self.trial.calibration(self.sums, resamples=1)

    def choose(
        self, losses: Callable[[int], Doubles], threshold: float, error: float, assumptions: tuple[str, ...]
    ) -> Certified:
        """The hardest setting that passes.

        Args:
            losses: those of the queries, float64 ``[Q]``, NaN without a negative, by the number of a setting.
            threshold: for their mean.
            error: probability that is left for all families together.
            assumptions: what is taken for granted.

        Raises:
            InputError: none passes, with the number of queries that would suffice.
        """
        each = error / len(self.mined.families)
        tried: dict[int, Doubles] = {}

        def passes(at: int) -> bool:
            tried[at] = losses(at)
            return is_below(tried[at], threshold, each)

        passed = {name: list(takewhile(passes, self._family(name))) for name in self.mined.families}
        good = [at for members in passed.values() for at in members]
        if not good:
            raise InputError(self._refusal(tried, threshold, each))
        chosen = min(good, key=lambda at: self.mined.points[at].gap)
        counted = tried[chosen][~np.isnan(tried[chosen])]
        return Certified(
            self.promise, self.trial.settings[chosen].filters, float(counted.mean()), self.mined.points[chosen].gap, len(counted),
            self.kind, {name: tuple(self.mined.settings[at][1] for at in self._family(name)) for name in passed},
            {name: len(members) for name, members in passed.items()}, assumptions, self.trial.reader.corpus.fingerprint,
            self.judge,
        )  # fmt: skip

    def _family(self, name: str) -> list[int]:
        return [at for at, (family, _) in enumerate(self.mined.settings) if family == name]

    def _refusal(self, tried: Mapping[int, Doubles], threshold: float, error: float) -> str:
        needed = {at: queries_needed(losses, threshold, error) for at, losses in tried.items()}
        at = min(tried, key=lambda at: (needed[at] is None, needed[at] or np.nan_to_num(tried[at]).mean()))
        counted = tried[at][~np.isnan(tried[at])]
        promise, wanted = self.promise, self.promise.rate
        share = f"{counted.mean():.2%}" if len(counted) else "no negative"
        of = "" if self.judge is None else f" of verdicts of relevance, where that rate gives {threshold:.2%}"
        enough = (
            f"about {needed[at]:,} judged queries would suffice"
            if needed[at] is not None
            else "more queries would not help; allow a higher rate, or declare safer settings"
            if self.judge is None
            else "more queries would not help; count the judge on more passages, or allow a higher rate"
        )
        return (
            f"no setting is known to have a false-negative rate of at most {wanted:g} with {promise.confidence:.0%} confidence: "
            f"{self.mined.settings[at][1]} has {share}{of} on {len(counted):,} queries; {enough}"
        )
