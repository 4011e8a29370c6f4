"""Documents to questions: ask, read, and pass every gate, with an account of what was lost where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.quoting import QuoteQuestion
from hf_posmine.evaluation.questions.attrition import Attrition
from hf_posmine.evaluation.questions.gates import (
    GATES,
    PASSED,
    WrittenQuestion,
    check_top_k,
    copies,
    inconsistent,
    misfits,
    near_duplicates,
    unanswerable,
)
from hf_posmine.evaluation.questions.writing import WRITE, PassagePrompt, read_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.core.types import Rows, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.judge.asking import Asker
    from hf_posmine.evaluation.questions.settings import QuestionSettings

CHARACTERS_PER_TOKEN = 4
"""Of English; what is printed before a run is an estimate."""
QUESTION_CHARACTERS = 80
QUOTED_CHARACTERS = 120
"""Of an answer to the judge's question."""


@dataclass(frozen=True)
class MadeQuestions:
    """The outcome.

    Attributes:
        questions: what passed every gate, in the order of documents and kinds.
        dropped: the others, with the reason of each.
        attrition: the counts.
    """

    questions: Sequence[WrittenQuestion]
    dropped: Sequence[tuple[WrittenQuestion, str]]
    attrition: Attrition


@dataclass(frozen=True)
class AskingEstimate:
    """What is still to be asked, before it is.

    Attributes:
        documents: that are asked about, those without text left out.
        requests: to the writer.
        tokens_read: of these, at four characters a token.
        tokens_written: of their answers.
        judged: requests to the judge, at most.
        judge_read: tokens of these.
        judge_written: tokens of their answers.
    """

    documents: int
    requests: int
    tokens_read: int
    tokens_written: int
    judged: int
    judge_read: int
    judge_written: int


