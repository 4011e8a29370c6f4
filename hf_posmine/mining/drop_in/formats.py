"""Mined queries in the four output formats of ``mine_hard_negatives``, as Arrow columns without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from hf_posmine.core.errors import ColumnError

if TYPE_CHECKING:
    from hf_posmine.core.types import Floats, Mask, Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.drop_in.arguments import Arguments
    from hf_posmine.mining.drop_in.pairs import Pairs

CHUNK_QUERIES = 4096
"""Queries whose rows are made at a time: the texts of a chunk must fit an Arrow array of strings."""


@dataclass(frozen=True)
class MinedPairs:
    """The pairs of the dataset and the negatives of their queries.

    Attributes:
        pairs: Q queries and P positives.
        negatives: int64 ``[Q, n]``, corpus rows, best first, -1 where a query is short.
        scores: float32 ``[Q, n]``.
        positive_scores: float32 ``[P]``.
    """

    pairs: Pairs
    negatives: Rows
    scores: Floats
    positive_scores: Floats

    def complete(self, output_format: str) -> Mask:
        """Which negatives the format keeps, bool ``[P, n]``: an n-tuple needs all n."""
        there: Mask = self.negatives[self.pairs.query_of] >= 0
        return there & there.all(axis=1, keepdims=True) if output_format == "n-tuple" else there

    def possible(self, output_format: str) -> int:
        """Rows that the format would have if every query had its n negatives."""
        queries, n = self.negatives.shape
        pairs = len(self.positive_scores)
        return {"triplet": pairs * n, "labeled-pair": queries * n + pairs}.get(output_format, pairs)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The queries from ``start`` up to ``stop`` with their pairs."""
        pairs = slice(*self.pairs.bounds[[start, stop]].tolist())
        return Chunk(
            queries=pa.array(self.pairs.queries[start:stop], pa.string()),
            positives=pa.array(self.pairs.positives[pairs], pa.string()),
            rows=self.pairs.rows[pairs],
            query_of=self.pairs.query_of[pairs] - start,
            negatives=self.negatives[start:stop],
            scores=self.scores[start:stop],
            positive_scores=self.positive_scores[pairs],
        )


@dataclass(frozen=True)
class Chunk:
    """Some queries (Q here) with their pairs (P here).

    Attributes:
        queries: texts.
        positives: texts.
        rows: int64 ``[P]``, rows of the dataset.
        query_of: int64 ``[P]``, number of each pair's query in this chunk.
        negatives: int64 ``[Q, n]``, corpus rows, -1 where a query is short.
        scores: float32 ``[Q, n]``.
        positive_scores: float32 ``[P]``.
    """

    queries: pa.Array
    positives: pa.Array
    rows: Rows
    query_of: Rows
    negatives: Rows
    scores: Floats
    positive_scores: Floats


Made: TypeAlias = "tuple[list[pa.Array], Rows]"
"""The columns of a chunk in a format, and the row of the dataset that each output row comes from."""


def to_dataset(mined: MinedPairs, corpus: Corpus, arguments: Arguments) -> Any:
    """The mined pairs as a dataset in the output format; with ``keep_columns`` the other columns follow.

    Raises:
        ColumnError: a column to keep that has the name of a column of the format.
    """
    import datasets

    names, kept = column_names(arguments), kept_columns(arguments)
    make, queries = FORMATS[arguments.output_format], len(mined.pairs.queries)
    chunks = [mined.chunk(at, min(at + CHUNK_QUERIES, queries)) for at in range(0, queries, CHUNK_QUERIES)]
    made = [make(chunk, corpus, arguments.output_scores) for chunk in chunks]
    output = datasets.Dataset(pa.concat_tables([pa.table(columns, names=names) for columns, _ in made]))
    if not kept:
        return output
    rows = np.concatenate([rows for _, rows in made])
    others = arguments.dataset.select_columns(kept).select(rows)
    if not len(rows):  # concatenate_datasets leaves out datasets without rows, and so their columns
        features = datasets.Features({**output.features, **others.features})
        return datasets.Dataset.from_dict({name: [] for name in features}, features=features)
    return datasets.concatenate_datasets([output, others], axis=1)


def column_names(arguments: Arguments) -> list[str]:
    """The columns of the format, in order."""
    scored, n = arguments.output_scores, arguments.num_negatives
    rest = {
        "triplet": ["negative", *(["scores"] if scored else [])],
        "n-tuple": [*(f"negative_{i + 1}" for i in range(n)), *(["scores"] if scored else [])],
        "labeled-pair": ["score" if scored else "label"],
        "labeled-list": ["scores" if scored else "labels"],
    }
    return [arguments.anchor, arguments.positive, *rest[arguments.output_format]]


