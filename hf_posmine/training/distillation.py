"""Distillation from stored scores: the student ranks a row's own documents as the teacher that mined them did."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import InputError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Objective = Literal["kl", "margin_mse"]


@dataclass(frozen=True)
class Distillation:
    """How the scores of the teacher or of the second opinion are learnt.

    Attributes:
        objective: ``kl``, the Kullback-Leibler divergence of the student's softmax over a row's own documents from the
            teacher's; ``margin_mse``, the squared error of positive minus negative (arXiv 2010.02666).
        temperature: the teacher's scores are divided by it, as the student's cosines are by the temperature of the
            contrast: that temperature for a teacher of cosines, 1 for a cross-encoder's logits.
        weight: of this loss; the contrast has the rest, 1 - weight.
    """

    objective: Objective = "kl"
    temperature: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise SpecError(f"distillation: objective={self.objective!r}; choose one of {list(get_args(Objective))}")
        if not (is_number(self.temperature) and math.isfinite(self.temperature) and self.temperature > 0):
            raise SpecError(f"distillation: temperature={self.temperature!r} must be a number above 0")
        if not (is_number(self.weight) and 0 < self.weight <= 1):
            raise SpecError(f"distillation: weight={self.weight!r} must be a number above 0, at most 1")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Distillation:
        """From the mapping of a recipe.

        Raises:
            InputError: an option that does not exist, or no temperature, which only the teacher's scale can give.
        """
        known = [entry.name for entry in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(f"distillation has no option {unknown[0]!r}; it has: {', '.join(known)}")
        if "temperature" not in options:
            raise InputError(
                "distillation needs the temperature by which the teacher's scores are divided: 0.02 for cosines, 1 for the "
                "logits of a cross-encoder"
            )
        return cls(**options)


def distilled(contrast: Tensor, similarity: Tensor, scores: Tensor, temperature: float, chosen: Distillation) -> Tensor:
    """The losses of rows with their distillation mixed in; rows whose scores are not all there keep the contrast alone.

    Args:
        contrast: losses ``[b]`` of the contrast.
        similarity: cosines ``[b, n]`` of each query with its own documents, the positive first.
        scores: float64 ``[b, n]`` of the teacher for the same documents.
        temperature: of the contrast.
        chosen: the objective.
    """
    scored = scores.isfinite().all(dim=1)
    teacher = (torch.where(scored[:, None], scores, 0.0) / chosen.temperature).to(similarity.dtype)
    student = similarity / temperature
    if chosen.objective == "kl":
        both = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
        learnt = F.kl_div(*both, log_target=True, reduction="none").sum(dim=1)
    else:
        gaps = (student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
        learnt = (gaps * temperature).square().mean(dim=1)  # in cosines, whatever the temperature
    return torch.where(scored, (1 - chosen.weight) * contrast + chosen.weight * learnt, contrast)
