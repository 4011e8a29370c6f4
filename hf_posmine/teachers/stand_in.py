"""A teacher in the place of another: it answers as that one does, except where a subclass answers itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from hf_posmine.core.types import Teacher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows, ScoreKind

Inner = TypeVar("Inner", bound=Teacher)


class StandIn(Generic[Inner]):
    """All six members of :class:`~hf_posmine.core.types.Teacher`, each that of another teacher.

    Args:
        teacher: answers what a subclass does not.
    """

    def __init__(self, teacher: Inner) -> None:
        self.teacher = teacher

    @property
    def name(self) -> str:
        """The teacher's name."""
        return self.teacher.name

    @property
    def score_kind(self) -> ScoreKind:
        """The scale of the teacher's scores."""
        return self.teacher.score_kind

    @property
    def fingerprint(self) -> str:
        """The teacher's content digest."""
        return self.teacher.fingerprint

    def stands_for(self) -> Teacher:
        """The other teacher."""
        return self.teacher

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings."""
        return self.teacher.search(queries, k, below=below, exclude=exclude)

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``."""
        return self.teacher.score(queries, doc_ids)

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        return self.teacher.score_texts(queries, documents)
