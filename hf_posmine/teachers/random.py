"""Random scores: the baseline every other teacher has to beat (paper, Table 1)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.check import is_whole
from hf_posmine.core.errors import InputError
from hf_posmine.data.texts import text_numbers
from hf_posmine.teachers.exhaustive import FullScores
from hf_posmine.teachers.spellings import Random

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats, ScoreKind
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import Numbers

STREAM = 0x9E3779B97F4A7C15


class RandomTeacher(FullScores):
    """Scores every query with every document at random, uniform in [0, 1).

    A score is a hash of seed, query text and document text, so a row gets the same random negatives in any batch,
    process and order of the corpus. Without filters this is random sampling; a ceiling such as ``PercPos(0.95)`` then
    only moves what is drawn, as in the paper's Table 1.

    Args:
        corpus: the documents.
        seed: another seed gives other scores.

    >>> from hf_posmine import Corpus
    >>> teacher = RandomTeacher(Corpus.from_texts(["a", "b", "c"]), seed=1)
    >>> teacher.score_texts(["q"], ["b"]) == teacher.all_scores(["q"])[0, 1]
    array([ True])
    """

    name = "random"
    score_kind: ScoreKind = "probability"

    def __init__(self, corpus: Corpus, *, seed: int = 0) -> None:
        if not is_whole(seed, least=0, most=(1 << 64) - 1):
            raise InputError(f"seed={seed!r}; expected a whole number from 0 to 2**64 - 1")
        self.corpus, self.seed = corpus, int(seed)

    @property
    def fingerprint(self) -> str:
        """Content digest: the seed, and which texts count as the same."""
        return f"random-{self.seed}-{self.corpus.match}"

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        return {"kind": "random", "seed": self.seed, "spelling": repr(Random(self.seed))}

    @cached_property
    def _numbers(self) -> Numbers:
        """A number of every document's text."""
        parts = (texts for part in self.corpus.parts for texts in part.iter_texts())
        return np.concatenate([text_numbers(texts, self.corpus.match) for texts in parts])

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        return self._hash(text_numbers(queries, self.corpus.match)[:, None], self._numbers[None])

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        return self._hash(*(text_numbers(texts, self.corpus.match) for texts in (queries, documents)))

    def _hash(self, queries: Numbers, documents: Numbers) -> Floats:
        with np.errstate(over="ignore"):
            mixed = _mix(_mix(queries + np.uint64(self.seed)) + documents * np.uint64(STREAM))
        return (mixed >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)

    def __getstate__(self) -> dict[str, Any]:
        return {"corpus": self.corpus, "seed": self.seed}


def _mix(values: Numbers) -> Numbers:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
