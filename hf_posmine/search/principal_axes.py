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

    from hf_posmine.core.types import Floats
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.error_bounds import Documents, Queries
    from hf_posmine.search.rescore import Similarity

STEP = 32
"""Prefix lengths are multiples of it, which products are fast at."""
SAMPLE, PROBES, SEED = 4096, 64, 0
PAIR_COST = 8.0
"""A multiply-add of a single pair costs so many times one of a matrix product, gathering the document included."""
LEAST_DOCUMENTS = 8192
"""Smaller collections are scanned in milliseconds, and thresholds are learned late in them."""
MOST_OPEN = 512
"""Documents of a query that may stay open: about what a span of queries has room for; more would be scanned again."""
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

    def coordinates(self, vectors: Floats) -> tuple[Floats, np.ndarray]:
        """Coordinates float32 ``[m, p]`` of vectors float32 ``[m, d]``, and lengths float64 ``[m]`` of remainders, rounded up.

        ``|d_r|^2 = |d|^2 - |x|^2 + 2 x.(x - P d) + x^T (P P^T - I) x``, where the last two are at most ``(2u + eta) |x|^2``.
        """
        wide = vectors.astype(np.float64)
        coordinates = (wide @ self.basis.T).astype(np.float32)
        squares = np.einsum("ij,ij->i", wide, wide)
        inside = np.einsum("ij,ij->i", coordinates, coordinates, dtype=np.float64)
        slack = (4 * UNIT_ROUNDOFF + self.eta) * inside + 1e-12 * squares  # float64 sums included
        return coordinates, np.sqrt(np.maximum(squares - inside, 0) + slack)


@dataclass(frozen=True)
class Prefix:
    """Documents along the first principal axes.

    Attributes:
        axes: the axes.
        coordinates: float32 ``[N, p]``.
        rest: float32 ``[N]``, lengths of the remainders after scaling; rounded up.
        most: the largest of ``rest``.
    """

    axes: Axes
    coordinates: Floats
    rest: Floats
    most: float


def prefix_error(
    similarity: Similarity,
    queries: Queries,
    coordinates: Floats,
    rest: np.ndarray,
    documents: Documents,
    prefix: Prefix,
) -> np.ndarray:
    """Largest error float64 ``[B]`` of products of coordinates, besides ``|q_r| |d_r|``.

    Args:
        similarity: cosine, dot or euclidean.
        queries: the query vectors.
        coordinates: of the queries, float32 ``[B, p]``.
        rest: float64 ``[B]``, lengths of their remainders.
        documents: scale, bias and the largest lengths.
        prefix: the documents along the axes.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", coordinates, coordinates, dtype=np.float64))
    products = 2 * (coordinates.shape[1] + 16) * UNIT_ROUNDOFF + 4 * UNIT_ROUNDOFF + 3 * prefix.axes.eta
    reach = (lengths + rest) * (
        documents.length + prefix.most
    ) + documents.square  # ends of intervals are computed in float32
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
    """The principal axes worth a scan of their own, found from a sample of the first ``stop`` documents; None where none are.

    Sampled documents stand for queries. The least value that matters to one is taken to be that of its nearest other
    document in the sample, which is lower than in the whole corpus, so the open share is overestimated.
    """
    dimensions = vectors.dim
    rows = np.sort(np.random.default_rng(SEED).choice(stop, min(SAMPLE, stop), replace=False))
    sample = vectors[rows].astype(np.float64)
    if similarity == "cosine":
        norms = np.linalg.norm(sample, axis=1, keepdims=True)
        sample = sample / np.where(norms > 0, norms, 1)
    basis = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].T
    lengths = np.arange(STEP, dimensions * 3 // 4 + 1, STEP)
    shares = np.array([_open_share(similarity, sample, basis[:length]) for length in lengths.tolist()])
    costs = np.where(shares * stop <= MOST_OPEN, lengths + PAIR_COST * dimensions * shares, np.inf)
    best = int(np.argmin(costs))
    return Axes.of(np.ascontiguousarray(basis[: lengths[best]])) if costs[best] <= WORTH * dimensions else None


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
    name = content_digest(similarity, vectors, stop, int8=False) + "-axes"
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
    with (
        npy_file(new / "coordinates.npy", np.float32, (stop, len(axes.basis))) as coordinates,
        npy_file(new / "rest.npy", np.float32, (stop,)) as rest,
    ):
        for start, block in vectors.blocks(rows, stop, once=True):
            inside, outside = axes.coordinates(np.asarray(block, np.float32))
            scaled = outside * documents.scale[start : start + len(block)]
            coordinates.write(np.ascontiguousarray(inside).data)
            rest.write(np.nextafter(scaled.astype(np.float32), np.float32(np.inf)).data)


def _read_prefix(folder: Path) -> Prefix | None:
    if (folder / NO_AXES).is_file():
        return None
    coordinates, rest = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("coordinates", "rest"))
    return Prefix(Axes.of(np.load(folder / "basis.npy")), coordinates, rest, float(rest.max(initial=0)))
