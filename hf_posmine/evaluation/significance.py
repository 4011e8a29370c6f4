"""What may be claimed of a difference: paired tests per query, resampled intervals, effect sizes, corrected for many claims.

Everywhere A is the baseline and a difference is B minus A. Sources: Smucker et al., CIKM 2007 (t-test, permutation and
bootstrap agree); Urbano et al., SIGIR 2019 (the t-test keeps its level best); Ihemelandu and Ekstrand, SIGIR 2023 (with
thousands of queries everything is significant, so look at the effect size).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hf_posmine.errors import InputError
from hf_posmine.evaluation.resampling import Groups, bootstrap_means, sign_flip_p, two_level_means

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.evaluation.measures import Scores

CONFIDENCE = 0.95
ALPHA = 0.05
DRAWS = 10_000


@dataclass(frozen=True)
class Comparison:
    """System B against baseline A on the same queries.

    Attributes:
        n: queries.
        mean_a: mean of A.
        mean_b: mean of B.
        difference: ``mean_b - mean_a``.
        p_value: two-sided paired t-test; with seeds, Welch's over the variance of seeds and of queries.
        permutation_p: two-sided sign-flip test over queries, (c + 1) / (B + 1).
        low: lower end of the 95 % interval of the difference (paired percentile bootstrap; with seeds, two-level).
        high: upper end.
        effect_size: dz, the mean of the differences by their standard deviation over queries.
        adjusted_p: ``p_value`` after Holm's correction over the claims of a table.
        claims: how many claims that correction was for.
        groups: how many groups of queries were resampled, if not single queries.
        seed_means_a: mean of each training run of A; empty where each system is one model.
        seed_means_b: the same of B.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    p_value: float
    permutation_p: float
    low: float
    high: float
    effect_size: float
    adjusted_p: float | None = None
    claims: int = 1
    groups: int | None = None
    seed_means_a: tuple[float, ...] = ()
    seed_means_b: tuple[float, ...] = ()

    def differs(self, alpha: float = ALPHA) -> bool:
        """Whether a difference may be claimed: the corrected test, the permutation test and the interval all agree."""
        p = self.p_value if self.adjusted_p is None else self.adjusted_p
        return bool(p < alpha and self.permutation_p < alpha and not self.low <= 0 <= self.high)

    def sentence(self, a: str = "A", b: str = "B", alpha: float = ALPHA) -> str:
        """One sentence that says what may be claimed, or that nothing may."""
        scope = f"{self.n:,} queries" + (f" in {self.groups:,} groups" if self.groups is not None else "")
        if self.seed_means_a:
            scope += f", {len(self.seed_means_a)} and {len(self.seed_means_b)} training runs"
        if self.low == self.high == self.difference == 0:
            return f"Nothing may be claimed: {a} and {b} score the same over {scope}."
        p = self.p_value if self.adjusted_p is None else self.adjusted_p
        said = f"95 % interval {self.low:+.4f} to {self.high:+.4f}, {_spell_p(p)}"
        said += f" after Holm's correction for {self.claims} claims" if self.claims > 1 else ""
        if self.differs(alpha):
            word = "higher" if self.difference > 0 else "lower"
            whom = "models trained this way" if self.seed_means_a else "these two models, not for retrained ones"
            return (
                f"{b} scores {abs(self.difference):.4f} {word} than {a} on average over {scope} ({said}, dz = "
                f"{self.effect_size:+.2f}: {_size(self.effect_size)} effect), which may be claimed for {whom}."
            )
        if p < alpha or self.permutation_p < alpha:
            return (
                f"Nothing may be claimed: the tests disagree about the difference of {self.difference:+.4f} between {a} and "
                f"{b} over {scope} ({said}, permutation {_spell_p(self.permutation_p)})."
            )
        return (
            f"Nothing may be claimed: {b} differs from {a} by {self.difference:+.4f} over {scope} ({said}), which chance "
            f"explains, and a true difference of up to {max(abs(self.low), abs(self.high)):.4f} is not ruled out."
        )


def compare(
    a: Any,
    b: Any,
    *,
    seed: int = 0,
    permutations: int = DRAWS,
    resamples: int = DRAWS,
    groups: Sequence[Any] | None = None,
) -> Comparison:
    """Compare two systems by their values on the same queries, in the same order.

    Args:
        a: the baseline's values, ``[Q]``.
        b: the other system's values, ``[Q]``.
        seed: of permutations and resamples.
        permutations: sign flips.
        resamples: of the bootstrap.
        groups: the passage or article of each query, ``[Q]``, where queries share some: groups are then flipped and
            resampled whole, and the t-test's variance is that of group sums.

    Raises:
        InputError: other lengths, values that are not finite, or fewer than two queries or groups.
    """
    a, b = _values(a, "a", 1), _values(b, "b", 1)
    _same_queries(a, b)
    differences, grouped = b - a, Groups.of(groups, len(a))
    rng = np.random.default_rng(seed)
    sums = grouped.sums(differences)
    means = bootstrap_means(sums, grouped.sizes, resamples, rng)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(
        len(a), float(a.mean()), float(b.mean()), float(differences.mean()), _t_test(a, b, groups, grouped),
        sign_flip_p(sums, permutations, rng), float(low), float(high), _effect_size(differences),
        groups=None if groups is None else len(grouped.sizes),
    )  # fmt: skip


