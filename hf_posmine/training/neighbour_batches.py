"""Batches of near rows: greedy chunks of the graph of neighbours, seeded, each row once an epoch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sentence_transformers.util import get_world_size

from hf_posmine.training.samplers import LOOKAHEAD, NoDuplicateTexts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from datasets import Dataset

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.training.guide import Guide

PICKY = 0.1
"""Rows of a random step at or above a row's ceiling, on average, from which on the row is hard to place."""
SLACK = np.float32(1e-5)
"""More than float32 products of unit vectors are off by, so that no pair at a ceiling counts as below it."""


@dataclass(frozen=True)
class NearRows:
    """The rows of a data set, their neighbours, and what must not meet: N rows of C documents, the positives first.

    Attributes:
        guide: the vectors.
        queries: int64 ``[N]``, rows of the guide's queries.
        documents: int64 ``[N, C]``, rows of its documents.
        positives: how many of a row's documents are positives.
        near: int64 ``[N, k]``, positives of other rows, by document, best first, -1 where there are fewer.
        ceilings: float32 ``[N]``; ``inf`` where nothing has to stay apart.
        above: float64 ``[N]``, the share of the positives of other rows at or above it.
    """

    guide: Guide
    queries: Rows
    documents: Rows
    positives: int
    near: Rows
    ceilings: Floats
    above: np.ndarray

    def vectors(self, row: int) -> tuple[Floats, Floats]:
        """The unit vectors of a row's query, float32 ``[d]``, and of its documents, float32 ``[C, d]``."""
        return self.guide.query_vectors(self.queries[row : row + 1])[0], self.guide.document_vectors(
            self.documents[row]
        )


