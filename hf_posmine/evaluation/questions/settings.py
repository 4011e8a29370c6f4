"""The settings of questions: what is asked about documents, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from hf_posmine.core.check import is_number, whole
from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.questions.gates import GATES
from hf_posmine.evaluation.questions.writing import KINDS


@dataclass(frozen=True)
class QuestionSettings:
    """What is asked, and what is kept.

    Attributes:
        kinds: keys of :data:`~hf_posmine.evaluation.questions.writing.KINDS`.
        per_kind: questions of each kind about a document.
        documents: ask about so many, drawn by ``seed``; None for all.
        max_characters: of a document that the model is given; what is behind them is cut.
        gates: which of :data:`~hf_posmine.evaluation.questions.gates.GATES`.
        copied: most of a question's phrases of three words that may be its document's.
        top_k: the teacher must find the document among so many.
        near: Jaccard similarity of letter trigrams from which on two questions are one.
        seed: random seed.

    Raises:
        InputError: a value out of its range.
    """

    kinds: tuple[str, ...] = tuple(KINDS)
    per_kind: int = 1
    documents: int | None = None
    max_characters: int = 8000
    gates: tuple[str, ...] = GATES
    copied: float = 0.6
    top_k: int = 10
    near: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("kinds", tuple(KINDS)), ("gates", GATES)):
            given = vars(self)[name]
            if (name == "kinds" and not given) or not set(given) <= set(known) or len(set(given)) < len(given):
                raise InputError(f"{name}={list(given)}; expected some of {', '.join(known)}, each once")
        for name in ("per_kind", "max_characters", "top_k", *(["documents"] if self.documents is not None else [])):
            whole(name, vars(self)[name], 1)
        whole("seed", self.seed)
        for name in ("copied", "near"):
            if not (is_number(vars(self)[name]) and 0 < vars(self)[name] <= 1):
                raise InputError(f"{name}={vars(self)[name]!r}; expected a share above 0 and at most 1")
