"""The searches of a mining, kept on disk: what a later mining over a changed corpus needs to repeat only some of them.

A search is known by the vector of its query and by its ceiling, a document by its text and its vector. Nothing here holds
texts or models, so kept searches are valid wherever these two are the same. A folder of them::

    documents/basis.json        settings and teachers of the mining
    documents/0/keys.npy ...    the documents of teacher 0, see KeptDocuments
    <shard>/searches-0.npz      its searches in one shard, see Searches
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from hf_posmine.core.types import PADDING, Exclusions, Floats, Ranking, Rows, spans
from hf_posmine.data.texts import KEY
from hf_posmine.utils.mapped import npy_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import Keys
    from hf_posmine.search.exact import ExactIndex

NOWHERE = b""
"""Key of a document that no query may get."""
BLOCK = 512
"""Documents that are rounded, or bounded, at a time: a near cache holds their vectors."""
CODED = ("cosine", "dot")
"""Similarities of which a bound follows from rounded vectors."""


@dataclass(frozen=True)
class Searches:
    """Searches of one teacher and what they found.

    Attributes:
        keys: ``[S]``, of query vector and ceiling, see :func:`search_keys`.
        depth: int64 ``[S]``, how many documents were wanted; a list that is shorter holds all below the ceiling.
        ids: int64 ``[S, k]``, documents by their number at that time, best first, -1 where padded.
        scores: float32 ``[S, k]``.
        above: int64 ``[S]``, documents at or above the ceiling.
        excluded: int64 ``[E]``, documents that were excluded, of one search after the other.
        bounds: int64 ``[S + 1]``, where those of each search begin.
    """

    keys: Keys
    depth: Rows
    ids: Rows
    scores: Floats
    above: Rows
    excluded: Rows
    bounds: Rows

    @classmethod
    def of(cls, keys: Keys, k: int, found: Ranking, exclude: Exclusions) -> Searches:
        """The searches of a batch."""
        depth = np.full(len(keys), k, np.int64)
        return cls(keys, depth, found.doc_ids, found.scores, found.above, exclude.rows, exclude.bounds)

    @classmethod
    def joined(cls, parts: Sequence[Searches]) -> Searches:
        """Searches of several batches or shards."""
        none = Searches.of(np.empty(0, KEY), 0, Ranking.nothing(0, 1), Exclusions.none(0))
        parts = [none, *parts]
        width = max(part.ids.shape[1] for part in parts)
        before = np.cumsum([0, *(len(part.excluded) for part in parts)])
        return cls(
            keys=np.concatenate([part.keys for part in parts]),
            depth=np.concatenate([part.depth for part in parts]),
            ids=np.concatenate([_wide(part.ids, width, PADDING) for part in parts]),
            scores=np.concatenate([_wide(part.scores, width, -np.inf) for part in parts]),
            above=np.concatenate([part.above for part in parts]),
            excluded=np.concatenate([part.excluded for part in parts]),
            bounds=np.concatenate(
                [none.bounds, *(part.bounds[1:] + at for part, at in zip(parts, before, strict=False))]
            ),
        )

    def take(self, at: Rows) -> Searches:
        """Some of the searches."""
        counts = np.diff(self.bounds)[at]
        excluded = self.excluded[spans(self.bounds[at], counts)]
        bounds = np.append(0, np.cumsum(counts))
        return Searches(self.keys[at], self.depth[at], self.ids[at], self.scores[at], self.above[at], excluded, bounds)

    def write(self, path: Path) -> None:
        """Write them into a file."""
        np.savez(path, **vars(self))

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Searches:
        """The searches of several files."""
        parts = []
        for path in paths:
            with np.load(path) as arrays:
                parts.append(cls(**{field.name: arrays[field.name] for field in fields(cls)}))
        return cls.joined(parts)


def _wide(values: np.ndarray, width: int, padding: float) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=padding)


def search_keys(vectors: Floats, below: Floats) -> Keys:
    """Keys ``[B]`` of query vectors float32 ``[B, d]`` with their ceilings float32 ``[B]``."""
    return _row_keys(np.concatenate([vectors, below[:, None]], axis=1).astype(np.float32, copy=False))


def _row_keys(rows: np.ndarray) -> Keys:
    rows = np.ascontiguousarray(rows)
    size, data = rows.shape[1] * rows.itemsize, rows.view(np.uint8).reshape(-1).data
    digests = (xxhash.xxh3_128_digest(data[at : at + size]) for at in range(0, len(data), size))
    return np.frombuffer(b"".join(digests), KEY)


@dataclass(frozen=True)
class KeptDocuments:
    """The candidates of a corpus as one teacher sees them.

    Attributes:
        keys: ``[N]``, of text and vector; empty for documents that no query may get.
        ids: ``[N]``, keys of their ids; empty where the corpus has none.
        codes: int8 ``[N, d]``, their vectors (by cosine, of length 1) divided by ``scales`` and rounded; ``[N, 0]`` for
            distances.
        scales: float32 ``[N]``.
        errors: float32 ``[N]``, at least the length of what the rounding left out.
    """

    keys: Keys
    ids: Keys
    codes: np.ndarray
    scales: Floats
    errors: Floats

    @classmethod
    def write(cls, folder: Path, index: ExactIndex, corpus: Corpus, everywhere: Rows) -> None:
        """Write the documents of an index, block by block.

        Args:
            folder: where to; it is made.
            index: over the candidates of the corpus.
            corpus: the documents.
            everywhere: those that no query may get, sorted.
        """
        folder.mkdir(parents=True)
        documents = index.num_candidates
        width = index.vectors.dim if index.similarity in CODED else 0
        keys, (texts, ids) = np.empty(documents, KEY), corpus.row_keys()
        scales, errors = np.zeros(documents, np.float32), np.zeros(documents, np.float32)
        with npy_file(folder / "codes.npy", np.int8, (documents, width)) as file:
            for start, block in index.vectors.blocks(BLOCK, documents, once=True):
                at, vectors = slice(start, start + len(block)), np.asarray(block, np.float32)
                beside = np.ascontiguousarray(texts[at]).view(np.uint8).reshape(len(block), -1)
                keys[at] = _row_keys(np.concatenate([beside, np.ascontiguousarray(vectors).view(np.uint8)], axis=1))
                codes, scales[at], errors[at] = _rounded(unit(vectors) if index.similarity == "cosine" else vectors)
                file.write(codes[:, :width].tobytes())
        keys[everywhere[everywhere < documents]] = NOWHERE
        for name, array in (("keys", keys), ("ids", ids[:documents]), ("scales", scales), ("errors", errors)):
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def opened(cls, folder: Path) -> KeptDocuments:
        """What :meth:`write` wrote, memory-mapped."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(cls)})

    def bounds_of(self, vectors: Floats, rows: Rows) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Bounds of the scores of query vectors float32 ``[B, d]`` (by cosine of length 1) with some documents, in blocks.

        With the document ``c + e`` of code c and remainder e, the Cauchy-Schwarz inequality gives ``|q (c + e) - q c| <= |q|
        |e|``; the rest is twice the rounding of a float32 product of d terms, ``d 2^-23 |q| |c|``, of the lengths and of the score.

        Yields:
            The position of the block's first document, and float32 ``[B, b]`` each of lower and upper bounds.
        """
        lengths = np.linalg.norm(vectors, axis=1)[:, None]
        for start in range(0, len(rows), BLOCK):
            at = rows[start : start + BLOCK]
            documents = self.codes[at].astype(np.float32) * self.scales[at][:, None]
            slack = np.float32((vectors.shape[1] + 8) * 2.0**-22) * np.linalg.norm(documents, axis=1)
            scores, apart = vectors @ documents.T, lengths * (np.asarray(self.errors[at]) + slack)[None]
            yield start, scores - apart, scores + apart


def unit(vectors: Floats) -> Floats:
    """The vectors with length 1, up to some 1e-6; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _rounded(vectors: Floats) -> tuple[np.ndarray, Floats, Floats]:
    """Codes int8 ``[m, d]``, scales and errors float32 ``[m]`` of vectors."""
    scales = np.maximum(np.abs(vectors).max(axis=1, initial=0) / 127, np.finfo(np.float32).tiny)[:, None]
    whole = np.rint(vectors / scales).clip(-127, 127)
    errors = np.linalg.norm(vectors - whole * scales, axis=1) + 4e-6 * np.linalg.norm(vectors, axis=1)
    return whole.astype(np.int8), scales[:, 0], errors * np.float32(1 + 1e-4)
