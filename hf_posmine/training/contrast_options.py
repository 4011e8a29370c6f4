"""Options of the contrast that are rarely given; without torch, since recipes are read before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from hf_posmine.training.distillation import Distillation

Hardness: TypeAlias = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]
Direction: TypeAlias = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
"""Names of sentence-transformers: which similarities are contrasted with that of query and positive."""
SeveralPositives: TypeAlias = Literal["rows", "random", "mean", "log_sum_exp"]
"""How the positives of one query are learnt: in a row each; one at random each time; the mean of their losses; the
log-sum-exp over the pairs of positive and negative (arXiv 2602.12727)."""


class ContrastOptions(TypedDict, total=False):
    """Attributes of :class:`~hf_posmine.training.contrast.Contrast` as keywords of the losses."""

    distillation: Distillation | None
    directions: tuple[Direction, ...]
    hardness_mode: Hardness | None
    hardness_strength: float
    several_positives: SeveralPositives
