"""The principal axes of a collection, where a few of them decide most documents; found once and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.search.axis_codes import STEP, Axes
from hf_posmine.search.prepared import content_digest, scan_folders
from hf_posmine.utils.cache import build_once

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.core.types import Rows
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.rescore import Similarity

SAMPLE, PROBES, SEED = 4096, 64, 0
PAIR_COST = 8.0
"""A multiply-add of a single pair costs so many times one of a matrix product, gathering the document included."""
FILTER_COST = 24.0
"""Filtering a product takes about as long as so many of its multiply-adds."""
LEAST_DOCUMENTS = 8192
"""In smaller collections thresholds are learned too late for a few axes to gain anything."""
WORTH = 0.8
"""Axes are kept where a few are expected to take at most this share of the time of all dimensions."""
MOST_DIMENSIONS = 1536
"""Beyond, finding the axes takes seconds, and models of that size are searched on GPUs."""
BASIS, NO_AXES = "basis.npy", "none.txt"


def stored_axes(similarity: Similarity, vectors: Vectors, stop: int) -> Axes:
    """The principal axes of the first ``stop`` documents, or the vectors' own where these do not help.

    Stored beside the embeddings, addressed by their content, since another processor may find slightly different ones.
    """
    own = Axes(vectors.dim)
    if not 2 * STEP < vectors.dim <= MOST_DIMENSIONS or stop < LEAST_DOCUMENTS:
        return own
    name = content_digest(similarity, vectors, stop) + "-basis"
    for root in scan_folders(vectors):
        try:
            folder = build_once(root / name, lambda new: _write(new, similarity, vectors, stop))
        except ReadOnlyError:
            continue
        return own if (folder / NO_AXES).is_file() else Axes(vectors.dim, np.load(folder / BASIS))
    return own


def _write(new: Path, similarity: Similarity, vectors: Vectors, stop: int) -> None:
    basis = find_axes(similarity, vectors, stop)
    if basis is None:
        (new / NO_AXES).write_text("the first axes hold too little of these documents\n")
    else:
        np.save(new / BASIS, basis)


def find_axes(similarity: Similarity, vectors: Vectors, stop: int) -> np.ndarray | None:
    """The principal axes float64 ``[d, d]`` of a sample of the first ``stop`` documents; None where few cannot help.

    Sampled documents stand for queries, which is favourable to the axes; each span of real queries chooses its own length.
    """
    dimensions = vectors.dim
    rows = np.sort(np.random.default_rng(SEED).choice(stop, min(SAMPLE, stop), replace=False))
    sample = vectors[rows].astype(np.float64)
    if similarity == "cosine":
        norms = np.linalg.norm(sample, axis=1, keepdims=True)
        sample = sample / np.where(norms > 0, norms, 1)
    basis = np.ascontiguousarray(np.linalg.eigh(sample.T @ sample)[1][:, ::-1].T)
    lengths = Axes(dimensions, basis).lengths[:-1]
    shares = np.array([_open_share(similarity, sample, basis[:length]) for length in lengths.tolist()])
    return basis if expected(lengths, shares, dimensions).min(initial=1) <= WORTH else None


def expected(lengths: Rows, shares: np.ndarray, dimensions: int, product: float = 1.0) -> np.ndarray:
    """Expected time of scans by so many axes, float64 ``[L]``, as shares of that of the plain scan.

    Args:
        lengths: int64 ``[L]``.
        shares: float64 ``[L]``, of documents that stay open and are scored as pairs.
        dimensions: of the vectors.
        product: time of a product of codes as a share of that of a float32 product.
    """
    return (product * lengths + PAIR_COST * dimensions * shares + FILTER_COST) / (dimensions + FILTER_COST)


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
