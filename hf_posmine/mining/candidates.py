"""The candidates of a teacher for a batch: positives are scored, ceilings follow, and the search stays below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.filters import common_window, highest_floor, lowest_ceiling, of_rows
from hf_posmine.core.quotas import quotas_of, within_all
from hf_posmine.core.types import PADDING, CeilingFrom, Exclusions, Floats, Mask, Ranking, Rows, Scorer
from hf_posmine.mining.geometry import FoundBelow, Positions, deepen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.quotas import PerGroup
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.data.kept import DocumentValues
    from hf_posmine.mining.batch import Batch


@dataclass(frozen=True)
class SecondScores:
    """Scores of a second opinion.

    Attributes:
        scores: float32 ``[B, K]`` of candidates, or ``[B, n]`` of negatives; NaN where it was not needed.
        own: float32 ``[B]``, of the row's own positive.
        rejected: int64 ``[B]``, candidates that it rejected.
    """

    scores: Floats
    own: Floats
    rejected: Rows


@dataclass(frozen=True)
class TeacherCandidates:
    """The candidates of one teacher below its ceilings.

    Attributes:
        ranking: the candidates, ``[B, K]``.
        ranks: int64 ``[B, K]``, their positions among the candidates that are not excluded.
        keep: bool ``[B, K]``, which of them are inside the rank window, above the floor and in their place.
        own: float32 ``[B]``, the score of the row's own positive.
        reference_scores: float32 ``[B]``, the score that sets the ceiling.
        ceilings: float32 ``[B]``.
        ceiling_by: int64 ``[B]``, which filter sets it, -1 for none.
        skipped: int64 ``[B]``, as in :class:`~hf_posmine.mining.select.MinedBatch`.
        floored: int64 ``[B]``, as in :class:`~hf_posmine.mining.select.MinedBatch`.
        outranked: int64 ``[B]``, likewise.
        second: scores of a second opinion; None without one.
    """

    ranking: Ranking
    ranks: Rows
    keep: Mask
    own: Floats
    reference_scores: Floats
    ceilings: Floats
    ceiling_by: Rows
    skipped: Rows
    floored: Rows
    outranked: Rows
    second: SecondScores | None = None


def find(
    batch: Batch,
    teacher: Scorer,
    settings: MiningSettings,
    exclude: Exclusions,
    num_candidates: int,
    pool: int | None = None,
) -> TeacherCandidates:
    """Score the positives, then search below the ceilings that follow from them; ``pool`` as in :func:`depth_of`."""
    n, filters = settings.num_negatives, settings.all_filters
    own, reference_scores = positive_scores(batch, teacher, settings.ceiling_from)
    ceilings, by = lowest_ceiling(filters, reference_scores)
    floors, placed = highest_floor(filters, reference_scores), Positions.of(batch, teacher, filters)
    quotas = {quota: batch.quotas[quota.column] for quota in quotas_of(filters)}
    search = _Search(batch.queries, teacher, exclude, ceilings, floors, common_window(filters), placed, quotas)
    first = search.best(None, depth_of(settings, num_candidates, pool))
    early = first.ranks < n
    skipped = ((first.ranking.doc_ids >= 0) & ~first.inside & early).sum(axis=1)
    floored = (first.inside & ~first.keep & early).sum(axis=1)
    if placed is not None or quotas:
        wanted = settings.one_sampler.pool(n) if pool is None else pool
        room = (quota.most * values.groups(num_candidates) for quota, values in quotas.items())
        first = deepen(first, min([wanted, *room]), num_candidates, search.best)
    return TeacherCandidates(
        ranking=first.ranking,
        ranks=first.ranks,
        keep=first.keep,
        own=own,
        reference_scores=reference_scores,
        ceilings=ceilings,
        ceiling_by=by,
        skipped=skipped,
        floored=floored,
        outranked=_outranked(batch, teacher, settings, own, exclude),
    )


@dataclass(frozen=True)
class _Search:
    """The searches of a batch, with all that limits them; see :func:`find`."""

    queries: list[str]
    teacher: Scorer
    exclude: Exclusions
    ceilings: Floats
    floors: Floats
    window: tuple[int, int | None]
    placed: Positions | None
    quotas: Mapping[PerGroup, DocumentValues]

    def best(self, rows: Rows | None, depth: int) -> FoundBelow:
        """The best candidates of some rows, or of all."""
        if rows is None:  # the very list of queries, which a teacher may have answered for before
            ranking = self.teacher.search(self.queries, depth, below=self.ceilings, exclude=self.exclude)
            rows = np.arange(len(self.queries))
        else:
            texts, exclude = [self.queries[row] for row in rows.tolist()], self.exclude.take(rows)
            ranking = self.teacher.search(texts, depth, below=self.ceilings[rows], exclude=exclude)
        first, last = self.window
        # The search skipped the documents at or above the ceiling, but counted them, so ranks [b, K] continue behind them.
        ranks = ranking.above[:, None] + np.arange(ranking.doc_ids.shape[1])
        inside = (
            (ranks >= first) & (ranks < (np.iinfo(np.int64).max if last is None else last)) & (ranking.doc_ids >= 0)
        )
        keep = inside & (ranking.scores >= self.floors[rows][:, None])
        more = keep[:, -1].copy()
        if self.placed is not None:
            keep &= self.placed.keep(rows, ranking.doc_ids)
        of = {q: v.first(ranking.doc_ids.ravel()).reshape(ranking.doc_ids.shape) for q, v in self.quotas.items()}
        keep = within_all(of, keep)
        return FoundBelow(ranking, ranks, inside, keep, more)


def _outranked(batch: Batch, teacher: Scorer, settings: MiningSettings, own: Floats, exclude: Exclusions) -> Rows:
    """Candidates int64 ``[B]`` above the row's own positive, where a filter asks; all where a run lacks the positive."""
    if not of_rows(settings.all_filters):
        return np.zeros(len(own), np.int64)
    above = teacher.search(batch.queries, 1, below=np.nextafter(own, np.float32(np.inf)), exclude=exclude).above
    return np.where(np.isneginf(own), np.iinfo(np.int64).max, above)


