"""A judge whose errors were counted: what its verdicts say about a rate, with the counts' own uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy import stats

from hf_posmine.core.check import is_whole, whole
from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.candidates import SUSPECTS, JudgedList, Suspect
from hf_posmine.utils.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.candidates import CandidateJudge

COUNTS_SHARE = 0.25
"""Of the error that is allowed, for sensitivity and for specificity, each."""


@dataclass(frozen=True, eq=False)
class MeasuredJudge:
    """A judge, and how often it was right on passages of known relevance.

    Attributes:
        judge: who is asked.
        confusion: counts as of :class:`~hf_posmine.evaluation.judge.validation.Agreement`: rows are the truth (not relevant,
            relevant), columns the judge. At most one passage of each truth per query, since those of a query are not
            independent. Without a passage that is not relevant, every verdict counts as right, which is always safe.
        queries: whose negatives it is asked about, at most.
        suspect: which verdicts count as relevant; what could not be read does.

    Raises:
        InputError: no count of relevant passages, or a number that cannot be one.
    """

    judge: CandidateJudge
    confusion: tuple[tuple[int, int], tuple[int, int]]
    queries: int = 200
    suspect: Suspect = "relevant"

    def __post_init__(self) -> None:
        counts = [count for row in self.confusion for count in row]
        if not all(is_whole(count, 0) for count in counts) or not sum(self.confusion[1]):
            raise InputError(
                f"judge_confusion={counts}; give four counts, of which the last two, of relevant passages, are not both 0"
            )

        whole("judge_queries", self.queries, 1)

    def spent(self, error: float) -> float:
        """The part of an error probability that goes to the counts."""
        return error * COUNTS_SHARE * (1 + (sum(self.confusion[0]) > 0))

    def ends(self, error: float) -> tuple[float, float]:
        """Least sensitivity and greatest specificity that the counts allow: exact one-sided ends (Clopper and Pearson 1934)."""
        (right, wrong), (missed, found) = self.confusion
        tail = error * COUNTS_SHARE
        least = float(stats.beta.ppf(tail, found, missed + 1)) if found else 0.0
        most = float(stats.beta.ppf(1 - tail, right + 1, wrong)) if wrong else 1.0
        return least, most

    def threshold(self, rate: float, error: float) -> float:
        """The least share of relevant verdicts where the rate is above ``rate``, with a probability of 1 - :meth:`spent`.

        With sensitivity ``se`` and specificity ``sp`` a rate ``r`` gives ``r se + (1 - r)(1 - sp)`` relevant verdicts (Rogan and
        Gladen 1978); it is least where ``se`` is least and ``sp`` greatest.

        Raises:
            InputError: a judge that may be no better than chance.
        """
        least, most = self.ends(error)
        if least + most <= 1:
            raise InputError(
                f"the judge found {self.confusion[1][1]} of {sum(self.confusion[1])} relevant passages, so its sensitivity may be "
                f"{least:.1%}, which is no better than chance; count more passages or take another judge"
            )
        return rate * least + (1 - rate) * (1 - most)

    def are_relevant(self, lists: Sequence[JudgedList]) -> list[list[bool]]:
        """Whether it calls each passage of each list relevant."""
        relevant = {*SUSPECTS[self.suspect], "unreadable"}
        return [[verdict in relevant for verdict in row] for row in self.judge.judge_candidates(lists)]

    def to_dict(self, error: float) -> dict[str, Any]:
        """Plain values for a record."""
        least, most = self.ends(error)
        names = [redact(cost.name) for cost in self.judge.costs()]
        confusion = [list(row) for row in self.confusion]
        return {"names": names, "confusion": confusion, "least_sensitivity": least, "greatest_specificity": most}
