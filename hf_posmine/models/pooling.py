"""The mean over the text alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.sentence_transformer.modules.pooling import Pooling

from hf_posmine.core.errors import InputError
from hf_posmine.models.transformer import MASK

if TYPE_CHECKING:
    import torch


class InstructionPooling(Pooling):
    """Pools like its parent, but leaves the tokens of each row's instruction out of the mean (paper, section 3).

    It works on padded batches and on unpadded ones, and sums in float32. ``include_prompt=True`` pools instructions too.
    """

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """``sentence_embedding`` ``[B, d]`` from ``token_embeddings`` ``[B, T, d]`` or ``[1, tokens, d]``."""
        mask = features.get(MASK)
        if mask is None or self.include_prompt or self.pooling_mode == "lasttoken":
            return super().forward(features, **kwargs)
        if self.pooling_mode != "mean":
            raise InputError(
                f"instructions are left out of a mean, not of pooling_mode={self.pooling_mode!r}; use 'mean', or "
                "include_prompt=True to pool the instructions too"
            )
        embeddings = features["token_embeddings"]
        if "cu_seq_lens_q" in features:
            pooled = _flat_mean(embeddings[0], 1 - mask[0], features)
        else:
            pooled = _padded_mean(embeddings, features["attention_mask"] * (1 - mask))
        features["sentence_embedding"] = pooled.to(embeddings.dtype)
        return features


def _padded_mean(embeddings: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    weights = keep[..., None].to(embeddings.dtype)
    total = (embeddings * weights).sum(dim=1, dtype=_accumulator(embeddings))
    return total / keep.sum(dim=1, keepdim=True)


def _flat_mean(embeddings: torch.Tensor, keep: torch.Tensor, features: dict[str, Any]) -> torch.Tensor:
    sequence = features["seq_idx"][0].long()
    count = features["cu_seq_lens_q"].shape[0] - 1
    kept = (embeddings * keep[:, None].to(embeddings.dtype)).to(_accumulator(embeddings))
    total = kept.new_zeros((count, embeddings.shape[1])).index_add(0, sequence, kept)
    tokens = kept.new_zeros(count).index_add(0, sequence, keep.to(kept.dtype))
    return total / tokens[:, None]


def _accumulator(embeddings: torch.Tensor) -> torch.dtype:
    import torch

    return torch.float32 if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings.dtype
