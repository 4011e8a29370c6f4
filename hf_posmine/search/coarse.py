"""Cheap products with a proved error: what a CPU scan multiplies before it scores the few documents that stay open.

Both kinds give values ``products * factor[i] * scale[j] + bias[j]``, off by at most ``spread[i] * distance[j] + error[i]``: whole
vectors rounded to int8 or bfloat16, which torch multiplies, and 16-bit codes along the first principal axes or along all.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from hf_posmine.search import resident
from hf_posmine.search.axis_codes import AxisCodes, axis_error
from hf_posmine.search.principal_axes import expected
from hf_posmine.search.rounding import Kind, as_array, product_of_codes, rounded, rounding_error, tensor_of
from hf_posmine.utils.mapped import release_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hf_posmine.core.types import Floats
    from hf_posmine.search.axis_codes import Codes
    from hf_posmine.search.error_bounds import Coded, Documents, Queries
    from hf_posmine.search.rescore import Similarity

LOOK, SAMPLE = 16, 512
"""Queries of a span, and documents, that the number of axes is chosen by."""
MOST_OPEN = 512
"""Documents of a query that may stay open: about what a span of queries has room for; more would be scanned again."""


@dataclass(frozen=True)
class CoarseQueries:
    """Queries in the form that is multiplied, and the bounds of the products.

    Attributes:
        vectors: int8, int16, or uint16 bits of bfloat16, ``[B, p]``.
        length: how many numbers of each count.
        factor: float32 ``[B]``.
        spread: float64 ``[B]``.
        error: float64 ``[B]``.
        distance: float32 ``[N]``, rounded up.
        narrow: whether the bounds are so narrow that float32 would tell little more.
    """

    vectors: np.ndarray
    length: int
    factor: Floats
    spread: np.ndarray
    error: np.ndarray
    distance: Floats
    narrow: bool = False


InReach: TypeAlias = "Callable[[Floats], CoarseQueries | None]"


class Coarse(Protocol):
    """Documents in a form that is cheap to multiply."""

    @property
    def coded(self) -> Coded | AxisCodes:
        """The documents."""

    @property
    def rows(self) -> int:
        """Documents per block."""

    def span(self, similarity: Similarity, queries: Queries, documents: Documents) -> InReach:
        """Queries as the documents are.

        Args:
            similarity: cosine, dot or euclidean.
            queries: the query vectors.
            documents: scale, bias and the largest lengths.

        Returns:
            What gives them for products, by the least value float32 ``[B]`` that matters to each query so far; None where a
            plain scan of the next documents is expected to take less.
        """

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """The first row and the products ``[B, block]`` of each block of documents from ``start`` to ``stop``."""

    def open(self) -> None:
        """Make what threads share, before they start."""


@dataclass
class RoundedProducts:
    """Products of rounded vectors by torch.

    Attributes:
        kind: what they are rounded to.
        coded: the documents.
        bias: float32 ``[N]`` of the documents, whose pages are released together with the codes.
        rows: documents per block.
    """

    kind: Kind
    coded: Coded
    bias: Floats
    rows: int

    def span(self, similarity: Similarity, queries: Queries, documents: Documents) -> InReach:
        """See :class:`Coarse`."""
        q = rounded(self.kind, queries.vectors)
        error = rounding_error(similarity, queries, q, documents)
        made = CoarseQueries(q.codes, q.codes.shape[1], q.steps, q.lengths, error, self.coded.quantization_error)
        return lambda low: made

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`; those of bfloat16 are its bits, uint16."""
        codes, documents = tensor_of(queries.vectors), self._tensor
        out = None
        passing = _Passing((self.coded.codes, self.coded.scale, self.coded.quantization_error, self.bias), start)
        for first in range(start, stop, self.rows):
            passing.release_before(first)
            block = documents[first : min(first + self.rows, stop)]
            whole = len(block) == self.rows
            made = product_of_codes(codes, block.t(), out if whole else None)
            out = made if whole else out
            yield first, as_array(made)

    def open(self) -> None:
        """See :class:`Coarse`."""
        _ = self._tensor

    @cached_property
    def _tensor(self) -> Any:
        """The codes as a read-only tensor."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return tensor_of(np.asarray(self.coded.codes))


@dataclass
class AxisProducts:
    """Products of 16-bit codes along axes, compiled: along as many axes as suit the queries.

    Attributes:
        coded: the documents.
        bias: float32 ``[N]`` of the documents.
        rows: documents per block.
        product: time of a product of codes as a share of that of a float32 product.
    """

    coded: AxisCodes
    bias: Floats
    rows: int
    product: float

    def span(self, similarity: Similarity, queries: Queries, documents: Documents) -> InReach:
        """See :class:`Coarse`."""
        own = self.coded.axes.codes(queries.vectors)

        def in_reach(low: Floats) -> CoarseQueries | None:
            number = self._best_length(own, low)
            if number is None:
                return None
            length = int(self.coded.axes.lengths[number])
            error = axis_error(similarity, queries, own, number, documents, self.coded)
            rest, left = own.rest[number], self.coded.rest[number]
            return CoarseQueries(own.codes, length, own.steps, rest, error, left, narrow=length == own.codes.shape[1])

        return in_reach

    def products(self, queries: CoarseQueries, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """See :class:`Coarse`."""
        codes = self.coded.codes
        whole = np.empty((len(queries.vectors), self.rows), np.int32)
        passing = _Passing((codes, self.coded.scale, queries.distance, self.bias), start)
        for first in range(start, stop, self.rows):
            passing.release_before(first)
            end = min(first + self.rows, stop)
            out = whole if end - first == self.rows else None
            yield first, self.coded.products(queries.vectors, first, end, queries.length, out)

    def open(self) -> None:
        """See :class:`Coarse`."""
        _ = self._sample

    def _best_length(self, own: Codes, low: Floats) -> int | None:
        """The number, among the lengths of the axes, of the quickest one; None where a plain scan is expected to be quicker.

        ``low`` rises later, so the shares of open documents that are counted here, in a sample, are too high.
        """
        lengths, documents = self.coded.axes.lengths, len(self.coded.scale)
        shares = np.zeros(len(lengths))  # with all axes hardly a document stays open
        if len(lengths) > 1:
            shares[:-1] = self._open_shares(own, low)
        costs = expected(lengths, shares, self.coded.axes.dimensions, self.product)
        costs = np.where(shares * documents <= MOST_OPEN, costs, np.inf)
        best = int(np.argmin(costs))
        return best if costs[best] < 1 else None

    def _open_shares(self, own: Codes, low: Floats) -> np.ndarray:
        """Share of a sample of documents that may matter to some of the queries, float64 ``[L - 1]``."""
        coordinates, bias, rest = self._sample
        at = np.linspace(0, len(low) - 1, min(LOOK, len(low))).astype(np.int64)
        values, shares, start = np.zeros((len(at), len(bias)), np.float32), [], 0
        for number, length in enumerate(self.coded.axes.lengths[:-1].tolist()):  # each adds products to those before
            mine = own.codes[at, start:length] * own.steps[at, None]
            values, start = values + mine @ coordinates[:, start:length].T, length
            reach = values + bias + own.rest[number, at, None] * rest[number]
            shares.append(float((reach >= low[at, None]).mean()))
        return np.array(shares)

    @cached_property
    def _sample(self) -> tuple[Floats, Floats, Floats]:
        """Coordinates float32 ``[S, p]``, biases ``[S]`` and what each length leaves out ``[L, S]`` of some documents."""
        at = np.unique(np.linspace(0, len(self.coded.scale) - 1, min(SAMPLE, len(self.coded.scale))).astype(np.int64))
        return self.coded.coordinates(at), self.bias[at], np.stack([rest[at] for rest in self.coded.rest])


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
