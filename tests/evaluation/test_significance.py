"""The statistics against scipy, exact enumeration and textbook values, and by simulation where a level is promised."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.statistics.resampling import Groups, bootstrap_means, sign_flip_p, two_level_means
from hf_posmine.evaluation.statistics.significance import compare, compare_runs, compare_table, corrected, holm

SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
"""Student's sleep data (1908): paired t = 4.0621 with 9 degrees of freedom, p = 0.002833."""
FEW = {"permutations": 199, "resamples": 199}


def binomial_bounds(rate: float, trials: int) -> tuple[float, float]:
    """Where a rate observed in so many simulated experiments lies with 99.99 %."""
    low, high = stats.binom.interval(0.9999, trials, rate)
    return low / trials, high / trials


def test_the_t_test_is_students_own():
    found = compare(*SLEEP)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    d = np.subtract(SLEEP[1], SLEEP[0])
    t = d.mean() / (np.sqrt(((d - d.mean()) ** 2).sum() / 9) / np.sqrt(10))
    assert t == pytest.approx(4.0621, abs=1e-4)
    assert found.p_value == pytest.approx(2 * (1 - stats.t(9).cdf(t)), rel=1e-9)
    assert found.effect_size == pytest.approx(t / np.sqrt(10), rel=1e-12)
    assert (found.n, found.difference) == (10, pytest.approx(1.58))
    assert (found.mean_a, found.mean_b) == (pytest.approx(0.75), pytest.approx(2.33))


