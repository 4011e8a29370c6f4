"""MaxSim over the vectors of tokens or patches: for each of the query the best similarity with one of the document, summed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.teachers.exhaustive import FullScores
from hf_posmine.utils.mapped import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.core.types import Floats, Rows, ScoreKind
    from hf_posmine.encoding.encode import Role

BLOCK_SIMILARITIES = 1 << 23
"""Similarities of query tokens with document tokens held at a time (64 MB)."""
KINDS: dict[str, ScoreKind] = {"maxsim": "dot", "meanmaxsim": "cosine"}


class MaxSimScores(FullScores):
    """Scores of a teacher that has the token vectors of its documents and can have those of queries.

    Scores are summed in float64 and rounded once, so they do not depend on blocks (semantics 7).
    """

    _places: Rows | None = None
    """Where each row of the corpus is among the documents of the tokens, int64 ``[N]``; None for the same order."""

    @property
    def similarity(self) -> str:
        """``maxsim`` or ``meanmaxsim``."""
        raise NotImplementedError

    @property
    def score_kind(self) -> ScoreKind:
        """A sum of cosines for MaxSim, a mean of them for MeanMaxSim."""
        return KINDS[self.similarity]

    @property
    def _tokens(self) -> tuple[np.ndarray, Rows]:
        """Token vectors ``[T, d]`` of all documents, and their bounds int64 ``[N + 1]``."""
        raise NotImplementedError

    def _encode(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, Rows]:
        """Token vectors float64 ``[T, d]`` of texts, and where each text's begin and end, int64 ``[m + 1]``."""
        raise NotImplementedError

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        tokens, starts = self._tokens
        query_tokens, bounds = self._encode(queries, "query")
        out = np.empty((len(queries), len(starts) - 1), np.float32)
        for first, last in _document_blocks(starts, BLOCK_SIMILARITIES // max(1, len(query_tokens))):
            block = np.asarray(tokens[starts[first] : starts[last]], np.float64)
            out[:, first:last] = self._maxsim(query_tokens, bounds, block, starts[first:last] - starts[first])
            release_pages(tokens, int(starts[first]), int(starts[last]))
        return out if self._places is None else out[:, self._places]

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``, each pair alone."""
        tokens, starts = self._tokens
        query_tokens, bounds = self._encode(queries, "query")
        out = np.full(doc_ids.shape, -np.inf, np.float32)
        for row, column in np.argwhere(doc_ids >= 0).tolist():
            mine, document = query_tokens[bounds[row] : bounds[row + 1]], doc_ids[row, column]
            document = document if self._places is None else self._places[document]
            theirs = np.asarray(tokens[starts[document] : starts[document + 1]], np.float64)
            out[row, column] = self._maxsim(mine, np.array([0, len(mine)]), theirs, np.array([0]))[0, 0]
        return out

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        query_tokens, bounds = self._encode(queries, "query")
        theirs, starts = self._encode(documents, "document")
        out = np.empty(len(queries), np.float32)
        for row in range(len(queries)):
            mine, document = query_tokens[bounds[row] : bounds[row + 1]], theirs[starts[row] : starts[row + 1]]
            out[row] = self._maxsim(mine, np.array([0, len(mine)]), document, np.array([0]))[0, 0]
        return out

    def _maxsim(self, query_tokens: np.ndarray, bounds: Rows, tokens: np.ndarray, starts: Rows) -> Floats:
        """Scores float32 ``[B, n]`` from float64 token vectors; ``bounds`` ``[B + 1]`` and ``starts`` ``[n]`` part them."""
        best = np.maximum.reduceat(query_tokens @ tokens.T, starts, axis=1)
        scores = np.add.reduceat(best, bounds[:-1], axis=0)
        if self.similarity == "meanmaxsim":
            scores /= np.diff(bounds)[:, None]
        return scores.astype(np.float32)


def _document_blocks(starts: Rows, tokens: int) -> Iterator[tuple[int, int]]:
    """First and last document of blocks of at most so many tokens, but at least one document."""
    first = 0
    while first < len(starts) - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + tokens, side="right")) - 1)
        yield first, last
        first = last
