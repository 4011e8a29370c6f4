"""Documents along their principal axes: a few coordinates of each, and the length of what these leave out.

Most of a document's score comes from few directions. With an orthonormal basis ``P`` (``[p, d]``) of these, coordinates
``x = P d``, ``y = P q``, and remainders ``d_r = d - P^T x``, ``q_r = q - P^T y``,

    q.d = y.x + q_r.d_r,        |q_r.d_r| <= |q_r| |d_r|        (Cauchy-Schwarz)

so ``p`` of ``d`` multiply-adds decide every document whose interval stays on one side of the bounds; the others are scored in
full. In floating point the basis is not exactly orthonormal and coordinates are rounded to float32: with
``eta = |P P^T - I|`` and u the unit roundoff, ``|P d_r| <= (2u + eta) |x|``, and ``q.d - y.x`` has three more terms,
``y.(P P^T - I)x``, ``q_r.P^T x`` and ``P^T y.d_r``, together at most ``(4u + 3 eta) |x| |y|``. Looking at some dimensions first
is the idea of PDX (SIGMOD 2025), ADSampling and FEXIPRO; the bound here is certain, not probable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.search.error_bounds import UNIT_ROUNDOFF, float_error
from hf_posmine.search.prepared import content_digest, scan_folders
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.mapped import npy_file

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.error_bounds import Documents, Queries
    from hf_posmine.search.rescore import Similarity

STEP = 32
"""Prefix lengths are multiples of it, which products are fast at."""
SAMPLE, PROBES, SEED = 4096, 64, 0
PAIR_COST = 8.0
"""A multiply-add of a single pair costs so many times one of a matrix product, gathering the document included."""
FILTER_COST = 24.0
"""Filtering a product takes about as long as so many of its multiply-adds."""
LEAST_DOCUMENTS = 32_768
"""In smaller collections thresholds are learned too late for a prefix to gain anything."""
MOST_OPEN = 512
"""Documents of a query that may stay open: about what a span of queries has room for; more would be scanned again."""
LOOK = 32
"""Queries of a span that the length of its prefix is chosen by."""
WORTH = 0.8
"""A prefix is used where it is expected to take at most this share of the plain scan's time."""
NO_AXES = "none.txt"
MOST_DIMENSIONS = 1536
"""Beyond, finding the axes takes seconds, and models of that size are searched on GPUs."""


@dataclass(frozen=True)
class Axes:
    """The first principal axes of a collection.

    Attributes:
        basis: float64 ``[p, d]``, orthonormal rows up to rounding.
        eta: the Frobenius norm of ``basis @ basis.T - I``.
    """

    basis: np.ndarray
    eta: float

    @classmethod
    def of(cls, basis: np.ndarray) -> Axes:
        """Measure how orthonormal a basis float64 ``[p, d]`` is."""
        return cls(basis, float(np.linalg.norm(basis @ basis.T - np.eye(len(basis)))))

    @property
    def lengths(self) -> Rows:
        """Lengths of prefixes, int64 ``[L]``."""
        return np.arange(STEP, len(self.basis) + 1, STEP)

    def coordinates(self, vectors: Floats) -> tuple[Floats, np.ndarray]:
        """Coordinates float32 ``[m, p]`` of vectors float32 ``[m, d]``, and what each prefix leaves out, float64 ``[L, m]``.

        The lengths of remainders are rounded up: ``|d_r|^2 = |d|^2 - |x|^2 + 2 x.(x - P d) + x^T (P P^T - I) x``, where the last
        two are at most ``(2u + eta) |x|^2``.
        """
        wide = vectors.astype(np.float64)
        coordinates = (wide @ self.basis.T).astype(np.float32)
        squares = np.einsum("ij,ij->i", wide, wide)
        steps = np.square(coordinates, dtype=np.float64).reshape(len(wide), -1, STEP).sum(axis=2)
        inside = steps.cumsum(axis=1).T
        slack = (4 * UNIT_ROUNDOFF + self.eta) * inside + 1e-12 * squares  # float64 sums included
        return coordinates, np.sqrt(np.maximum(squares - inside, 0) + slack)