def kept_columns(arguments: Arguments) -> list[str]:
    """The other columns of the dataset, if they are to be kept.

    Raises:
        ColumnError: one that has the name of a column of the format.
    """
    if not arguments.keep_columns:
        return []
    kept = [name for name in arguments.dataset.column_names if name not in (arguments.anchor, arguments.positive)]
    clash = [name for name in kept if name in column_names(arguments)]
    if clash:
        raise ColumnError(
            f"keep_columns=True: the output has a column {clash[0]!r} of its own; rename that column of the dataset"
        )
    return kept


def _triplets(chunk: Chunk, corpus: Corpus, scored: bool) -> Made:
    """One row per pair and negative."""
    negatives = chunk.negatives[chunk.query_of]
    pair, at = np.nonzero(negatives >= 0)
    columns = [
        chunk.queries.take(pa.array(chunk.query_of[pair])),
        chunk.positives.take(pa.array(pair)),
        corpus.texts(negatives[pair, at]),
    ]
    if scored:
        own, theirs = chunk.positive_scores[pair], chunk.scores[chunk.query_of[pair], at]
        columns.append(_lists(np.stack([own, theirs], axis=1).ravel(), np.full(len(pair), 2)))
    return columns, chunk.rows[pair]


def _tuples(chunk: Chunk, corpus: Corpus, scored: bool) -> Made:
    """One row per pair, for pairs with all n negatives."""
    pair = np.flatnonzero((chunk.negatives[chunk.query_of] >= 0).all(axis=1))
    query = chunk.query_of[pair]
    columns = [chunk.queries.take(pa.array(query)), chunk.positives.take(pa.array(pair))]
    columns += [corpus.texts(column) for column in chunk.negatives[query].T]
    if scored:
        scores = np.concatenate([chunk.positive_scores[pair, None], chunk.scores[query]], axis=1)
        columns.append(_lists(scores.ravel(), np.full(len(pair), scores.shape[1])))
    return columns, chunk.rows[pair]


def _labeled_pairs(chunk: Chunk, corpus: Corpus, scored: bool) -> Made:
    """The positives of each query, then its negatives, one row each."""
    query, at = np.nonzero(chunk.negatives >= 0)
    queries = np.concatenate([chunk.query_of, query])
    order = np.argsort(queries, kind="stable")
    documents = pa.concat_arrays([chunk.positives, corpus.texts(chunk.negatives[query, at])])
    columns = [chunk.queries.take(pa.array(queries[order])), documents.take(pa.array(order))]
    if scored:
        scores = np.concatenate([chunk.positive_scores, chunk.scores[query, at]])
        columns.append(pa.array(scores[order].astype(np.float64)))
    else:
        columns.append(pa.array((order < len(chunk.query_of)).astype(np.int64)))
    first = np.searchsorted(chunk.query_of, query)  # a negative has the other columns of its query's first row
    return columns, np.concatenate([chunk.rows, chunk.rows[first]])[order]


def _labeled_lists(chunk: Chunk, corpus: Corpus, scored: bool) -> Made:
    """One row per pair with at least one negative: the positive and the negatives, and their labels or scores."""
    there = chunk.negatives[chunk.query_of] >= 0
    pair = np.flatnonzero(there.any(axis=1))
    row, at = np.nonzero(there[pair])
    rows = np.concatenate([np.arange(len(pair)), row])
    order, counts = np.argsort(rows, kind="stable"), 1 + there[pair].sum(axis=1)
    negatives = corpus.texts(chunk.negatives[chunk.query_of[pair[row]], at])
    documents = pa.concat_arrays([chunk.positives.take(pa.array(pair)), negatives]).take(pa.array(order))
    columns = [chunk.queries.take(pa.array(chunk.query_of[pair])), _lists(documents, counts)]
    if scored:
        scores = np.concatenate([chunk.positive_scores[pair], chunk.scores[chunk.query_of[pair[row]], at]])
        columns.append(_lists(scores[order], counts))
    else:
        columns.append(_lists(pa.array((order < len(pair)).astype(np.int64)), counts))
    return columns, chunk.rows[pair]


FORMATS = {
    "triplet": _triplets, "n-tuple": _tuples, "labeled-pair": _labeled_pairs, "labeled-list": _labeled_lists,
}  # fmt: skip


def _lists(values: Any, counts: Rows) -> pa.Array:
    """Lists of the given lengths; scores as float64, which is how Python numbers are stored."""
    flat = values if isinstance(values, pa.Array) else pa.array(values.astype(np.float64))
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(counts)).astype(np.int32)), flat)
