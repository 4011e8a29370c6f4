"""A batch of dataset rows as the miner sees it: queries, their positives, and what may not be a negative."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from hf_posmine.core.errors import ColumnError
from hf_posmine.core.types import PADDING, Exclusions, RowGenerators, Rows
from hf_posmine.data.bad_rows import faults_of
from hf_posmine.data.columns import check_ids, check_text_lists, check_texts
from hf_posmine.data.lookalikes import CONTAINER, VARIANT
from hf_posmine.data.qrels import OUTSIDE, KnownPositives, Qrels
from hf_posmine.data.texts import text_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.kept import DocumentValues
    from hf_posmine.data.lookalikes import Lookalikes

LOCAL = -(1 << 40)
"""Code ``LOCAL - i`` stands for text i of the batch, which neither the corpus nor the known positives hold."""

EXCLUSION_REASONS = ("positive", "sibling", "unknown", "query", "variant", "container", "same_source", "near_duplicate")
"""Why a document was excluded: it is the row's positive, another positive of the query, of unknown relevance by the
judgements, the query's own text, a positive with another title or invisible characters, a longer text that contains a
positive, one that shares a value of ``exclude_same`` with a positive, or nearly the same as a positive."""


@dataclass
class Batch:
    """Rows to be mined, and the documents that concern each: one entry per (row, document), sorted by both.

    A document is a code: a corpus row (from 0), or a negative code for a text outside the corpus.

    Attributes:
        queries: texts (B of them).
        entry_rows: int64 ``[E]``, row of the batch.
        codes: int64 ``[E]``.
        reasons: int8 ``[E]``, the first of :data:`EXCLUSION_REASONS` that holds.
        texts: the text of each negative code.
        quotas: columns of the corpus that quotas count by.
    """

    queries: list[str]
    entry_rows: Rows
    codes: Rows
    reasons: np.ndarray
    texts: dict[int, str]
    quotas: Mapping[str, DocumentValues] = field(default_factory=dict)

    @classmethod
    def of(cls, queries: list[str], groups: Sequence[tuple[Rows, Rows]], texts: dict[int, str]) -> Batch:
        """From (rows, codes) for each reason in turn; of equal entries the first reason stays."""
        rows = np.concatenate([group[0] for group in groups])
        codes = np.concatenate([group[1] for group in groups])
        reasons = np.repeat(np.arange(len(groups), dtype=np.int8), [len(group[0]) for group in groups])
        order = np.lexsort((reasons, codes, rows))
        rows, codes, reasons = rows[order], codes[order], reasons[order]
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (rows[1:] != rows[:-1]) | (codes[1:] != codes[:-1])
        return cls(queries, rows[fresh], codes[fresh], reasons[fresh], texts)

    def with_near(self, near: Sequence[Rows]) -> Batch:
        """The batch with near duplicates of its positives (corpus rows per batch row) as one more reason."""
        groups = [
            (self.entry_rows[self.reasons == r], self.codes[self.reasons == r])
            for r in range(len(EXCLUSION_REASONS) - 1)
        ]
        rows = np.repeat(np.arange(len(near)), [len(found) for found in near])
        return Batch.of(self.queries, [*groups, (rows, np.concatenate([rows[:0], *near]))], self.texts)

    def positives(self) -> tuple[Rows, np.ndarray]:
        """Codes int64 ``[B, m]`` of the positives of each query, -1 where padded, and which are the row's own."""
        picked = np.flatnonzero(self.reasons <= EXCLUSION_REASONS.index("sibling"))
        rows = self.entry_rows[picked]
        counts = np.bincount(rows, minlength=len(self.queries))
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        codes = np.full((len(self.queries), max(1, int(counts.max(initial=0)))), PADDING, np.int64)
        codes[rows, columns] = self.codes[picked]
        own = np.zeros(codes.shape, bool)
        own[rows, columns] = self.reasons[picked] == EXCLUSION_REASONS.index("positive")
        return codes, own

    def exclusions(self, num_candidates: int, everywhere: Rows) -> tuple[Exclusions, dict[str, Rows]]:
        """Excluded candidates per query, and how many for each reason."""
        picked = np.flatnonzero((self.codes >= 0) & (self.codes < num_candidates))
        rows, reasons, size = self.entry_rows[picked], self.reasons[picked], len(self.queries)
        counts = {reason: np.bincount(rows[reasons == r], minlength=size) for r, reason in enumerate(EXCLUSION_REASONS)}
        bounds = np.append(0, np.cumsum(np.bincount(rows, minlength=size)))
        return Exclusions(self.codes[picked], bounds, everywhere), counts

    def generators(self, corpus: Corpus, seed: int) -> RowGenerators:
        """One generator per row, seeded by (seed, query text, positive texts): the same in any batch (semantics 9)."""

        def make(row: int) -> np.random.Generator:
            digest = xxhash.xxh3_128(seed.to_bytes(8, "little"))
            for text in (self.queries[row], *sorted(self._own_texts(row, corpus))):
                encoded = text.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
            return np.random.Generator(np.random.Philox(key=digest.intdigest()))

        return make

    def _own_texts(self, row: int, corpus: Corpus) -> list[str]:
        mine = slice(*np.searchsorted(self.entry_rows, [row, row + 1]).tolist())
        codes = self.codes[mine][self.reasons[mine] == EXCLUSION_REASONS.index("positive")].tolist()
        return [self.texts[c] if c < 0 else corpus.texts(np.array([c], np.int64))[0].as_py() for c in codes]


