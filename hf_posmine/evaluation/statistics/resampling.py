"""The draws behind the statistics: sign flips, and resamples of groups of queries and of training runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.core.types import Rows
    from hf_posmine.evaluation.measures import Scores

CELLS = 4_000_000
"""Drawn numbers held in memory at a time."""


@dataclass(frozen=True)
class Groups:
    """Which queries belong together: those of one passage or article; by default each stands alone.

    Attributes:
        of_query: int64 ``[Q]``, the group of each query.
        sizes: int64 ``[G]``, queries per group.
    """

    of_query: Rows
    sizes: Rows

    @classmethod
    def of(cls, groups: Sequence[Any] | None, queries: int) -> Groups:
        """From a label per query; None for groups of one."""
        if groups is None:
            return cls(np.arange(queries), np.ones(queries, np.int64))
        if len(groups) != queries:
            raise InputError(f"{len(groups)} groups for {queries} queries; give the group of each query")
        order = {label: number for number, label in enumerate(dict.fromkeys(groups))}
        if len(order) < 2:  # noqa: PLR2004 - a variance needs two
            raise InputError(f"all {queries} queries are in one group; a comparison needs at least 2 groups")
        of_query = np.array([order[label] for label in groups], np.int64)
        return cls(of_query, np.bincount(of_query))

    def sums(self, values: Scores) -> Scores:
        """Sums over each group, float64 ``[..., G]``, of values ``[..., Q]``."""
        flat = [np.bincount(self.of_query, row, len(self.sizes)) for row in np.atleast_2d(values)]
        return np.stack(flat).astype(np.float64).reshape(*values.shape[:-1], len(self.sizes))

    def variance_of_mean(self, values: Scores) -> float:
        """Variance of the mean of values ``[Q]`` when groups are drawn, not queries (Liang and Zeger 1986, CR1)."""
        count = len(self.sizes)
        residuals = self.sums(values - values.mean())
        return float(count / (count - 1) * (residuals**2).sum() / len(values) ** 2)


def sign_flip_p(sums: Scores, permutations: int, rng: np.random.Generator) -> float:
    """Two-sided p of sign flips of the groups' sums of differences ``[G]``: (c + 1) / (B + 1), never 0.

    The sum of a flipped sample that equals the observed one, as the sample itself does, counts (within rounding).
    """
    _check_draws(permutations)
    differences = sums[sums != 0]
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    hits = 0
    for rows in _chunks(permutations, len(differences)):
        negative = rng.integers(0, 2, (rows, len(differences)), dtype=np.uint8).astype(np.float64)
        hits += int((np.abs(differences.sum() - 2 * (negative @ differences)) >= observed).sum())
    return (hits + 1) / (permutations + 1)


def bootstrap_means(sums: Scores, sizes: Rows, resamples: int, rng: np.random.Generator) -> Scores:
    """Means per query of resamples, ``[R]``, of groups with sums ``[G]`` and sizes ``[G]``."""
    _check_draws(resamples)
    means = []
    for rows in _chunks(resamples, len(sums)):
        drawn = rng.integers(0, len(sums), (rows, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def two_level_means(a: Scores, b: Scores, sizes: Rows, resamples: int, rng: np.random.Generator) -> Scores:
    """Mean differences B - A per query, ``[R]``, of resamples of seeds, one fewer than there are, and of groups.

    Args:
        a: sums per group of A's runs, ``[seeds, G]``.
        b: the same of B, ``[seeds, G]``.
        sizes: queries per group, ``[G]``.
        resamples: R.
        rng: where they are drawn from.
    """
    _check_draws(resamples)
    means = []
    for rows in _chunks(resamples, len(sizes)):
        differences = _draw_seeds(b, rows, rng) - _draw_seeds(a, rows, rng)
        drawn = rng.integers(0, len(sizes), (rows, len(sizes)))
        means.append(np.take_along_axis(differences, drawn, axis=1).sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _draw_seeds(sums: Scores, rows: int, rng: np.random.Generator) -> Scores:
    """Averages ``[rows, G]`` over drawn seeds, one fewer than there are, so that their variance is unbiased."""
    seeds = len(sums)
    drawn = rng.integers(0, seeds, (rows, seeds - 1))
    weights = (drawn[:, :, None] == np.arange(seeds)).mean(axis=1)
    return weights @ sums


def _chunks(draws: int, width: int) -> Iterator[int]:
    """Rows at a time, so that memory stays small."""
    step = max(1, CELLS // max(1, width))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise InputError(f"{draws} permutations or resamples; draw at least 1, and 10,000 for a claim")
