"""From a batch of queries and positives to negatives: score the positives, search below the ceiling, pick.

This is the paper's Algorithm 1 with the filter moved into the search (design, idea 2).
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.ensembles import CrossSample, IntraSample
from hf_posmine.core.errors import ShortRowError
from hf_posmine.core.samplers import Top
from hf_posmine.core.types import (
    PADDING,
    Candidates,
    Exclusions,
    Floats,
    Mask,
    RelativeSampler,
    RowGenerators,
    Rows,
    Teacher,
)
from hf_posmine.mining.candidates import SecondScores, TeacherCandidates, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.mining.batch import Batch
    from hf_posmine.mining.second_opinion import SecondOpinion

FILL_TRIES = 64


@dataclass
class MinedBatch:
    """The negatives of a batch and how they came about.

    Attributes:
        rows: int64 ``[B, n]``, corpus rows, best first, -1 where the row is short.
        scores: float32 ``[B, n]``.
        ranks: int64 ``[B, n]``, positions among the candidates that are not excluded, from 0; -1 for random fills.
        teachers: int64 ``[B, n]``, the number of the teacher that gave each, -1 where the row is short.
        own_scores: float32 ``[B, n]``, of the row's own positive by the teacher of each negative.
        positive_scores: float32 ``[B]``, of the row's own positive (the lowest of several). Here and below, where several
            teachers gave negatives, by the first of them.
        reference_scores: float32 ``[B]``, the score that sets the ceiling.
        ceilings: float32 ``[B]``, ``inf`` where there is none.
        ceiling_by: int64 ``[B]``, which filter sets it, -1 for none.
        above: int64 ``[B]``, candidates at or above the ceiling.
        skipped: int64 ``[B]``, how many of the best n candidates lie outside the rank window.
        floored: int64 ``[B]``, how many of the best n candidates lie below the ceiling and below the floor, or are left out by
            their place between query and positive.
        outranked: int64 ``[B]``, candidates above the row's own positive; 0 where no filter of rows asks.
        filled: int64 ``[B]``, negatives drawn at random for a short row, at its end.
        second: the scores of a second opinion; None without one.
        excluded: per reason int64 ``[B]``.
    """

    rows: Rows
    scores: Floats
    ranks: Rows
    teachers: Rows
    own_scores: Floats
    positive_scores: Floats
    reference_scores: Floats
    ceilings: Floats
    ceiling_by: Rows
    above: Rows
    skipped: Rows
    floored: Rows
    outranked: Rows
    filled: Rows
    second: SecondScores | None = None
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
    teachers: Sequence[Teacher],
    settings: MiningSettings,
    num_candidates: int,
    exclude: Exclusions,
    rngs: RowGenerators,
    opinion: SecondOpinion | None = None,
) -> MinedBatch:
    """Mine a batch.

    Args:
        batch: the rows.
        teachers: the scorers; several with an ensemble as the sampler.
        settings: filters, sampler and so on.
        num_candidates: how many corpus rows are candidates.
        exclude: what may not be a negative.
        rngs: row -> its generator.
        opinion: another scorer of the candidates.

    Raises:
        ShortRowError: a row with too few negatives, under ``on_short="raise"``.
    """
    sampler = settings.one_sampler
    if isinstance(sampler, CrossSample):
        drawn = sampler.draw(len(batch.queries), len(teachers), rngs)
        mined = _select_by_row(drawn, batch, teachers, settings, num_candidates, exclude, rngs, opinion)
    else:
        mined = _select(batch, teachers, settings, num_candidates, exclude, rngs, opinion)
    if settings.on_short == "raise":
        _refuse_short_rows(mined, batch)
    return mined


def _select(
    batch: Batch,
    teachers: Sequence[Teacher],
    settings: MiningSettings,
    num_candidates: int,
    exclude: Exclusions,
    rngs: RowGenerators,
    opinion: SecondOpinion | None,
) -> MinedBatch:
    """Mine a batch with one sampler over one teacher, or merge what several teachers found."""
    n, sampler = settings.num_negatives, settings.one_sampler
    pool = None if opinion is None else opinion.depth
    # Each teacher searches below its own ceiling (paper, section 4.2), so its candidates [B, K_t] are final before merging;
    # side by side they are [B, K], K the sum of the K_t, and a sampler chooses columns.
    found = [find(batch, teacher, settings, exclude, num_candidates, pool) for teacher in teachers]
    if opinion is not None:
        found = [opinion.apply(f, batch, settings) for f in found]
    side = _candidates(found)
    keep, ranks = (np.concatenate([vars(f)[name] for f in found], axis=1) for name in ("keep", "ranks"))
    if isinstance(sampler, IntraSample):
        columns = sampler.merge(side, keep, n)
    else:
        by = _candidates(found, second=True) if opinion is not None and opinion.rank_by == "second" else side
        relative = isinstance(sampler, RelativeSampler) and sampler.relative
        columns = sampler.pick(by.scores - by.positive_scores if relative else by.scores, keep, n, rngs)  # type: ignore[union-attr]
    chosen = columns >= 0

    def take(values: np.ndarray, nothing: float) -> np.ndarray:
        taken = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
        return np.where(chosen, taken, nothing).astype(values.dtype)

    first = found[0]
    mined = MinedBatch(
        rows=take(side.doc_ids, PADDING),
        scores=take(side.scores, -np.inf),
        ranks=take(ranks, PADDING),
        teachers=np.where(chosen, side.teacher[np.maximum(columns, 0)], PADDING).astype(np.int64),
        own_scores=take(side.positive_scores, np.nan),
        positive_scores=first.own,
        reference_scores=first.reference_scores,
        ceilings=first.ceilings,
        ceiling_by=first.ceiling_by,
        above=first.ranking.above,
        skipped=first.skipped,
        floored=first.floored,
        outranked=first.outranked,
        filled=np.zeros(len(first.own), np.int64),
    )
    if first.second is not None:
        rejected = np.sum([f.second.rejected for f in found if f.second], axis=0)
        mined.second = SecondScores(take(_candidates(found, second=True).scores, np.nan), first.second.own, rejected)
    if settings.on_short == "random":
        for row in np.flatnonzero(mined.found < n).tolist():
            _fill(mined, row, batch.queries[row], teachers[0], num_candidates, exclude, rngs(row))
    return mined


def _candidates(found: Sequence[TeacherCandidates], second: bool = False) -> Candidates:
    """All teachers' candidates side by side ``[B, K]``, with their scores or those of the second opinion."""
    scored = [(f.second.scores, f.second.own) if second and f.second else (f.ranking.scores, f.own) for f in found]
    widths = [f.ranks.shape[1] for f in found]
    return Candidates(
        np.concatenate([f.ranking.doc_ids for f in found], axis=1),
        np.concatenate([scores for scores, _ in scored], axis=1),
        np.concatenate(
            [np.repeat(own[:, None], w, axis=1) for (_, own), w in zip(scored, widths, strict=True)], axis=1
        ),
        np.repeat(np.arange(len(found), dtype=np.int16), widths),
    )


