"""The coverage study chooses as the package does, and its simulated judge errs as often as asked."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import guarantee
from hf_posmine.evaluation.negatives.betting import bets, is_below, log_capital


def made(rates, queries: int = 60, seed: int = 0) -> tuple[guarantee.Population, np.ndarray]:
    """Settings in two families, the safest first, whose four negatives are false at given rates."""
    rng = np.random.default_rng(seed)
    false = rng.random((len(rates), queries, 4)) < np.array(rates)[:, None, None]
    found = 2 * np.tile(np.arange(4 * len(rates)).reshape(len(rates), 1, 4), (1, queries, 1)) + false
    four = np.full((len(rates), queries), 4.0)
    score = four * np.linspace(0.2, 0.8, len(rates))[:, None]
    families = {"a": list(range(0, len(rates), 2)), "b": list(range(1, len(rates), 2))}
    names = [f"setting {at}" for at in range(len(rates))]
    return guarantee.Population(names, families, false.mean(axis=2), four, score, four), found


def test_many_resamples_are_tested_as_one():
    people, _ = made([0.0, 0.01, 0.03, 0.04, 0.08, 0.15, 0.01, 0.01])
    weights = np.random.default_rng(1).multinomial(300, np.full(60, 1 / 60), size=20)
    capital = log_capital(bets(people.shares, 0.06) @ weights.T)
    passed = guarantee.certified(capital, people.families)
    chosen = guarantee.hardest(passed, people.gaps(weights.astype(float)))
    assert 0 < passed.mean() < 1
    for r, counts in enumerate(weights):
        good = []
        for members in people.families.values():
            for at in members:
                if not is_below(np.repeat(people.shares[at], counts), 0.06, 0.05 / 2):
                    break
                good.append(at)
        assert np.flatnonzero(passed[:, r]).tolist() == sorted(good)
        assert chosen[r] == (max(good) if good else -1)  # the later, the harder


def test_a_judge_errs_as_often_as_asked():
    people, found = made([0.0, 0.0, 0.01, 0.01, 0.9, 0.9])
    rng = np.random.default_rng(2)
    sure = guarantee.by_judge(people, found, (1.0, 1.0), 400, 2000, 30, rng)
    assert sure["certified"] == 1 and sure["above"] == 0 and sure["true_rate"] < 0.03
    vague = guarantee.by_judge(people, found, (0.9, 0.7), 400, 100, 30, rng)
    assert vague["certified"] < 0.5  # with 30 % of its verdicts false alarms, a rate of 5 % cannot be seen
    assert guarantee.by_judge(people, found, (0.5, 0.4), 400, 100, 5, rng)["certified"] == 0  # worse than chance


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_the_oracle_is_the_hardest_within_the_rate_and_the_page_has_every_table(rate):
    people, found = made([0.0, 0.0, 0.01, 0.01, 0.3, 0.3])
    assert people.names[people.oracle(rate)] == "setting 3" and people.only("a").oracle(rate) == 2
    rng = np.random.default_rng(3)
    cells = [{"kind": kind, "rate": rate, "size": 300} | guarantee.resampled(people, 300, rate, 20, rng, people.true)
             for kind in guarantee.KINDS]  # fmt: skip
    for cell in cells:
        cell["PercPos"] = cell["ladder"]
        assert cell["ladder"]["above"] == 0
    halves = [{"kind": "complete", "rate": rate, "size": "half", "halves": guarantee.halves(people, rate, 20, rng)}]
    judged = [
        {"sensitivity": se, "specificity": 1.0, "size": size, "counted": counted}
        | guarantee.by_judge(people, found, (se, 1.0), 100, counted, 5, rng)
        for size, counted in guarantee.JUDGED
        for se in guarantee.ABILITIES
    ]
    edges = {kind: guarantee.at_the_edge(people, 20, rng) for kind in guarantee.KINDS}
    assert all(edge["any_above"] >= edge["above"] for edge in edges.values())
    collection = {"queries": {"complete": 60, "held out": 60, "judge": 60}, "cells": cells + halves, "edges": edges,
                  "judge": judged, "seconds": 60.0}  # fmt: skip
    text = guarantee.page({"resamples": 20, "collections": {"made": collection}})
    assert text.count("| made |") == 2 + 2 + 1 + 2 * len(guarantee.ABILITIES)
