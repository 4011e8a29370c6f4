"""The candidates of a teacher for a batch: positives are scored, ceilings follow, and the search stays below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.filters import common_window, highest_floor, lowest_ceiling
from hf_posmine.core.types import PADDING, CeilingFrom, Exclusions, Floats, Mask, Ranking, Rows, Scorer

if TYPE_CHECKING:
    from hf_posmine.core.settings import MiningSettings
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
        keep: bool ``[B, K]``, which of them are inside the rank window and above the floor.
        own: float32 ``[B]``, the score of the row's own positive.
        reference_scores: float32 ``[B]``, the score that sets the ceiling.
        ceilings: float32 ``[B]``.
        ceiling_by: int64 ``[B]``, which filter sets it, -1 for none.
        skipped: int64 ``[B]``, as in :class:`~hf_posmine.mining.select.MinedBatch`.
        floored: int64 ``[B]``, as in :class:`~hf_posmine.mining.select.MinedBatch`.
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
    first, last = common_window(filters)
    ranking = teacher.search(batch.queries, depth_of(settings, num_candidates, pool), below=ceilings, exclude=exclude)
    # The search skipped the documents at or above the ceiling, but counted them, so ranks [B, K] continue behind them.
    ranks = ranking.above[:, None] + np.arange(ranking.doc_ids.shape[1])
    there = ranking.doc_ids >= 0
    inside = (ranks >= first) & (ranks < (np.iinfo(np.int64).max if last is None else last))
    reached = ranking.scores >= highest_floor(filters, reference_scores)[:, None]
    return TeacherCandidates(
        ranking=ranking,
        ranks=ranks,
        keep=there & inside & reached,
        own=own,
        reference_scores=reference_scores,
        ceilings=ceilings,
        ceiling_by=by,
        skipped=(there & ~inside & (ranks < n)).sum(axis=1),
        floored=(there & inside & ~reached & (ranks < n)).sum(axis=1),
    )


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