def depth_of(settings: MiningSettings, num_candidates: int, pool: int | None = None) -> int:
    """How many candidates below the ceiling a search has to give, ``pool`` of them in the window (by default the sampler's)."""
    first, last = common_window(settings.all_filters)
    depth = first + (settings.one_sampler.pool(settings.num_negatives) if pool is None else pool)
    depth = depth if last is None else min(depth, last)
    return min(depth, max(num_candidates, settings.num_negatives))  # a corpus has no more to give


def positive_scores(batch: Batch, teacher: Scorer, ceiling_from: CeilingFrom) -> tuple[Floats, Floats]:
    """Scores float32 ``[B]`` of the rows' own positives (the lowest of several), and the scores that set the ceilings.

    The positive is always scored directly, whether or not a search would find it (semantics 6).
    """
    codes, mine = batch.positives()
    scores = _scores_of(codes, batch, teacher)
    here = codes != PADDING
    own = np.where(mine, scores, np.inf).min(axis=1)
    if ceiling_from == "own":
        return own, own
    if ceiling_from == "min":
        return own, np.where(here, scores, np.inf).min(axis=1)
    if ceiling_from == "max":
        return own, np.where(here, scores, -np.inf).max(axis=1)
    return own, (np.where(here, scores, 0).sum(axis=1, dtype=np.float64) / here.sum(axis=1)).astype(np.float32)


def _scores_of(codes: Rows, batch: Batch, teacher: Scorer) -> Floats:
    """Scores float32 ``[B, m]`` of documents, in the corpus or outside it."""
    # Codes below -1 are texts outside the corpus: the first call leaves them out, the second scores them as texts.
    scores = teacher.score(batch.queries, np.maximum(codes, PADDING))
    rows, columns = np.nonzero(codes < PADDING)
    if len(rows):
        documents = [batch.texts[code] for code in codes[rows, columns].tolist()]
        scores[rows, columns] = teacher.score_texts([batch.queries[row] for row in rows.tolist()], documents)
    return scores
