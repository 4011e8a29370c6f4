"""From a batch of queries and positives to negatives: score the positives, search below the ceiling, pick.

This is the paper's Algorithm 1 with the filter moved into the search (design, idea 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.errors import ShortRowError
from hf_posmine.filters import common_window, highest_floor, lowest_ceiling
from hf_posmine.types import PADDING, Anchor, Exclusions, Floats, Mask, RowGenerators, Rows, Teacher

if TYPE_CHECKING:
    from hf_posmine.rows import Batch
    from hf_posmine.settings import MiningSettings

FILL_TRIES = 64


@dataclass
class Mined:
    """The negatives of a batch and how they came about.

    Attributes:
        rows: int64 ``[B, n]``, corpus rows, best first, -1 where the row is short.
        scores: float32 ``[B, n]``.
        ranks: int64 ``[B, n]``, positions among the candidates that are not excluded, from 0; -1 for random fills.
        positive_scores: float32 ``[B]``, of the row's own positive (the lowest of several).
        anchors: float32 ``[B]``, the score that sets the ceiling.
        ceilings: float32 ``[B]``, ``inf`` where there is none.
        ceiling_by: int64 ``[B]``, which filter sets it, -1 for none.
        above: int64 ``[B]``, candidates at or above the ceiling.
        skipped: int64 ``[B]``, how many of the best n candidates lie outside the rank window.
        floored: int64 ``[B]``, how many of the best n candidates lie below the ceiling and below the floor.
        filled: int64 ``[B]``, negatives drawn at random for a short row, at its end.
        excluded: per reason int64 ``[B]``.
    """

    rows: Rows
    scores: Floats
    ranks: Rows
    positive_scores: Floats
    anchors: Floats
    ceilings: Floats
    ceiling_by: Rows
    above: Rows
    skipped: Rows
    floored: Rows
    filled: Rows
    excluded: dict[str, Rows] = field(default_factory=dict)

    @property
    def found(self) -> Rows:
        """Negatives per row, int64 ``[B]``."""
        return (self.rows >= 0).sum(axis=1)

    def weak(self, rank: int) -> Mask:
        """Rows whose positive is outranked by at least ``rank`` documents."""
        return self.above >= rank


def select(
    batch: Batch,
    teacher: Teacher,
    settings: MiningSettings,
    num_candidates: int,
    exclude: Exclusions,
    rngs: RowGenerators,
) -> Mined:
    """Mine a batch with one teacher.

    Args:
        batch: the rows.
        teacher: who scores.
        settings: filters, sampler and so on.
        num_candidates: how many corpus rows are candidates.
        exclude: what may not be a negative.
        rngs: row -> its generator.
    """
    n, filters = settings.num_negatives, settings.all_filters
    own, anchors = positive_scores(batch, teacher, settings.anchor)
    ceilings, by = lowest_ceiling(filters, anchors)
    first, last = common_window(filters)
    depth = first + settings.one_sampler.pool(n)
    ranking = teacher.search(
        batch.queries, depth if last is None else min(depth, last), below=ceilings, exclude=exclude
    )
    ranks = ranking.above[:, None] + np.arange(ranking.doc_ids.shape[1])
    there = ranking.doc_ids >= 0
    inside = (ranks >= first) & (ranks < (np.iinfo(np.int64).max if last is None else last))
    reached = ranking.scores >= highest_floor(filters, anchors)[:, None]
    keep = there & inside & reached
    columns = settings.one_sampler.pick(ranking.scores, keep, n, rngs)
    chosen = columns >= 0

    def take(values: np.ndarray, nothing: float) -> np.ndarray:
        return np.where(chosen, np.take_along_axis(values, np.maximum(columns, 0), axis=1), nothing).astype(
            values.dtype
        )

    mined = Mined(
        take(ranking.doc_ids, PADDING),
        take(ranking.scores, -np.inf),
        take(ranks, PADDING),
        own,
        anchors,
        ceilings,
        by,
        ranking.above,
        (there & ~inside & (ranks < n)).sum(axis=1),
        (there & inside & ~reached & (ranks < n)).sum(axis=1),
        np.zeros(len(own), np.int64),
    )
    _settle_short_rows(mined, batch, teacher, settings, num_candidates, exclude, rngs)
    return mined


def positive_scores(batch: Batch, teacher: Teacher, anchor: Anchor) -> tuple[Floats, Floats]:
    """Scores float32 ``[B]`` of the rows' own positives (the lowest of several), and the anchors of the ceilings.

    The positive is always scored directly, whether or not a search would find it (semantics 6).
    """
    codes, mine = batch.positives()
    scores = _scores_of(codes, batch, teacher)
    here = codes != PADDING
    own = np.where(mine, scores, np.inf).min(axis=1)
    if anchor == "own":
        return own, own
    if anchor == "min":
        return own, np.where(here, scores, np.inf).min(axis=1)
    if anchor == "max":
        return own, np.where(here, scores, -np.inf).max(axis=1)
    return own, (np.where(here, scores, 0).sum(axis=1, dtype=np.float64) / here.sum(axis=1)).astype(np.float32)


def _scores_of(codes: Rows, batch: Batch, teacher: Teacher) -> Floats:
    """Scores float32 ``[B, m]`` of documents, in the corpus or outside it."""
    scores = teacher.score(batch.queries, np.maximum(codes, PADDING))
    rows, columns = np.nonzero(codes < PADDING)
    if len(rows):
        documents = [batch.texts[code] for code in codes[rows, columns].tolist()]
        scores[rows, columns] = teacher.score_texts([batch.queries[row] for row in rows.tolist()], documents)
    return scores


def _settle_short_rows(
    mined: Mined,
    batch: Batch,
    teacher: Teacher,
    settings: MiningSettings,
    num_candidates: int,
    exclude: Exclusions,
    rngs: RowGenerators,
) -> None:
    n = settings.num_negatives
    short = np.flatnonzero(mined.found < n).tolist()
    if settings.on_short == "raise" and short:
        row = short[0]
        raise ShortRowError(
            f"row {row} ({batch.queries[row][:60]!r}) has {mined.found[row]} of {n} negatives: {mined.above[row]} documents "
            f"score at or above its ceiling {mined.ceilings[row]:.4f}; relax the filters, enlarge the corpus, or use "
            "on_short='keep', 'drop' or 'random'"
        )
    if settings.on_short == "random":
        for row in short:
            _fill(mined, row, batch.queries[row], teacher, num_candidates, exclude, rngs(row))


def _fill(
    mined: Mined,
    row: int,
    query: str,
    teacher: Teacher,
    num_candidates: int,
    exclude: Exclusions,
    rng: np.random.Generator,
) -> None:
    """Complete a row with random documents strictly below its ceiling; the best ones where random draws find none."""
    found, n = int(mined.found[row]), mined.rows.shape[1]
    taken = np.concatenate([exclude.of_query(row), exclude.everywhere, mined.rows[row, :found]])
    few = num_candidates <= FILL_TRIES * n
    drawn = rng.permutation(num_candidates) if few else rng.integers(0, num_candidates, FILL_TRIES * n)
    drawn = np.array(list(dict.fromkeys(drawn[~np.isin(drawn, taken)].tolist())), np.int64)
    scores = teacher.score([query], drawn[None])[0]
    good = np.flatnonzero(scores < mined.ceilings[row])[: n - found]
    rows, scores = drawn[good], scores[good]
    if len(rows) < n - found and not few:
        rest = Exclusions.of([np.concatenate([taken, rows])], exclude.everywhere)
        below = mined.ceilings[row : row + 1]
        ranking = teacher.search([query], n - found - len(rows), below=below, exclude=rest)
        there = ranking.doc_ids[0] >= 0
        rows, scores = np.append(rows, ranking.doc_ids[0][there]), np.append(scores, ranking.scores[0][there])
    order = np.argsort(-scores, kind="stable")
    span = slice(found, found + len(rows))
    mined.rows[row, span], mined.scores[row, span] = rows[order], scores[order]
    mined.filled[row] = len(rows)
