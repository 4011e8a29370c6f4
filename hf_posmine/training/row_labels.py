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

HEADER = 5
"""Numbers of a row before its keys: its choice of in-batch negatives, its positive columns, its positives without a column,
whether it has scores, and the dimensions of the guide. All but the choice are the same in every row."""
UNSET = -1
"""A row that does not say whether it takes in-batch negatives."""


@dataclass(frozen=True)
class RowIdentity:
    """Which texts of a batch are the same, which rows take in-batch negatives, and how others score them.

    Attributes:
        in_batch: bool ``[B]``, whether the other rows' documents are negatives of the row.
        query: int64 ``[B]``, equal where the queries count as the same text (semantics 1: normalised).
        documents: int64 ``[B, n]``, likewise for the documents, the positives first; comparable with ``query``.
        scores: float64 ``[B, n]``, the mined scores of a row's own documents, NaN in rows without; None without any.
        guide_queries: float32 ``[B, d]``, unit vectors of the queries by the guide; None without one.
        guide_documents: float32 ``[B, n, d]``, likewise of the documents.
        positives: how many of the n documents are positives, the first ones. A row with fewer repeats its own.
        others: int64 ``[B, E]``, positives of the row that are not among its documents; None without any.
    """

    in_batch: Tensor
    query: Tensor
    documents: Tensor
    scores: Tensor | None = None
    guide_queries: Tensor | None = None
    guide_documents: Tensor | None = None
    positives: int = 1
    others: Tensor | None = None

    @property
    def copies(self) -> Tensor:
        """Documents bool ``[B, n]`` that repeat an earlier positive of their row, to fill it."""
        copies = torch.zeros_like(self.documents, dtype=torch.bool)
        for later in range(1, self.positives):
            earlier = self.documents[:, :later] == self.documents[:, later : later + 1]
            copies[:, later] = earlier.any(dim=1)
        return copies

    @property
    def positive_keys(self) -> Tensor:
        """The keys int64 ``[B, P + E]`` of all positives of each row, repeated ones included."""
        own = self.documents[:, : self.positives]
        return own if self.others is None else torch.cat([own, self.others], dim=1)

    @classmethod
    def from_labels(cls, labels: Tensor, documents: int, in_batch_negatives: bool) -> RowIdentity:
        """Read the labels of :func:`row_labels`.

        Args:
            labels: int64 ``[B, 6 + n + ...]`` of :func:`row_labels`.
            documents: n, the document columns that were embedded.
            in_batch_negatives: the rule for rows without that column.

        Raises:
            InputError: labels of another kind or of other columns.
        """
        n = documents
        header = _header(labels, n)
        if header is None:
            raise InputError(
                f"labels {labels.dtype} {list(labels.shape)} do not identify a query and {documents} documents per "
                "row; train with RecipeTrainer or pass RowCollator as the data collator, and drop label columns"
            )
        positives, extra, scored, dim = header
        choice = labels[:, 0]
        in_batch = torch.where(choice == UNSET, int(in_batch_negatives), choice).bool()
        own, others, scores, guide = labels[:, HEADER + 1 :].split([n, extra, n * scored, (1 + n) * dim], dim=1)
        vectors = _as_floats(guide).float().unflatten(1, (1 + n, dim)) if dim else None
        return cls(
            in_batch,
            labels[:, HEADER],
            own,
            _as_floats(scores) if scored else None,
            None if vectors is None else vectors[:, 0],
            None if vectors is None else vectors[:, 1:],
            positives,
            others if extra else None,
        )

    @classmethod
    def distinct(cls, rows: int, documents: int, in_batch_negatives: bool, device: torch.device) -> RowIdentity:
        """No two texts are the same: what is assumed of a batch without labels."""
        keys = torch.arange(rows * (1 + documents), device=device).reshape(rows, 1 + documents)
        return cls(torch.full((rows,), in_batch_negatives, device=device), keys[:, 0], keys[:, 1:])


def row_labels(
    choices: list[int], keys: np.ndarray, scores: np.ndarray | None = None, vectors: np.ndarray | None = None,
    *, positives: int = 1, others: np.ndarray | None = None,
) -> Tensor:  # fmt: skip
    """The labels int64 ``[B, 6 + n + ...]`` of a batch: the header, the keys, the scores and the vectors.

    Args:
        choices: 1, 0 or -1 (not given) for in-batch negatives, of each row.
        keys: int64 ``[B, 1 + n]``, the texts of the query and its documents.
        scores: float64 ``[B, n]`` of the documents.
        vectors: ``[B, 1 + n, d]`` by the guide.
        positives: how many of the documents are positives.
        others: int64 ``[B, E]``, keys of positives that are not among the documents.
    """
    extra, dim = (0 if part is None else part.shape[-1] for part in (others, vectors))
    header = [[choice, positives, extra, scores is not None, dim] for choice in choices]
    parts = [np.array(header, np.int64).reshape(-1, HEADER), keys, *([] if others is None else [others])]
    if scores is not None:
        parts.append(scores.astype(np.float64).view(np.int64))
    if vectors is not None:
        parts.append(np.ascontiguousarray(vectors, np.float64).reshape(len(keys), -1).view(np.int64))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _header(labels: Tensor, n: int) -> tuple[int, int, int, int] | None:
    """Positive columns, other positives, scored or not, and dimensions of the guide; None where the width contradicts."""
    if labels.ndim != 2 or labels.is_floating_point() or not len(labels) or labels.size(1) < HEADER:  # noqa: PLR2004
        return None
    positives, extra, scored, dim = labels[0, 1:HEADER].tolist()
    width = HEADER + 1 + n + extra + n * scored + (1 + n) * dim
    fits = 1 <= positives <= n and extra >= 0 and scored in (0, 1) and dim >= 0 and width == labels.size(1)
    return (positives, extra, scored, dim) if fits else None


def _as_floats(bits: Tensor) -> Tensor:
    return bits.contiguous().view(torch.float64)