class NeighbourBatches(NoDuplicateTexts):
    """Batches of rows that are near each other, of which none has a document at or above the ceiling of another.

    A batch begins with a random row, or its share of those that are hard to place, and takes in the neighbours of its rows,
    breadth first; where none is left, another random row comes in. What would meet above a ceiling, or repeats a text, waits
    for a later batch. The batches of one step of all processes are made as one, so that gathered negatives keep these
    promises; each process gets its share in turn.

    Each epoch has every row once, in an order that follows from seed and epoch. The last rows of an epoch may fit nowhere:
    they fill the batches all the same, and the loss leaves out what is above a ceiling.

    Args:
        dataset: columns ``query, positive, negative_1..n``, and perhaps instructions and ``in_batch_negatives``.
        batch_size: rows per batch of one process.
        drop_last: leave out a last batch that is not full.
        valid_label_columns: columns without texts.
        generator: not used; the order follows from seed and epoch.
        seed: of the order, with the epoch.
        near: the neighbours and ceilings of the rows.
        processes: that share a step; by default those of this run.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        *,
        near: NearRows,
        processes: int | None = None,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self.near, self.processes = near, processes or get_world_size()

    def __iter__(self) -> Iterator[list[int]]:
        step = self.batch_size * self.processes
        rows = _Epoch(self, np.random.default_rng([self.seed or 0, self.epoch]).permutation(len(self.keys)), step)
        left = len(self)
        while left:
            group = rows.take(self.batch_size * min(left, self.processes), -(-left // self.processes))
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]
                left -= 1


class _Epoch:
    """The rows of an epoch that are left.

    Args:
        batches: what is known of the rows.
        order: int64 ``[N]``, the rows at random.
        step: rows of a step. Picky rows that come last fit nowhere, so each step begins with its share of these.
    """

    def __init__(self, batches: NeighbourBatches, order: Rows, step: int) -> None:
        self.near, self.keys, self.checked = batches.near, batches.keys, batches.checked
        self.used = np.zeros(len(order), bool)
        picky = (self.near.above * step >= PICKY)[order]
        self.picky, self.fresh = deque(order[picky].tolist()), deque(order[~picky].tolist())
        self.waiting: deque[int] = deque()
        positives = self.near.documents[order, : self.near.positives]
        by_document = np.argsort(positives, axis=None, kind="stable")
        self.owners = np.repeat(order, positives.shape[1])[by_document]
        # the rows with document d as a positive, in random order: owners[bounds[d] : bounds[d + 1]], of which some are used
        self.bounds = np.searchsorted(positives.ravel()[by_document], np.arange(positives.max(initial=-1) + 2))
        self.first = self.bounds[:-1].copy()

    def take(self, size: int, steps: int) -> list[int]:
        """The next rows that share a step, fewer only at the end; ``steps`` are left with it."""
        group, queue, passed = _Group(self, size), deque[int](), list[int]()
        refused = [row for row in self._picky(-(-len(self.picky) // steps)) if not group.takes(row)]
        self.picky.extendleft(reversed(refused))
        for taken in group.rows:
            queue.extend(self.near.near[taken].tolist())
        while len(group.rows) < size and len(passed) < size * LOOKAHEAD:
            row = self._neighbour(queue, group.tried)
            if row is None:
                row = self._random()
                if row is None:
                    break
                passed.append(row)
            if row not in group.tried and group.takes(row):
                queue.extend(self.near.near[row].tolist())
        passed = [row for row in passed if not self.used[row]]
        filling = passed[: size - len(group.rows)]
        self.used[filling] = True
        self.waiting.extendleft(reversed(passed[len(filling) :]))
        return group.rows + filling

    def _picky(self, count: int) -> list[int]:
        """The next picky rows that are left."""
        found: list[int] = []
        while self.picky and len(found) < count:
            row = self.picky.popleft()
            if not self.used[row]:
                found.append(row)
        return found

    def _neighbour(self, queue: deque[int], tried: set[int]) -> int | None:
        """The next neighbour of the group that is left and was not tried."""
        while queue:
            document = queue.popleft()
            if not 0 <= document < len(self.first):
                continue
            at, end = int(self.first[document]), int(self.bounds[document + 1])
            while at < end and self.used[self.owners[at]]:
                at += 1
            self.first[document] = at
            if at < end and int(self.owners[at]) not in tried:
                return int(self.owners[at])
        return None

    def _random(self) -> int | None:
        """The next row in random order that is left; those that wait come first, picky ones last."""
        for rows in (self.waiting, self.fresh, self.picky):
            while rows:
                row = rows.popleft()
                if not self.used[row]:
                    return row
        return None


class _Group:
    """The rows that share a step, with their vectors.

    Args:
        epoch: the rows, which are used when they are taken.
        size: rows at most.
    """

    def __init__(self, epoch: _Epoch, size: int) -> None:
        self.epoch, self.size = epoch, size
        self.rows: list[int] = []
        self.tried: set[int] = set()
        self.texts: set[int] = set()
        self.ceilings = np.full(size, np.inf, np.float32)
        self.vectors: tuple[Floats, Floats] | None = None

    def takes(self, row: int) -> bool:
        """Take a row in, unless it repeats a text, has a document at or above the ceiling of another, or the other way round."""
        self.tried.add(row)
        near, checked = self.epoch.near, bool(self.epoch.checked[row])
        keys = self.epoch.keys[row].tolist() if checked else ()
        if len(self.rows) == self.size or not self.texts.isdisjoint(keys):
            return False
        query, documents = near.vectors(row)
        if self.vectors is None:
            shapes = ((self.size, len(query)), (self.size, *documents.shape))
            self.vectors = np.empty(shapes[0], np.float32), np.empty(shapes[1], np.float32)
        at, ceiling = len(self.rows), near.ceilings[row] - SLACK if checked else np.float32(np.inf)
        queries, others = self.vectors[0][:at], self.vectors[1][:at]
        if (others @ query >= ceiling).any() or ((queries @ documents.T).max(axis=1) >= self.ceilings[:at]).any():
            return False
        self.vectors[0][at], self.vectors[1][at], self.ceilings[at] = query, documents, ceiling
        self.rows.append(row)
        self.texts.update(keys)
        self.epoch.used[row] = True
        return True
