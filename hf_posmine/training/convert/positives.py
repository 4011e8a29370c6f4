"""Training rows of one positive each, joined to rows with the positives of their query side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.check import whole
from hf_posmine.core.errors import InputError
from hf_posmine.data.texts import text_keys
from hf_posmine.training.convert.shared import Converted, converted, negative_columns

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows


def positive_names(count: int) -> list[str]:
    """``positive``, ``positive_2`` to ``positive_<count>``."""
    return ["positive", *(f"positive_{at}" for at in range(2, count + 1))]


def join_positives(rows: Converted, num_positives: int) -> Converted:
    """One row for each query, or several where it has more than ``num_positives``, in the order of their first rows.

    Texts are compared normalised (semantics 1). A row's negatives are those of all rows of its query in turn, without the
    query's positives: what one row labels as a positive is not another's negative. A row with fewer positives than the
    widest one repeats its own; the losses count each once. Rows that are left with too few negatives are dropped and
    counted.

    Args:
        rows: columns ``query``, ``positive``, ``negative_1`` to ``negative_n``.
        num_positives: at most so many in a row.

    Raises:
        InputError: a stream, rows with scores, which are of one positive, or no row left.

    >>> from datasets import Dataset
    >>> pairs = {"query": ["q", "r", "q"], "positive": ["a", "b", "c"], "negative_1": ["x", "y", "a"]}
    >>> join_positives(Converted(Dataset.from_dict(pairs)), 4).dataset.to_list()[0]
    {'query': 'q', 'positive': 'a', 'positive_2': 'c', 'negative_1': 'x'}
    """
    from datasets import Dataset

    whole("num_positives", num_positives, least=1)
    dataset = rows.dataset
    if not isinstance(dataset, Dataset):
        raise InputError("a stream cannot be joined by query; load the dataset without streaming=True")
    if "scores" in dataset.column_names:
        raise InputError("scores are of one positive, and rows are joined to several; leave scores out")
    n = len(dataset.column_names) - 2
    columns = ["query", "positive", *negative_columns(n)]
    texts = [dataset[column][:] for column in columns]
    keys = np.unique(text_keys(text for column in texts for text in column), return_inverse=True)[1]
    keys = keys.reshape(len(columns), -1).T
    flat = [text for row in zip(*texts, strict=True) for text in row]
    joined: list[tuple[int, list[int], list[int]]] = []
    short = 0
    for members in _by_query(keys[:, 0]):
        for query, positives, negatives in _rows_of_query(keys, members, num_positives, n):
            if len(negatives) == n:
                joined.append((query, positives, negatives))
            else:
                short += 1
    width = max((len(positives) for _, positives, _ in joined), default=1)
    filled = [[query, *(own[at % len(own)] for at in range(width)), *others] for query, own, others in joined]
    names = ["query", *positive_names(width), *negative_columns(n)]
    made = {name: [flat[row[at]] for row in filled] for at, name in enumerate(names)}
    several = sum(len(positives) > 1 for _, positives, _ in joined)
    counts = {"rows_joined": len(dataset) - len(joined) - short, "rows_with_several_positives": several}
    counts["dropped_few_negatives"] = rows.counts.get("dropped_few_negatives", 0) + short
    return replace(converted(made, rows.counts | counts, rows.pool), images=rows.images)


def _by_query(keys: np.ndarray) -> list[Rows]:
    """Places of equal keys, in the order of their first."""
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1) if len(order) else []
    return sorted(groups, key=lambda group: int(group[0]))


def _rows_of_query(keys: np.ndarray, members: Rows, most: int, n: int) -> list[tuple[int, list[int], list[int]]]:
    """The joined rows of one query: places in the flat texts of its query, its positives and up to n negatives."""
    width = keys.shape[1]
    places = members[:, None] * width + np.arange(width)
    known: dict[int, int] = {}
    for key, place in zip(keys[members, 1].tolist(), places[:, 1].tolist(), strict=True):
        known.setdefault(key, place)
    pool: dict[int, int] = {}
    # Column by column, so that the hardest negatives of all its rows come first.
    for key, place in zip(keys[members, 2:].T.ravel().tolist(), places[:, 2:].T.ravel().tolist(), strict=True):
        if key not in known:
            pool.setdefault(key, place)
    positives, negatives = list(known.values()), list(pool.values())
    parts = [part.tolist() for part in np.array_split(positives, -(-len(positives) // most))]
    return [
        (int(places[0, 0]), own, [negatives[(turn * n + at) % len(negatives)] for at in range(min(n, len(negatives)))])
        for turn, own in enumerate(parts)
    ]
