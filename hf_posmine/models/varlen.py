"""Attention over a batch without padding: all sequences in one row, each attending to itself alone.

Registered with transformers as ``attn_implementation="posmine_varlen"``. Three ways compute the same:

- on CUDA in half precision (of the weights or of autocast) torch's variable-length kernel,
  :func:`torch.nn.attention.varlen.varlen_attn`;
- on CUDA otherwise, such as with dropout or a soft cap, padded attention, with one warning for each reason;
- on a CPU one product for each sequence, without padding.

A batch that arrives padded goes to transformers' ``sdpa``, or is computed here where there is a soft cap. Windows
(ModernBERT, Gemma) are those of the model's own mask.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

VARLEN = "posmine_varlen"
HALVES = (torch.float16, torch.bfloat16)
MAX_HEAD = 256
"""Widest head of the flash kernel; widths are multiples of 8."""


def register_varlen() -> None:
    """Make ``attn_implementation="posmine_varlen"`` known to transformers; calling it again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, _mask)


def _mask(
    *args: Any,
    attention_mask: torch.Tensor | None = None,
    mask_function: Callable[..., torch.Tensor] | None = None,
    local_size: int | None = None,
    q_length: int = 0,
    **kwargs: Any,
) -> torch.Tensor | int | None:
    """The mask of ``sdpa`` for a padded batch; for an unpadded one how many tokens a window reaches to each side."""
    from transformers.masking_utils import sdpa_mask

    given = {"mask_function": mask_function, "local_size": local_size, "q_length": q_length, **kwargs}
    if attention_mask is not None:
        return sdpa_mask(*args, attention_mask=attention_mask, **given)
    if local_size is None or mask_function is None:
        return None
    # Models count a window with or without its edge, so it is read off their own mask function.
    seen = mask_function(0, 0, torch.tensor(0), torch.arange(min(q_length, local_size + 2)))
    return int(seen.sum()) - 1 if not bool(seen.all()) else None


@dataclass(frozen=True)
class Packed:
    """Where the sequences of an unpadded batch are.

    Attributes:
        borders: int32 ``[sequences + 1]``: where each starts, and the end.
        longest: tokens of the longest; None if not known.
        reach: tokens that a window reaches to each side; None without a window.
    """

    borders: torch.Tensor
    longest: int | None
    reach: int | None


@dataclass(frozen=True)
class Rules:
    """How scores become weights.

    Attributes:
        scaling: factor of the scores; None is ``d ** -0.5``.
        dropout: probability of dropping an attention weight.
        softcap: bound of the scores (Gemma 2).
    """

    scaling: float | None
    dropout: float
    softcap: float | None


def varlen_attention(  # noqa: PLR0913 - the signature transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | int | None,
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
        attention_mask: the reach of a window, or None, in an unpadded batch.
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
    rules = Rules(scaling, dropout, softcap)
    if cu_seq_lens_q is None:
        return _tokens_first(_attend(query, key, value, rules, attention_mask)), None
    reach = attention_mask if isinstance(attention_mask, int) else None
    return _unpadded(query, key, value, rules, Packed(cu_seq_lens_q, max_length_q, reach)), None


def _unpadded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rules: Rules, packed: Packed
) -> torch.Tensor:
    """Choose how an unpadded batch is computed."""
    if not query.is_cuda or packed.longest is None:
        return _tokens_first(_one_by_one(query, key, value, rules, packed))
    query, key, value = (as_autocast(tensor) for tensor in (query, key, value))
    reason = why_not_the_kernel(query, rules, packed)
    if reason is None:
        return _on_kernel(query, key, value, rules, packed)
    warn_once(f"{VARLEN} pads on the GPU: {reason}")
    return _tokens_first(_padded(query, key, value, rules, packed))


def as_autocast(tensor: torch.Tensor) -> torch.Tensor:
    """A float32 tensor in autocast's dtype, where autocast is on: it does not cast for torch's kernel by itself."""
    device = tensor.device.type
    if tensor.dtype != torch.float32 or not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


@functools.cache
def warn_once(message: str) -> None:
    """A warning for the first time that a message comes up in a process."""
    warnings.warn(message, stacklevel=2)


