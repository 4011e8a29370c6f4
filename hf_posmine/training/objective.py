"""The loss of a stage as keys of its recipe: contrast, the ceiling in the batch, distillation, and nested dimensions."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - values.typed reads the annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.check import is_whole
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.training.contrast_options import ContrastOptions, Direction, Hardness, SeveralPositives

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn

    from hf_posmine.training.ceilings import BatchCeiling


@dataclass(frozen=True)
class Objective:
    """What is learnt from a row.

    Attributes:
        temperature: of the softmax; the paper does not give it, related work takes 0.02.
        false_negatives: a ceiling within the batch, such as ``PercPos(0.95)``: another row's document that scores at or
            above it is left out.
        false_negatives_until: the ceiling at the last step; the share moves linearly, as from ``PercPos(0.95)`` to
            ``PercPos(0.99)``.
        false_negatives_warmup: share of the steps before the ceiling holds.
        guide: the dense teacher whose vectors are held against the ceiling, such as ``embedded``; by default the student's.
        gather_across_devices: other processes' documents are negatives too.
        distillation: learn the mined scores of data sets with ``scores:``; a mapping of
            :class:`~hf_posmine.training.distillation.Distillation`, such as ``{objective: kl, temperature: 0.02, weight: 0.5}``.
        directions: what is contrasted with query and positive: ``query_to_doc``, and any of ``query_to_query``,
            ``doc_to_query`` and ``doc_to_doc``, in one softmax.
        hardness_mode: negatives that count more the nearer they are: ``in_batch_negatives``, ``hard_negatives`` or
            ``all_negatives``.
        hardness_strength: how much their logits grow by their cosine (arXiv 2509.20354, equation 5).
        several_positives: how the positives of one query are learnt: in a row each (``rows``), one at random in each epoch
            (``random``), the ``mean`` of their losses, or ``log_sum_exp`` over all pairs of a positive and a negative
            (arXiv 2602.12727).
        mini_batch_size: rows per step of GradCache, which allows batches larger than memory.
        mini_batch_num_tokens: the same in tokens.
        matryoshka_dims: the loss is summed over the first so many dimensions of the vectors, such as ``[384, 192, 96]``
            (arXiv 2205.13147).

    Raises:
        InputError: values that are out of range, or have no effect without another.
    """

    temperature: float = 0.02
    false_negatives: str | None = None
    false_negatives_until: str | None = None
    false_negatives_warmup: float = 0.0
    guide: str | None = None
    gather_across_devices: bool = True
    distillation: Mapping[str, Any] | None = None
    directions: tuple[Direction, ...] = ("query_to_doc",)
    hardness_mode: Hardness | None = None
    hardness_strength: float = 0.0
    several_positives: SeveralPositives = "rows"
    mini_batch_size: int | None = None
    mini_batch_num_tokens: int | None = None
    matryoshka_dims: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        from hf_posmine.training.contrast import Contrast

        if self.mini_batch_size is not None and self.mini_batch_num_tokens is not None:
            raise InputError("give mini_batch_size or mini_batch_num_tokens, not both")
        for name in ("false_negatives_until", "false_negatives_warmup", "guide"):
            if vars(self)[name] and self.false_negatives is None:
                raise InputError(f"{name} has no effect without false_negatives, such as PercPos(0.95)")
        dims = self.matryoshka_dims
        if dims is not None and (not dims or len(set(dims)) < len(dims) or not all(is_whole(d, least=1) for d in dims)):
            raise InputError(
                f"matryoshka_dims={list(dims)!r}; expected different whole numbers, such as [384, 192, 96]"
            )
        ceiling = self.ceiling
        Contrast(self.temperature, false_negatives=None if ceiling is None else ceiling.filter, **self._options())

    @property
    def ceiling(self) -> BatchCeiling | None:
        """Which documents of a batch are left out, over the course of training."""
        from hf_posmine.training.ceilings import BatchCeiling

        if self.false_negatives is None:
            return None
        until = None if self.false_negatives_until is None else as_filters(self.false_negatives_until)[0]
        return BatchCeiling(as_filters(self.false_negatives)[0], until, self.false_negatives_warmup)

    @property
    def uses_grad_cache(self) -> bool:
        """Whether batches are computed in parts, twice."""
        return self.mini_batch_size is not None or self.mini_batch_num_tokens is not None

    def _options(self) -> ContrastOptions:
        from hf_posmine.training.distillation import Distillation

        return ContrastOptions(
            distillation=None if self.distillation is None else Distillation.of(self.distillation),
            directions=self.directions,
            hardness_mode=self.hardness_mode,
            hardness_strength=self.hardness_strength,
            several_positives=self.several_positives,
        )

    def make_loss(self, model: SentenceTransformer) -> nn.Module:
        """InfoNCE, or its GradCache form where a mini-batch is given; over nested dimensions where they are.

        Raises:
            InputError: dimensions that the model does not have.
        """
        from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss

        common: Any = {
            "temperature": self.temperature,
            "false_negatives": self.ceiling,
            "gather_across_devices": self.gather_across_devices,
            **self._options(),
        }
        sizes: Any = {
            name: size
            for name in ("mini_batch_size", "mini_batch_num_tokens")
            if (size := vars(self)[name]) is not None
        }
        loss = CachedInfoNCELoss(model, **common, **sizes) if sizes else InfoNCELoss(model, **common)
        return loss if self.matryoshka_dims is None else _nested(model, loss, self.matryoshka_dims)


def _nested(model: SentenceTransformer, loss: nn.Module, dims: tuple[int, ...]) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    whole = model.get_embedding_dimension()
    if whole is not None and max(dims) != whole:
        raise InputError(f"matryoshka_dims={list(dims)}: the largest must be all of the student's dimensions, {whole}")
    return MatryoshkaLoss(model, loss, list(dims))
