"""Samplers against a slow oracle, against the softmax they promise, and their properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import SpecError
from hf_posmine.core.samplers import (
    SampledTopK,
    SimANS,
    Stratified,
    Top,
    Top1Sampled,
    Uniform,
    as_sampler,
    parse_sampler,
)

ALL = [Top(), Uniform(5), SampledTopK(5, 0.5), Top1Sampled(5, 0.5)]


def generators(seed: int):
    return lambda row: np.random.default_rng([seed, row])


def oracle(sampler, scores: np.ndarray, keep: np.ndarray, n: int, rngs) -> list[list[int]]:
    """Row by row, in Python: the same Gumbel numbers, given to the kept candidates best first."""
    picked = []
    for row in range(len(scores)):
        kept = [column for column in range(scores.shape[1]) if keep[row, column]]
        if isinstance(sampler, Top):
            chosen = kept[:n]
        else:
            best = kept[: sampler.k]
            fixed = best[:1] if isinstance(sampler, Top1Sampled) else []
            rest, wanted = best[len(fixed) :], n - len(fixed)
            noise = rngs(row).gumbel(size=len(rest)) if rest and wanted else []
            heat = math.inf if isinstance(sampler, Uniform) else sampler.temperature
            keys = {c: float(scores[row, c]) / heat + g for c, g in zip(rest, noise, strict=False)}
            chosen = fixed + sorted(sorted(keys, key=keys.__getitem__, reverse=True)[:wanted])
        picked.append(chosen + [-1] * (n - len(chosen)))
    return picked


@st.composite
def batches(draw):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = -np.sort(-rng.normal(size=(rows, columns)).astype(np.float32), axis=1)
    keep = rng.random((rows, columns)) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return scores, keep, draw(st.integers(1, 5)), draw(st.integers(0, 99))


@pytest.mark.parametrize("sampler", ALL, ids=repr)
@given(batch=batches())
def test_picks_are_kept_unique_best_first_and_as_the_slow_oracle_says(sampler, batch):
    scores, keep, n, seed = batch
    columns = sampler.pick(scores, keep, n, generators(seed))
    assert columns.shape == (len(scores), n)
    assert columns.dtype == np.int64
    for row, picked in enumerate(columns.tolist()):
        chosen = [c for c in picked if c >= 0]
        pool = np.flatnonzero(keep[row])[: getattr(sampler, "k", n)].tolist()
        assert picked == chosen + [-1] * (n - len(chosen))
        assert chosen == sorted(set(chosen))
        assert set(chosen) <= set(pool)
        assert len(chosen) == min(n, len(pool))
        if isinstance(sampler, (Top, Top1Sampled)) and pool:
            assert chosen[0] == pool[0]
    assert columns.tolist() == oracle(sampler, scores, keep, n, generators(seed))


@pytest.mark.parametrize("sampler", ALL[1:], ids=repr)
def test_a_row_depends_on_its_own_generator_only(sampler):
    scores = np.tile(np.linspace(1, 0, 8, dtype=np.float32), (30, 1))
    keep = np.ones(scores.shape, bool)
    whole = sampler.pick(scores, keep, 3, generators(7))
    assert np.array_equal(whole, sampler.pick(scores, keep, 3, generators(7)))
    assert not np.array_equal(whole, sampler.pick(scores, keep, 3, generators(8)))
    assert len(np.unique(whole, axis=0)) > 1
    alone = sampler.pick(scores[11:12], keep[11:12], 3, lambda row: generators(7)(11 + row))
    assert np.array_equal(alone[0], whole[11])


def test_the_global_seed_is_never_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is the global state that is looked at
    SampledTopK().pick(np.zeros((4, 10), np.float32), np.ones((4, 10), bool), 2, generators(0))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def chances(logits: np.ndarray, n: int) -> dict[tuple[int, ...], float]:
    """Chance of each set of n, drawn one after the other by softmax without replacement."""
    weights = np.exp(logits.astype(np.float64))
    found: dict[tuple[int, ...], float] = {}
    for drawn in itertools.permutations(range(len(logits)), n):
        chance, left = 1.0, float(weights.sum())
        for column in drawn:
            chance *= weights[column] / left
            left -= weights[column]
        found[tuple(sorted(drawn))] = found.get(tuple(sorted(drawn)), 0) + chance
    return found


@pytest.mark.parametrize(
    ("sampler", "n", "logits_of"),
    [
        (SampledTopK(4, 0.5), 2, lambda s: s[:4] / 0.5),
        (SampledTopK(5, 1.0), 1, lambda s: s[:5]),
        (Uniform(5), 2, lambda s: 0 * s[:5]),
        (Top1Sampled(5, 0.5), 3, lambda s: s[1:5] / 0.5),
    ],
    ids=lambda value: None if callable(value) else repr(value),
)
def test_draws_have_the_frequencies_of_softmax_without_replacement(sampler, n, logits_of):
    scores = np.array([0.9, 0.5, 0.25, 0.0, -0.5, -0.75], np.float32)
    draws = 6000
    columns = sampler.pick(np.tile(scores, (draws, 1)), np.ones((draws, 6), bool), n, generators(3))
    shift = isinstance(sampler, Top1Sampled)
    expected = chances(logits_of(scores), n - shift)
    seen: dict[tuple[int, ...], int] = {}
    for row in columns.tolist():
        drawn = tuple(c - shift for c in row[int(shift) :])
        seen[drawn] = seen.get(drawn, 0) + 1
    assert seen.keys() <= expected.keys()
    chi_square = sum((seen.get(s, 0) - draws * p) ** 2 / (draws * p) for s, p in expected.items())
    degrees = len(expected) - 1
    assert chi_square < degrees + 5 * math.sqrt(2 * degrees)


def test_a_cold_draw_is_the_top_and_a_hot_one_is_uniform():
    scores, keep = np.linspace(1, 0, 6, dtype=np.float32)[None].repeat(2000, 0), np.ones((2000, 6), bool)
    cold = SampledTopK(6, 1e-3).pick(scores, keep, 2, generators(0))
    assert (cold == [0, 1]).all()
    hot = SampledTopK(6, 1e6).pick(scores, keep, 1, generators(0))
    assert np.abs(np.bincount(hot[:, 0], minlength=6) / 2000 - 1 / 6).max() < 0.04


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_excluded_candidates_with_no_score_do_no_harm(sampler):
    scores = np.array([[0.5, 0.25, -np.inf, -np.inf]], np.float32)
    columns = sampler.pick(scores, np.isfinite(scores), 3, generators(0))
    assert columns.tolist() == [[0, 1, -1]]


@pytest.mark.parametrize(("sampler", "pool"), [(Top(), 4), (Uniform(9), 9), (SampledTopK(9), 9), (Top1Sampled(9), 9)])
def test_the_pool_is_n_or_k(sampler, pool):
    assert sampler.pool(4) == pool


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Uniform(3).pool(4), r"Uniform\(k=3\) draws from 3 candidates and cannot give 4 negatives; raise k"),
        (lambda: SampledTopK(3).pool(4), "cannot give 4"),
        (lambda: Top1Sampled(3).pool(4), "cannot give 4"),
        (lambda: Uniform(0), "Uniform: k must be a whole number from 1 to 1,000,000, got 0"),
        (lambda: SampledTopK(2.0), "k must be a whole number"),
        (lambda: SampledTopK(True), "k must be a whole number"),
        (lambda: Top1Sampled(temperature=0), "temperature must be a number above 0, got 0"),
        (lambda: SampledTopK(temperature=float("nan")), "temperature must be a number above 0"),
        (lambda: SampledTopK(temperature="1"), "temperature must be a number above 0"),
        (lambda: SampledTopK(temperature=True), "temperature must be a number above 0"),
        (lambda: parse_sampler("Topp()"), r"unknown sampler 'Topp'.*did you mean Top\?"),
        (
            lambda: as_sampler(4),
            "4 is not a sampler; known: SampledTopK, SimANS, Stratified, Top, Top1Sampled, Uniform",
        ),
    ],
)
def test_wrong_parameters_say_what_and_the_cure(make, says):
    with pytest.raises(SpecError, match=says):
        make()


def test_simans_draws_by_the_distance_to_the_positive():
    sampler, scores = SimANS(k=4, a=20.0, b=-0.1), np.array([[0.3, 0.0, -0.1, -0.4, -0.5]], np.float32)
    weights = np.exp(-20.0 * (scores[0, :4].astype(np.float64) + 0.1) ** 2)
    counts, keep = np.zeros(5), np.ones(scores.shape, bool)
    for seed in range(4000):
        counts[sampler.pick(scores, keep, 1, lambda row, seed=seed: np.random.default_rng(seed))[0, 0]] += 1
    assert counts[4] == 0
    np.testing.assert_allclose(counts[:4] / 4000, weights / weights.sum(), atol=0.03)


@pytest.mark.parametrize(
    "make", [lambda: SimANS(a=-1), lambda: SimANS(b=float("nan")), lambda: SimANS(k=0), lambda: SimANS(a=True)]
)
def test_simans_refuses_what_it_cannot_use(make):
    with pytest.raises(SpecError, match="SimANS: "):
        make()


def stratified_oracle(bins: int, k: int, scores: list[float], kept: list[int], n: int, rng) -> list[int]:
    """Bins as lists, each shuffled by the row's numbers, dealt in turn from the hardest."""
    best = kept[:k]
    if not best:
        return [-1] * n
    numbers = dict(zip(best, rng.random(len(best)), strict=True))
    high, low = max(scores[c] for c in best), min(scores[c] for c in best)
    piles: list[list[int]] = [[] for _ in range(bins)]
    for column in best:
        share = (high - scores[column]) / (high - low) if high > low else 0.0
        piles[min(int(share * bins), bins - 1)].append(column)
    piles = [sorted(pile, key=numbers.__getitem__) for pile in piles]
    dealt: list[int] = []
    while any(piles) and len(dealt) < n:
        for pile in piles:
            if pile and len(dealt) < n:
                dealt.append(pile.pop(0))
    return sorted(dealt) + [-1] * (n - len(dealt))


