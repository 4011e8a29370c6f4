"""Many settings from one stored run: what each yields, how hard it is, and what it costs in false negatives.

Encoding and search happened when the run was built. Every row of the table is what mining with that setting gives,
because the selection is the miner's own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import refuse_of_rows
from hf_posmine.core.settings import MiningSettings
from hf_posmine.core.types import Teacher
from hf_posmine.data.bad_rows import without_bad_rows
from hf_posmine.data.columns import iter_columns
from hf_posmine.data.layouts import pick_columns
from hf_posmine.evaluation.negatives.agreement import overlap_matrix
from hf_posmine.evaluation.negatives.prefetch import CachedTeacher, repeatable
from hf_posmine.mining.miner import PositiveAwareMiner
from hf_posmine.mining.select import select
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Rows
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.select import MinedBatch

BATCH_ROWS = 2048
OVERLAP_ROWS = 2000
"""Rows, evenly spaced, on which overlaps are measured: their standard error is then below 0.012."""


def sweep(  # noqa: PLR0913 - the grid, by keyword
    run: Teacher | Sequence[Teacher],
    pairs: Dataset,
    *,
    filters: Sequence[Any] = ((),),
    samplers: Sequence[Any] = ("Top()",),
    num_negatives: Sequence[int] = (4,),
    seeds: Sequence[int] = (0,),
    judgements: Qrels | None = None,
    query_column: str | None = None,
    positive_column: str | None = None,
    positive_id_column: str | None = None,
    **options: Any,
) -> Any:
    """Every combination of filters, samplers, numbers of negatives and seeds, as one tidy Dataset.

    Args:
        run: a :class:`~hf_posmine.teachers.stored_run.StoredRun`, or several over one corpus: a sampler is then tried with each,
            an ensemble with all, the best first.
        pairs: dataset of queries and positives.
        filters: methods, each a filter or a list of filters; ``()`` is Naive Top-K.
        samplers: samplers and ensembles.
        num_negatives: numbers of negatives.
        seeds: of the samplers.
        judgements: complete judgements of the corpus, to count false negatives; the miner does not see them.
        query_column: by default found by name; the other columns likewise.
        positive_column: texts or lists of texts.
        positive_id_column: instead of it, ids of the corpus.
        options: further :class:`~hf_posmine.core.settings.MiningSettings` for all.

    Returns:
        One row per setting: its spelling (``teacher``, ``filters``, ``sampler``, ``num_negatives``, ``seed``), ``rows``,
        ``negatives``, ``yield`` (share of the requested negatives), ``short_rows``, ``empty_rows``, ``removed`` (share of
        the naive top n that the filters remove), ``replaced`` (share of the negatives that are not in it), ``hardness``
        (mean score of the negatives divided by the mean score of their positives), ``mean_score``, ``mean_gap`` (positive
        minus negative), ``excluded`` documents, ``false_negatives`` and ``false_negative_rate`` (with ``judgements``), and
        ``overlap``: the mean Jaccard overlap with each row of the table, in its order.
    """
    if options.get("skip_bad_rows"):
        columns = pick_columns(pairs, query_column, positive_column, positive_id_column)
        pairs, _ = without_bad_rows(pairs, columns)
    runs: list[Teacher] = [run] if isinstance(run, Teacher) else list(run)
    reader = PositiveAwareMiner.from_dataset(
        pairs, runs[0], query_column=query_column, positive_column=positive_column, positive_id_column=positive_id_column,
        filters=(), **_of_reading(options),
    )  # fmt: skip
    plans = _plans(runs, filters, samplers, num_negatives, seeds, options)
    for plan in plans:  # checks filters against score kinds, teachers against the corpus
        refuse_of_rows(plan.settings.all_filters, "a sweep")
        _miner_of(plan, reader)
    sweeper = _Sweeper(reader, plans, judgements)
    with progress_bar(len(pairs), f"Trying {len(plans)} settings", "row") as bar:
        for start, batch in iter_columns(pairs, reader.columns, BATCH_ROWS):
            sweeper.add(batch, start, len(pairs))
            bar.update(len(next(iter(batch.values()))))
    return sweeper.table()


@dataclass(frozen=True)
class SweepPoint:
    """One row of the table: who scores, and how."""

    teachers: tuple[Teacher, ...]
    settings: MiningSettings


@dataclass
class _Tally:
    """Sums over the rows of one setting."""

    rows: int = 0
    negatives: int = 0
    short: int = 0
    empty: int = 0
    removed: int = 0
    replaced: int = 0
    false: int = 0
    excluded: int = 0
    scored: int = 0
    score: float = 0.0
    positive: float = 0.0
    sample: list[Rows] = field(default_factory=list)

    def add(self, mined: MinedBatch, n: int, sampled: Rows, relevant: np.ndarray | None) -> None:
        there, found = mined.rows >= 0, mined.found
        self.rows += len(found)
        self.negatives += int(found.sum())
        self.short += int(((found < n) | (mined.filled > 0)).sum())
        self.empty += int((found == 0).sum())
        self.removed += int((np.minimum(mined.above, n) + mined.skipped + mined.floored).sum())
        self.replaced += int((((mined.ranks >= n) | (mined.ranks < 0)) & there).sum())
        scored = there & np.isfinite(mined.own_scores)  # a run need not hold the positive
        self.scored += int(scored.sum())
        self.score += float(mined.scores[scored].sum(dtype=np.float64))
        self.positive += float(mined.own_scores[scored].sum(dtype=np.float64))
        self.excluded += int(sum(counts.sum() for counts in mined.excluded.values()))
        self.sample.append(mined.rows[sampled])
        if relevant is not None:
            keys = np.arange(len(found))[:, None] << 40 | mined.rows
            self.false += int(np.isin(keys[there], relevant).sum())


class _Sweeper:
    """Tallies all settings, batch by batch."""

    def __init__(self, reader: PositiveAwareMiner, plans: Sequence[SweepPoint], judgements: Qrels | None) -> None:
        self.reader, self.plans = reader, plans
        self.tallies = [_Tally() for _ in plans]
        self.judged = None if judgements is None else judgements.resolve(reader.corpus)
        self.match = None if judgements is None else judgements.match

    def add(self, columns: dict[str, list[Any]], start: int, total: int) -> None:
        """Mine a batch with every setting."""
        batch, exclude, counts = self.reader.read(columns)
        runs = list({id(t): t for plan in self.plans for t in plan.teachers}.values())
        candidates = self.reader.corpus.num_candidates
        fetched = {
            id(t): CachedTeacher(t, batch, exclude, [p.settings for p in self.plans if t in p.teachers], candidates)
            for t in runs
        }
        rngs = {
            seed: repeatable(batch.generators(self.reader.corpus, seed))
            for seed in {p.settings.seed for p in self.plans}
        }
        step = max(1, total // OVERLAP_ROWS)
        sampled = np.flatnonzero((start + np.arange(len(batch.queries))) % step == 0)
        relevant = self._relevant(batch.queries)
        for plan, tally in zip(self.plans, self.tallies, strict=True):
            teachers = [fetched[id(t)] for t in plan.teachers]
            settings, candidates = plan.settings, self.reader.corpus.num_candidates
            mined = select(batch, teachers, settings, candidates, exclude, rngs[settings.seed])
            mined.excluded = counts
            tally.add(mined, settings.num_negatives, sampled, relevant)

    def _relevant(self, queries: list[str]) -> np.ndarray | None:
        """Row of the batch and relevant document, as one number each."""
        if self.judged is None or self.match is None:
            return None
        from hf_posmine.data.texts import text_keys

        rows, codes, relevant = self.judged.of(text_keys(queries, self.match))
        good = relevant & (codes >= 0)
        return rows[good] << 40 | codes[good]

    def table(self) -> Any:
        """The tidy Dataset."""
        from datasets import Dataset

        overlap = overlap_matrix([np.concatenate(t.sample) for t in self.tallies])
        rows = [
            {**_spelled(plan), **_figures(tally, plan, judged=self.judged is not None), "overlap": overlap[i].tolist()}
            for i, (plan, tally) in enumerate(zip(self.plans, self.tallies, strict=True))
        ]
        return Dataset.from_list(rows)


def _spelled(plan: SweepPoint) -> dict[str, Any]:
    settings = plan.settings
    return {
        "teacher": " + ".join(teacher.name for teacher in plan.teachers),
        "filters": " + ".join(map(repr, settings.all_filters)) or "naive",
        "sampler": repr(settings.sampler),
        "num_negatives": settings.num_negatives,
        "seed": settings.seed,
    }


def _figures(tally: _Tally, plan: SweepPoint, *, judged: bool) -> dict[str, Any]:
    requested, given = tally.rows * plan.settings.num_negatives, max(1, tally.negatives)
    return {
        "rows": tally.rows,
        "negatives": tally.negatives,
        "yield": tally.negatives / max(1, requested),
        "short_rows": tally.short,
        "empty_rows": tally.empty,
        "removed": tally.removed / max(1, requested),
        "replaced": tally.replaced / given,
        "hardness": tally.score / tally.positive if tally.positive else float("nan"),
        "mean_score": tally.score / max(1, tally.scored),
        "mean_gap": (tally.positive - tally.score) / max(1, tally.scored),
        "excluded": tally.excluded,
        "false_negatives": tally.false if judged else None,
        "false_negative_rate": tally.false / given if judged else None,
    }


def _plans(
    runs: Sequence[Teacher],
    filters: Sequence[Any],
    samplers: Sequence[Any],
    num_negatives: Sequence[int],
    seeds: Sequence[int],
    options: dict[str, Any],
) -> list[SweepPoint]:
    plans = []
    for method, sampler, n, seed in itertools.product(filters, samplers, num_negatives, seeds):
        settings = MiningSettings.from_options(
            {**options, "filters": method, "sampler": sampler, "num_negatives": n, "seed": seed}
        )
        if settings.ensemble:
            plans.append(SweepPoint(tuple(runs), settings))
        else:
            plans += [SweepPoint((run,), settings) for run in runs]
    if not plans:
        raise InputError("nothing to try; give at least one of filters, samplers, num_negatives and seeds")
    return plans


def _of_reading(options: dict[str, Any]) -> dict[str, Any]:
    """The options that decide what may not be a negative."""
    return {
        name: options[name]
        for name in ("near_duplicates", "exclude_lookalikes", "exclude_other_positives", "exclude_same", "match")
        if name in options
    }


def _miner_of(plan: SweepPoint, reader: PositiveAwareMiner) -> PositiveAwareMiner:
    return PositiveAwareMiner(
        teachers=plan.teachers, **reader.inputs, **{name: vars(plan.settings)[name] for name in plan.settings.to_dict()}
    )
