"""The hashes of all rows on disk, and what they show about several rows together; one range of them is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.audit.findings import ENTRY
from hf_posmine.audit.kinds import ROW
from hf_posmine.core.types import spans
from hf_posmine.utils.mapped import Appended, blocks, gathered, release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hf_posmine.audit.findings import FindingFiles
    from hf_posmine.audit.row_checks import BatchFacts
    from hf_posmine.core.types import Rows
    from hf_posmine.data.texts import Numbers

RANGE = 1 << 20
"""Hashes that are in memory at a time, about."""
ODD, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
LEAST_SHARED = 10
"""Rows that a shared negative is in, at least."""
NO_PAIR = 0


def pair_numbers(queries: Numbers, documents: Numbers) -> Numbers:
    """Hashes of queries with documents, evenly spread."""
    mixed = (queries * ODD) ^ documents
    mixed = (mixed ^ (mixed >> np.uint64(31))) * MIX
    return mixed ^ (mixed >> np.uint64(29))


class RowNumbers:
    """Hashes of queries, positives and negatives, appended as rows are read."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            "rows": Appended(folder / "rows", np.int64),
            "sizes": Appended(folder / "sizes", np.int32),
            "queries": Appended(folder / "queries", np.uint64),
            "counts": Appended(folder / "counts", np.int32),
            "positive_counts": Appended(folder / "positive_counts", np.int32),
            "positive_pairs": Appended(folder / "positive_pairs", np.uint64),
            "negatives": Appended(folder / "negatives", np.uint64),
            "negative_pairs": Appended(folder / "negative_pairs", np.uint64),
            "places": Appended(folder / "places", ENTRY),
        }

    def add(self, facts: BatchFacts) -> None:
        """A batch."""
        queries, negatives, positives = facts.queries.numbers, facts.negatives.numbers, facts.positives
        pairs = pair_numbers(np.repeat(queries, facts.negative_counts), negatives)
        positive_pairs = pair_numbers(np.repeat(queries, facts.positive_counts), positives.numbers)
        added: dict[str, np.ndarray] = {
            "rows": facts.numbers,
            "sizes": np.array([row.size for row in facts.rows], np.int32),
            "queries": queries,
            "counts": facts.negative_counts,
            "positive_counts": facts.positive_counts,
            "positive_pairs": positive_pairs[~positives.empty],
            "negatives": negatives,
            "negative_pairs": np.where(facts.negatives.empty | facts.matched, np.uint64(NO_PAIR), pairs),
            "places": facts.places,
        }
        for name, values in added.items():
            self._files[name].add(values)

    def finish(self) -> NumbersOnDisk:
        """Map what was written."""
        return NumbersOnDisk({name: file.array() for name, file in self._files.items()})


class NumbersOnDisk:
    """All hashes, memory-mapped.

    Attributes:
        arrays: ``rows`` with ``sizes`` (rows of the data from there on), ``queries``, ``counts`` (of negatives) and
            ``positive_counts`` ``[R]``; ``positive_pairs`` ``[P]``; ``negatives``, ``negative_pairs`` (``NO_PAIR`` for those
            found in their row) and ``places`` ``[N]``.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def find_labelled(self, kind: str, found: FindingFiles) -> None:
        """Negatives that another row of the same query has as a positive."""
        known, wanted = self.arrays["positive_pairs"], self.arrays["negative_pairs"]
        parts = num_ranges(max(len(known), len(wanted)))
        for (_, positives), (at, negatives) in zip(ranges(known, parts), ranges(wanted, parts), strict=True):
            self._add(kind, at[np.isin(negatives, positives)], found)

    def find_shared(self, share: float, found: FindingFiles) -> None:
        """Negatives that at least a share of the rows has."""
        negatives = self.arrays["negatives"]
        least = max(LEAST_SHARED, share * len(self.arrays["rows"]))
        for at, numbers in ranges(negatives, num_ranges(len(negatives))):
            _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
            self._add("shared_negative", at[counts[inverse] >= least], found)

    def find_queries(self, wanted: Numbers, found: FindingFiles) -> None:
        """Rows whose query is one of the ``wanted`` hashes."""
        queries = self.arrays["queries"]
        for span in blocks(len(queries)):
            self._add_rows("leaked_query", span.start + np.flatnonzero(np.isin(queries[span], wanted)), found)
            self._release()

    def find_few(self, least: int, found: FindingFiles) -> None:
        """Rows with some negatives, and fewer than ``least``."""
        counts, rows = self.arrays["counts"], self.arrays["rows"]
        for span in blocks(len(counts)):
            hits = rows[span][(counts[span] > 0) & (counts[span] < least)]
            found.add("few_negatives", hits, np.full(len(hits), ROW))
            self._release()

    def find_without(self, kind: str, counts: str, found: FindingFiles) -> None:
        """Rows of queries none of whose rows has any."""
        queries, held = self.arrays["queries"], self.arrays[counts]
        for at, numbers in ranges(queries, num_ranges(len(queries))):
            self._add_rows(kind, at[~np.isin(numbers, numbers[gathered(held, at) > 0])], found)

    def usual_count(self) -> int:
        """The number of negatives that most rows have."""
        counts, total = self.arrays["counts"], np.zeros(1, np.int64)
        for span in blocks(len(counts)):
            more = np.bincount(counts[span])
            total = np.pad(total, (0, max(0, len(more) - len(total))))
            total[: len(more)] += more
            self._release()
        return int(np.argmax(total))

    def _release(self) -> None:
        """Pages that were read do not stay in this process's memory."""
        for array in self.arrays.values():
            release_pages(array)

    def _add_rows(self, kind: str, at: Rows, found: FindingFiles) -> None:
        rows = spans(gathered(self.arrays["rows"], at), gathered(self.arrays["sizes"], at).astype(np.int64))
        found.add(kind, rows, np.full(len(rows), ROW))

    def _add(self, kind: str, at: Rows, found: FindingFiles) -> None:
        places = gathered(self.arrays["places"], at)
        found.add(kind, places["row"], places["index"])


def num_ranges(length: int) -> int:
    """The number of ranges, a power of 2, in which so many hashes fit into memory."""
    return 1 << max(0, (length - 1) // RANGE).bit_length()


def ranges(numbers: Numbers, parts: int) -> Iterator[tuple[Rows, Numbers]]:
    """Positions of the hashes ``[N]`` in one range of values after the other, in ascending order, and the hashes there.

    >>> [at.tolist() for at, _ in ranges(np.array([7, 1 << 63, 7], np.uint64), 2)]
    [[0, 2], [1]]
    """
    shift = np.uint64(65 - parts.bit_length())
    for number in range(parts):
        at, found = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for span in blocks(len(numbers)):
            block = numbers[span]
            here = np.flatnonzero(block >> shift == number) if parts > 1 else np.arange(len(block))
            at.append(span.start + here)
            found.append(block[here])
            release_pages(numbers, span.start, span.stop)
        yield np.concatenate(at), np.concatenate(found)
