"""The last layer of a cross-encoder for the token whose state it scores, and for no other.

BERT and its relatives score a pair by the last state of its first token. Tokens meet in a layer's attention alone, so what
follows it in the last layer, three quarters of the layer's products, need not be computed for the others. Which models are
built so is found out by running them: both ways must give the same scores.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from sentence_transformers import CrossEncoder

BEHIND_ATTENTION = ".attention.output"
"""The end of the name of what follows a layer's attention in BERT, RoBERTa, XLM-RoBERTa, ELECTRA, DeBERTa and others."""
PROBES = [("which city", "Paris lies on the Seine"), ("who wrote it", "a letter to the editor that nobody signed")]
CLOSE = 2e-5
"""By less than this, two ways to a float32 score differ that are the same."""
ROWS = 64
"""Pairs that a head sees at a time on a CPU, at most. Fewer are filled up: products of other shapes have other last bits."""
SINGLE = 4
"""Bytes of a float32."""
_cuts: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()
"""What follows the last attention of a model -> whether it may see first tokens alone."""


@contextlib.contextmanager
def first_token_alone(model: CrossEncoder) -> Iterator[bool]:
    """While entered, a model computes what follows its last attention for first tokens alone, if it scores by these.

    It then does so for 64 pairs at least: fewer are filled up with the first, so that a score depends on its pair alone, and the
    scores of a batch come first.

    Args:
        model: any; one that reads other tokens, or computes in half precision, runs as it does.

    Yields:
        Whether it does so.
    """
    last = next((module for name, module in _last_first(model) if name.endswith(BEHIND_ATTENTION)), None)
    if last is not None and last not in _cuts:
        _cuts[last] = _same_when_cut(model, last)
    if last is None or not _cuts[last]:
        yield False
        return
    with _cut(last):
        yield True


def _last_first(model: CrossEncoder) -> list[tuple[str, torch.nn.Module]]:
    return list(model.named_modules())[::-1]


def _same_when_cut(model: CrossEncoder, last: torch.nn.Module) -> bool:
    whole = _logits(model)
    if whole.dtype.itemsize < SINGLE:
        return False
    try:
        with _cut(last):
            alone = _logits(model)[: len(PROBES)]
    except (RuntimeError, IndexError, ValueError):  # a layer or a head that wants the state of every token
        return False
    return whole.shape == alone.shape and bool(((whole - alone).abs() <= CLOSE).all())


def _logits(model: CrossEncoder) -> torch.Tensor:
    import torch

    read = model.preprocess(PROBES)
    with torch.inference_mode():
        scores = model({k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in read.items()})["scores"]
    return scores  # type: ignore[no-any-return]


@contextlib.contextmanager
def _cut(last: torch.nn.Module) -> Iterator[None]:
    handle = last.register_forward_pre_hook(_of_first_tokens)
    try:
        yield
    finally:
        handle.remove()


def _of_first_tokens(_: torch.nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Of states ``[B, T, H]`` those of first tokens, ``[max(B, 64), 1, H]``."""
    return tuple(_filled(of_tokens[:, :1]) for of_tokens in states)


def _filled(rows: torch.Tensor) -> torch.Tensor:
    if len(rows) >= ROWS:
        return rows
    filled = rows[:1].repeat(ROWS, 1, 1)
    filled[: len(rows)] = rows
    return filled
