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
from hf_posmine.search.principal_axes import Prefix, prefix_error
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
    """

    vectors: np.ndarray
    factor: Floats
    spread: np.ndarray
    error: np.ndarray


class Coarse(Protocol):
    """Documents in a form that is cheap to multiply."""

    @property
    def scale(self) -> Floats:
        """Float32 ``[N]``."""

    @property
    def distance(self) -> Floats:
        """Float32 ``[N]``, rounded up."""

    @property
    def rows(self) -> int:
        """Documents per block."""

    @property
    def head(self) -> int:
        """Documents that are multiplied in full first, because wide intervals need a good bound to begin with."""

    def queries(self, similarity: Similarity, queries: Queries, documents: Documents) -> CoarseQueries:
        """Queries as the documents are."""

    def products(self, queries: CoarseQueries) -> Iterator[tuple[int, np.ndarray]]:
        """The first document row and the products ``[B, block]`` of each block."""

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

    @property
    def distance(self) -> Floats:
        """See :class:`Coarse`."""
        return self.coded.quantization_error

    def queries(self, similarity: Similarity, queries: Queries, documents: Documents) -> CoarseQueries:
        """See :class:`Coarse`."""
        q = Int8.of(queries.vectors)
        return CoarseQueries(q.codes, q.steps, q.lengths, int8_error(similarity, queries, q, documents))

    def products(self, queries: CoarseQueries) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`."""
        import torch

        codes, documents = torch.from_numpy(queries.vectors), self._tensor
        out = torch.empty((len(codes), self.rows), dtype=torch.int32)
        passing = _Passing((self.coded.codes, self.coded.scale, self.coded.quantization_error, self.bias))
        for start in range(self.head, len(documents), self.rows):
            passing.release_before(start)
            block = documents[start : start + self.rows]
            yield start, int8_product(codes, block.t(), out if len(block) == self.rows else None).numpy()

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

    @property
    def distance(self) -> Floats:
        """See :class:`Coarse`."""
        return self.prefix.rest

    def queries(self, similarity: Similarity, queries: Queries, documents: Documents) -> CoarseQueries:
        """See :class:`Coarse`."""
        coordinates, rest = self.prefix.axes.coordinates(queries.vectors)
        error = prefix_error(similarity, queries, coordinates, rest, documents, self.prefix)
        return CoarseQueries(coordinates, np.ones(len(rest), np.float32), rest, error)

    def products(self, queries: CoarseQueries) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`."""
        documents, vectors = self.prefix.coordinates, queries.vectors
        out = np.empty((len(vectors), self.rows), np.float32)
        passing = _Passing((documents, self.documents_scale, self.prefix.rest, self.bias))
        for start in range(self.head, len(documents), self.rows):
            passing.release_before(start)
            block = np.asarray(documents[start : start + self.rows])
            yield start, np.matmul(vectors, block.T, out=out if len(block) == self.rows else None)

    def open(self) -> None:
        """See :class:`Coarse`: nothing is shared but memory maps."""


class _Passing:
    """Columns that are read from beginning to end: pages that were passed are released, so that they do not add up."""

    def __init__(self, columns: tuple[np.ndarray, ...]) -> None:
        self.columns, self.passed = columns, 0
        first = columns[0]
        self.stride = max(1, resident.STRIDE // (first.shape[1] * first.itemsize))

    def release_before(self, row: int) -> None:
        """Release the pages of rows before ``row``, a stride at a time."""
        if row - self.passed < self.stride:
            return
        for column in self.columns:
            release_pages(column, self.passed, row)
        self.passed = row
