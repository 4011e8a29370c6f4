"""Samplers: they choose the negatives among the kept candidates (paper, section 4.3 and Table 3, last rows)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from hf_posmine.core.check import is_number, is_whole
from hf_posmine.core.ensembles import ENSEMBLES, CrossSample, IntraSample
from hf_posmine.core.errors import SpecError
from hf_posmine.core.spec import parse, shown, spell
from hf_posmine.core.types import PADDING, Floats, Mask, RowGenerators, Rows, Sampler

MOST_CANDIDATES = 1_000_000
"""Candidates of a row to draw from, at most."""
NOWHERE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Top:
    """The best ``n`` kept candidates."""

    def pool(self, n: int) -> int:
        """``n`` candidates are enough."""
        return n

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """The first ``n`` kept columns."""
        return _first(keep, n)


@dataclass(frozen=True)
class Uniform:
    """``n`` of the best ``k`` kept candidates, each with the same chance, without replacement."""

    k: int

    def __post_init__(self) -> None:
        _check_k(self, self.k)

    def pool(self, n: int) -> int:
        """``k`` candidates."""
        return _enough(self, self.k, n)

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """``n`` random columns of the first ``k`` kept, in descending score."""
        return _draw(np.zeros_like(scores), _best(keep, self.k), n, rngs)

    def __repr__(self) -> str:
        return f"Uniform(k={self.k})"


@dataclass(frozen=True)
class SampledTopK:
    """``n`` of the best ``k`` kept candidates, drawn by ``softmax(score / temperature)`` without replacement."""

    k: int = 10
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_k(self, self.k)
        _check_temperature(self, self.temperature)

    def pool(self, n: int) -> int:
        """``k`` candidates."""
        return _enough(self, self.k, n)

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """``n`` drawn columns of the first ``k`` kept, in descending score."""
        return _draw(scores / np.float32(self.temperature), _best(keep, self.k), n, rngs)


@dataclass(frozen=True)
class Top1Sampled(SampledTopK):
    """The best kept candidate, and ``n - 1`` drawn as :class:`SampledTopK` from the rest of the best ``k``."""

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """The first kept column, then ``n - 1`` drawn of the next ``k - 1``, in descending score."""
        best = _best(keep, self.k)
        drawn = _draw(scores / np.float32(self.temperature), best[:, 1:], n - 1, rngs)
        return np.concatenate([best[:, :1], drawn], axis=1)


@dataclass(frozen=True)
class SimANS:
    """``n`` of the best ``k`` kept candidates, drawn by how near they score to the positive (SimANS, arXiv 2210.11773).

    The probability is ``exp(-a (score - positive score - b)^2)``, without replacement: neither the easy ones far below the
    positive nor those far above it. ``a`` depends on the scale of the scores; cosines need a larger one than dot products.

    Attributes:
        k: how many of the best kept candidates to draw from.
        a: how fast the probability falls with the distance.
        b: where it is highest: 0 at the positive's score, negative below it.
    """

    k: int = 100
    a: float = 1.0
    b: float = 0.0
    relative = True
    """Its scores are given relative to the positive's."""

    def __post_init__(self) -> None:
        _check_k(self, self.k)
        for name, least in (("a", 0.0), ("b", -math.inf)):
            value = vars(self)[name]
            if not is_number(value) or value < least:
                raise SpecError(
                    f"SimANS: {name} must be a finite number{' of at least 0' if name == 'a' else ''}, got {value!r}"
                )
            object.__setattr__(self, name, float(value))

    def pool(self, n: int) -> int:
        """``k`` candidates."""
        return _enough(self, self.k, n)

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """``n`` drawn columns of the first ``k`` kept, in descending score; ``scores`` are candidate minus positive."""
        near = -self.a * np.square(np.where(keep, scores, 0).astype(np.float64) - self.b)
        return _draw(near.astype(np.float32), _best(keep, self.k), n, rngs)


