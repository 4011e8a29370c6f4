"""Gates between what a model wrote and what is trained on; each is given what the gates before it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.near_queries import near_pairs
from hf_posmine.data.phrases import words
from hf_posmine.evaluation.judge.quoting import QUOTE, QuoteQuestion, read_quote
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Scorer
    from hf_posmine.evaluation.judge.asking import Asker

Gate: TypeAlias = Literal["copied", "consistent", "near", "answerable"]
GATES: tuple[Gate, ...] = get_args(Gate)
"""In their order: what costs nothing comes first, the judge last."""
LONGEST = 300
"""Characters of a question; what is longer is an answer or a copy."""
WIDTH = 3
"""Words of a phrase that counts as copied."""
SEARCHED = 1024
PASSED = ""


@dataclass(frozen=True)
class WrittenQuestion:
    """A question that was read from an answer.

    Attributes:
        query: the question.
        row: corpus row of its document.
        kind: a key of :data:`~hf_posmine.evaluation.questions.writing.KINDS`.
        passage: the text that the model was given.
    """

    query: str
    row: int
    kind: str
    passage: str


def misfits(questions: Sequence[WrittenQuestion]) -> list[str]:
    """``malformed`` for what holds no word or is longer than any question; always the first gate."""
    return ["malformed" if len(q.query) > LONGEST or not words(q.query) else PASSED for q in questions]


def copied_share(query: str, passage: str) -> float:
    """Share of a query's runs of three words that stand in a passage word for word; 0 for a query of fewer words.

    >>> copied_share("Who sailed to the New World in 1492?", "He sailed to the New World.")
    0.5
    """
    mine, theirs = _runs(query), set(_runs(passage))
    return sum(run in theirs for run in mine) / len(mine) if mine else 0.0


def copies(questions: Sequence[WrittenQuestion], most: float) -> list[str]:
    """``copied`` where a share above ``most`` of the phrases is the passage's."""
    return ["copied" if copied_share(q.query, q.passage) > most else PASSED for q in questions]


def inconsistent(questions: Sequence[WrittenQuestion], teacher: Scorer, top_k: int) -> list[str]:
    """``inconsistent`` where a teacher does not find the question's own document among its first ``top_k``.

    Round-trip consistency, as in Promptagator (arXiv 2209.11755) and E5 (arXiv 2212.03533).
    """
    reasons: list[str] = []
    with progress_bar(len(questions), "Looking for the source", "question") as bar:
        for start in range(0, len(questions), SEARCHED):
            block = questions[start : start + SEARCHED]
            found = teacher.search([q.query for q in block], top_k).doc_ids
            own = np.array([q.row for q in block])[:, None]
            reasons += [PASSED if there else "inconsistent" for there in (found == own).any(axis=1).tolist()]
            bar.update(len(block))
    return reasons


def near_duplicates(questions: Sequence[WrittenQuestion], least: float) -> list[str]:
    """``near_duplicate`` for all but the first of questions whose letters are nearly the same, also of other documents."""
    gone: set[int] = set()
    for first, second in near_pairs([q.query for q in questions], least):
        if first not in gone:
            gone.add(second)
    return ["near_duplicate" if at in gone else PASSED for at in range(len(questions))]


def unanswerable(questions: Sequence[WrittenQuestion], judge: Asker) -> list[str]:
    """``unanswerable`` where a judge finds no answer in the passage, ``unverified`` where it quotes what is not in it.

    Raises:
        StoreError: the judge gave no answer; what it answered before is kept.
    """
    asked = [QuoteQuestion(q.query, q.passage) for q in questions]
    quoted = [read_quote(a, q.passage) for a, q in zip(judge.answers_to(QUOTE, asked), asked, strict=True)]
    return [{True: PASSED, False: "unanswerable", None: "unverified"}[found] for found in quoted]


def check_top_k(top_k: int, documents: int) -> None:
    """Refuse a consistency that every question has.

    Raises:
        InputError: there are no more documents than that.
    """
    if top_k >= documents:
        raise InputError(
            f"top_k={top_k} of {documents:,} documents: every question would pass; give a smaller number, or leave consistent "
            "out of the gates"
        )


def _runs(text: str) -> list[tuple[str, ...]]:
    found = words(text)
    return [tuple(found[at : at + WIDTH]) for at in range(len(found) - WIDTH + 1)]
