"""One search per batch for many settings: requests are collected, merged, and answered once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.filters import lowest_ceiling
from hf_posmine.core.types import SearchRequest, Teacher
from hf_posmine.mining.candidates import depth_of, positive_scores
from hf_posmine.teachers.capabilities import search_many
from hf_posmine.teachers.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Exclusions, Floats, Ranking, RowGenerators, Rows
    from hf_posmine.mining.batch import Batch


class CachedTeacher(StandIn[Teacher]):
    """A teacher that has answered already what some settings will ask about a batch.

    Args:
        teacher: who scores.
        batch: the rows.
        exclude: what may not be a negative.
        settings: all that will be tried.
        num_candidates: how many corpus rows are candidates.
    """

    def __init__(
        self,
        teacher: Teacher,
        batch: Batch,
        exclude: Exclusions,
        settings: Sequence[MiningSettings],
        num_candidates: int,
    ) -> None:
        super().__init__(teacher)
        self.queries = batch.queries
        self._scores: dict[bytes, Floats] = {}
        requests: dict[tuple[int, bytes], SearchRequest] = {}
        everyone = np.arange(len(batch.queries))
        for setting in settings:
            _, reference_scores = positive_scores(batch, self, setting.ceiling_from)
            below, _ = lowest_ceiling(setting.all_filters, reference_scores)
            depth = depth_of(setting, num_candidates)
            requests.setdefault((depth, below.tobytes()), SearchRequest(everyone, depth, below))
        found = search_many(teacher, batch.queries, list(requests.values()), exclude)
        self._rankings: dict[tuple[int, bytes], Ranking] = dict(zip(requests, found, strict=True))

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The prefetched rankings; other requests go to the teacher."""
        key = (k, b"" if below is None else below.tobytes())
        if queries is self.queries and key in self._rankings:
            return self._rankings[key]
        return super().search(queries, k, below=below, exclude=exclude)

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]``, computed once for the whole batch."""
        if queries is not self.queries:
            return super().score(queries, doc_ids)
        key = doc_ids.tobytes()
        if key not in self._scores:
            self._scores[key] = self.teacher.score(queries, doc_ids)
        return self._scores[key].copy()


def repeatable(rngs: RowGenerators) -> RowGenerators:
    """Generators that are seeded once per row, and start again each time they are requested."""
    generators: dict[int, tuple[np.random.Generator, Any]] = {}

    def make(row: int) -> np.random.Generator:
        if row not in generators:
            fresh = rngs(row)
            generators[row] = fresh, fresh.bit_generator.state
        generator, state = generators[row]
        generator.bit_generator.state = state  # a tenth of what making one takes
        return generator

    return make
