"""Agreement of teachers or methods: the Jaccard overlap of their negatives (paper, Tables 6 to 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import iter_columns
from hf_posmine.mining.miner import PositiveAwareMiner
from hf_posmine.mining.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Rows
    from hf_posmine.teachers.factory import TeacherLike


def jaccard(first: Rows, second: Rows) -> np.ndarray:
    """Overlap float64 ``[B]`` of two choices of documents, int64 ``[B, n]`` and ``[B, m]``, -1 where a row is short.

    It is the share of the documents of either that are in both; rows where both are empty count as agreeing.

    >>> jaccard(np.array([[1, 2], [3, -1]]), np.array([[2, 5], [3, 3]])).tolist()
    [0.3333333333333333, 1.0]
    """
    first, second = _without_repeats(first), _without_repeats(second)
    both = ((first[:, :, None] == second[:, None]) & (first >= 0)[:, :, None]).sum(axis=(1, 2))
    either = (first >= 0).sum(axis=1) + (second >= 0).sum(axis=1) - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def overlap_matrix(choices: Sequence[Rows]) -> np.ndarray:
    """Mean :func:`jaccard` of every two choices of the same rows, float64 ``[S, S]``."""
    matrix = np.ones((len(choices), len(choices)))
    for i, first in enumerate(choices):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = jaccard(first, choices[j]).mean() if len(first) else 1.0
    return matrix


def teacher_agreement(pairs: Dataset, teachers: Sequence[TeacherLike], **options: Any) -> Any:
    """Overlap of the negatives that different teachers give the same rows (paper, Tables 6 to 8).

    Args:
        pairs: dataset of queries and positives.
        teachers: over one corpus; stored runs cost no search.
        options: ``query_column`` and so on, and :class:`~hf_posmine.core.settings.MiningSettings` such as ``filters``.

    Returns:
        A Dataset with a row per teacher: ``teacher`` and a column for each teacher.
    """
    from datasets import Dataset

    miners = [PositiveAwareMiner.from_dataset(pairs, teacher, **options) for teacher in teachers]
    if len({miner.corpus.fingerprint for miner in miners}) > 1:
        raise InputError("the teachers score different corpora; make all with the same corpus")
    choices: list[list[Rows]] = [[] for _ in miners]
    for _, columns in iter_columns(pairs, miners[0].columns):
        for miner, chosen in zip(miners, choices, strict=True):
            batch, exclude, _ = miner.read(columns)
            rngs = batch.generators(miner.corpus, miner.settings.seed)
            mined = select(batch, miner.teachers, miner.settings, miner.corpus.num_candidates, exclude, rngs)
            chosen.append(mined.rows)
    matrix = overlap_matrix([np.concatenate(parts) for parts in choices])
    names = _distinct([miner.teachers[0].name for miner in miners])
    return Dataset.from_dict({"teacher": names, **{name: matrix[:, i] for i, name in enumerate(names)}})


def _without_repeats(rows: Rows) -> Rows:
    """Each document once per row, sorted, -1 in the place of repeats."""
    rows = np.sort(rows, axis=1)
    again = np.zeros(rows.shape, bool)
    again[:, 1:] = rows[:, 1:] == rows[:, :-1]
    return np.where(again, -1, rows)


def _distinct(names: list[str]) -> list[str]:
    return [f"{name} #{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
