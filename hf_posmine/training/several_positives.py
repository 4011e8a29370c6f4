"""The loss of a row with several positives, from how it scores them and what they are contrasted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hf_posmine.training.contrast_options import SeveralPositives


def positive_losses(own: Tensor, against: Tensor, distinct: Tensor, how: SeveralPositives) -> Tensor:
    """The loss ``[b]`` of each row, which is InfoNCE where it has one positive.

    ``mean``: the mean over the positives p of InfoNCE of p, ``log(1 + sum_n exp(s_n - s_p))``, without the other positives
    among the candidates. ``log_sum_exp``: over all pairs in one sum, ``log(1 + sum_p sum_n exp(s_n - s_p))`` (LSEPair of
    arXiv 2602.12727): the gradient goes to the positives that score lowest.

    Args:
        own: logits ``[b, P]`` of the positives.
        against: ``[b, P]``, of :func:`log_total`: what each positive is contrasted with.
        distinct: bool ``[b, P]``, false where a positive only fills the row; at least one of a row is true.
        how: ``mean`` or ``log_sum_exp``.
    """
    behind = against - own
    nothing = behind.new_zeros(())
    if how == "mean":
        losses = torch.logaddexp(behind, nothing)
        return torch.where(distinct, losses, nothing).sum(dim=1) / distinct.sum(dim=1)
    return torch.logaddexp(behind.masked_fill(~distinct, _floor(behind)).logsumexp(dim=1), nothing)


def log_total(logits: Tensor) -> Tensor:
    """Log of the sum of exponentials ``[b]`` of candidates ``[b, m]``, of which -inf are none.

    A row without any candidate gets a large negative number, not -inf, whose gradient would be NaN.
    """
    return logits.masked_fill(logits == -torch.inf, _floor(logits)).logsumexp(dim=1)


def _floor(values: Tensor) -> float:
    return torch.finfo(values.dtype).min / 4