@dataclass(frozen=True)
class Prefix:
    """Documents along the first principal axes.

    Attributes:
        axes: the axes.
        coordinates: float32 ``[N, p]``.
        rest: float32 ``[L, N]``, lengths of the remainders of each prefix after scaling; rounded up.
    """

    axes: Axes
    coordinates: Floats
    rest: Floats


def prefix_error(
    similarity: Similarity,
    queries: Queries,
    coordinates: Floats,
    rest: np.ndarray,
    documents: Documents,
    eta: float,
) -> np.ndarray:
    """Largest error float64 ``[B]`` of products of coordinates, besides ``|q_r| |d_r|``.

    Args:
        similarity: cosine, dot or euclidean.
        queries: the query vectors.
        coordinates: of the queries, float32 ``[B, p]``.
        rest: float64 ``[B]``, lengths of their remainders.
        documents: scale, bias and the largest lengths.
        eta: of the axes.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", coordinates, coordinates, dtype=np.float64))
    products = 2 * (coordinates.shape[1] + 16) * UNIT_ROUNDOFF + 4 * UNIT_ROUNDOFF + 3 * eta
    # ends of intervals are computed in float32; no remainder is longer than its document
    reach = (lengths + rest) * 2.01 * documents.length + documents.square
    if similarity == "euclidean":
        reach = reach + queries.squares
    return (
        float_error(similarity, queries, documents)
        + 1.01 * products * lengths * documents.length
        + 16 * UNIT_ROUNDOFF * reach
    )


def worth_trying(dimensions: int, documents: int) -> bool:
    """Whether axes of so many documents are looked for at all."""
    return 2 * STEP < dimensions <= MOST_DIMENSIONS and documents >= LEAST_DOCUMENTS


def find_axes(similarity: Similarity, vectors: Vectors, stop: int) -> Axes | None:
    """The principal axes found from a sample of the first ``stop`` documents; None where no prefix of them can help.

    Sampled documents stand for queries, which is favourable to the axes; each span of real queries chooses its own length.
    """
    dimensions = vectors.dim
    rows = np.sort(np.random.default_rng(SEED).choice(stop, min(SAMPLE, stop), replace=False))
    sample = vectors[rows].astype(np.float64)
    if similarity == "cosine":
        norms = np.linalg.norm(sample, axis=1, keepdims=True)
        sample = sample / np.where(norms > 0, norms, 1)
    basis = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].T[: dimensions // 2 // STEP * STEP]
    axes = Axes.of(np.ascontiguousarray(basis))
    shares = np.array([_open_share(similarity, sample, basis[:length]) for length in axes.lengths.tolist()])
    return axes if expected(axes.lengths, shares, dimensions).min() <= WORTH else None


def expected(lengths: Rows, shares: np.ndarray, dimensions: int) -> np.ndarray:
    """Expected time of a scan by prefixes of some lengths, float64 ``[L]``, as shares of that of the plain scan.

    Args:
        lengths: int64 ``[L]``.
        shares: float64 ``[L]``, of documents that stay open and are scored as pairs.
        dimensions: of the vectors.
    """
    return (lengths + PAIR_COST * dimensions * shares + FILTER_COST) / (dimensions + FILTER_COST)


def _open_share(similarity: Similarity, sample: np.ndarray, basis: np.ndarray) -> float:
    """Share of the sample whose values with a probe may reach that of the probe's nearest other document."""
    probes = sample[:PROBES]
    squares = np.einsum("ij,ij->i", sample, sample)
    bias = -squares / 2 if similarity == "euclidean" else np.zeros(len(sample))
    coordinates = sample @ basis.T
    rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", coordinates, coordinates), 0))
    values = probes @ sample.T + bias
    values[np.arange(len(probes)), np.arange(len(probes))] = -np.inf
    reach = coordinates[:PROBES] @ coordinates.T + bias + rest[:PROBES, None] * rest
    return float((reach >= values.max(axis=1, keepdims=True)).mean())


