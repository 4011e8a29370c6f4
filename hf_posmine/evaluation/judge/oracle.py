"""A judge that knows the truth and errs at given rates: what would a judge of that quality be worth?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import InputError
from hf_posmine.data.texts import normalize, text_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.judge.candidates import Cost, JudgedList, Verdict
    from hf_posmine.evaluation.negatives.false_negatives import Judgements


@dataclass(frozen=True)
class OracleJudge:
    """Verdicts from complete judgements, of which a share is wrong.

    A pair of query and passage has one number drawn from its texts and ``seed``: the same pair always gets the same verdict, and
    a judge with higher rates errs on a part of what one with lower rates errs on.

    Attributes:
        relevant: normalised query -> normalised texts of all its relevant documents.
        sensitivity: share of the relevant passages that it calls relevant (``equal``).
        specificity: share of the others that it calls ``irrelevant``.
        seed: of the errors.

    Raises:
        InputError: a rate that is not between 0 and 1.
    """

    relevant: Mapping[str, frozenset[str]]
    sensitivity: float = 1.0
    specificity: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity"):
            rate = vars(self)[name]
            if not (is_number(rate) and 0 <= rate <= 1):
                raise InputError(f"{name}={rate!r}; expected a share between 0 and 1")

    @classmethod
    def of(
        cls,
        judgements: Judgements,
        corpus: Corpus,
        *,
        sensitivity: float = 1.0,
        specificity: float = 1.0,
        seed: int = 0,
    ) -> OracleJudge:
        """Over the judgements of a collection, whose documents are in ``corpus``."""
        relevant: dict[str, frozenset[str]] = {}
        for query, documents in judgements.relevant.items():
            rows = corpus.rows_of_ids(sorted(documents))
            texts = frozenset(map(normalize, corpus.texts(rows[rows >= 0]).to_pylist()))
            name = normalize(judgements.queries[query])
            relevant[name] = relevant.get(name, frozenset()) | texts
        return cls(relevant, sensitivity, specificity, seed)

    def judge_candidates(self, lists: Sequence[JudgedList]) -> list[list[Verdict]]:
        """The verdict on each passage of each list."""
        keys = [f"{self.seed}\n{one.query}\n{passage}" for one in lists for passage in one.passages]
        drawn = iter((text_numbers(keys) / 2.0**64).tolist())
        return [[self._verdict(one.query, passage, next(drawn)) for passage in one.passages] for one in lists]

    def _verdict(self, query: str, passage: str, drawn: float) -> Verdict:
        truth = normalize(passage) in self.relevant.get(normalize(query), frozenset())
        right = drawn < (self.sensitivity if truth else self.specificity)
        return "equal" if truth == right else "irrelevant"

    def costs(self) -> list[Cost]:
        """Nothing: it asks nobody."""
        return []
