"""Documents cut into overlapping passages, each known by the documents that it is of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import Exclusions, Rows
from hf_posmine.data.bodies import KeyRows, write_pairs
from hf_posmine.data.corpus import Corpus

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 1024
UNIT = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    "|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
    "[\u0e31\u0e33-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb3-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b4-\u17d3]*"
    "|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+"
)
"""A word; a character with its marks of Chinese, Japanese, Thai, Lao, Burmese or Khmer, which put no spaces between words."""


def split_passages(text: str, words: int, overlap: int) -> list[str]:
    """A text as passages of at most ``words`` words (or characters, see :data:`UNIT`), each ``overlap`` with the next.

    A text that is no longer is its only passage, as it is.

    >>> split_passages("one two three four five", 3, 1)
    ['one two three', 'three four five']
    >>> split_passages("蜜蜂如何酿造蜂蜜", 4, 0)
    ['蜜蜂如何', '酿造蜂蜜']
    """
    spans = [match.span() for match in UNIT.finditer(text)]
    if len(spans) <= words:
        return [text]
    starts = range(0, len(spans) - overlap, words - overlap)
    return [text[spans[at][0] : spans[min(at + words, len(spans)) - 1][1]] for at in starts]


@dataclass(frozen=True)
class Passages:
    """The passages of a corpus.

    Attributes:
        documents: the documents.
        corpus: the passages, whose candidates are those of candidates.
        words: of a passage, at most.
        overlap: words that two neighbours share.
        of_documents: document row -> rows of its passages.
        of_passages: passage row -> rows of its documents, several where these share the text.
    """

    documents: Corpus
    corpus: Corpus
    words: int
    overlap: int
    of_documents: KeyRows
    of_passages: KeyRows

    @classmethod
    def of(cls, documents: Corpus, words: int, overlap: int) -> Passages:
        """Cut all documents."""

        def cut(first: int, last: int) -> Iterator[tuple[int, list[str]]]:
            for start in range(first, last, BATCH):
                rows = np.arange(start, min(last, start + BATCH))
                for row, text in zip(rows.tolist(), documents.texts(rows).to_pylist(), strict=True):
                    yield row, split_passages(text, words, overlap)

        candidates, root = documents.num_candidates, documents.parts[0].path.parent
        corpus = Corpus.from_texts(
            (passage for _, passages in cut(0, candidates) for passage in passages),
            match="exact",
            cache_dir=root.parent,
        )
        if candidates < len(documents):
            others = (passage for _, passages in cut(candidates, len(documents)) for passage in passages)
            corpus = corpus.union(others, candidates=False)
        owners, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row, passages in cut(0, len(documents)):
            rows.append(np.unique(corpus.rows_of_texts(passages)))
            owners.append(np.full(len(rows[-1]), row, np.int64))
        of, at = np.concatenate(owners), np.concatenate(rows)
        order = np.lexsort((of, at))
        return cls(
            documents, corpus, words, overlap, write_pairs(of, at, root), write_pairs(at[order], of[order], root)
        )

    def exclusions(self, exclude: Exclusions) -> Exclusions:
        """The passages of excluded documents, but for those that other documents have, too."""
        queries = np.repeat(np.arange(len(exclude.bounds) - 1), np.diff(exclude.bounds))
        at, rows = self._own(exclude.rows)
        queries = queries[at]
        order = np.lexsort((rows, queries))
        counts = np.bincount(queries, minlength=len(exclude.bounds) - 1)
        everywhere = np.sort(self._own(exclude.everywhere)[1])
        return Exclusions(rows[order], np.append(0, np.cumsum(counts)).astype(np.int64), everywhere)

    def _own(self, documents: Rows) -> tuple[Rows, Rows]:
        """Positions of documents and the passages that are theirs alone."""
        at, rows = self.of_documents.of(documents)
        alone = np.bincount(self.of_passages.of(rows)[0], minlength=len(rows)) == 1
        return at[alone], rows[alone]
