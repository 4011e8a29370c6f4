"""Mining with an approximate index against mining with exact search, on a sample of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.mining.candidates import TeacherCandidates, find
from hf_posmine.search.approximate import EXHAUSTIVE
from hf_posmine.search.recall_report import ApproximateReport
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset, IterableDataset

    from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows
    from hf_posmine.mining.miner import PositiveAwareMiner

ROWS = 200


def measure_approximation(
    miner: PositiveAwareMiner, dataset: Dataset | IterableDataset, *, rows: int = ROWS, seed: int = 0
) -> list[ApproximateReport]:
    """Search a sample of rows both ways, with the miner's own filters and depth.

    Each teacher keeps its report, so that a provenance record made afterwards holds it.

    Args:
        miner: whose teachers are looked at.
        dataset: what it mines. Of a Dataset the sample is drawn, of a stream it is the first rows.
        rows: how many.
        seed: of the sample.

    Returns:
        A report for each teacher with an approximate index; none where all search exactly.
    """
    teachers = [t for t in miner.teachers if isinstance(t, DenseTeacher) and t.approximate is not None]
    if not teachers:
        return []
    batch, exclude, _ = miner.read(_sample(dataset, miner.columns, rows, seed))
    for teacher in teachers:
        near, far = _Near(teacher), _Exact(teacher)
        found, exact = (
            find(batch, search, miner.settings, exclude, miner.corpus.num_candidates) for search in (near, far)
        )
        teacher.approximation = _report(repr(teacher.approximate), found, exact, near.rounds)
    return [teacher.approximation for teacher in teachers if teacher.approximation is not None]


def _sample(dataset: Dataset | IterableDataset, columns: Sequence[str], rows: int, seed: int) -> dict[str, Any]:
    from datasets import Dataset

    dataset = dataset.select_columns(list(columns)).with_format(None)
    if isinstance(dataset, Dataset):
        dataset = dataset.select(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:rows]))
    else:
        dataset = dataset.take(rows)
    some = list(dataset)
    return {name: [row[name] for row in some] for name in columns}


class _Exact(StandIn[DenseTeacher]):
    """A teacher that searches exactly."""

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        return self.teacher.exact.search(self.teacher.embed_queries(queries), k, below=below, exclude=exclude)


class _Near(StandIn[DenseTeacher]):
    """A teacher that searches as the wrapped one does, and records how deep the search went."""

    rounds: Rows = np.empty(0, np.int64)

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        vectors, index = self.teacher.embed_queries(queries), self.teacher.index
        ranking, self.rounds = index.search_in_rounds(vectors, k, below=below, exclude=exclude)  # type: ignore[union-attr]
        return ranking


def _report(index: str, found: TeacherCandidates, exact: TeacherCandidates, rounds: Rows) -> ApproximateReport:
    hits = np.array([_hits(found, exact, row) for row in range(len(rounds))])
    wanted = exact.keep.sum(axis=1)
    above = exact.ranking.above.sum()
    return ApproximateReport(
        index=index,
        rows=len(rounds),
        recall=float(hits.sum() / wanted.sum()) if wanted.any() else 1.0,
        unchanged=float((hits == wanted).mean()),
        deepened=float((rounds > 0).mean()),
        exhausted=float((rounds == EXHAUSTIVE).mean()),
        counted=float(found.ranking.above.sum() / above) if above else 1.0,
    )


def _hits(found: TeacherCandidates, exact: TeacherCandidates, row: int) -> int:
    """How many candidates of a row are those of exact search, or score the same as one of them."""
    mine, theirs = found.keep[row], exact.keep[row]
    same = np.isin(found.ranking.doc_ids[row, mine], exact.ranking.doc_ids[row, theirs])
    tied = np.isin(found.ranking.scores[row, mine], exact.ranking.scores[row, theirs])
    return min(int((same | tied).sum()), int(theirs.sum()))
