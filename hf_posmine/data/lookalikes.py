"""Documents that hold a known positive which the corpus lacks: with a title before it, or inside a longer text.

Where the known positives are texts and the corpus has other texts, a positive may be in it under another form, and would come
back as a negative of its own query. For each such positive this finds

- *variants*: documents that differ from it only by a title (of the document or of the positive) or by invisible characters;
- *containers*: documents that contain it, word for word (:mod:`hf_posmine.data.phrases`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.types import Match, Rows, spans
from hf_posmine.data.phrases import CROWDED, Phrases, blocks_of
from hf_posmine.data.qrels import OUTSIDE, KnownPositives, Qrels
from hf_posmine.data.texts import FORMS, INVISIBLE, KEY, loosen, text_keys
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus

VERSION = 1
VARIANT, CONTAINER, NEAR = 0, 1, 2
TITLE_WORDS = 30
LEAST_BODY_WORDS = 3
BATCH = 8192
ARRAYS = ("codes", "offsets", "rows", "kinds", "crowded")


@dataclass(frozen=True)
class Lookalikes:
    """For positives outside the corpus, the candidates that hold them.

    Attributes:
        codes: int64 ``[P]``, the positives: a corpus row that is not a candidate, or ``OUTSIDE - j``; sorted.
        offsets: int64 ``[P + 1]``.
        rows: int64 ``[E]``, corpus rows, sorted for each positive.
        kinds: int8 ``[E]``, :data:`VARIANT`, :data:`CONTAINER` or :data:`NEAR`.
        crowded: bool ``[P]``, positives in more than :data:`~hf_posmine.data.phrases.CROWDED` documents, whose containers
            identify nothing and are left out.
    """

    codes: Rows
    offsets: Rows
    rows: Rows
    kinds: np.ndarray
    crowded: np.ndarray

    @classmethod
    def find(cls, corpus: Corpus, qrels: Qrels, known: KnownPositives) -> Lookalikes:
        """The lookalikes of all known positives outside the corpus; on disk, found once for the same texts."""
        codes = known.positives_outside(corpus.num_candidates)
        if not len(codes):
            return cls.build(codes, np.zeros(0, bool), [])
        bodies = None if corpus.bodies is None else corpus.bodies.path.name
        folder = folder_of([VERSION, corpus.fingerprint, qrels.fingerprint, bodies, CROWDED])
        return cls.opened(build_once(folder, lambda new: cls._search(corpus, qrels, codes).write(new)))

    def write(self, folder: Path) -> None:
        """Write them into a folder."""
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def opened(cls, folder: Path) -> Lookalikes:
        """What :meth:`write` wrote, memory-mapped."""
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS})

    @classmethod
    def _search(cls, corpus: Corpus, qrels: Qrels, codes: Rows) -> Lookalikes:
        phrases = Phrases(texts_of(codes, corpus, qrels))
        found, invisible = [], [(np.empty(0, KEY), codes[:0])]
        start = 0
        for texts in blocks_of(_candidates(corpus)):
            at, inside = phrases.find(texts)
            found.append((at, start + inside, CONTAINER))
            marked = [number for number, text in enumerate(texts) if INVISIBLE.search(text)]
            invisible.append((text_keys([texts[n] for n in marked], "loose"), start + np.array(marked, np.int64)))
            start += len(texts)
        clear = np.append(~phrases.crowded, False)  # crowded ones identify nothing
        found = [(at[clear[at]], rows[clear[at]], kind) for at, rows, kind in found]
        keys, rows = (np.concatenate(column) for column in zip(*invisible, strict=True))
        order = np.argsort(keys, kind="stable")
        lookup = _Variants(corpus, keys[order], rows[order])
        start = 0
        for block in blocks_of(texts_of(codes, corpus, qrels)):
            found += [(start + at, rows, VARIANT) for at, rows in lookup.of(block)]
            start += len(block)
        return cls.build(codes, phrases.crowded, found)

    @classmethod
    def build(cls, codes: Rows, crowded: np.ndarray, found: Sequence[tuple[Rows, Rows, int]]) -> Lookalikes:
        """From (positions of positives, rows, kind); of several kinds the first counts."""
        at = np.concatenate([codes[:0], *(positions for positions, _, _ in found)])
        rows = np.concatenate([codes[:0], *(rows for _, rows, _ in found)])
        kinds = np.concatenate([np.empty(0, np.int8), *(np.full(len(r), kind, np.int8) for _, r, kind in found)])
        order = np.lexsort((kinds, rows, at))
        at, rows, kinds = at[order], rows[order], kinds[order]
        fresh = np.ones(len(at), bool)
        fresh[1:] = (at[1:] != at[:-1]) | (rows[1:] != rows[:-1])
        offsets = np.append(0, np.cumsum(np.bincount(at[fresh], minlength=len(codes)))).astype(np.int64)
        return cls(codes, offsets, rows[fresh], kinds[fresh], crowded)

    def of(self, codes: Rows) -> tuple[Rows, Rows, np.ndarray]:
        """Positions of some positives, int64 ``[m]``, and the row and kind of each of their lookalikes."""
        if not len(self.codes):
            return codes[:0], codes[:0], np.empty(0, np.int8)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        found = np.flatnonzero(self.codes[at] == codes)
        starts = np.asarray(self.offsets[at[found]])
        counts = self.offsets[at[found] + 1] - starts
        entries = spans(starts, counts)
        return np.repeat(found, counts), np.asarray(self.rows[entries]), np.asarray(self.kinds[entries])

    def having(self, kind: int) -> Rows:
        """The codes of the positives that have a lookalike of a kind, sorted."""
        at = np.repeat(np.arange(len(self.codes)), np.diff(self.offsets))
        return np.asarray(self.codes)[np.unique(at[self.kinds == kind])]


def folder_of(identity: list[Any]) -> Path:
    """Where lookalikes of this identity are kept."""
    return cache_root() / "lookalikes" / json_digest(identity)


@dataclass(frozen=True)
class _Variants:
    """Looks texts up among documents without titles or invisible characters.

    Attributes:
        corpus: the documents.
        loose: ``[I]``, sorted keys of those that have invisible characters, without them.
        loose_rows: int64 ``[I]``.
    """

    corpus: Corpus
    loose: np.ndarray
    loose_rows: Rows

    def of(self, texts: Sequence[str]) -> Iterator[tuple[Rows, Rows]]:
        """Positions of texts, and the row of a variant of each."""
        match = self.corpus.match
        yield from self._matches(np.arange(len(texts)), text_keys(texts, match))
        yield from self._matches(np.arange(len(texts)), text_keys(map(loosen, texts), match))
        keys = text_keys(texts, "loose")
        left = np.searchsorted(self.loose, keys, side="left")
        counts = np.searchsorted(self.loose, keys, side="right") - left
        yield np.repeat(np.arange(len(texts)), counts), self.loose_rows[spans(left, counts)]
        bodies = [(number, body) for number, text in enumerate(texts) for body in _without_title(text, match)]
        at = np.array([number for number, _ in bodies], np.int64)
        yield from self._matches(at, text_keys((body for _, body in bodies), "exact"))

    def _matches(self, at: Rows, keys: np.ndarray) -> Iterator[tuple[Rows, Rows]]:
        """Candidates whose text, or text without title, has one of the keys."""
        rows = self.corpus.rows_of_keys(keys)
        there = (rows >= 0) & (rows < self.corpus.num_candidates)
        yield at[there], rows[there]
        if self.corpus.bodies is not None:
            positions, rows = self.corpus.bodies.of(keys)
            there = (rows >= 0) & (rows < self.corpus.num_candidates)
            yield at[positions[there]], rows[there]


def _without_title(text: str, match: Match) -> Iterator[str]:
    """The text without its first words, as many as a title may have, in the form that texts are compared in."""
    parts = FORMS[match](text).split(" ")
    for first in range(1, 1 + min(TITLE_WORDS, len(parts) // 2, len(parts) - LEAST_BODY_WORDS)):
        yield " ".join(parts[first:])


def texts_of(codes: Rows, corpus: Corpus, qrels: Qrels) -> Iterator[str]:
    """The texts of positives outside the corpus, one after the other."""
    for start in range(0, len(codes), BATCH):
        block = codes[start : start + BATCH]
        outside = block < 0
        if outside.any() and qrels.documents is not None:
            yield from qrels.documents.texts(OUTSIDE - block[outside]).to_pylist()
        yield from corpus.texts(np.asarray(block[~outside])).to_pylist()  # codes are sorted: those outside come first


def _candidates(corpus: Corpus) -> Iterator[str]:
    for start in range(0, corpus.num_candidates, BATCH):
        yield from corpus.texts(np.arange(start, min(start + BATCH, corpus.num_candidates))).to_pylist()
