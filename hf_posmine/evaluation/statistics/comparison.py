"""A comparison of two systems, and the sentence that it allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
ALPHA = 0.05


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
        """Whether the difference is significant: the corrected test, the permutation test and the interval all agree."""
        p = self.p_value if self.adjusted_p is None else self.adjusted_p
        return bool(p < alpha and self.permutation_p < alpha and not self.low <= 0 <= self.high)

    def sentence(self, a: str = "A", b: str = "B", alpha: float = ALPHA) -> str:
        """The result in one sentence: a significant difference, or none."""
        scope = f"{self.n:,} queries" + (f" in {self.groups:,} groups" if self.groups is not None else "")
        if self.seed_means_a:
            scope += f", {len(self.seed_means_a)} and {len(self.seed_means_b)} training runs"
        if self.low == self.high == self.difference == 0:
            return f"No difference: {a} and {b} score the same over {scope}."
        p = self.p_value if self.adjusted_p is None else self.adjusted_p
        details = f"95 % interval {self.low:+.4f} to {self.high:+.4f}, {_spell_p(p)}"
        details += f" after Holm's correction for {self.claims} comparisons" if self.claims > 1 else ""
        if self.differs(alpha):
            word = "higher" if self.difference > 0 else "lower"
            whom = "" if self.seed_means_a else " for these two models; retrained ones may differ"
            return (
                f"{b} scores {abs(self.difference):.4f} {word} than {a} on average over {scope} ({details}, dz = "
                f"{self.effect_size:+.2f}: {_size(self.effect_size)} effect); statistically significant{whom}."
            )
        if p < alpha or self.permutation_p < alpha:
            return (
                f"Not significant: the tests disagree about the difference of {self.difference:+.4f} between {a} and "
                f"{b} over {scope} ({details}, permutation {_spell_p(self.permutation_p)})."
            )
        return (
            f"Not significant: {b} differs from {a} by {self.difference:+.4f} over {scope} ({details}); a true "
            f"difference of up to {max(abs(self.low), abs(self.high)):.4f} is not ruled out."
        )


def _spell_p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"  # noqa: PLR2004


def _size(effect: float) -> str:
    """Cohen's words (1988)."""
    bounds = ((0.2, "a very small"), (0.5, "a small"), (0.8, "a medium"), (np.inf, "a large"))
    return next(word for bound, word in bounds if abs(effect) < bound or bound == np.inf)