def compare_runs(
    scores_a: Any,
    scores_b: Any,
    *,
    seed: int = 0,
    permutations: int = DRAWS,
    resamples: int = DRAWS,
    groups: Sequence[Any] | None = None,
) -> Comparison:
    """Compare two ways of training, each run with several seeds, by values on the same queries.

    A test over queries alone covers no other training run. Here seeds (of A and of B, on their own) and queries are both
    resampled. One seed fewer than there are is drawn each time (Rao and Wu, 1988), since resamples of three out of three
    would show only two thirds of their variance, and the interval takes Student's t at Welch and Satterthwaite's degrees
    of freedom, since two or three seeds say little about their own spread.

    Args:
        scores_a: the baseline's values, ``[seeds, Q]``.
        scores_b: the other's, ``[seeds, Q]``; the number of seeds may differ.
        seed: of permutations and resamples.
        permutations: sign flips of the differences of the means over seeds; these cover queries only.
        resamples: of seeds and queries.
        groups: as in :func:`compare`.

    Raises:
        InputError: as :func:`compare`, or fewer than two seeds.
    """
    a, b = _values(scores_a, "scores_a", 2), _values(scores_b, "scores_b", 2)
    _same_queries(a, b)
    for name, scores in (("scores_a", a), ("scores_b", b)):
        if len(scores) < 2:  # noqa: PLR2004 - a variance needs two
            raise InputError(
                f"{name} has {len(scores)} training run; give at least 2 seeds, or use compare() for two models"
            )
    differences, grouped = b.mean(axis=0) - a.mean(axis=0), Groups.of(groups, a.shape[1])
    rng = np.random.default_rng(seed)
    error = two_level_means(grouped.sums(a), grouped.sums(b), grouped.sizes, resamples, rng).std(ddof=1)
    parts = [(a.mean(axis=1).var(ddof=1) / len(a), len(a) - 1), (b.mean(axis=1).var(ddof=1) / len(b), len(b) - 1)]
    parts.append((grouped.variance_of_mean(differences), len(grouped.sizes) - 1))
    weight = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = sum(variance for variance, _ in parts) ** 2 / weight if weight > 0 else np.inf
    difference = float(differences.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error)
    return Comparison(
        a.shape[1], float(a.mean()), float(b.mean()), difference, _two_sided(difference, float(error), freedom),
        sign_flip_p(grouped.sums(differences), permutations, rng), difference - half, difference + half,
        _effect_size(differences), groups=None if groups is None else len(grouped.sizes),
        seed_means_a=tuple(a.mean(axis=1).tolist()), seed_means_b=tuple(b.mean(axis=1).tolist()),
    )  # fmt: skip


def compare_table(systems: Mapping[str, Any], baseline: str, **options: Any) -> dict[str, Comparison]:
    """Compare every other system with the baseline, with Holm's correction over all of them.

    Args:
        systems: values by system: ``[Q]`` each, or ``[seeds, Q]`` each.
        baseline: the name of one of them.
        options: as in :func:`compare`.
    """
    if baseline not in systems:
        raise InputError(f"no system {baseline!r} to compare with; there are {list(systems)}")
    if len(systems) < 2:  # noqa: PLR2004
        raise InputError(f"{baseline!r} is the only system; give at least one other")
    made = {}
    for name, scores in systems.items():
        if name != baseline:
            method = compare if np.ndim(scores) == 1 else compare_runs
            made[name] = method(systems[baseline], scores, **options)
    return corrected(made)


def corrected(comparisons: Mapping[Any, Comparison]) -> dict[Any, Comparison]:
    """The same comparisons as the claims of one table, with Holm's correction over them."""
    adjusted = holm([comparison.p_value for comparison in comparisons.values()])
    return {
        name: replace(comparison, adjusted_p=float(p), claims=len(comparisons))
        for (name, comparison), p in zip(comparisons.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float] | Scores) -> Scores:
    """Holm's step-down correction, float64 in the order given (Holm 1979): each claim may be tested against alpha.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p-values must lie between 0 and 1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _values(values: Any, name: str, dimensions: int) -> Scores:
    array = np.asarray(values, np.float64)
    if array.ndim != dimensions:
        wanted = "one value per query" if dimensions == 1 else "[seeds, queries]"
        raise InputError(f"{name} has shape {array.shape}; expected {wanted}")
    if not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name} is {array[at]} at {at if dimensions > 1 else at[0]}; every query needs a value")
    return array


def _same_queries(a: Scores, b: Scores) -> None:
    if a.shape[-1] != b.shape[-1]:
        raise InputError(
            f"{a.shape[-1]} queries against {b.shape[-1]}; a paired test needs both systems on the same queries"
        )
    if a.shape[-1] < 2:  # noqa: PLR2004 - a variance needs two
        raise InputError(f"{a.shape[-1]} queries; a comparison needs at least 2")


def _t_test(a: Scores, b: Scores, groups: Sequence[Any] | None, grouped: Groups) -> float:
    differences = b - a
    error = float(np.sqrt(grouped.variance_of_mean(differences)))
    if groups is None and error > 0:
        return float(stats.ttest_rel(b, a).pvalue)
    return _two_sided(float(differences.mean()), error, len(grouped.sizes) - 1)


def _two_sided(difference: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def _effect_size(differences: Scores) -> float:
    spread = float(differences.std(ddof=1))
    mean = float(differences.mean())
    return mean / spread if spread > 0 else float(np.copysign(np.inf, mean)) if mean else 0.0


def _spell_p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"  # noqa: PLR2004


def _size(effect: float) -> str:
    """Cohen's words (1988)."""
    bounds = ((0.2, "a very small"), (0.5, "a small"), (0.8, "a medium"), (np.inf, "a large"))
    return next(word for bound, word in bounds if abs(effect) < bound or bound == np.inf)