def _select_by_row(
    drawn: Rows,
    batch: Batch,
    teachers: Sequence[Teacher],
    settings: MiningSettings,
    num_candidates: int,
    exclude: Exclusions,
    rngs: RowGenerators,
    opinion: SecondOpinion | None,
) -> MinedBatch:
    """Mine each row with the teacher that was drawn for it, int64 ``[B]``."""
    alone = dataclasses.replace(settings, sampler=Top())
    parts = []
    for number, teacher in enumerate(teachers):
        rows = np.flatnonzero(drawn == number)
        if len(rows):
            generators = functools.partial(_generator_at, rngs, rows)
            mine = _rows_of(batch, rows)
            mined = _select(mine, [teacher], alone, num_candidates, exclude.take(rows), generators, opinion)
            mined.teachers = np.where(mined.teachers >= 0, number, PADDING)
            parts.append((rows, mined))
    return _in_order(parts)


def _generator_at(rngs: RowGenerators, rows: Rows, position: int) -> np.random.Generator:
    return rngs(int(rows[position]))


def _rows_of(batch: Batch, rows: Rows) -> Batch:
    """Some rows (sorted) of a batch, numbered anew."""
    keep = np.isin(batch.entry_rows, rows)
    numbers = np.searchsorted(rows, batch.entry_rows[keep])
    queries = [batch.queries[row] for row in rows.tolist()]
    return type(batch)(queries, numbers, batch.codes[keep], batch.reasons[keep], batch.texts, batch.quotas)


def _in_order(parts: Sequence[tuple[Rows, MinedBatch]]) -> MinedBatch:
    """Parts of a batch as one, each with its row numbers."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))  # the parts are disjoint and cover the batch

    def join(values: Sequence[Any], cls: type[DataclassInstance], *beside: str) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(cls) if field.name not in beside]
        return {name: np.concatenate([vars(value)[name] for value in values])[order] for name in names}

    scored = [mined.second for _, mined in parts if mined.second is not None]
    second = SecondScores(**join(scored, SecondScores)) if scored else None
    return MinedBatch(**join([mined for _, mined in parts], MinedBatch, "excluded", "second"), second=second)


def _refuse_short_rows(mined: MinedBatch, batch: Batch) -> None:
    n = mined.rows.shape[1]
    short = np.flatnonzero(mined.found < n)
    if len(short):
        row = int(short[0])
        raise ShortRowError(
            f"row {row} ({batch.queries[row][:60]!r}) has {mined.found[row]} of {n} negatives: {mined.above[row]} documents "
            f"score at or above its ceiling {mined.ceilings[row]:.4f}; relax the filters, enlarge the corpus, or use "
            "on_short='keep', 'drop' or 'random'"
        )


def _fill(
    mined: MinedBatch,
    row: int,
    query: str,
    teacher: Teacher,
    num_candidates: int,
    exclude: Exclusions,
    rng: np.random.Generator,
) -> None:
    """Complete a row with random documents strictly below its ceiling; the best ones where random draws find none."""
    # Random documents are nearly always below the ceiling, so 64 tries per missing negative suffice; where they do not, the
    # search gives the best documents below it. A corpus smaller than that is drawn without replacement instead.
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
    # Random fills come after the mined negatives and have no rank; among themselves they are best first.
    order = np.argsort(-scores, kind="stable")
    span = slice(found, found + len(rows))
    mined.rows[row, span], mined.scores[row, span] = rows[order], scores[order]
    mined.teachers[row, span], mined.own_scores[row, span] = 0, mined.positive_scores[row]
    mined.filled[row] = len(rows)
