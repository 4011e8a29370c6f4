"""Attention over a batch without padding: all sequences in one row, each attending to itself alone.

Registered with transformers as ``attn_implementation="posmine_varlen"``. On CUDA in half precision it is torch's own
variable-length kernel (:func:`torch.nn.attention.varlen.varlen_attn`); elsewhere, and for what the kernel does not do,
one exact product for each sequence. A padded batch goes to transformers' ``sdpa``, or is computed exactly.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from hf_posmine.core.errors import InputError

VARLEN = "posmine_varlen"


def register_varlen() -> None:
    """Make ``attn_implementation="posmine_varlen"`` known to transformers; twice does no harm."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, _mask)


def _mask(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
    """No mask without padding: sequences are kept apart by their borders; otherwise the mask of ``sdpa``."""
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def varlen_attention(  # noqa: PLR0913 - the signature transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Bidirectional attention within each sequence.

    Args:
        module: the attention layer.
        query: ``[1, heads, tokens, d]``, all sequences one after the other.
        key: ``[1, key heads, tokens, d]``.
        value: ``[1, key heads, tokens, d]``.
        attention_mask: None in an unpadded batch.
        scaling: factor of the scores, by default ``d ** -0.5``.
        dropout: probability of dropping an attention weight.
        softcap: bound of the scores (Gemma 2).
        is_causal: must be False in an unpadded batch.
        cu_seq_lens_q: where each sequence starts, and the end; int32 ``[sequences + 1]``. None: a padded batch.
        max_length_q: tokens of the longest sequence.
        kwargs: passed to ``sdpa`` for padded batches.

    Returns:
        ``[1, tokens, heads, d]`` and None.

    Raises:
        InputError: a causal layer.
    """
    if cu_seq_lens_q is None and softcap is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
        )
    if getattr(module, "is_causal", False) if is_causal is None else is_causal:
        raise InputError(
            f"{VARLEN} attends in both directions, but {type(module).__name__} is causal; build the model with "
            "bidirectional_encoder, or choose another attn_implementation"
        )
    if cu_seq_lens_q is not None and max_length_q is not None and _kernel_takes(query, dropout, softcap):
        return _on_kernel(query, key, value, scaling, cu_seq_lens_q, int(max_length_q)), None
    attend = partial(_attend, scaling=scaling, dropout=dropout, softcap=softcap)
    key, value = _for_each_head(query, key), _for_each_head(query, value)
    if cu_seq_lens_q is None:
        return attend(query, key, value, mask=attention_mask).transpose(1, 2).contiguous(), None
    lengths = cu_seq_lens_q.diff().tolist()
    sequences = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([attend(*sequence) for sequence in sequences], dim=2).transpose(1, 2).contiguous(), None


def _kernel_takes(query: torch.Tensor, dropout: float, softcap: float | None) -> bool:
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout and softcap is None


def _on_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    borders: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen_attn(q, k, v, borders, borders, longest, longest, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return out[None]


def _for_each_head(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    repeats = query.shape[1] // key.shape[1]
    return key if repeats == 1 else key.repeat_interleave(repeats, dim=1)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * (scores / softcap).tanh()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return F.dropout(scores.float().softmax(dim=-1).to(query.dtype), dropout, training=dropout > 0) @ value


def without_padding(features: dict[str, Any]) -> dict[str, Any]:
    """A padded batch as one row of all its tokens.

    Every tensor ``[B, T]`` becomes ``[1, tokens]``; ``position_ids``, ``seq_idx`` and ``cu_seq_lens_*`` say which token
    belongs where, under the names that sentence-transformers and transformers use for flash attention.
    """
    attended = features["attention_mask"].bool()
    lengths = attended.sum(dim=1)
    borders = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    flat = {
        name: value[attended][None] if isinstance(value, torch.Tensor) and value.shape[:2] == attended.shape else value
        for name, value in features.items()
        if name != "attention_mask"
    }
    longest = int(lengths.max())
    return {
        **flat,
        "position_ids": (torch.arange(int(borders[-1])) - borders[sequence])[None],
        "seq_idx": sequence[None].int(),
        "cu_seq_lens_q": borders.int(),
        "cu_seq_lens_k": borders.int(),
        "max_length_q": longest,
        "max_length_k": longest,
    }
