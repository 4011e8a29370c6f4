"""False negatives against hardness: every method over its thresholds, since a low rate may only mean easy negatives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.core.samplers import SampledTopK, Top, Top1Sampled
from hf_posmine.evaluation.negatives.calibrate import default_families
from hf_posmine.evaluation.negatives.calibration import Calibration, Sums
from hf_posmine.evaluation.negatives.false_negatives import Experiment, hidden_queries
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.core.types import Filter, Sampler, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.calibration import Point
    from hf_posmine.evaluation.negatives.false_negatives import FalseNegativeRate, Judgements

By: TypeAlias = Literal["score", "rank"]
VALUES = ("SkipTop(10)", "MaxScore(0.7)", "MarginPos(0.05)", "PercPos(0.95)")
"""The paper's methods at their best values (its Table 3); after the best of them, the last, samplers are tried."""
DEPTHS = range(10, 101, 10)
"""k of both samplers (paper, section 4)."""
OTHERS = "others"
RESAMPLES = 2000


@dataclass(frozen=True)
class Method:
    """One point of a curve: filters and a sampler, and which curve it is on."""

    family: str
    filters: tuple[Filter, ...]
    sampler: Sampler


def swept_methods(
    corpus: Corpus,
    judgements: Judgements,
    visible: Mapping[str, str],
    teacher: Teacher,
    *,
    more: Sequence[Sequence[Filter]] = (),
    sampler: Sampler | None = None,
) -> list[Method]:
    """The paper's four filters on grids that suit the scores of the visible positives and at its own values, both samplers.

    Args:
        corpus: the judged documents.
        judgements: all of them.
        visible: the one known positive of each query, by ids.
        teacher: who scores.
        more: further methods; a filter of one of the curves joins it, anything else is a point of the curve ``others``.
        sampler: of all methods, instead of ``Top()`` and of the curves of samplers.
    """
    ids = hidden_queries(judgements, visible)
    rows = corpus.required_rows([visible[query] for query in ids], "visible")
    scores = teacher.score([judgements.queries[query] for query in ids], rows[:, None])[:, 0]
    families = default_families(scores, teacher.score_kind, corpus)
    for value in VALUES:
        members, filters = families.get(value.partition("(")[0], []), list(as_filters(value))
        members += [filters] if filters not in members else []
    for filters in map(list, more):
        family = type(filters[0]).__name__ if len(filters) == 1 else ""
        members = families.setdefault(family if family in families else OTHERS, [])
        members += [filters] if filters and filters not in members else []
    methods = [
        Method(family, tuple(filters), sampler or Top()) for family, members in families.items() for filters in members
    ]
    if "PercPos" in families and sampler is None:
        best = as_filters(VALUES[-1])
        for kind in (SampledTopK, Top1Sampled):
            methods += [Method(kind.__name__, best, kind(k=k)) for k in DEPTHS]
    return methods


@dataclass(frozen=True, eq=False)
class TradeOff:
    """Rates of many methods on the same queries, and their hardness.

    Attributes:
        families: the curve that each is on.
        rates: what each let through.
        seed: of the resamples of queries.
    """

    families: tuple[str, ...]
    rates: tuple[FalseNegativeRate, ...]
    seed: int = 0

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        judgements: Judgements,
        visible: Mapping[str, str],
        teacher: Teacher,
        methods: Sequence[Method] | None = None,
        **settings: Any,
    ) -> TradeOff:
        """Mine with every method; arguments as of :func:`~hf_posmine.evaluation.negatives.false_negatives.false_negative_rate`.

        Args:
            corpus: the judged documents.
            judgements: all of them.
            visible: the one known positive of each query, by ids.
            teacher: who scores, over the same corpus.
            methods: by default :func:`swept_methods`.
            settings: ``num_negatives``, ``seed``, ...
        """
        methods = swept_methods(corpus, judgements, visible, teacher) if methods is None else methods
        experiment = Experiment.of(corpus, judgements, visible)
        rates = []
        with progress_bar(len(methods), "Trying methods", "method") as bar:
            for method in methods:
                options = {**settings, "filters": method.filters, "sampler": method.sampler}
                rates.append(experiment.rate(teacher, **options))
                bar.update(1)
        return cls(tuple(method.family for method in methods), tuple(rates), settings.get("seed", 0))

    @cached_property
    def by_score(self) -> Calibration:
        """Rates with intervals; negatives are the harder, the less they score below their positives."""
        return self._calibration(
            [rate.scores for rate in self.rates], [r.positive_scores * r.found for r in self.rates]
        )

    @cached_property
    def by_rank(self) -> Calibration:
        """The same rates; negatives are the harder, the lower their ranks."""
        return self._calibration([-rate.ranks for rate in self.rates], [np.zeros(rate.queries) for rate in self.rates])

    def _calibration(self, scores: Sequence[np.ndarray], positives: Sequence[np.ndarray]) -> Calibration:
        false, found = np.stack([rate.false for rate in self.rates]), np.stack([rate.found for rate in self.rates])
        first = self.rates[0]
        sums = Sums(
            false.astype(np.float64), found.astype(np.float64), np.stack(scores).astype(np.float64), np.stack(positives),
            first.hidden.astype(np.float64),
        )  # fmt: skip
        spelled = tuple(zip(self.families, (rate.method for rate in self.rates), strict=True))
        return Calibration(spelled, sums, first.num_negatives, RESAMPLES, seed=self.seed)

    def rows(self) -> list[dict[str, Any]]:
        """One row per method: its curve, its rate with the interval over queries, and its hardness."""
        return [
            {"family": family, **rate.as_dict(), "low": point.low, "high": point.high}
            for family, rate, point in zip(self.families, self.rates, self.by_score.points, strict=True)
        ]

    def equal_hardness(self, method: str, by: By = "score") -> list[dict[str, Any]]:
        """Every curve read off where the negatives are as hard as those of ``method``, with paired intervals.

        Curves that do not reach that hardness are left out.

        Args:
            method: as spelled; it must be one of the methods.
            by: what hardness is: the mean ``score`` of the negatives (against their positives'), or their mean ``rank``.
        """
        if by not in get_args(By):
            raise InputError(f"by={by!r}; choose one of {list(get_args(By))}")
        calibration = self.by_score if by == "score" else self.by_rank
        return [{"by": by, **asdict(found)} for found in calibration.at_hardness_of(_point(calibration, method))]


def _point(calibration: Calibration, method: str) -> Point:
    found = next((point for point in calibration.points if point.method == method), None)
    if found is None:
        raise InputError(
            f"no method {method!r} among those tried; there are {[p.method for p in calibration.points][:8]}"
        )
    return found
