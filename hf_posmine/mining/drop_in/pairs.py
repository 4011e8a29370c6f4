"""The rows of the dataset by query: duplicate queries are positives of one query, in the order of their first row."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.data.columns import check_texts

if TYPE_CHECKING:
    from hf_posmine.core.types import Rows
    from hf_posmine.mining.drop_in.arguments import Arguments


@dataclass(frozen=True)
class Pairs:
    """The different (query, positive) pairs, grouped by query.

    Attributes:
        queries: Q different texts, in the order in which they come.
        positives: P texts, those of the first query first.
        bounds: int64 ``[Q + 1]``, where each query's positives begin and end.
        rows: int64 ``[P]``, the first row of the dataset with each pair.
        total: rows of the dataset.
        most: rows of the query that has the most.
    """

    queries: list[str]
    positives: list[str]
    bounds: Rows
    rows: Rows
    total: int
    most: int

    @classmethod
    def of(cls, arguments: Arguments) -> Pairs:
        """Group the rows of a dataset.

        Raises:
            ColumnError: a value that is not a text, with its row.
        """
        dataset = arguments.dataset.with_format(None)
        queries = check_texts(dataset[arguments.anchor], arguments.anchor)
        positives = check_texts(dataset[arguments.positive], arguments.positive)
        grouped: dict[str, dict[str, int]] = {}
        for row, (query, positive) in enumerate(zip(queries, positives, strict=True)):
            grouped.setdefault(query, {}).setdefault(positive, row)
        groups = list(grouped.values())
        return cls(
            queries=list(grouped),
            positives=[positive for group in groups for positive in group],
            bounds=np.cumsum([0, *map(len, groups)]).astype(np.int64),
            rows=np.array([row for group in groups for row in group.values()], np.int64),
            total=len(queries),
            most=max(Counter(queries).values()),
        )

    @property
    def query_of(self) -> Rows:
        """Number of the query of each pair, int64 ``[P]``."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.bounds))

    def of_queries(self, start: int, stop: int) -> list[list[str]]:
        """The positives of the queries from ``start`` up to ``stop``."""
        ends = self.bounds[start : stop + 1].tolist()
        return [self.positives[a:b] for a, b in itertools.pairwise(ends)]