@functools.cache
def kernel_options() -> frozenset[str]:
    """The parameters of torch's variable-length kernel; none where this torch has no such kernel.

    ``scale`` and ``enable_gqa`` came after the kernel, ``window_size`` replaced ``is_causal``.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


def check_kernel() -> None:
    """Warn at load time where batches will be padded on the GPU because torch has no variable-length kernel."""
    if torch.cuda.is_available() and not kernel_options():
        warn_once(f"{VARLEN} pads on the GPU: torch {torch.__version__} has no variable-length kernel; 2.10 has")


def why_not_the_kernel(query: torch.Tensor, rules: Rules, packed: Packed) -> str | None:
    """The reason why torch's kernel cannot be used on a CUDA tensor ``[1, heads, tokens, d]``; None if it can."""
    width = query.shape[-1]
    reasons = {
        f"torch {torch.__version__} has no variable-length kernel; 2.10 has": not kernel_options(),
        f"the kernel takes half precision, not {query.dtype}; train with bf16: true": query.dtype not in HALVES,
        f"the kernel drops no attention weights, and attention_dropout is {rules.dropout}": rules.dropout > 0,
        f"the kernel has no soft cap, and this model has one of {rules.softcap}": rules.softcap is not None,
        f"the kernel takes heads of multiples of 8 up to {MAX_HEAD}, not {width}": width % 8 > 0 or width > MAX_HEAD,
        f"torch {torch.__version__} has no windows in its kernel": packed.reach is not None
        and "window_size" not in kernel_options(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _on_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rules: Rules, packed: Packed
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    known, options = kernel_options(), {}
    if "enable_gqa" in known:
        options["enable_gqa"] = query.shape[1] != key.shape[1]
    else:
        key, value = _for_each_head(query, key), _for_each_head(query, value)
    if "scale" in known:
        options["scale"] = rules.scaling
    elif rules.scaling is not None:
        query = query * (rules.scaling * query.shape[-1] ** 0.5)
    if packed.reach is not None:
        options["window_size"] = (packed.reach, packed.reach)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    borders, longest = packed.borders, int(packed.longest or 0)
    return varlen_attn(q, k, v, borders, borders, longest, longest, **options)[None]


def _one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rules: Rules, packed: Packed
) -> torch.Tensor:
    """Each sequence by itself: ``[1, heads, tokens, d]``."""
    lengths = packed.borders.diff().tolist()
    # split, not tensor_split, whose backward pass adds a gradient of the whole batch for each sequence
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([_attend(q, k, v, rules, _band(q, packed.reach)) for q, k, v in parts], dim=2)


def _band(query: torch.Tensor, reach: int | None) -> torch.Tensor | None:
    """Which tokens of a sequence see each other through a window, bool ``[T, T]``; None without a window."""
    if reach is None:
        return None
    at = torch.arange(query.shape[2], device=query.device)
    return (at[:, None] - at).abs() <= reach


def _padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rules: Rules, packed: Packed) -> torch.Tensor:
    """As :func:`_one_by_one`, in one product over padded sequences, without waiting for the device."""
    at = torch.arange(query.shape[2], device=query.device)
    borders = packed.borders.long()
    sequence = torch.searchsorted(borders[1:], at, right=True)
    place = at - borders[sequence]
    count, longest = len(borders) - 1, int(packed.longest or 0)

    def pad(tensor: torch.Tensor) -> torch.Tensor:
        wide = tensor.new_zeros(count, longest, tensor.shape[1], tensor.shape[3])
        return wide.index_put((sequence, place), tensor[0].transpose(0, 1)).transpose(1, 2)

    mask = (torch.arange(longest, device=query.device) < borders.diff()[:, None])[:, None, None]
    band = _band(pad(query), packed.reach)
    out = _attend(pad(query), pad(key), pad(value), rules, mask if band is None else mask & _or_itself(band, mask))
    return out.transpose(1, 2)[sequence, place].transpose(0, 1)[None]


def _or_itself(band: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A window, opened for the rows of padding: a row that sees nothing would have no softmax."""
    return band | ~mask.transpose(-1, -2)


def _for_each_head(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    repeats = query.shape[1] // key.shape[1]
    return key if repeats == 1 else key.repeat_interleave(repeats, dim=1)


def _tokens_first(out: torch.Tensor) -> torch.Tensor:
    return out.transpose(1, 2).contiguous()


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rules: Rules, mask: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Attention ``[B, heads, T, d]`` of queries to the keys where the mask is true."""
    key, value = _for_each_head(query, key), _for_each_head(query, value)
    if rules.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rules.dropout, scale=rules.scaling
        )
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if rules.scaling is None else rules.scaling)
    scores = rules.softcap * (scores / rules.softcap).tanh()
    if isinstance(mask, torch.Tensor):
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # a row of padding may see no key at all
    weights = scores.float().softmax(dim=-1).to(query.dtype)
    return F.dropout(weights, rules.dropout, training=rules.dropout > 0) @ value


def without_padding(features: dict[str, Any]) -> dict[str, Any]:
    """A padded batch as one row of all its tokens.

    Every tensor ``[B, T]`` becomes ``[1, tokens]``; ``position_ids``, ``seq_idx`` and ``cu_seq_lens_*`` tell which token
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