def exact_sign_flip(sums: np.ndarray) -> float:
    """Share of all 2^n assignments of signs whose sum is at least as far from 0."""
    flipped = [
        abs(sum(s * d for s, d in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    return float(np.mean([value >= abs(sum(sums)) - 1e-9 for value in flipped]))


@pytest.mark.parametrize("differences", [np.subtract(SLEEP[1], SLEEP[0]), np.array([1, -1, 1, 1, 0, 1, -1, 1, 1, 1.0])])
def test_permutations_approach_the_enumeration_of_all_signs(differences):
    """Also with ties and zeros, where flipped sums often equal the observed one."""
    exact, draws = exact_sign_flip(differences), 40_000
    low, high = binomial_bounds(exact, draws)
    assert low <= sign_flip_p(differences, draws, np.random.default_rng(0)) <= high + 1 / draws


def test_a_permutation_p_is_never_zero():
    found = compare(np.zeros(200), np.arange(1, 201) / 200)
    assert found.permutation_p == 1 / 10_001
    assert compare([1, 2], [2, 3.5], permutations=99).permutation_p > 0.3  # two queries can prove nothing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule(p_values):
    """An adjusted p at most alpha says the same as walking down the sorted list until one fails."""
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.5):
        rejected, left = set(), len(p_values)
        for at in sorted(range(len(p_values)), key=lambda i: p_values[i]):
            if p_values[at] * left > alpha:
                break
            rejected.add(at)
            left -= 1
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected


def test_holm_on_a_worked_example():
    """0.01, 0.04, 0.03, 0.005: times 4, 3, 2, 1 in rising order, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1] and holm([]).tolist() == []
    with pytest.raises(InputError, match="between 0 and 1"):
        holm([0.1, float("nan")])


def test_the_level_holds_on_null_data():
    """1,000 pairs of equal systems with skewed, zero-heavy values as NDCG has: each test rejects 5 %, and a claim at most that."""
    rng, trials = np.random.default_rng(1), 1000
    t, flips, claims = 0, 0, 0
    for trial in range(trials):
        hard = rng.beta(0.5, 0.5, 60)
        a, b = (np.clip(hard + rng.normal(0, 0.2, 60), 0, 1) for _ in range(2))
        found = compare(a, b, seed=trial, **FEW)
        t, flips, claims = t + (found.p_value < 0.05), flips + (found.permutation_p <= 0.05), claims + found.differs()
    low, high = binomial_bounds(0.05, trials)
    assert low <= t / trials <= high and low <= flips / trials <= high
    assert claims <= t


def test_the_interval_covers_the_true_difference():
    """Percentile bootstrap of 80 skewed differences, 1,000 experiments; it is known to be a little too narrow."""
    rng, trials, covered = np.random.default_rng(2), 1000, 0
    for trial in range(trials):
        a = rng.uniform(0, 0.5, 80)
        found = compare(a, a + rng.exponential(0.1, 80), seed=trial, **FEW)
        covered += found.low <= 0.1 <= found.high
    low, high = binomial_bounds(0.94, trials)
    assert low <= covered / trials <= high


def test_resampled_means_have_the_spread_of_the_mean():
    d = np.random.default_rng(3).gamma(2, 1, 50)
    means = bootstrap_means(d, np.ones(50, np.int64), 20_000, np.random.default_rng(0))
    assert means.mean() == pytest.approx(d.mean(), abs=0.01)
    assert means.std() == pytest.approx(d.std() / np.sqrt(50), rel=0.03)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20).filter(lambda g: len(set(g)) > 1), st.integers(0, 99))
def test_sums_over_groups(labels, seed):
    values = np.random.default_rng(seed).normal(size=(2, len(labels)))
    groups = Groups.of([f"article {label}" for label in labels], len(labels))
    for row, sums in zip(values, groups.sums(values), strict=True):
        by_label = {
            label: sum(v for v, other in zip(row, labels, strict=True) if other == label)
            for label in dict.fromkeys(labels)
        }
        np.testing.assert_allclose(sums, list(by_label.values()), atol=1e-12)
    assert groups.sizes.tolist() == [labels.count(label) for label in dict.fromkeys(labels)]


def test_groups_of_one_change_nothing():
    a, b = np.random.default_rng(4).random((2, 30))
    alone, grouped = compare(a, b), compare(a, b, groups=list("abcdefghijklmnopqrstuvwxyz0123"))
    assert grouped.p_value == pytest.approx(alone.p_value, rel=1e-12)
    assert (grouped.low, grouped.high, grouped.permutation_p) == (alone.low, alone.high, alone.permutation_p)


def test_queries_that_share_a_passage_are_not_evidence_of_their_own():
    """Ten copies of every query: taken alone they look like ten times the evidence, in groups like what they are."""
    rng = np.random.default_rng(5)
    a, b = rng.random(25), rng.random(25) + 0.12
    copied = compare(np.repeat(a, 10), np.repeat(b, 10), groups=np.repeat(np.arange(25), 10).tolist())
    single = compare(a, b)
    assert copied.p_value == pytest.approx(single.p_value, rel=1e-9)
    assert copied.low == pytest.approx(single.low, abs=0.01) and copied.permutation_p == pytest.approx(
        single.permutation_p, abs=0.02
    )
    assert compare(np.repeat(a, 10), np.repeat(b, 10)).p_value < single.p_value / 100
    assert copied.groups == 25 and "250 queries in 25 groups" in copied.sentence()


def runs(rng, seeds: int, queries: int, shift: float, seed_spread: float) -> np.ndarray:
    """Training runs: each seed shifts all queries, each query has its own noise."""
    return shift + rng.normal(0, seed_spread, (seeds, 1)) + rng.normal(0, 0.1, (seeds, queries))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.05])
def test_two_levels_keep_their_level_when_seeds_differ(seeds, seed_spread):
    """Equal ways of training: no more than 5 % are told apart, and no difference is missed by the interval more often."""
    rng, trials = np.random.default_rng(6), 600
    rejected, missed, naive = 0, 0, 0
    for trial in range(trials):
        hard = rng.normal(0.5, 0.2, 40)
        a, b = (hard + runs(rng, seeds, 40, 0, seed_spread) for _ in range(2))
        found = compare_runs(a, b, seed=trial, **FEW)
        rejected, missed = rejected + (found.p_value < 0.05), missed + (not found.low <= 0 <= found.high)
        naive += stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).pvalue < 0.05
    bound = binomial_bounds(0.05, trials)[1]
    assert rejected / trials <= bound and missed / trials <= bound
    if seed_spread:
        assert naive / trials > 0.2  # what a test over queries alone would have claimed


def test_two_levels_find_what_is_there():
    rng = np.random.default_rng(7)
    hard, found = rng.normal(0.5, 0.2, 300), []
    for trial in range(40):
        a, b = hard + runs(rng, 5, 300, 0, 0.005), hard + runs(rng, 4, 300, 0.02, 0.005)
        found.append(compare_runs(a, b, seed=trial, **FEW))
    assert sum(comparison.differs() for comparison in found) >= 30
    assert np.mean([comparison.difference for comparison in found]) == pytest.approx(0.02, abs=0.003)
    assert len(found[0].seed_means_a) == 5 and "5 and 4 training runs" in found[0].sentence()


def test_the_variance_of_two_levels_is_that_of_seeds_and_of_queries():
    """Without noise besides, the variance of resamples is s_a^2/S_a + s_b^2/S_b + s_q^2/Q, unbiased for few seeds."""
    rng = np.random.default_rng(8)
    seed_a, seed_b, query = rng.normal(0, 1, 3), rng.normal(0, 1, 4), rng.normal(0, 2, 50)
    a, b = np.repeat(seed_a[:, None], 50, axis=1), seed_b[:, None] + query
    means = two_level_means(a, b, np.ones(50, np.int64), 40_000, np.random.default_rng(0))
    expected = seed_a.var(ddof=1) / 3 + seed_b.var(ddof=1) / 4 + query.var() / 50
    assert means.var() == pytest.approx(expected, rel=0.03)


def test_a_table_corrects_its_claims():
    rng = np.random.default_rng(9)
    base = rng.random(100)
    systems = {"other": base + rng.normal(0.02, 0.1, 100), "base": base, "third": base + rng.normal(0.03, 0.1, 100)}
    table = compare_table(systems, "base", seed=3, **FEW)
    alone = {name: compare(base, systems[name], seed=3, **FEW) for name in ("other", "third")}
    assert list(table) == ["other", "third"]
    smaller, larger = sorted(table.values(), key=lambda comparison: comparison.p_value)
    assert smaller.adjusted_p == pytest.approx(2 * smaller.p_value) and larger.adjusted_p >= larger.p_value
    assert all(table[name].low == alone[name].low and table[name].p_value == alone[name].p_value for name in alone)
    assert "after Holm's correction for 2 comparisons" in table["other"].sentence()
    by_seed = compare_table({"a": rng.random((2, 9)), "b": rng.random((3, 9))}, "a", **FEW)
    assert len(by_seed["b"].seed_means_b) == 3


def test_a_correction_can_take_a_claim_back():
    rng = np.random.default_rng(12)
    a = rng.random(60)
    found = compare(a, a + rng.normal(0.031, 0.1, 60))
    assert 0.01 < found.p_value < 0.05 and found.differs()
    among_ten = corrected(dict.fromkeys(range(10), found))[0]
    assert not among_ten.differs() and among_ten.sentence().startswith("Not significant")


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05])
def test_permutation_and_interval_are_those_of_scipy(shift):
    rng = np.random.default_rng(21)
    a = rng.random(80)
    b = a + rng.normal(shift, 0.15, 80)
    found = compare(a, b, permutations=20_000, resamples=20_000)

    def difference(x, y, axis=-1):
        return np.mean(y - x, axis=axis)

    options = {"vectorized": True, "random_state": np.random.default_rng(22), "n_resamples": 20_000}
    permuted = stats.permutation_test((a, b), difference, permutation_type="samples", **options)
    error = np.sqrt(permuted.pvalue * (1 - permuted.pvalue) / 20_000)
    assert found.permutation_p == pytest.approx(permuted.pvalue, abs=6 * error + 2e-4)
    boot = stats.bootstrap((a, b), difference, paired=True, method="percentile", **options).confidence_interval
    spread = boot.high - boot.low
    assert found.low == pytest.approx(boot.low, abs=0.04 * spread)
    assert found.high == pytest.approx(boot.high, abs=0.04 * spread)


def test_a_table_of_nothing_claims_something_in_at_most_one_of_twenty():
    rng, tables, claimed = np.random.default_rng(23), 200, 0
    for table in range(tables):
        base = rng.random(60)
        systems = {"base": base, **{f"s{i}": base + rng.normal(0, 0.1, 60) for i in range(5)}}
        found = compare_table(systems, "base", seed=table, permutations=500, resamples=500)
        claimed += any(comparison.differs() for comparison in found.values())
    assert claimed <= stats.binom.ppf(0.999, tables, 0.05)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            np.linspace(0, 1, 50),
            np.linspace(0.2, 1.2, 50) + np.tile([0.1, -0.1], 25),
            "new scores 0.2000 higher than old",
        ),
        (
            np.linspace(0.2, 1.2, 50) + np.tile([0.1, -0.1], 25),
            np.linspace(0, 1, 50),
            "new scores 0.2000 lower than old",
        ),
        (
            np.linspace(0, 1, 50),
            np.linspace(0, 1, 50),
            "No difference: old and new score the same over 50 queries",
        ),
        (np.zeros(50), np.tile([0.1, -0.1], 25), "Not significant: new differs from old"),
    ],
)
def test_the_sentence_states_what_is_significant(a, b, said):
    sentence = compare(a, b).sentence("old", "new")
    assert said in sentence and sentence.count(". ") == 0 and sentence.endswith(".")
    assert ("significant for these two models" in sentence) == ("scores 0.2" in sentence)


def test_the_sentence_says_when_tests_disagree():
    """One query of five carries everything: the permutation test cannot go below 1/16."""
    found = compare(np.zeros(5), [0.5, 0.51, 0.49, 0.5, 0.5])
    assert found.p_value < 0.05 < found.permutation_p and not found.differs()
    assert "the tests disagree" in found.sentence()


def test_draws_come_from_the_seed_alone():
    a, b = np.random.default_rng(10).random((2, 40))
    assert compare(a, b, seed=1) == compare(a, b, seed=1) != compare(a, b, seed=2)


def test_many_queries_are_drawn_in_parts():
    """3,000 draws of 3,000 queries do not fit the cells held at a time; the parts make up the whole."""
    d = np.random.default_rng(11).normal(0.02, 1, 3000)
    means = bootstrap_means(d, np.ones(3000, np.int64), 3000, np.random.default_rng(0))
    assert len(means) == 3000 and means.std() == pytest.approx(d.std() / np.sqrt(3000), rel=0.06)
    assert sign_flip_p(d, 3000, np.random.default_rng(0)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.04)


@pytest.mark.parametrize(
    ("method", "a", "b", "options", "said"),
    [
        (compare, [1, 2, 3], [1, 2], {}, "3 queries against 2"),
        (compare, [1, float("nan")], [1, 2], {}, "a is nan at 1"),
        (compare, [1], [1], {}, "needs at least 2"),
        (compare, [[1, 2]], [[1, 2]], {}, r"a has shape \(1, 2\); expected one value per query"),
        (compare, [1, 2], [2, 1], {"groups": ["x"]}, "1 groups for 2 queries"),
        (compare, [1, 2], [2, 1], {"groups": ["x", "x"]}, "in one group"),
        (compare, [1, 2], [2, 1], {"permutations": 0}, "draw at least 1"),
        (compare_runs, [[1, 2]], [[1, 2], [2, 3]], {}, "scores_a has 1 training run"),
        (compare_runs, [[1, 2], [1, 2]], [[1, 2, 3], [2, 3, 4]], {}, "2 queries against 3"),
        (compare_runs, [[1, 2], [1, np.inf]], [[1, 2], [2, 3]], {}, r"scores_a is inf at \(1, 1\)"),
    ],
)
def test_bad_values_are_named(method, a, b, options, said):
    with pytest.raises(InputError, match=said):
        method(a, b, **options)


def test_a_table_needs_its_baseline_and_another():
    with pytest.raises(InputError, match="no system 'x'"):
        compare_table({"a": [1, 2]}, "x")
    with pytest.raises(InputError, match="only system"):
        compare_table({"a": [1, 2]}, "a")
