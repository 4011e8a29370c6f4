"""InfoNCE over a row's own negatives and, where wanted, over the other rows of the batch without their false negatives.

Both losses are the stock ones of sentence-transformers with one method replaced; both call
:func:`~hf_posmine.training.contrast.row_losses`, a function of embeddings alone.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from hf_posmine.core.filters import as_filters
from hf_posmine.training.ceilings import BatchCeiling
from hf_posmine.training.contrast import Contrast, ContrastBatch, MaskedPairs, row_losses
from hf_posmine.utils.upstream import overrides_private

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor
    from typing_extensions import Unpack

    from hf_posmine.core.types import Filter
    from hf_posmine.training.contrast_options import ContrastOptions


@overrides_private("compute_loss_from_embeddings")
class InfoNCELoss(MultipleNegativesRankingLoss):
    """InfoNCE with in-batch negatives on or off, and positive-aware masking of in-batch false negatives.

    Takes columns ``query, positive, negative_1..n``, or with several positives ``query, positive, positive_2, ...``, of
    :class:`~hf_posmine.training.collator.RowCollator`. With that each row says by its column ``in_batch_negatives`` whether
    it takes in-batch negatives, and equal texts are never contrasted; without it ``in_batch_negatives`` holds for all rows,
    and only the ceiling masks. The rules are those of :func:`~hf_posmine.training.contrast.row_losses`.

    Args:
        model: the student.
        temperature: not in the paper; 0.02 is what E5-Mistral, SimLM and Arctic-Embed 2.0 use.
        in_batch_negatives: for rows without that column. Off is NV-Embed's second stage: only the row's own negatives.
        false_negatives: a filter with a ceiling or its spelling, such as ``PercPos(0.95)``: other rows' documents that
            score at or above it, by the guide of the batch or else by the student, are left out. A
            :class:`~hf_posmine.training.ceilings.BatchCeiling` moves over the course of training.
        gather_across_devices: take in-batch negatives from all processes, with gradients. All processes must then see
            the same data set at each step, as :class:`~hf_posmine.training.trainer.RecipeTrainer` arranges.
        options: ``distillation``, ``directions``, ``hardness_mode``, ``hardness_strength`` and ``several_positives`` of
            :class:`~hf_posmine.training.contrast.Contrast`.

    Attributes:
        masked_pairs: counts of what was left out.

    Raises:
        SpecError: a temperature that is not above 0, or a filter without a ceiling.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        temperature: float = 0.02,
        in_batch_negatives: bool = True,
        false_negatives: BatchCeiling | Filter | str | None = None,
        gather_across_devices: bool = False,
        **options: Unpack[ContrastOptions],
    ) -> None:
        ceiling = _as_ceiling(false_negatives)
        contrast = Contrast(temperature, in_batch_negatives, _first(ceiling), gather_across_devices, **options)
        super().__init__(model, scale=1 / temperature, gather_across_devices=gather_across_devices)
        self.contrast, self.ceiling, self.masked_pairs = contrast, ceiling, MaskedPairs()

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None) -> Tensor:
        """The mean loss of the rows, from the embeddings ``[b, d]`` of each column."""
        losses, counts = row_losses(ContrastBatch.of(embeddings, labels, self.contrast), self.contrast)
        self.masked_pairs.add(counts)
        return losses.mean()

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        return _config(self.contrast)


@overrides_private("calculate_loss")
class CachedInfoNCELoss(CachedMultipleNegativesRankingLoss):
    """:class:`InfoNCELoss` with gradient caching: any batch size in the memory of one mini-batch.

    Same loss, same gradients (GradCache, arXiv 2101.06983), about one more forward pass.

    Args:
        model: the student.
        temperature: as in :class:`InfoNCELoss`.
        in_batch_negatives: as in :class:`InfoNCELoss`.
        false_negatives: as in :class:`InfoNCELoss`.
        gather_across_devices: as in :class:`InfoNCELoss`.
        mini_batch_size: rows that are embedded, and whose losses are computed, at a time.
        mini_batch_num_tokens: embed by this many tokens at a time instead.
        show_progress_bar: over the mini-batches.
        options: as in :class:`InfoNCELoss`.

    Attributes:
        masked_pairs: counts of what was left out.

    Raises:
        SpecError: a temperature that is not above 0, or a filter without a ceiling.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        temperature: float = 0.02,
        in_batch_negatives: bool = True,
        false_negatives: BatchCeiling | Filter | str | None = None,
        gather_across_devices: bool = False,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        **options: Unpack[ContrastOptions],
    ) -> None:
        ceiling = _as_ceiling(false_negatives)
        contrast = Contrast(temperature, in_batch_negatives, _first(ceiling), gather_across_devices, **options)
        super().__init__(
            model,
            scale=1 / temperature,
            mini_batch_size=mini_batch_size,
            mini_batch_num_tokens=mini_batch_num_tokens,
            gather_across_devices=gather_across_devices,
            show_progress_bar=show_progress_bar,
        )
        self.contrast, self.ceiling, self.masked_pairs = contrast, ceiling, MaskedPairs()

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The mean loss of the rows, from the embeddings of each column's mini-batches."""
        batch = ContrastBatch.of([torch.cat(column) for column in reps], labels, self.contrast)
        # The rows' losses are back-propagated part by part to leaves, and from there once: through the gathering too.
        leaves = batch.leaves() if with_backward else batch
        total = batch.queries.new_zeros(())
        for start in range(0, len(batch.rows), self.mini_batch_size):
            losses, counts = row_losses(leaves.take(slice(start, start + self.mini_batch_size)), self.contrast)
            self.masked_pairs.add(counts)
            loss = losses.sum() / len(batch.rows)  # parts of unequal size add up to the mean of the whole batch
            if with_backward:
                loss.backward()
            total = total + (loss.detach() if with_backward else loss)
        if with_backward:
            torch.autograd.backward(batch.embeddings, [leaf.grad for leaf in leaves.embeddings])
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        sizes = {"mini_batch_size": self.mini_batch_size, "mini_batch_num_tokens": self.mini_batch_num_tokens}
        return _config(self.contrast) | sizes


def move_ceiling(loss: InfoNCELoss | CachedInfoNCELoss, progress: float) -> None:
    """Let the ceiling in the batch be that of this share of the steps, 0 to 1."""
    if loss.ceiling is not None:
        loss.contrast = replace(loss.contrast, false_negatives=loss.ceiling.at(progress))


def _as_ceiling(value: BatchCeiling | Filter | str | None) -> BatchCeiling | None:
    return value if value is None or isinstance(value, BatchCeiling) else BatchCeiling(as_filters(value)[0])


def _first(ceiling: BatchCeiling | None) -> Filter | None:
    return None if ceiling is None else ceiling.at(0.0)


def _config(contrast: Contrast) -> dict[str, Any]:
    plain = Contrast()
    shown = ("temperature", "in_batch_negatives", "false_negatives", "gather_across_devices")
    given = {
        entry.name: vars(contrast)[entry.name]
        for entry in fields(contrast)
        if entry.name in shown or vars(contrast)[entry.name] != vars(plain)[entry.name]
    }
    return {
        name: repr(value) if name in ("false_negatives", "distillation") and value else value
        for name, value in given.items()
    }
