"""Cheap products with a proved error: what a CPU scan multiplies before it scores the few documents that stay open.

Both kinds give values ``products * factor[i] * scale[j] + bias[j]``, off by at most ``spread[i] * distance[j] + error[i]``:
int8 codes of whole vectors, and float32 coordinates along the first principal axes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hf_posmine.search import resident
from hf_posmine.search.error_bounds import Coded, Int8, int8_error
from hf_posmine.search.principal_axes import Prefix, choose_length, prefix_error
from hf_posmine.utils.mapped import release_pages
from hf_posmine.utils.upstream import int8_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.core.types import Floats
    from hf_posmine.search.error_bounds import Documents, Queries
    from hf_posmine.search.rescore import Similarity


@dataclass(frozen=True)
class CoarseQueries:
    """Queries in the form that is multiplied, and the bounds of the products.

    Attributes:
        vectors: int8 or float32 ``[B, p]``.
        factor: float32 ``[B]``.
        spread: float64 ``[B]``.
        error: float64 ``[B]``.
        distance: float32 ``[N]``, rounded up.
    """

    vectors: np.ndarray
    factor: Floats
    spread: np.ndarray
    error: np.ndarray
    distance: Floats


class Coarse(Protocol):
    """Documents in a form that is cheap to multiply."""

    @property
    def scale(self) -> Floats:
        """Float32 ``[N]``."""

    @property
    def rows(self) -> int:
        """Documents per block."""

    @property
    def head(self) -> int:
        """Documents that are multiplied in full first, because wide intervals need a good bound to begin with."""

    def queries(
        self, similarity: Similarity, queries: Queries, documents: Documents, low: Floats
    ) -> CoarseQueries | None:
        """Queries as the documents are; None where a plain scan of the next documents takes less.

        Args:
            similarity: cosine, dot or euclidean.
            queries: the query vectors.
            documents: scale, bias and the largest lengths.
            low: float32 ``[B]``, the least value that matters to each query so far.
        """

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """The first row and the products ``[B, block]`` of each block of documents from ``start`` to ``stop``."""

    def open(self) -> None:
        """Make what threads share, before they start."""


@dataclass
class Int8Products:
    """Products of int8 codes (``torch._int_mm``), exact in int32.

    Attributes:
        coded: the documents.
        bias: float32 ``[N]`` of the documents, whose pages are released together with the codes.
        rows: documents per block.
        head: see :class:`Coarse`.
    """

    coded: Coded
    bias: Floats
    rows: int
    head: int = 0

    @property
    def scale(self) -> Floats:
        """See :class:`Coarse`."""
        return self.coded.scale

    def queries(self, similarity: Similarity, queries: Queries, documents: Documents, low: Floats) -> CoarseQueries:
        """See :class:`Coarse`."""
        q = Int8.of(queries.vectors)
        error = int8_error(similarity, queries, q, documents)
        return CoarseQueries(q.codes, q.steps, q.lengths, error, self.coded.quantization_error)

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`."""
        import torch

        codes, documents = torch.from_numpy(queries.vectors), self._tensor
        out = torch.empty((len(codes), self.rows), dtype=torch.int32)
        passing = _Passing((self.coded.codes, self.coded.scale, self.coded.quantization_error, self.bias), start)
        for first in range(start, stop, self.rows):
            passing.release_before(first)
            block = documents[first : min(first + self.rows, stop)]
            yield first, int8_product(codes, block.t(), out if len(block) == self.rows else None).numpy()

    def open(self) -> None:
        """See :class:`Coarse`."""
        _ = self._tensor

    @cached_property
    def _tensor(self) -> Any:
        """The codes as a read-only tensor."""
        import torch

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.asarray(self.coded.codes))


@dataclass
class PrefixProducts:
    """Products of coordinates along the first principal axes, in float32.

    Attributes:
        prefix: the documents.
        documents_scale: float32 ``[N]``.
        bias: float32 ``[N]``.
        rows: documents per block.
        head: see :class:`Coarse`.
    """

    prefix: Prefix
    documents_scale: Floats
    bias: Floats
    rows: int
    head: int

    @property
    def scale(self) -> Floats:
        """See :class:`Coarse`."""
        return self.documents_scale

    def queries(
        self, similarity: Similarity, queries: Queries, documents: Documents, low: Floats
    ) -> CoarseQueries | None:
        """See :class:`Coarse`: along as many axes as suit these queries."""
        axes = self.prefix.axes
        coordinates, rest = axes.coordinates(queries.vectors)
        chosen = choose_length(self.prefix, coordinates, rest, low, documents, self.head)
        if chosen is None:
            return None
        inside = np.ascontiguousarray(coordinates[:, : axes.lengths[chosen]])
        error = prefix_error(similarity, queries, inside, rest[chosen], documents, axes.eta)
        ones = np.ones(len(inside), np.float32)
        return CoarseQueries(inside, ones, rest[chosen], error, self.prefix.rest[chosen])

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`."""
        documents, vectors = self.prefix.coordinates, queries.vectors
        out = np.empty((len(vectors), self.rows), np.float32)
        passing = _Passing((documents, self.documents_scale, queries.distance, self.bias), start)
        for first in range(start, stop, self.rows):
            passing.release_before(first)
            block = np.asarray(documents[first : min(first + self.rows, stop), : vectors.shape[1]])
            yield first, np.matmul(vectors, block.T, out=out if len(block) == self.rows else None)

    def open(self) -> None:
        """See :class:`Coarse`: nothing is shared but memory maps."""


class _Passing:
    """Columns that are read from beginning to end: pages that were passed are released, so that they do not add up."""

    def __init__(self, columns: tuple[np.ndarray, ...], start: int) -> None:
        self.columns, self.passed = columns, start
        first = columns[0]
        self.stride = max(1, resident.STRIDE // (first.shape[1] * first.itemsize))

    def release_before(self, row: int) -> None:
        """Release the pages of rows before ``row``, a stride at a time."""
        if row - self.passed < self.stride:
            return
        for column in self.columns:
            release_pages(column, self.passed, row)
        self.passed = row
