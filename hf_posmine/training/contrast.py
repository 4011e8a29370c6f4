"""InfoNCE as a function of embeddings: who is contrasted with whom, and which in-batch pairs are false negatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank, get_world_size

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.training.collator import RowIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hf_posmine.core.types import Filter

MASK_REASONS = ("same_text", "same_query", "above_ceiling")


@dataclass(frozen=True)
class Contrast:
    """What a query is contrasted with, and how sharply.

    Attributes:
        temperature: the cosine similarities are divided by it.
        in_batch_negatives: whether the other rows' documents are negatives, for rows without that column.
        false_negatives: a filter with a ceiling; other rows' documents that are not strictly below it are left out.
        gather_across_devices: whether the other processes' rows belong to the batch.
    """

    temperature: float = 0.02
    in_batch_negatives: bool = True
    false_negatives: Filter | None = None
    gather_across_devices: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise SpecError(f"temperature {self.temperature!r} must be a number above 0, such as 0.02")
        if self.false_negatives is not None:
            object.__setattr__(self, "false_negatives", _with_ceiling(self.false_negatives))


@dataclass(frozen=True)
class ContrastBatch:
    """Embeddings of unit length, and who is who.

    Attributes:
        queries: ``[b, d]``, the queries of this process.
        documents: ``[B, n, d]``, of the whole batch (of all processes when gathered), the positive first.
        rows: int64 ``[b]``, which of the B rows each query is.
        identity: of the whole batch.
    """

    queries: Tensor
    documents: Tensor
    rows: Tensor
    identity: RowIdentity

    @classmethod
    def of(cls, columns: Sequence[Tensor], labels: Tensor | None, contrast: Contrast) -> ContrastBatch:
        """Put a batch together from the embeddings ``[b, d]`` of each column.

        Raises:
            InputError: no document column, labels of another kind, or a row that has nothing to be contrasted with.
        """
        if len(columns) < 2:  # noqa: PLR2004
            raise InputError(
                f"contrastive losses need a query column and at least one document column, got {len(columns)}"
            )
        queries, documents = _unit(columns[0]), _unit(torch.stack(list(columns[1:]), dim=1))
        rows = torch.arange(len(queries), device=queries.device)
        # Rows decide for themselves only with labels, which all processes have or none: so all gather or none does.
        wanted = labels is not None or contrast.in_batch_negatives
        if contrast.gather_across_devices and wanted and get_world_size() > 1:
            rows = rows + get_rank() * len(queries)
            documents = all_gather_with_grad(documents)
            labels = None if labels is None else all_gather(labels)
        total, n = documents.shape[:2]
        if labels is None:
            identity = RowIdentity.distinct(total, n, contrast.in_batch_negatives, queries.device)
        else:
            identity = RowIdentity.from_labels(labels, n, contrast.in_batch_negatives)
        if n == 1 and (total == 1 or not bool(identity.in_batch.all())):
            raise InputError(
                f"a batch of {total} rows has no negative columns, and a row without in-batch negatives, or "
                "alone in its batch, has nothing to be contrasted with; mine negatives, switch in-batch negatives on, "
                "or raise the batch size"
            )
        return cls(queries, documents, rows, identity)

    def take(self, part: slice) -> ContrastBatch:
        """Some of the queries against the same documents."""
        return replace(self, queries=self.queries[part], rows=self.rows[part])

    def leaves(self) -> ContrastBatch:
        """The same embeddings cut from whatever they were computed from, to collect gradients."""
        return replace(
            self,
            queries=self.queries.detach().requires_grad_(),
            documents=self.documents.detach().requires_grad_(),
        )


def row_losses(batch: ContrastBatch, contrast: Contrast) -> tuple[Tensor, Tensor]:
    """InfoNCE of each query: cross entropy of its positive among its candidates (paper, section 2).

    The candidates of row i are its positive, its own negatives and, where it takes in-batch negatives, all documents
    of the other rows except

    1. documents with the text of its positive or of its query,
    2. positives of rows with the same query,
    3. documents whose cosine similarity (float32, detached) is not strictly below
       ``false_negatives.ceiling(similarity of its positive)``: the mining rule applied inside the batch, by the model
       in training.

    Its own negatives always stay: they were mined below the teacher's ceiling.

    Returns:
        The losses ``[b]``, and int64 ``[4]``: in-batch pairs, and how many each reason left out (the first that holds
        counts).
    """
    device = batch.queries.device.type
    with torch.autocast(device, enabled=False):  # bfloat16 similarities have three digits, before the temperature
        similarity = batch.queries @ batch.documents.flatten(0, 1).T
        positive = batch.rows * batch.documents.size(1)
        excluded, counts = _excluded(similarity.detach().float(), batch, contrast.false_negatives)
        logits = (similarity / contrast.temperature).masked_fill(excluded, -torch.inf)
        return F.cross_entropy(logits, positive, reduction="none"), counts


def _excluded(similarity: Tensor, batch: ContrastBatch, ceiling: Filter | None) -> tuple[Tensor, Tensor]:
    """Which documents bool ``[b, B * n]`` are left out, and the counts of :func:`row_losses`."""
    identity, n = batch.identity, batch.documents.size(1)
    column = torch.arange(similarity.size(1), device=similarity.device)
    owner, rows = column // n, batch.rows[:, None]
    other = owner != rows
    texts, query, positive = identity.documents.flatten(), identity.query[rows], identity.documents[:, 0][rows]
    reasons = [(texts == positive) | (texts == query), (identity.query[owner] == query) & (column % n == 0)]
    if ceiling is not None:
        own = similarity.gather(1, rows * n)[:, 0]
        limit = torch.from_numpy(ceiling.ceiling(own.cpu().numpy())).to(own.device)
        reasons.append(~(similarity < limit[:, None]))
    kept = other & identity.in_batch[rows]
    counts = [kept.sum()]
    for reason in reasons:
        counts.append((kept & reason).sum())
        kept = kept & ~reason
    counts += [torch.zeros_like(counts[0])] * (1 + len(MASK_REASONS) - len(counts))
    return other & ~kept, torch.stack(counts)


class MaskedPairs:
    """How many in-batch pairs of training were left out, by reason; kept on the device until they are read."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, counts: Tensor) -> None:
        """Count the pairs int64 ``[4]`` of one call of :func:`row_losses`; evaluation does not count."""
        if torch.is_grad_enabled():
            self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> dict[str, int]:
        """The counts since the last call: ``pairs``, ``same_text``, ``same_query``, ``above_ceiling``."""
        counts = [0] * (1 + len(MASK_REASONS)) if self._counts is None else self._counts.tolist()
        self._counts = None
        return dict(zip(("pairs", *MASK_REASONS), counts, strict=True))


def _unit(embeddings: Tensor) -> Tensor:
    with torch.autocast(embeddings.device.type, enabled=False):
        return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)


def _with_ceiling(filter_: Filter) -> Filter:
    filter_.check("cosine")
    if not np.isfinite(filter_.ceiling(np.array([0.5], np.float32))).all():
        raise SpecError(
            f"{filter_!r} sets no ceiling and cannot tell false negatives in a batch; use PercPos, MarginPos or MaxScore"
        )
    return filter_