@dataclass(frozen=True)
class RowReader:
    """Turns the columns of a batch into a :class:`Batch`.

    Attributes:
        corpus: the documents.
        qrels: the known positives, if there are any beyond the rows' own.
        known: the same, as rows of the corpus.
        lookalikes: candidates that hold known positives which the corpus lacks; None to let them be candidates.
        query_column: column of the queries.
        positive_column: column of positives (texts or lists of texts), or None.
        positive_id_column: column of positives' ids, or None; with neither, the known positives are the positives.
        same: columns of the corpus; documents that share a value with a positive are excluded.
    """

    corpus: Corpus
    qrels: Qrels | None
    known: KnownPositives | None
    lookalikes: Lookalikes | None
    query_column: str
    positive_column: str | None
    positive_id_column: str | None
    same: Mapping[str, DocumentValues] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [c for c in (self.query_column, self.positive_column, self.positive_id_column) if c is not None]

    def good(self, columns: Mapping[str, Sequence[Any]]) -> list[bool]:
        """Which rows have a query and a positive."""
        queries, column = columns[self.query_column], self.positive_column or self.positive_id_column
        good = [fault is None for fault in faults_of(queries, None if column is None else columns[column])]
        if column is not None or self.known is None:
            return good
        match = self.corpus.match if self.qrels is None else self.qrels.match
        rows, _, relevant = self.known.of(
            text_keys((q if fine else "" for q, fine in zip(queries, good, strict=True)), match)
        )
        known = np.bincount(rows[relevant], minlength=len(good)) > 0
        return [fine and there for fine, there in zip(good, known.tolist(), strict=True)]

    def read(self, columns: Mapping[str, Sequence[Any]]) -> Batch:
        """Read a batch.

        Raises:
            ColumnError: a value that is not a text, an empty list, or a row without a positive, naming column and row.
            InputError: an id that the corpus lacks.
        """
        queries = check_texts(columns[self.query_column], self.query_column)
        keys = text_keys(queries, self.corpus.match)
        query_keys = keys
        if self.qrels is not None and self.qrels.match != self.corpus.match:
            query_keys = text_keys(queries, self.qrels.match)
        texts: dict[int, str] = {}
        none = np.empty(0, np.int64)
        known = siblings = unknown = (none, none)
        if self.known is not None:
            rows, codes, relevant = self.known.of(query_keys)
            known = siblings = (rows[relevant], codes[relevant])
            unknown = (rows[~relevant], codes[~relevant])
        own = self._own(columns, texts)
        if own is None:
            own, siblings = known, (none, none)
            without = np.flatnonzero(np.bincount(own[0], minlength=len(queries)) == 0)
            if len(without):
                row = int(without[0])
                raise ColumnError(f"row {row}: no known positive for the query {queries[row][:60]!r}; drop the row")
        self._outside_texts(np.concatenate([own[1], siblings[1]]), texts)
        itself = self.corpus.rows_of_keys(keys)
        same = np.flatnonzero(itself >= 0)
        alike = self._lookalikes(own, siblings)
        groups = [own, siblings, unknown, (same, itself[same]), *alike, self._same_source(own, siblings, *alike)]
        return Batch.of(queries, groups, texts)

    def _same_source(self, *entries: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
        """(rows, codes) of the documents that share a value with a positive, or with a document that holds one."""
        rows, codes = (np.concatenate(column) for column in zip(*entries, strict=True))
        inside = codes >= 0
        found = [values.with_same(rows[inside], codes[inside]) for values in self.same.values()]
        none = (rows[:0], codes[:0])
        at, documents = (np.concatenate(column) for column in zip(none, *found, strict=True))
        return at, documents

    def _lookalikes(self, *positives: tuple[Rows, Rows]) -> list[tuple[Rows, Rows]]:
        """(rows, codes) of the variants and of the containers of positives outside the corpus."""
        rows, codes = (np.concatenate(column) for column in zip(*positives, strict=True))
        if self.lookalikes is None:
            return [(rows[:0], codes[:0])] * 2
        at, documents, kinds = self.lookalikes.of(codes)
        return [(rows[at[kinds == kind]], documents[kinds == kind]) for kind in (VARIANT, CONTAINER)]

    def _own(self, columns: Mapping[str, Sequence[Any]], texts: dict[int, str]) -> tuple[Rows, Rows] | None:
        if self.positive_column is not None:
            lists = check_text_lists(columns[self.positive_column], self.positive_column)
            codes = self._codes_of_texts([text for members in lists for text in members], texts)
        elif self.positive_id_column is not None:
            lists = check_ids(columns[self.positive_id_column], self.positive_id_column)
            flat = [member for members in lists for member in members]
            codes = self.corpus.required_rows(flat, self.positive_id_column)
        else:
            return None
        return np.repeat(np.arange(len(lists)), [len(members) for members in lists]), codes

    def _codes_of_texts(self, flat: list[str], texts: dict[int, str]) -> Rows:
        codes = self.corpus.rows_of_texts(flat)
        for at in np.flatnonzero(codes < 0).tolist():
            outside = -1
            if self.qrels is not None and self.qrels.documents is not None:
                outside = int(self.qrels.documents.rows_of_texts([flat[at]])[0])
            codes[at] = OUTSIDE - outside if outside >= 0 else LOCAL - at
            if outside < 0:
                texts[int(codes[at])] = flat[at]
        return codes

    def _outside_texts(self, codes: Rows, texts: dict[int, str]) -> None:
        wanted = set(codes[codes < 0].tolist()) - texts.keys()
        if wanted and self.qrels is not None and self.qrels.documents is not None:
            ordered = sorted(wanted)
            values = self.qrels.documents.items(np.array([OUTSIDE - code for code in ordered], np.int64))
            texts.update(zip(ordered, values, strict=True))
