"""Validation of the judge: agreement with people or a second judge, controls, and the correction of a rate for its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.candidates import SUSPECTS, JudgedList, Suspect, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.candidates import CandidateJudge


@dataclass(frozen=True)
class Agreement:
    """A judge beside the truth, or beside another judge.

    Attributes:
        confusion: counts; rows are the truth (not relevant, relevant), columns the judge.
        kappa: Cohen's: 0 is chance, 1 always the same; NaN where both give one and the same answer throughout.
        low: lower end of its interval, by resampling queries.
        high: upper end of it.
        unreadable: answers that count as neither.
    """

    confusion: tuple[tuple[int, int], tuple[int, int]]
    kappa: float
    low: float
    high: float
    unreadable: int

    @property
    def sensitivity(self) -> float:
        """Share of the relevant passages that the judge calls relevant; NaN without any."""
        return _share(self.confusion[1][1], sum(self.confusion[1]))

    @property
    def specificity(self) -> float:
        """Share of the other passages that the judge calls not relevant; NaN without any."""
        return _share(self.confusion[0][0], sum(self.confusion[0]))


def agreement(
    verdicts: Sequence[Verdict], truth: Sequence[bool | None], queries: Sequence[Any], *, suspect: Suspect = "relevant",
    resamples: int = 2000, level: float = 0.95, seed: int = 0,
) -> Agreement:  # fmt: skip
    """Agreement of a judge with relevance that people judged, or with :func:`as_relevant` of a second judge.

    Args:
        verdicts: of the judge.
        truth: aligned with them; None is unknown and left out.
        queries: whose passages they are; intervals resample queries, whose passages are not independent.
        suspect: which verdicts count as relevant.
        resamples: of the queries.
        level: of the interval.
        seed: of the resamples.
    """
    if not len(verdicts) == len(truth) == len(queries):
        raise InputError(f"{len(verdicts)} verdicts, {len(truth)} truths, {len(queries)} queries; give one each")
    judged = as_relevant(verdicts, suspect)
    used = [at for at in range(len(judged)) if judged[at] is not None and truth[at] is not None]
    if not used:
        raise InputError("no passage has both a readable verdict and a known truth; nothing can be compared")
    cells = np.array([2 * bool(truth[at]) + bool(judged[at]) for at in used])
    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries[at] for at in used))}
    table = np.zeros((len(numbers), 4))
    np.add.at(table, (np.array([numbers[queries[at]] for at in used]), cells), 1)
    rng = np.random.default_rng(seed)
    drawn = [_kappa(table[rng.integers(0, len(table), len(table))].sum(axis=0)) for _ in range(resamples)]
    finite = [kappa for kappa in drawn if np.isfinite(kappa)]
    tail = (1 - level) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if finite else (np.nan, np.nan)
    no_no, no_yes, yes_no, yes_yes = (int(count) for count in table.sum(axis=0))
    confusion = ((no_no, no_yes), (yes_no, yes_yes))
    return Agreement(confusion, _kappa(table.sum(axis=0)), float(low), float(high), list(verdicts).count("unreadable"))


def as_relevant(verdicts: Sequence[Verdict], suspect: Suspect = "relevant") -> list[bool | None]:
    """Whether each verdict counts as relevant, None where it is unreadable."""
    return [None if verdict == "unreadable" else verdict in SUSPECTS[suspect] for verdict in verdicts]


def corrected_rate(observed: float, sensitivity: float, specificity: float) -> float:
    """The rate behind what an imperfect judge reports: ``(p + sp - 1) / (se + sp - 1)`` (Rogan and Gladen 1978).

    Raises:
        InputError: a judge that is no better than chance, about which nothing can be corrected.

    >>> round(corrected_rate(0.3, sensitivity=0.9, specificity=0.8), 4)
    0.1429
    """
    if not sensitivity + specificity > 1:
        raise InputError(
            f"sensitivity {sensitivity:.2f} and specificity {specificity:.2f} are no better than chance; use another judge"
        )
    return float(np.clip((observed + specificity - 1) / (sensitivity + specificity - 1), 0, 1))


@dataclass(frozen=True)
class Controls:
    """Questions with known answers.

    Attributes:
        positives: verdicts on known positives.
        random: verdicts on random documents.
    """

    positives: tuple[Verdict, ...]
    random: tuple[Verdict, ...]

    def shares(self, suspect: Suspect = "relevant") -> tuple[float, float]:
        """Sensitivity on the known positives and specificity on the random documents, of what could be read."""
        good = [value for value in as_relevant(self.positives, suspect) if value is not None]
        bad = [value for value in as_relevant(self.random, suspect) if value is not None]
        return _share(sum(good), len(good)), _share(len(bad) - sum(bad), len(bad))


def controls(
    judge: CandidateJudge, queries: Sequence[str], positives: Sequence[Sequence[str]], documents: Sequence[str], *,
    seed: int = 0,
) -> Controls:  # fmt: skip
    """Ask about a known positive and a random document of every query.

    The positive is another one than the reference where the query has two; else it is the reference itself, which a judge
    must at least call equal. Random documents make a judge look better than hard negatives do: specificity on them is an
    upper bound.

    Args:
        judge: the judge under validation.
        queries: texts.
        positives: the known positives of each.
        documents: to draw from; a query's positives are not drawn.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    lists: list[JudgedList] = []
    for query, known in zip(queries, positives, strict=True):
        others = [at for at in rng.permutation(len(documents))[: len(known) + 1].tolist() if documents[at] not in known]
        if not others:
            raise InputError(f"all documents are positives of {query[:60]!r}; give more documents")
        lists.append(JudgedList(query, known[0], (known[-1], documents[others[0]])))
    verdicts = judge.judge_candidates(lists)
    return Controls(tuple(row[0] for row in verdicts), tuple(row[1] for row in verdicts))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _kappa(cells: np.ndarray) -> float:
    """Cohen's kappa of counts (no no, no yes, yes no, yes yes)."""
    table = cells.reshape(2, 2) / cells.sum()
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    return float("nan") if chance >= 1 else float((np.trace(table) - chance) / (1 - chance))
