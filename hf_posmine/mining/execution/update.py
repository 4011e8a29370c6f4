"""Mining again after documents or pairs changed: only searches that can end otherwise are repeated.

A ranking below a ceiling follows from the query's vector, the ceiling, the documents and the exclusions. Where the first two
are those of an earlier search, its ranking stays but for

- documents that came: they are searched alone, and merged in;
- documents that went: they leave the list, and the search is repeated where the list then ends too early; whether one
  counted above the ceiling follows from bounds on its score, and the search is repeated where these do not decide;
- exclusions of documents that stayed: the search is repeated.

Everything else of a row (positives, ceilings, samplers, columns) is made anew, so the rows are those of a full mining.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Mask, Ranking, Rows, Teacher
from hf_posmine.data.texts import KeyIndex
from hf_posmine.mining.execution.searches import NOWHERE, KeptDocuments, Searches, search_keys, unit
from hf_posmine.search.exact import ExactIndex
from hf_posmine.teachers.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.data.texts import Keys
    from hf_posmine.teachers.capabilities import SearchesVectors


@dataclass(frozen=True)
class DocumentChanges:
    """How the documents of a teacher changed.

    Attributes:
        now: int64 ``[N]``, the row of each earlier document, -1 where it is gone. Rows ascend, as ties are in the order of
            documents; one that moved counts as gone, and as new.
        stayed: bool ``[M]``, which documents were there before.
        new: int64, rows of the others, unless no query may get them.
        gone: int64, earlier documents that are gone, unless no query could get them.
        changed: documents whose id is there with another text or vector.
    """

    now: Rows
    stayed: Mask
    new: Rows
    gone: Rows
    changed: int

    @classmethod
    def between(cls, before: KeptDocuments, after: KeptDocuments) -> DocumentChanges:
        """The changes from one corpus to another."""
        now = KeyIndex.build(after.keys).rows(before.keys)
        now[before.keys == NOWHERE] = PADDING
        there = np.flatnonzero(now >= 0)
        now[there[~in_order(now[there])]] = PADDING
        stayed = np.zeros(len(after.keys), bool)
        stayed[now[now >= 0]] = True
        new = np.flatnonzero(~stayed & (after.keys != NOWHERE))
        gone = np.flatnonzero((now < 0) & (before.keys != NOWHERE))
        ids = np.intersect1d(before.ids[gone], after.ids[new])
        return cls(now, stayed, new, gone, int((ids != NOWHERE).sum()))

    def counts(self) -> dict[str, int]:
        """Documents that were added, removed and changed; a changed one is neither of the others."""
        return {
            "documents_added": len(self.new) - self.changed,
            "documents_removed": len(self.gone) - self.changed,
            "documents_changed": self.changed,
        }


def in_order(values: Rows) -> Mask:
    """A longest ascending subsequence of distinct numbers, as a mask.

    >>> in_order(np.array([5, 0, 1, 2])).tolist()
    [False, True, True, True]
    """
    keep = np.ones(len(values), bool)
    if (np.diff(values) > 0).all():
        return keep
    keep[:] = False
    # ends[l] is the least number that ends an ascending run of length l + 1, and at[l] where it stands
    ends: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for position, value in enumerate(values.tolist()):
        length = bisect_left(ends, value)
        before.append(at[length - 1] if length else -1)
        ends[length : length + 1], at[length : length + 1] = [value], [position]
    position = at[-1]
    while position >= 0:
        keep[position], position = True, before[position]
    return keep


class EarlierSearches:
    """Answers searches of a teacher from those of an earlier mining.

    Args:
        searches: of the earlier mining.
        before: its documents.
        after: the present documents.
        index: over these.
    """

    def __init__(self, searches: Searches, before: KeptDocuments, after: KeptDocuments, index: ExactIndex) -> None:
        self.searches, self.before = searches, before
        changes = self.changes = DocumentChanges.between(before, after)
        self.cosine = index.similarity == "cosine"
        self._at = KeyIndex.build(searches.keys)
        self._new: ExactIndex | None = None
        if len(changes.new):
            self._new = ExactIndex(
                index.vectors[changes.new],
                index.similarity,
                device=index.device,
                engine=index.engine,
                budget=index.budget,
            )

    def answer(
        self, vectors: Floats, keys: Keys, k: int, below: Floats, exclude: Exclusions
    ) -> tuple[Ranking, Mask, Mask]:
        """Rankings of queries float32 ``[B, d]``, which of them the earlier searches do not decide, and which changed."""
        at = self._at.rows(keys)
        if not len(self.searches.keys):
            nothing = Ranking.nothing(len(keys), k)
            return nothing, np.ones(len(keys), bool), np.zeros(len(keys), bool)
        earlier = self.searches.take(np.maximum(at, 0))
        listed = earlier.ids >= 0
        ids = np.where(listed, self.changes.now[np.maximum(earlier.ids, 0)], PADDING)
        fresh = self._search_new(vectors, k, below, exclude, _last_scores(earlier))
        gone, unsure = self._gone_above(vectors, below, earlier, at >= 0)
        decided = (at >= 0) & ~np.isneginf(below) & ~unsure & _reaches(earlier, ids, fresh, k)
        decided &= ~self._excludes_others(earlier, exclude)
        merged = _merged(ids, earlier.scores, fresh, k)
        above = earlier.above + fresh.above - gone
        same = (merged.doc_ids == _columns(ids, k)).all(axis=1) & (above == earlier.above)
        return replace(merged, above=above), ~decided, decided & ~same

    def _search_new(self, vectors: Floats, k: int, below: Floats, exclude: Exclusions, least: Floats) -> Ranking:
        """The best of the new documents that may score ``least``, which is all that can enter a list."""
        if self._new is None or not len(vectors):
            return Ranking.nothing(len(vectors), k)
        new = self.changes.new
        positions = np.repeat(np.arange(len(vectors)), np.diff(exclude.bounds))
        at = np.minimum(np.searchsorted(new, exclude.rows), len(new) - 1)
        hit = new[at] == exclude.rows
        bounds = np.append(0, np.cumsum(np.bincount(positions[hit], minlength=len(vectors))))
        found = self._new.search(vectors, k, below=below, exclude=Exclusions(at[hit], bounds), at_least=least)
        return replace(found, doc_ids=np.where(found.doc_ids >= 0, new[np.maximum(found.doc_ids, 0)], PADDING))

    def _gone_above(self, queries: Floats, below: Floats, earlier: Searches, known: Mask) -> tuple[Rows, Mask]:
        """How many of the documents that are gone counted above each ceiling, int64 ``[B]``, and where that is not certain."""
        gone, before = self.changes.gone, self.before
        count, unsure = np.zeros(len(below), np.int64), np.zeros(len(below), bool)
        rows = np.flatnonzero(known & (earlier.above > 0))
        if not len(gone) or not len(rows):
            return count, unsure
        if not before.codes.shape[1]:
            unsure[rows] = True
            return count, unsure
        at, columns, ceilings = *self._uncounted(earlier.take(rows)), below[rows][:, None]
        vectors = unit(queries[rows]) if self.cosine else queries[rows]
        for start, low, high in before.bounds_of(vectors, gone):
            here = (columns >= start) & (columns < start + low.shape[1])
            low[at[here], columns[here] - start] = high[at[here], columns[here] - start] = -np.inf
            count[rows] += (low >= ceilings).sum(axis=1)
            unsure[rows] |= ((low < ceilings) & (high >= ceilings)).any(axis=1)
        return count, unsure

    def _uncounted(self, earlier: Searches) -> tuple[Rows, Rows]:
        """Positions of searches and of documents in ``gone`` that these certainly did not count: listed or excluded."""
        gone = self.changes.gone
        listed, _ = np.nonzero(earlier.ids >= 0)
        positions = np.concatenate([listed, np.repeat(np.arange(len(earlier.keys)), np.diff(earlier.bounds))])
        documents = np.concatenate([earlier.ids[earlier.ids >= 0], earlier.excluded])
        columns = np.minimum(np.searchsorted(gone, documents), len(gone) - 1)
        hit = gone[columns] == documents
        return positions[hit], columns[hit]

    def _excludes_others(self, earlier: Searches, exclude: Exclusions) -> Mask:
        """Which searches exclude other documents than then, among those that stayed; bool ``[B]``."""
        size = max(1, len(self.changes.stayed))
        then = self.changes.now[earlier.excluded]
        before = np.repeat(np.arange(len(earlier.keys)), np.diff(earlier.bounds)) * size + then
        after = np.repeat(np.arange(len(earlier.keys)), np.diff(exclude.bounds)) * size + exclude.rows
        other = np.setxor1d(before[then >= 0], after[self.changes.stayed[exclude.rows]])
        differs = np.zeros(len(earlier.keys), bool)
        differs[other // size] = True
        return differs


def _reaches(earlier: Searches, ids: Rows, fresh: Ranking, k: int) -> Mask:
    """Where a merged list certainly holds the best ``k``; bool ``[B]``."""
    # A list shorter than its depth holds every document below the ceiling. Behind the last of a full list stand documents
    # that nobody knows: with that one's score at most, and of equal score only behind it. So what counts is what stayed of
    # the list, and what came with a higher score.
    listed, left = (earlier.ids >= 0).sum(axis=1), (ids >= 0).sum(axis=1)
    certain = left + (fresh.scores > _last_scores(earlier)[:, None]).sum(axis=1)
    return (listed < earlier.depth) | ((left == listed) & (earlier.depth >= k)) | (certain >= k)


def _last_scores(earlier: Searches) -> Floats:
    """The score of the last document of each list, float32 ``[B]``; ``-inf`` where it holds all below the ceiling."""
    listed = (earlier.ids >= 0).sum(axis=1)
    last = np.take_along_axis(earlier.scores, np.maximum(listed - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(listed < earlier.depth, -np.inf, last).astype(np.float32)


def _merged(ids: Rows, scores: Floats, fresh: Ranking, k: int) -> Ranking:
    """The best ``k`` of two lists of documents, ties in document order; ``above`` is left out."""
    ids = np.concatenate([ids, fresh.doc_ids], axis=1)
    scores = np.where(ids >= 0, np.concatenate([scores, fresh.scores], axis=1), -np.inf).astype(np.float32)
    order = np.lexsort((np.where(ids >= 0, ids, np.iinfo(np.int64).max), -scores), axis=1)[:, :k]
    ids, scores = np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return Ranking(ids, scores, np.zeros(len(ids), np.int64))


def _columns(ids: Rows, k: int) -> Rows:
    """The first ``k`` columns, padded."""
    return np.pad(ids[:, :k], ((0, 0), (0, max(0, k - ids.shape[1]))), constant_values=PADDING)


class WatchedTeacher(StandIn[Teacher]):
    """Stands for a teacher: keeps its searches, and answers from earlier ones where these decide.

    Attributes:
        kept: the searches so far.
        counts: int64 ``[3]``, searches that ended as before, that changed without being repeated, and that were made.
    """

    def __init__(self, teacher: Teacher, vectors: SearchesVectors, earlier: EarlierSearches | None) -> None:
        super().__init__(teacher)
        self.vectors, self.earlier = vectors, earlier
        self.kept: list[Searches] = []
        self.counts = np.zeros(3, np.int64)

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """As the teacher does, without repeating what an earlier search decides."""
        below = np.full(len(queries), np.inf, np.float32) if below is None else below
        exclude = Exclusions.given(exclude, len(queries))
        vectors = self.vectors.embed_queries(queries)
        keys = search_keys(vectors, below)
        if self.earlier is None:
            found, open_, changed = Ranking.nothing(len(queries), k), np.ones(len(queries), bool), np.zeros(1, bool)
        else:
            found, open_, changed = self.earlier.answer(vectors, keys, k, below, exclude)
        rows = np.flatnonzero(open_)
        if len(rows):
            mine = [queries[row] for row in rows.tolist()]
            found.put(rows, self.teacher.search(mine, k, below=below[rows], exclude=exclude.take(rows)))
        self.counts += np.array([len(queries) - len(rows) - changed.sum(), changed.sum(), len(rows)])
        self.kept.append(Searches.of(keys, k, found, exclude))
        return found

    def taken(self) -> Searches:
        """The searches kept since the last call."""
        kept, self.kept = self.kept, []
        return Searches.joined(kept)
