"""The principal axes of a collection, where a few of them decide most documents; found once and stored."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.search.axis_bounds import BOUNDS
from hf_posmine.search.axis_codes import STEP, lengths_of
from hf_posmine.search.prepared import content_digest, scan_folders
from hf_posmine.utils.cache import build_once

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.core.types import Rows
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.rescore import Similarity

PROBES, SEED = 64, 0
LEAST_DOCUMENTS = 8192
"""In smaller collections thresholds are learned too late for a few axes to gain anything."""
WORTH = 0.8
"""Axes are kept where a few are expected to take at most this share of the time of all dimensions."""
BASIS, NO_AXES = "basis.npy", "none.txt"


@dataclass(frozen=True)
class Costs:
    """The cost of a search beside its matrix product, counted in multiply-adds of that product.

    Attributes:
        pair: of a multiply-add of a single pair, gathering both sides included.
        filtering: of filtering a product.
        most_dimensions: in more, finding the axes takes longer than they spare.
        least_documents: of fewer, a search ends before the axes are found.
        sample: documents by which axes and open shares are estimated.
        rank: of the neighbour, within the sample, whose value stands for that of a query's k-th best.
        name: of what is stored.
    """

    pair: float
    filtering: float
    most_dimensions: int
    least_documents: int
    sample: int
    rank: int
    name: str


CPU = Costs(8.0, 24.0, 1536, 0, 4096, 1, "basis")
GPU_HALF = Costs(4200.0, 470.0, 4096, 1 << 22, 32_768, 64, "gpu-half")
GPU_FLOAT = Costs(315.0, 80.0, 4096, 1 << 22, 32_768, 64, "gpu-float")
"""By the data sheet of an H100, **not measured**: 4e14 multiply-adds a second in 16 bits, 3.3e13 in float32, and 3.35e12 bytes. A
product is written and read (4 or 8 bytes); pairs are gathered, made float32, multiplied and summed (36 or 32 bytes). Documents are
nearer to each other than queries: on SQuAD the 64th nearest of 18,891 is about as near as a question's fourth."""


def stored_axes(similarity: Similarity, vectors: Vectors, stop: int, costs: Costs = CPU) -> np.ndarray | None:
    """The axes of :func:`find_axes`, found once.

    Stored beside the embeddings, addressed by their content, since another processor may find slightly different ones.
    """
    if not 2 * STEP < vectors.dim <= costs.most_dimensions or stop < max(LEAST_DOCUMENTS, costs.least_documents):
        return None
    name = f"{content_digest(similarity, vectors, stop)}-{costs.name}"
    for root in scan_folders(vectors):
        try:
            folder = build_once(root / name, lambda new: _write(new, similarity, vectors, stop, costs))
        except ReadOnlyError:
            continue
        return None if (folder / NO_AXES).is_file() else np.load(folder / BASIS)
    return None


def _write(new: Path, similarity: Similarity, vectors: Vectors, stop: int, costs: Costs) -> None:
    basis = find_axes(similarity, vectors, stop, costs)
    if basis is None:
        (new / NO_AXES).write_text("the first axes hold too little of these documents\n")
    else:
        np.save(new / BASIS, basis)


def find_axes(similarity: Similarity, vectors: Vectors, stop: int, costs: Costs = CPU) -> np.ndarray | None:
    """The principal axes of a sample of the first ``stop`` documents, as rows float64; None where few cannot help.

    Sampled documents stand for queries, which is favourable to the axes. On a CPU all axes are returned, and each span of
    real queries chooses its own length; for a GPU as many as are expected to be quickest, less the room of their bounds,
    and each span chooses between them and full products.
    """
    dimensions = vectors.dim
    rows = np.sort(np.random.default_rng(SEED).choice(stop, min(costs.sample, stop), replace=False))
    sample = vectors[rows].astype(np.float64)
    if similarity == "cosine":
        norms = np.linalg.norm(sample, axis=1, keepdims=True)
        sample = sample / np.where(norms > 0, norms, 1)
    basis = np.ascontiguousarray(np.linalg.eigh(sample.T @ sample)[1][:, ::-1].T)
    lengths = lengths_of(dimensions, few=True)[:-1]
    shares = _open_shares(similarity, sample, basis, lengths, costs.rank)
    times = expected(lengths, shares, dimensions, costs=costs)
    if times.min(initial=1) > WORTH:
        return None
    return basis if costs is CPU else basis[: lengths[times.argmin()] - BOUNDS]


def expected(
    lengths: Rows, shares: np.ndarray, dimensions: int, product: float = 1.0, costs: Costs = CPU
) -> np.ndarray:
    """Expected time of scans by so many axes, float64 ``[L]``, as shares of that of the plain scan.

    Args:
        lengths: int64 ``[L]``.
        shares: float64 ``[L]``, of documents that stay open and are scored as pairs.
        dimensions: of the vectors.
        product: time of a product of codes as a share of that of a float32 product.
        costs: of everything else.
    """
    return (product * lengths + costs.pair * dimensions * shares + costs.filtering) / (dimensions + costs.filtering)


def _open_shares(similarity: Similarity, sample: np.ndarray, basis: np.ndarray, lengths: Rows, rank: int) -> np.ndarray:
    """For each length, the share of the sample whose values with a probe may reach that of its ``rank``-th nearest document."""
    probes, squares = sample[:PROBES], np.einsum("ij,ij->i", sample, sample)
    bias = -squares / 2 if similarity == "euclidean" else np.zeros(len(sample))
    values = probes @ sample.T + bias
    values[np.arange(len(probes)), np.arange(len(probes))] = -np.inf
    least = np.sort(values, axis=1)[:, -min(rank, len(sample)), None]
    coordinates, reach, left, shares = sample @ basis[: lengths[-1]].T, bias, squares, []
    for start, stop in pairwise([0, *lengths.tolist()]):
        part = coordinates[:, start:stop]
        reach = reach + part[:PROBES] @ part.T
        left = left - np.einsum("ij,ij->i", part, part)
        rest = np.sqrt(np.maximum(left, 0))
        shares.append((reach + rest[:PROBES, None] * rest >= least).mean())
    known = (1 + rank) / len(sample)  # the probe itself and the nearest documents are open in any case
    return np.maximum(np.array(shares) - known, 0)
