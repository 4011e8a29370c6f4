"""Statistical significance of differences: paired tests per query, resampled intervals, effect sizes, corrections.

Everywhere A is the baseline and a difference is B minus A. Sources: Smucker et al., CIKM 2007 (t-test, permutation and
bootstrap agree); Urbano et al., SIGIR 2019 (the t-test keeps its level best); Ihemelandu and Ekstrand, SIGIR 2023 (with
thousands of queries everything is significant, so look at the effect size).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.statistics.comparison import CONFIDENCE, Comparison
from hf_posmine.evaluation.statistics.resampling import Groups, bootstrap_means, sign_flip_p, two_level_means

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from hf_posmine.evaluation.measures import Scores

DRAWS = 10_000


def compare(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
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
    first, second = _values(a, "a", 1), _values(b, "b", 1)
    _same_queries(first, second)
    differences, grouped = second - first, Groups.of(groups, len(first))
    rng = np.random.default_rng(seed)
    sums = grouped.sums(differences)
    means = bootstrap_means(sums, grouped.sizes, resamples, rng)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(
        len(first), float(first.mean()), float(second.mean()), float(differences.mean()),
        _t_test(first, second, groups, grouped),
        sign_flip_p(sums, permutations, rng), float(low), float(high), _effect_size(differences),
        groups=None if groups is None else len(grouped.sizes),
    )  # fmt: skip


def compare_runs(
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    *,
    seed: int = 0,
    permutations: int = DRAWS,
    resamples: int = DRAWS,
    groups: Sequence[Any] | None = None,
) -> Comparison:
    """Compare two ways of training, each run with several seeds, by values on the same queries.

    A test over queries alone covers no other training run. Here seeds (of A and of B, on their own) and queries are both
    resampled. One seed fewer than there are is drawn each time (Rao and Wu 1988), since resamples of three out of three
    would show only two thirds of their variance. The interval takes Student's t at Welch and Satterthwaite's degrees of
    freedom, since two or three seeds say little about their own spread. In simulations with 2 to 5 seeds, 1 to 5 % of
    equal ways of training differ significantly at a level of 5 %: the test is conservative.

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
    error, freedom = _two_level_error(
        a, b, grouped, two_level_means(grouped.sums(a), grouped.sums(b), grouped.sizes, resamples, rng)
    )
    difference = float(differences.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Comparison(
        a.shape[1], float(a.mean()), float(b.mean()), difference, _two_sided(difference, error, freedom),
        sign_flip_p(grouped.sums(differences), permutations, rng), difference - half, difference + half,
        _effect_size(differences), groups=None if groups is None else len(grouped.sizes),
        seed_means_a=tuple(a.mean(axis=1).tolist()), seed_means_b=tuple(b.mean(axis=1).tolist()),
    )  # fmt: skip


def _two_level_error(a: Scores, b: Scores, grouped: Groups, means: Scores) -> tuple[float, float]:
    """Standard error of the difference and its degrees of freedom, from values ``[seeds, Q]`` and resampled differences.

    Resamples of both levels count the noise of single queries in single runs three times (Owen 2007); one is taken off.
    Taking off two would be right on average, but would claim up to 7 % at a level of 5 % with two seeds.
    """
    queries = grouped.variance_of_mean(b.mean(axis=0) - a.mean(axis=0))
    parts = [(queries, len(grouped.sizes) - 1)]
    noise = 0.0
    for scores in (a, b):
        seeds = len(scores)
        parts.append((float(scores.mean(axis=1).var(ddof=1)) / seeds, seeds - 1))
        residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
        noise += sum(grouped.variance_of_mean(row) for row in residuals) / (seeds * (seeds - 1))
    weight = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = sum(variance for variance, _ in parts) ** 2 / weight if weight > 0 else np.inf
    return float(np.sqrt(max(means.var(ddof=1) - noise, queries))), freedom


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


def _values(values: npt.ArrayLike, name: str, dimensions: int) -> Scores:
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
