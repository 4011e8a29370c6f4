"""The candidates of one query that a judge is asked about, its verdicts on them, and its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict: TypeAlias = Literal["better", "equal", "worse", "irrelevant", "unreadable"]
"""``irrelevant``, or relevant and better than, equal to or worse than the labelled positive; ``unreadable`` is an answer
that could not be read, which counts as neither."""

Suspect: TypeAlias = Literal["relevant", "at_least_equal", "better"]
SUSPECTS: dict[str, tuple[str, ...]] = {
    "relevant": ("better", "equal", "worse"),
    "at_least_equal": ("better", "equal"),
    "better": ("better",),
}
"""Which verdicts make a false negative. RLHN (arXiv 2505.16967) counts only what is better."""


@dataclass(frozen=True)
class JudgedList:
    """Passages of one query to judge.

    Attributes:
        query: what was searched.
        positive: its labelled positive, which they are compared with.
        passages: the candidates.
    """

    query: str
    positive: str
    passages: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a judge was asked in this process; answers from its file cost nothing.

    Attributes:
        name: of the model.
        questions: sent, repeated ones included.
        characters: of these questions and their answers.
        tokens_read: of the questions, as the service counts them; 0 where it does not.
        tokens_written: of the answers.
    """

    name: str
    questions: int
    characters: int
    tokens_read: int = 0
    tokens_written: int = 0


class CandidateJudge(Protocol):
    """Judges the candidates of many queries."""

    def judge_candidates(self, lists: Sequence[JudgedList]) -> list[list[Verdict]]:
        """The verdict on each passage of each list."""

    def costs(self) -> list[Cost]:
        """What was spent, by model."""
