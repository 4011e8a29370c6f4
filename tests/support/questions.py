"""A chat server that writes the questions of a script, good and planted bad ones, and judges them by the truth."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

import numpy as np

from hf_posmine.evaluation.questions.writing import KINDS
from tests.support.chat import ChatService

COPIED, WRONG, DUPLICATE, VAGUE, BLANK = "copied", "wrong document", "near duplicate", "vague", "blank"
BAD = (COPIED, WRONG, DUPLICATE, VAGUE, BLANK)


@dataclass
class Script:
    """What a model would answer, and what is known about it.

    Attributes:
        answers: passage -> kind -> the answer's text; None is a refusal. What is missing is an empty list.
        relevant: pairs of question and passage that answers it.
        planted: pairs of bad question and passage -> why it is bad.
    """

    answers: dict[str, dict[str, str | None]] = field(default_factory=dict)
    relevant: set[tuple[str, str]] = field(default_factory=set)
    planted: dict[tuple[str, str], str] = field(default_factory=dict)

    def write(self, passage: str, kind: str, questions: list[str]) -> None:
        self.answers.setdefault(passage, {})[kind] = json.dumps({"questions": questions})

    @property
    def good(self) -> set[tuple[str, str]]:
        return {
            (question, passage)
            for passage, kinds in self.answers.items()
            for answer in kinds.values()
            if answer and answer.startswith("{")
            for question in json.loads(answer)["questions"]
            if (question, passage) not in self.planted
        }


class QuestionService(ChatService):
    """Answers prompts of :class:`~hf_posmine.evaluation.questions.writing.PassagePrompt` and questions of the judge."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script

    def reply(self, body, asked) -> str | None:
        passage = asked["passage"]
        if "query" in asked:
            found = (asked["query"], passage) in self.script.relevant
            return json.dumps({"has_answer": found, "quote": " ".join(passage.split()[:3]) if found else ""})
        (kind,) = (kind for kind, what in KINDS.items() if what in body["messages"][0]["content"])
        return self.script.answers.get(passage, {}).get(kind, '{"questions": []}')


def scripted(questions: dict[str, list[str]], passages: list[str], seed: int = 0, every: int = 4) -> Script:
    """The real questions of passages, and a bad one for one passage of ``every``.

    Args:
        questions: passage -> what it answers.
        passages: all of the corpus.
        seed: of the draws.
        every: one of so many passages gets a bad question.
    """
    rng, script = random.Random(seed), Script()
    for passage, real in questions.items():
        script.write(passage, "factual", real)
        script.relevant |= {(question, passage) for question in real}
    for number, passage in enumerate(passages):
        if number % every:
            continue
        why = BAD[number // every % len(BAD)]
        bad = _bad(why, passage, questions, passages, rng)
        if bad is not None and (bad, passage) not in script.relevant:
            script.write(passage, "keywords", [bad])
            script.planted[bad, passage] = why
    return script


def _bad(why: str, passage: str, questions: dict[str, list[str]], passages: list[str], rng) -> str | None:
    if why == COPIED:
        words = passage.split()
        at = rng.randrange(max(1, len(words) - 10))
        return " ".join(words[at : at + 10])
    if why == WRONG:
        other = rng.choice([one for one in questions if one != passage])
        return rng.choice(questions[other]) + " exactly"
    if why == DUPLICATE:
        real = questions.get(passage)
        return real[0].upper().replace("?", " ?!") if real else None
    return "What does the author say about it here?" if why == VAGUE else "?! ..."


def sample_script(every: int = 4) -> Script:
    """The script of the bundled sample."""
    from hf_posmine import Corpus
    from hf_posmine.data import SAMPLE, beir_pairs

    corpus, pairs = Corpus.from_beir(SAMPLE), beir_pairs(SAMPLE)
    questions: dict[str, list[str]] = {}
    positives = corpus.texts(corpus.rows_of_ids(pairs["positive_id"])).to_pylist()
    for query, passage in zip(pairs["query"], positives, strict=True):
        questions.setdefault(passage, []).append(query)
    return scripted(questions, corpus.texts(np.arange(len(corpus))).to_pylist(), every=every)
