"""Options of the contrast that are rarely given; without torch, since recipes are read before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from hf_posmine.training.distillation import Distillation

Hardness: TypeAlias = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]
Direction: TypeAlias = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
"""Names of sentence-transformers: which similarities are contrasted with that of query and positive."""


class ContrastOptions(TypedDict, total=False):
    """Attributes of :class:`~hf_posmine.training.contrast.Contrast` as keywords of the losses."""

    distillation: Distillation | None
    directions: tuple[Direction, ...]
    hardness_mode: Hardness | None
    hardness_strength: float
