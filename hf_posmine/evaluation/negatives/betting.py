"""Bets against a rate: a test of a mean of bounded losses that holds for every number of queries, without an approximation.

Let a query's loss lie between 0 and 1 and queries be drawn independently. If the mean loss is above ``threshold``, then for every
stake ``0 <= s < 1 / (1 - threshold)`` the factor ``1 - s (loss - threshold)`` is positive and has a mean of at most 1. So has the
product over queries, and so has an average of such products over stakes that were fixed beforehand: the capital of somebody
who bets against the rate. By Markov's inequality it reaches ``1 / error`` with a probability of at most ``error`` (Waudby-Smith and
Ramdas, arXiv 2010.09686, section 4; diversified bets without a running maximum, so that the order of queries does not matter).
Losses that vary little make it grow fast, which Hoeffding's and Bentkus's bounds cannot use.

A query without a negative has no loss (NaN) and no bet is made on it: the mean is over queries that have one.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Doubles: TypeAlias = npt.NDArray[np.float64]
FRACTIONS = np.array([0.95, 0.5, 0.2])
"""Stakes, as shares of the largest one: where losses are small and far below 1, the largest stakes win."""
CAPITAL = np.array([0.6, 0.25, 0.15])
"""How the capital is divided among them; it sums to 1."""
MOST_QUERIES = 10**9


def bets(losses: Doubles, threshold: float) -> Doubles:
    """Logarithms of the factors, float64 ``[3, ...]``, of losses of any shape; 0 where a loss is NaN."""
    stakes = FRACTIONS.reshape(-1, *[1] * losses.ndim) / (1 - threshold)
    return np.nan_to_num(np.log1p(-stakes * (losses - threshold)))


def log_capital(sums: Doubles) -> Doubles:
    """Logarithm of the capital, from sums over queries of :func:`bets`, ``[3, ...]``."""
    shares = np.log(CAPITAL).reshape(-1, *[1] * (sums.ndim - 1))
    capital: Doubles = np.logaddexp.reduce(sums + shares, axis=0)
    return capital


def is_below(losses: Doubles, threshold: float, error: float) -> bool:
    """Whether the losses ``[Q]`` show that their mean is at most ``threshold``, wrongly with a probability of at most ``error``."""
    return float(log_capital(bets(losses, threshold).sum(axis=-1))) >= -math.log(error)


def queries_needed(losses: Doubles, threshold: float, error: float) -> int | None:
    """How many queries with such losses would show it; None where no number would.

    The logarithm of each product grows in proportion to the number of queries.
    """
    counted = losses[~np.isnan(losses)]
    counted = counted if len(counted) else np.zeros(1)
    each = bets(counted, threshold).mean(axis=-1)
    if each.max() <= 0:
        return None
    low, high = 0, 1
    while float(log_capital(each * high)) < -math.log(error):
        low, high = high, 2 * high
        if high > MOST_QUERIES:
            return None
    while high - low > 1:  # the capital is 1 at 0 and convex in the number, so it passes 1 / error once
        middle = (low + high) // 2
        low, high = (low, middle) if float(log_capital(each * middle)) >= -math.log(error) else (middle, high)
    return high
