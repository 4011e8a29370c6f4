"""A teacher for long documents: each scores as its best passage does, by any other teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Mask, Ranking, Rows, ScoreKind, Teacher
from hf_posmine.data.passages import Passages, split_passages
from hf_posmine.teachers import capabilities
from hf_posmine.teachers.spellings import MaxP
from hf_posmine.utils.digest import json_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.window import CutTexts

BLOCK = 1 << 22
"""Passages at or above ceilings that are listed at a time."""
VERSION = 1


class BestPassageTeacher:
    """Scores a document by the highest score of its passages (MaxP; Dai and Callan, arXiv 1905.09217).

    Ceilings are those of documents: one with a passage at or above the ceiling is above it, whatever its other passages score.

    Args:
        teacher: scores passages; its corpus is that of ``passages``.
        passages: of the documents.
    """

    def __init__(self, teacher: Teacher, passages: Passages) -> None:
        self.teacher, self.passages = teacher, passages
        self.name = f"{teacher.name} (best passage)"

    @property
    def corpus(self) -> Corpus:
        """The documents."""
        return self.passages.documents

    @property
    def score_kind(self) -> ScoreKind:
        """The scale of the passages' scores."""
        return self.teacher.score_kind

    @property
    def fingerprint(self) -> str:
        """Content digest of the teacher of passages and of how documents are cut."""
        how = [self.passages.words, self.passages.overlap]
        return json_digest(["best passage", VERSION, self.teacher.fingerprint, *how])

    def describe(self) -> dict[str, Any]:
        """The teacher as a record holds it: that of the passages, and how documents are cut."""
        facts, passages = capabilities.describe(self.teacher), self.passages
        how = {"words": passages.words, "overlap": passages.overlap}
        own = {"kind": "best passage", **how, "passages": len(passages.corpus), "fingerprint": self.fingerprint}
        spelled = {"spelling": repr(MaxP(facts["spelling"], **how))} if "spelling" in facts else {}
        return {**facts, "name": self.name, **own, **spelled}

    def prepare(self) -> None:
        """What the teacher of the passages does beforehand."""
        capabilities.prepare(self.teacher)

    @property
    def search_device(self) -> str:
        """Where passages are searched."""
        return capabilities.search_device(self.teacher)

    def use_rank(self, rank: int) -> None:
        """Take the GPU of this rank."""
        capabilities.use_rank(self.teacher, rank)

    def bill(self) -> str | None:
        """The requests of a service that scores the passages."""
        return self.teacher.bill() if isinstance(self.teacher, capabilities.Metered) else None

    def warn_of_unmatched(self, queries: Corpus) -> None:
        """Let a lexical teacher warn of queries that share no word with any passage."""
        if isinstance(self.teacher, capabilities.Lexical):
            self.teacher.warn_of_unmatched(queries)

    def cut_texts(self) -> CutTexts | None:
        """The passages that are longer than what their teacher reads."""
        cut = self.teacher.cut_texts() if isinstance(self.teacher, capabilities.ReadsWindow) else None
        return None if cut is None else replace(cut, what="passages")

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        out = np.full(doc_ids.size, -np.inf, np.float32)
        place, rows = self.passages.of_documents.of(doc_ids.ravel())
        of = place // max(1, doc_ids.shape[1])
        counts = np.bincount(of, minlength=len(queries))
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        wanted = np.full((len(queries), max(1, int(counts.max(initial=0)))), PADDING, np.int64)
        wanted[of, columns] = rows
        np.maximum.at(out, place, self.teacher.score(queries, wanted)[of, columns])
        return out.reshape(doc_ids.shape)

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        cut = [split_passages(text, self.passages.words, self.passages.overlap) for text in documents]
        of = np.repeat(np.arange(len(cut)), [len(passages) for passages in cut])
        out = np.full(len(cut), -np.inf, np.float32)
        flat = [passage for passages in cut for passage in passages]
        np.maximum.at(out, of, self.teacher.score_texts([queries[at] for at in of.tolist()], flat))
        return out

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`.

        Passages below the ceiling are searched ever deeper until they are of k documents that may be taken. Documents that
        have a passage at or above it are found by a second search, as deep as there are such passages.
        """
        below = np.full(len(queries), np.inf, np.float32) if below is None else below
        exclude = Exclusions.given(exclude, len(queries))
        narrow = self.passages.exclusions(exclude)
        every, left = max(1, self.passages.corpus.num_candidates), np.arange(len(queries))
        depth, barred = min(every, 2 * k + 8), self._excluded(exclude)
        found = self.teacher.search(queries, depth, below=below, exclude=narrow)
        high = np.setdiff1d(self._at_or_above(queries, below, found.above, narrow), barred)
        barred, out = np.union1d(barred, high), Ranking.nothing(len(queries), k)
        above = np.bincount(high // max(1, len(self.corpus)), minlength=len(queries))
        while len(left):
            ranking, complete = self._documents(found, k, left, barred)
            complete |= depth >= every
            out.put(left[complete], ranking.take(complete))
            left, depth = left[~complete], min(every, 4 * depth)
            if len(left):
                mine = [queries[row] for row in left.tolist()]
                found = self.teacher.search(mine, depth, below=below[left], exclude=narrow.take(left))
        return Ranking(out.doc_ids, out.scores, above)

    def _excluded(self, exclude: Exclusions) -> Rows:
        """The excluded documents of each query, as ``query * len(corpus) + document``, sorted."""
        queries, size = np.arange(len(exclude.bounds) - 1), len(self.corpus)
        own = np.repeat(queries, np.diff(exclude.bounds)) * size + exclude.rows
        return np.union1d(own, (queries[:, None] * size + exclude.everywhere).ravel())

    def _keys(self, rows: Rows, passages: Rows) -> tuple[Rows, Rows]:
        """Positions of passages of queries ``rows [m]``, and the candidates they are of, as ``query * len(corpus) + document``."""
        at, documents = self.passages.of_passages.of(passages)
        candidates = documents < self.corpus.num_candidates
        return at[candidates], rows[at[candidates]] * len(self.corpus) + documents[candidates]

    def _at_or_above(self, queries: Sequence[str], below: Floats, above: Rows, narrow: Exclusions) -> Rows:
        """Documents with a passage at or above the ceiling of each query, as keys."""
        order, found = np.argsort(above, kind="stable"), [np.empty(0, np.int64)]
        order = order[above[order] > 0]
        while len(order):
            deepest = int(above[order[-1]])
            rows, order = order[-max(1, BLOCK // deepest) :], order[: -max(1, BLOCK // deepest)]
            there = self.teacher.search([queries[row] for row in rows.tolist()], deepest, exclude=narrow.take(rows))
            at, columns = np.nonzero((there.doc_ids >= 0) & (there.scores >= below[rows][:, None]))
            found.append(self._keys(rows[at], there.doc_ids[at, columns])[1])
        return np.unique(np.concatenate(found))

    def _documents(self, found: Ranking, k: int, rows: Rows, barred: Rows) -> tuple[Ranking, Mask]:
        """The best documents of passages below the ceiling, and for which queries there can be no others."""
        at, columns = np.nonzero(found.doc_ids >= 0)
        places, keys = self._keys(rows[at], found.doc_ids[at, columns])
        keys, first = np.unique(keys, return_index=True)  # best first, so that the first passage is the document's best
        free = ~np.isin(keys, barred)
        keys, first = keys[free], places[first[free]]
        of, scores = at[first], found.scores[at[first], columns[first]]
        order = np.lexsort((keys, -scores, of))
        of, scores, documents = of[order], scores[order], keys[order] % max(1, len(self.corpus))
        counts = np.bincount(of, minlength=len(rows))
        place = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        ranking, kept = Ranking.nothing(len(rows), k), place < k
        ranking.doc_ids[of[kept], place[kept]], ranking.scores[of[kept], place[kept]] = documents[kept], scores[kept]
        last = np.where((found.doc_ids >= 0).all(axis=1), found.scores[:, -1], -np.inf)
        certain = np.bincount(of[scores > last[of]], minlength=len(rows))  # others may score as the last passage does
        return ranking, (certain >= k) | np.isneginf(last)