@dataclass(frozen=True, eq=False)
class QuestionMaker:
    """Makes questions about the documents of a corpus.

    Answers of the writer and of the judge are kept as they arrive (:class:`~hf_posmine.evaluation.judge.asking.Asker`), so a
    run that was killed continues without paying for them again, and gives the same questions.

    Args:
        corpus: the documents.
        writer: the model that writes.
        settings: what is asked and kept.
        judge: the model that checks whether the document answers; needed for the gate ``answerable``.
        teacher: over the corpus; needed for the gate ``consistent``.

    Raises:
        InputError: a gate without what it needs, or one that nothing can fail.
    """

    corpus: Corpus
    writer: Asker
    settings: QuestionSettings
    judge: Asker | None = None
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        if self.corpus.num_images:
            raise InputError(
                f"{self.corpus.num_images:,} documents are images, and the writer reads texts; give their texts"
            )
        if self.corpus.duplicates and not self.corpus.has_ids:
            raise InputError(
                f"the documents have no ids, and {self.corpus.duplicates} duplicates were dropped, so positive_id would name "
                "other rows than those of the source; give them ids, or drop the duplicates"
            )
        for gate, given in (("answerable", self.judge), ("consistent", self.teacher)):
            if gate in self.settings.gates and given is None:
                needed = "judge" if gate == "answerable" else "teacher"
                raise InputError(f"the gate {gate} needs a {needed}; give {needed}=, or leave it out of the gates")
        if "consistent" in self.settings.gates:
            check_top_k(self.settings.top_k, self.corpus.num_candidates)

    def rows(self) -> Rows:
        """The corpus rows that are asked about, int64, sorted; a larger number of documents holds a smaller one's."""
        count = self.corpus.num_candidates
        drawn = np.random.default_rng(self.settings.seed).permutation(count)[: self.settings.documents or count]
        return np.sort(drawn).astype(np.int64)

    def estimate(self) -> AskingEstimate:
        """What :meth:`make` would send; answers that are there cost nothing."""
        prompts, rows = self._prompts()
        new = self.writer.unanswered(WRITE, prompts)
        read = sum(len(message["content"]) for prompt in new for message in prompt.messages())
        written = len(new) * self.settings.per_kind * QUESTION_CHARACTERS
        judged = judge_read = 0
        if "answerable" in self.settings.gates:
            judged = len(prompts) * self.settings.per_kind
            blank = "?" * QUESTION_CHARACTERS
            each = (QuoteQuestion(blank, prompt.passage).messages() for prompt in prompts)
            judge_read = sum(len(m["content"]) for messages in each for m in messages) * self.settings.per_kind
        tokens = [count // CHARACTERS_PER_TOKEN for count in (read, written, judge_read, judged * QUOTED_CHARACTERS)]
        return AskingEstimate(len(set(rows)), len(new), tokens[0], tokens[1], judged, tokens[2], tokens[3])

    def make(self) -> MadeQuestions:
        """Ask, read, and pass every gate.

        Raises:
            StoreError: a model gave no answer; what was answered before is kept.
        """
        prompts, rows = self._prompts()
        answers = self.writer.answers_to(WRITE, prompts)
        read = [read_questions(answer, prompt.count) for answer, prompt in zip(answers, prompts, strict=True)]
        written = [
            WrittenQuestion(query, row, prompt.kind, prompt.passage)
            for found, prompt, row in zip(read, prompts, rows, strict=True)
            for query in found or ()
        ]
        kept, dropped = self._gated(written)
        texts = self.corpus.texts(self.rows()).to_pylist()
        attrition = Attrition(
            documents=self.corpus.num_candidates,
            asked=len(set(rows)),
            cut=sum(len(text) > self.settings.max_characters for text in texts),
            requests=len(prompts),
            empty=sum(not answer.strip() for answer in answers),
            unreadable=sum(found is None and bool(a.strip()) for found, a in zip(read, answers, strict=True)),
            nothing=read.count([]),
            written=self._by_kind(written),
            dropped=dict(Counter(reason for _, reason in dropped)),
            kept=self._by_kind(kept),
            documents_kept=len({question.row for question in kept}),
        )
        return MadeQuestions(kept, dropped, attrition)

    def _by_kind(self, questions: Sequence[WrittenQuestion]) -> dict[str, int]:
        counts = Counter(question.kind for question in questions)
        return {kind: counts[kind] for kind in self.settings.kinds}

    def _prompts(self) -> tuple[list[PassagePrompt], list[int]]:
        """A prompt for each document and kind, and the corpus row of each."""
        rows, most = self.rows(), self.settings.max_characters
        texts = self.corpus.texts(rows).to_pylist()
        asked = [
            (PassagePrompt(text[:most], kind, self.settings.per_kind), row)
            for row, text in zip(rows.tolist(), texts, strict=True)
            if text.strip()
            for kind in self.settings.kinds
        ]
        return [prompt for prompt, _ in asked], [row for _, row in asked]

    def _gated(self, written: list[WrittenQuestion]) -> tuple[list[WrittenQuestion], list[tuple[WrittenQuestion, str]]]:
        kept, dropped = written, []
        for gate in (misfits, *(self._gates()[name] for name in GATES if name in self.settings.gates)):
            reasons = gate(kept)
            dropped += [(q, reason) for q, reason in zip(kept, reasons, strict=True) if reason != PASSED]
            kept = [q for q, reason in zip(kept, reasons, strict=True) if reason == PASSED]
        return kept, dropped

    def _gates(self) -> dict[str, Callable[[Sequence[WrittenQuestion]], list[str]]]:
        settings, judge, teacher = self.settings, self.judge, self.teacher
        gates: dict[str, Callable[[Sequence[WrittenQuestion]], list[str]]] = {
            "copied": lambda some: copies(some, settings.copied),
            "near": lambda some: near_duplicates(some, settings.near),
        }
        if teacher is not None:
            gates["consistent"] = lambda some: inconsistent(some, teacher, settings.top_k)
        if judge is not None:
            gates["answerable"] = lambda some: unanswerable(some, judge)
        return gates
