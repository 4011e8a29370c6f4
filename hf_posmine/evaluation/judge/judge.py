"""The judge that compares every candidate with the labelled positive, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.evaluation.judge.asking import Asker
from hf_posmine.evaluation.judge.question import COMPARE, Question, read_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.candidates import JudgedList, Verdict


class Judge(Asker):
    """Verdicts of a chat model on candidates, each beside its labelled positive; answers are cached on disk as they arrive.

    An answer that cannot be parsed is requested again ``tries - 1`` times, and then kept as ``unreadable``.

    Args:
        chat: who answers.
        cache_dir: where answers are kept, by default below :func:`~hf_posmine.utils.files.cache_root`.
        concurrency: questions at a time.
        tries: questions for one readable answer.
    """

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """The verdict on each question.

        Raises:
            StoreError: the chat gave no answer; what it answered before is kept.
        """
        return [read_answer(answer) for answer in self.answers_to(COMPARE, questions)]

    def judge_candidates(self, lists: Sequence[JudgedList]) -> list[list[Verdict]]:
        """The verdict on each passage of each list, as :meth:`judge`."""
        verdicts = iter(
            self.judge([Question(one.query, one.positive, passage) for one in lists for passage in one.passages])
        )
        return [[next(verdicts) for _ in one.passages] for one in lists]
