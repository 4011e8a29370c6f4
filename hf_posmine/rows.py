"""A batch of dataset rows as the miner sees it: queries, their positives, and what may not be a negative."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from hf_posmine.corpus import OUTSIDE, Corpus, KnownPositives, Qrels
from hf_posmine.errors import ColumnError, InputError
from hf_posmine.tables import check_ids, check_text_lists, check_texts
from hf_posmine.texts import text_keys
from hf_posmine.types import Exclusions, RowGenerators, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOCAL = -(1 << 40)
"""Code ``LOCAL - i`` stands for text i of the batch, which neither the corpus nor the known positives hold."""

REASONS = ("positive", "sibling", "unknown", "query", "near_duplicate")
"""Why a document was excluded: it is the row's positive, another positive of the query, of unknown relevance by the
judgements, the query's own text, or nearly the same as a positive."""


@dataclass
class Batch:
    """Rows to be mined. A document is a code: a corpus row (from 0), or a negative code for a text outside the corpus.

    Attributes:
        queries: texts (B of them).
        own: the row's positives.
        siblings: the other known positives of the same query.
        unknown: documents of unknown relevance.
        itself: the corpus row with the query's own text, -1 if there is none.
        texts: the text of each negative code.
    """

    queries: list[str]
    own: list[list[int]]
    siblings: list[list[int]]
    unknown: list[list[int]]
    itself: Rows
    texts: dict[int, str] = field(default_factory=dict)

    def exclusions(
        self, num_candidates: int, near: Sequence[Rows], everywhere: Rows
    ) -> tuple[Exclusions, dict[str, Rows]]:
        """Excluded candidates per query, and how many for each reason; a document counts for its first reason."""
        counts = {reason: np.zeros(len(self.queries), np.int64) for reason in REASONS}
        rows = []
        for i in range(len(self.queries)):
            taken: set[int] = set()
            groups = (self.own[i], self.siblings[i], self.unknown[i], (int(self.itself[i]),), near[i] if near else ())
            for reason, group in zip(REASONS, groups, strict=True):
                before = len(taken)
                taken.update(code for code in group if 0 <= code < num_candidates)
                counts[reason][i] = len(taken) - before
            rows.append(np.array(sorted(taken), np.int64))
        return Exclusions(rows, everywhere), counts

    def generators(self, corpus: Corpus, seed: int) -> RowGenerators:
        """One generator per row, seeded by (seed, query text, positive texts): the same in any batch (semantics 9)."""

        def make(row: int) -> np.random.Generator:
            digest = xxhash.xxh3_128(seed.to_bytes(8, "little"))
            for text in (self.queries[row], *self.texts_of(self.own[row], corpus)):
                encoded = text.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
            return np.random.Generator(np.random.Philox(key=digest.intdigest()))

        return make

    def texts_of(self, codes: Sequence[int], corpus: Corpus) -> list[str]:
        """The texts of some documents."""
        return [self.texts[c] if c < 0 else corpus.texts(np.array([c], np.int64))[0].as_py() for c in codes]


@dataclass(frozen=True)
class RowReader:
    """Turns the columns of a batch into a :class:`Batch`.

    Attributes:
        corpus: the documents.
        qrels: the known positives, if there are any beyond the rows' own.
        known: the same, as rows of the corpus.
        query_column: column of the queries.
        positive_column: column of positives (texts or lists of texts), or None.
        positive_id_column: column of positives' ids, or None; with neither, the known positives are the positives.
    """

    corpus: Corpus
    qrels: Qrels | None
    known: KnownPositives | None
    query_column: str
    positive_column: str | None
    positive_id_column: str | None

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [c for c in (self.query_column, self.positive_column, self.positive_id_column) if c is not None]

    def read(self, columns: Mapping[str, Sequence[Any]]) -> Batch:
        """Read a batch.

        Raises:
            ColumnError: a value that is no text, an empty list, or a row without a positive, naming column and row.
            InputError: an id that the corpus lacks.
        """
        queries = check_texts(columns[self.query_column], self.query_column)
        keys = text_keys(queries, self.corpus.match)
        judged = self.known.of(keys) if self.known is not None else [None] * len(queries)
        texts: dict[int, str] = {}
        own = self._own(columns, texts)
        siblings: list[list[int]] = []
        unknown: list[list[int]] = []
        for row, judgements in enumerate(judged):
            relevant: list[int] = []
            other: list[int] = []
            if judgements is not None:
                for code, good in zip(judgements[0].tolist(), judgements[1].tolist(), strict=True):
                    (relevant if good else other).append(code)
            if own is not None:
                mine = own[row]
                siblings.append([code for code in relevant if code not in mine])
            else:
                siblings.append(relevant)
            unknown.append(other)
        if own is None:
            own, siblings = siblings, [[] for _ in queries]
            for row, mine in enumerate(own):
                if not mine:
                    raise ColumnError(f"row {row}: no known positive for the query {queries[row][:60]!r}; drop the row")
        self._outside_texts([*own, *siblings], texts)
        return Batch(queries, own, siblings, unknown, self.corpus.rows_of_texts(queries), texts)

    def _own(self, columns: Mapping[str, Sequence[Any]], texts: dict[int, str]) -> list[list[int]] | None:
        if self.positive_column is not None:
            lists = check_text_lists(columns[self.positive_column], self.positive_column)
            flat = [text for members in lists for text in members]
            codes = self._codes_of_texts(flat, texts)
        elif self.positive_id_column is not None:
            lists = check_ids(columns[self.positive_id_column], self.positive_id_column)
            flat = [text for members in lists for text in members]
            rows = self.corpus.rows_of_ids(flat)
            if (rows < 0).any():
                lost = flat[int(np.flatnonzero(rows < 0)[0])]
                raise InputError(f"column {self.positive_id_column!r}: the corpus has no document with id {lost!r}")
            codes = rows.tolist()
        else:
            return None
        own, at = [], 0
        for members in lists:
            own.append(list(dict.fromkeys(codes[at : at + len(members)])))
            at += len(members)
        return own

    def _codes_of_texts(self, flat: list[str], texts: dict[int, str]) -> list[int]:
        codes = self.corpus.rows_of_texts(flat)
        for at in np.flatnonzero(codes < 0).tolist():
            outside = -1
            if self.qrels is not None and self.qrels.documents is not None:
                outside = int(self.qrels.documents.rows_of_texts([flat[at]])[0])
            codes[at] = OUTSIDE - outside if outside >= 0 else LOCAL - at
            texts[int(codes[at])] = flat[at]
        return codes.tolist()

    def _outside_texts(self, groups: list[list[int]], texts: dict[int, str]) -> None:
        wanted = {code for group in groups for code in group if code < 0} - texts.keys()
        if wanted and self.qrels is not None and self.qrels.documents is not None:
            codes = sorted(wanted)
            values = self.qrels.documents.texts(np.array([OUTSIDE - code for code in codes], np.int64)).to_pylist()
            texts.update(zip(codes, values, strict=True))