@given(batch=batches(), bins=st.integers(1, 6), k=st.integers(5, 12))
def test_stratified_deals_from_each_bin_in_turn(batch, bins, k):
    scores, keep, n, seed = batch
    columns = Stratified(bins, k).pick(scores, keep, n, generators(seed))
    for row, picked in enumerate(columns.tolist()):
        kept = np.flatnonzero(keep[row]).tolist()
        wide = scores[row].astype(np.float64).tolist()
        assert picked == stratified_oracle(bins, k, wide, kept, n, generators(seed)(row))


def test_stratified_takes_one_of_each_stratum():
    scores = np.array([[0.9, 0.85, 0.8, 0.6, 0.55, 0.31, 0.3, 0.1]], np.float32)  # bins from 0.9, 0.7, 0.5, 0.3
    for seed in range(20):
        first, second, third, last = Stratified(4).pick(scores, np.ones(scores.shape, bool), 4, generators(seed))[0]
        assert first < 3 <= second < 5 <= third < 7 == last


def test_stratified_with_equal_scores_draws_from_all():
    scores = np.full((300, 6), 0.5, np.float32)
    drawn = Stratified(3).pick(scores, np.ones(scores.shape, bool), 2, generators(1))
    assert set(drawn.flatten().tolist()) == set(range(6))


@pytest.mark.parametrize("make", [lambda: Stratified(0), lambda: Stratified(2.5), lambda: Stratified(4, k=0)])
def test_stratified_refuses_what_it_cannot_use(make):
    with pytest.raises(SpecError, match=r"Stratified: (bins|k) must be a whole number"):
        make()
