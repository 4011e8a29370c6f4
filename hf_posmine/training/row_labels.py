"""The labels of a batch: which texts are the same, the teacher's scores, and a guide's vectors, in one tensor.

One int64 tensor, since the trainer moves it to the device with the batch and one ``all_gather`` takes it to the other
processes. Numbers that are not whole are kept as the bits of a float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_posmine.core.errors import InputError

LEAST_DIMENSIONS = 8
"""Of a guide: fewer columns than that are labels of something else."""
UNSET = -1
"""A row that does not say whether it takes in-batch negatives."""


@dataclass(frozen=True)
class RowIdentity:
    """Which texts of a batch are the same, which rows take in-batch negatives, and how others score them.

    Attributes:
        in_batch: bool ``[B]``, whether the other rows' documents are negatives of the row.
        query: int64 ``[B]``, equal where the queries count as the same text (semantics 1: normalised).
        documents: int64 ``[B, n]``, likewise for the documents, the positive first; comparable with ``query``.
        scores: float64 ``[B, n]``, the mined scores of a row's own documents, NaN in rows without; None without any.
        guide_queries: float32 ``[B, d]``, unit vectors of the queries by the guide; None without one.
        guide_documents: float32 ``[B, n, d]``, likewise of the documents.
    """

    in_batch: Tensor
    query: Tensor
    documents: Tensor
    scores: Tensor | None = None
    guide_queries: Tensor | None = None
    guide_documents: Tensor | None = None

    @classmethod
    def from_labels(cls, labels: Tensor, documents: int, in_batch_negatives: bool) -> RowIdentity:
        """Read the labels of :func:`row_labels`.

        Args:
            labels: int64 ``[B, 2 + n]`` and what :func:`row_labels` appends.
            documents: n, the document columns that were embedded.
            in_batch_negatives: the rule for rows without that column.

        Raises:
            InputError: labels of another kind or of other columns.
        """
        n = documents
        extra = labels.size(1) - 2 - n if labels.ndim == 2 and not labels.is_floating_point() else -1  # noqa: PLR2004
        scored, dim = _appended(extra, n)
        if dim is None:
            raise InputError(
                f"labels {labels.dtype} {list(labels.shape)} do not identify a query and {documents} documents per "
                "row; train with RecipeTrainer or pass RowCollator as the data collator, and drop label columns"
            )
        choice = labels[:, 0]
        in_batch = torch.where(choice == UNSET, int(in_batch_negatives), choice).bool()
        scores, guide = labels[:, 2 + n :].split([n * scored, (1 + n) * dim], dim=1)
        vectors = _as_floats(guide).float().unflatten(1, (1 + n, dim)) if dim else None
        return cls(
            in_batch,
            labels[:, 1],
            labels[:, 2 : 2 + n],
            _as_floats(scores) if scored else None,
            None if vectors is None else vectors[:, 0],
            None if vectors is None else vectors[:, 1:],
        )

    @classmethod
    def distinct(cls, rows: int, documents: int, in_batch_negatives: bool, device: torch.device) -> RowIdentity:
        """No two texts are the same: what is assumed of a batch without labels."""
        keys = torch.arange(rows * (1 + documents), device=device).reshape(rows, 1 + documents)
        return cls(torch.full((rows,), in_batch_negatives, device=device), keys[:, 0], keys[:, 1:])


def row_labels(
    choices: list[int], keys: np.ndarray, scores: np.ndarray | None = None, vectors: np.ndarray | None = None
) -> Tensor:
    """The labels int64 ``[B, 2 + n + ...]`` of a batch.

    Args:
        choices: 1, 0 or -1 (not given) for in-batch negatives, of each row.
        keys: int64 ``[B, 1 + n]``, the texts of the query and its documents.
        scores: float64 ``[B, n]`` of the documents.
        vectors: ``[B, 1 + n, d]`` by the guide.
    """
    parts = [np.asarray(choices, np.int64)[:, None], keys]
    if scores is not None:
        parts.append(scores.astype(np.float64).view(np.int64))
    if vectors is not None:
        parts.append(np.ascontiguousarray(vectors, np.float64).reshape(len(keys), -1).view(np.int64))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _appended(width: int, n: int) -> tuple[bool, int | None]:
    """Whether so many columns begin with n scores, and the dimensions of the guide behind; None where neither fits.

    The vectors of 1 + n texts leave no remainder by 1 + n, n scores always do: the width tells which are there.
    """
    scored = width % (1 + n) == n
    dim, rest = divmod(width - n * scored, 1 + n)
    return scored, dim if width >= 0 and not rest and (dim == 0 or dim >= LEAST_DIMENSIONS) else None


def _as_floats(bits: Tensor) -> Tensor:
    return bits.contiguous().view(torch.float64)