@dataclass(frozen=True)
class Stratified:
    """``n`` of the best ``k`` kept candidates from all of their range of scores, for distillation (arXiv 2604.04734).

    The range from the best to the last of the ``k`` is cut into ``bins`` of equal width. The bins are drawn from in turn,
    the hardest first, each candidate of a bin with the same chance and without replacement; empty bins are passed over.

    Attributes:
        bins: strata of the score; with as many as negatives, one is drawn from each.
        k: how many of the best kept candidates to draw from.
    """

    bins: int
    k: int = 200

    def __post_init__(self) -> None:
        _check_k(self, self.k)
        _check_k(self, self.bins, "bins")

    def pool(self, n: int) -> int:
        """``k`` candidates."""
        return _enough(self, self.k, n)

    def pick(self, scores: Floats, keep: Mask, n: int, rngs: RowGenerators) -> Rows:
        """``n`` columns of the first ``k`` kept, in descending score."""
        columns = _best(keep, self.k)
        there = columns >= 0
        own = np.take_along_axis(scores, np.maximum(columns, 0), axis=1).astype(np.float64)
        best = np.where(there, own, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        width = best - np.where(there, own, np.inf).min(axis=1, initial=np.inf, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):  # rows without candidates, or with equal scores
            stratum = np.nan_to_num((best - own) / width * self.bins, nan=0.0, posinf=0.0, neginf=0.0)
        stratum = np.where(there, np.minimum(stratum.astype(np.int64), self.bins - 1), self.bins)
        order = np.lexsort((_noise(there, rngs, "random"), stratum), axis=1)  # by bin, at random within it
        ordered = np.take_along_axis(stratum, order, axis=1)
        starts = np.r_["1", np.ones((len(order), 1), bool), ordered[:, 1:] != ordered[:, :-1]]
        place = np.arange(order.shape[1])
        turn = place - np.maximum.accumulate(np.where(starts, place, 0), axis=1)
        keys = np.full(columns.shape, -np.inf)
        np.put_along_axis(keys, order, -(turn * float(self.bins + 1) + ordered), axis=1)
        return _chosen(np.where(there, keys, -np.inf), columns, n)


ALL_SAMPLERS = (Top, Uniform, SampledTopK, Top1Sampled, SimANS, Stratified)
for _cls in ALL_SAMPLERS:
    if _cls is not Uniform:
        _cls.__repr__ = spell  # type: ignore[method-assign]

SAMPLERS = {cls.__name__: cls for cls in ALL_SAMPLERS}


Choice: TypeAlias = Sampler | CrossSample | IntraSample
"""How negatives are chosen: by a sampler from one teacher, or by an ensemble from several."""


def parse_sampler(text: str) -> Choice:
    """Read a sampler or an ensemble from its spelling.

    >>> parse_sampler("SampledTopK(k=20)")
    SampledTopK(k=20, temperature=1.0)
    """
    return as_sampler(parse(text, {**SAMPLERS, **ENSEMBLES}, "sampler"))


def as_sampler(sampler: Choice | str) -> Choice:
    """A sampler or an ensemble from an object or its spelling."""
    if isinstance(sampler, str):
        return parse_sampler(sampler)
    if isinstance(sampler, (Sampler, CrossSample, IntraSample)) and not isinstance(sampler, type):
        return sampler
    raise SpecError(
        f"{shown(repr(sampler))} is not a sampler; known: {', '.join([*sorted(SAMPLERS), *sorted(ENSEMBLES)])}"
    )


def _first(keep: Mask, count: int) -> Rows:
    """Columns int64 ``[B, count]`` of the first kept candidates, -1 where there are fewer."""
    # False sorts before True and stable sorting keeps the order, so kept columns come first, best first.
    columns = np.argsort(~keep, axis=1, kind="stable")[:, :count]
    columns = np.where(np.take_along_axis(keep, columns, axis=1), columns, PADDING)
    missing = count - columns.shape[1]
    return np.pad(columns, ((0, 0), (0, max(0, missing))), constant_values=PADDING).astype(np.int64)


def _best(keep: Mask, k: int) -> Rows:
    """Columns of the first ``k`` kept candidates, int64 ``[B, at most k]``; no wider than the candidates are."""
    return _first(keep, min(k, max(1, keep.shape[1])))


def _draw(logits: Floats, columns: Rows, n: int, rngs: RowGenerators) -> Rows:
    """``n`` of each row's ``columns`` by softmax of their logits, without replacement (the Gumbel top-n trick)."""
    there = columns >= 0
    if not n:
        return _chosen(np.full(columns.shape, -np.inf), columns, n)
    # The n largest of logit + Gumbel noise are a softmax draw without replacement.
    keys = np.take_along_axis(logits, np.maximum(columns, 0), axis=1) + _noise(there, rngs, "gumbel")
    return _chosen(np.where(there, keys, -np.inf), columns, n)


def _noise(there: Mask, rngs: RowGenerators, law: Literal["gumbel", "random"]) -> np.ndarray:
    """One random number for each candidate that is there, by the generator of its row; float64 in the shape of ``there``."""
    noise = np.zeros(there.shape)
    for row in np.flatnonzero(there.any(axis=1)).tolist():
        generator, count = rngs(row), int(there[row].sum())
        noise[row, there[row]] = generator.gumbel(size=count) if law == "gumbel" else generator.random(count)
    return noise


def _chosen(keys: np.ndarray, columns: Rows, n: int) -> Rows:
    """The ``n`` columns with the greatest keys, in ascending order of column, -1 where there are fewer."""
    best = np.argsort(-keys, axis=1, kind="stable")[:, :n]
    chosen = np.take_along_axis(np.where(columns >= 0, columns, NOWHERE), best, axis=1)
    chosen.sort(axis=1)
    chosen = np.pad(chosen, ((0, 0), (0, n - chosen.shape[1])), constant_values=NOWHERE)
    return np.where(chosen == NOWHERE, PADDING, chosen)


def _enough(sampler: Sampler, k: int, n: int) -> int:
    if k < n:
        raise SpecError(
            f"{sampler!r} draws from {k} candidates and cannot give {n} negatives; raise k or ask for fewer"
        )
    return k


def _check_k(sampler: object, k: object, name: str = "k") -> None:
    if not is_whole(k, least=1, most=MOST_CANDIDATES):
        raise SpecError(
            f"{type(sampler).__name__}: {name} must be a whole number from 1 to {MOST_CANDIDATES:,}, got {k!r}"
        )
    object.__setattr__(sampler, name, int(k))


def _check_temperature(sampler: object, value: object) -> None:
    if not is_number(value) or float(value) <= 0:
        raise SpecError(f"{type(sampler).__name__}: temperature must be a number above 0, got {value!r}")
    object.__setattr__(sampler, "temperature", float(value))