def stored_prefix(
    similarity: Similarity, vectors: Vectors, stop: int, documents: Documents, rows: int
) -> Prefix | None:
    """The first ``stop`` documents along their principal axes, from disk or made now; None where axes do not help.

    Stored beside the embeddings, addressed by their content; the axes themselves are stored too, since another
    processor may find slightly different ones.
    """
    if similarity == "manhattan" or not worth_trying(vectors.dim, stop):
        return None
    name = content_digest(similarity, vectors, stop, int8=False) + "-prefixes"
    for root in scan_folders(vectors):
        try:
            folder = build_once(root / name, lambda new: _write_prefix(new, similarity, vectors, stop, documents, rows))
        except ReadOnlyError:
            continue
        return _read_prefix(folder)
    return None


def _write_prefix(
    new: Path, similarity: Similarity, vectors: Vectors, stop: int, documents: Documents, rows: int
) -> None:
    axes = find_axes(similarity, vectors, stop)
    if axes is None:
        (new / NO_AXES).write_text("the first axes hold too little of these documents\n")
        return
    np.save(new / "basis.npy", axes.basis)
    rest = np.lib.format.open_memmap(new / "rest.npy", "w+", np.float32, (len(axes.lengths), stop))
    with npy_file(new / "coordinates.npy", np.float32, (stop, len(axes.basis))) as coordinates:
        for start, block in vectors.blocks(rows, stop, once=True):
            inside, outside = axes.coordinates(np.asarray(block, np.float32))
            scaled = outside * documents.scale[start : start + len(block)]
            coordinates.write(np.ascontiguousarray(inside).data)
            rest[:, start : start + len(block)] = np.nextafter(scaled.astype(np.float32), np.float32(np.inf))
    rest.flush()


def _read_prefix(folder: Path) -> Prefix | None:
    if (folder / NO_AXES).is_file():
        return None
    coordinates, rest = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("coordinates", "rest"))
    return Prefix(Axes.of(np.load(folder / "basis.npy")), coordinates, rest)


def choose_length(
    prefix: Prefix, coordinates: Floats, rest: np.ndarray, low: Floats, documents: Documents, head: int
) -> int | None:
    """Which prefix a span of queries should be scanned with, as its number among the lengths; None for the plain scan.

    Args:
        prefix: the documents.
        coordinates: of the queries, float32 ``[B, p]``.
        rest: float64 ``[L, B]``, lengths of their remainders.
        low: float32 ``[B]``, the least value that matters to each query so far. It rises later, so the open shares measured
            here are too high.
        documents: scale and bias.
        head: documents that were scanned in full; a sample of the others.
    """
    at = np.linspace(0, len(low) - 1, min(LOOK, len(low))).astype(np.int64)
    scale, bias = documents.scale[:head], documents.bias[:head]
    steps = np.split(np.arange(prefix.coordinates.shape[1]), len(prefix.axes.lengths))
    values, shares = np.zeros((len(at), len(scale)), np.float32), []
    for number, columns in enumerate(steps):  # each length adds some products to those of the one before
        values += coordinates[at][:, columns] @ np.asarray(prefix.coordinates[:head, columns]).T
        reach = values * scale + bias + rest[number, at, None] * prefix.rest[number, :head]
        shares.append(float((reach >= low[at, None]).mean()))
    left = len(documents.scale) - head
    costs = expected(prefix.axes.lengths, np.array(shares), prefix.axes.basis.shape[1])
    costs = np.where(np.array(shares) * left <= MOST_OPEN, costs, np.inf)
    best = int(np.argmin(costs))
    return best if costs[best] <= WORTH else None
