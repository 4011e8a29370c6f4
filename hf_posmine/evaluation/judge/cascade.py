"""Two judges in a row: a cheap one reads everything, a dear one what the first suspects (RLHN, arXiv 2505.16967)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.candidates import CandidateJudge, Cost, JudgedList, Verdict

ASKED_AGAIN: tuple[Verdict, ...] = ("better", "equal", "worse", "unreadable")


@dataclass(frozen=True)
class Cascade:
    """The verdict of the dear judge on what the cheap one calls relevant or cannot be read on; else that of the cheap one.

    Attributes:
        cheap: is asked about every candidate.
        dear: is asked about those whose verdict is among ``asked_again``.
        asked_again: by default all but ``irrelevant``.
    """

    cheap: CandidateJudge
    dear: CandidateJudge
    asked_again: tuple[Verdict, ...] = ASKED_AGAIN

    def judge_candidates(self, lists: Sequence[JudgedList]) -> list[list[Verdict]]:
        """The verdict on each passage of each list."""
        verdicts = self.cheap.judge_candidates(lists)
        open_ = [[at for at, verdict in enumerate(row) if verdict in self.asked_again] for row in verdicts]
        again = [
            replace(one, passages=tuple(one.passages[at] for at in places))
            for one, places in zip(lists, open_, strict=True)
            if places
        ]
        second = iter(self.dear.judge_candidates(again))
        for row, places in zip(verdicts, open_, strict=True):
            if places:
                for at, verdict in zip(places, next(second), strict=True):
                    row[at] = verdict
        return verdicts

    def costs(self) -> list[Cost]:
        """What each of the two was asked."""
        return [*self.cheap.costs(), *self.dear.costs()]


def cascade_rates(cheap: tuple[float, float], dear: tuple[float, float]) -> tuple[float, float]:
    """Sensitivity and specificity of a cascade whose two judges err independently of each other.

    A relevant passage has to be found by both, any other only to be cleared by one: a cascade is never more sensitive than its
    cheap judge, and always at least as specific as either.

    >>> cascade_rates((0.9, 0.8), (0.95, 0.9))
    (0.855, 0.98)
    """
    return cheap[0] * dear[0], 1 - (1 - cheap[1]) * (1 - dear[1])
