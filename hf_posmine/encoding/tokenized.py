"""Texts as token ids, tokenised once: their lengths plan the batches, and the batches are cut from the same ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from hf_posmine.core.types import Rows

CHUNK = 256
MASK = "attention_mask"


@runtime_checkable
class Pads(Protocol):
    """A tokenizer that pads batches."""

    pad_token_id: int | None
    pad_token_type_id: int
    padding_side: str


@runtime_checkable
class Encodings(Protocol):
    """Features as a fast tokenizer gives them: with an encoding of each text, which holds the tokens that were cut off."""

    encodings: Sequence[Any] | None


@dataclass(frozen=True)
class TokenizedTexts:
    """The features of texts without their padding.

    Attributes:
        lengths: int64 ``[N]``, tokens of each text.
        starts: int64 ``[N]``, its first token.
        values: per feature int32 ``[sum of lengths]``.
        padding: per feature the value of padding.
        left: whether padding comes first.
        others: what the features of every batch hold besides.
        cut: how many texts are longer than what the model reads; None where its tokenizer does not say.
    """

    lengths: Rows
    starts: Rows
    values: dict[str, np.ndarray]
    padding: dict[str, int]
    left: bool
    others: dict[str, Any]
    cut: int | None

    @classmethod
    def of(
        cls, texts: Sequence[Any], preprocess: Callable[[list[Any]], dict[str, Any]], tokenizer: Pads
    ) -> TokenizedTexts | None:
        """Preprocess all texts; None where the model makes something else of them than padded rows of tokens.

        Args:
            texts: as the model takes them.
            preprocess: features of a batch.
            tokenizer: the model's, which pads.
        """
        if tokenizer.pad_token_id is None:
            return None
        padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id, MASK: 0}
        # little padding within a chunk; a pair of texts is as long as both
        order = np.argsort([len(t) if isinstance(t, str) else sum(map(len, t)) for t in texts], kind="stable")
        lengths, parts = np.zeros(len(texts), np.int64), list[dict[str, np.ndarray]]()
        others: dict[str, Any] = {}
        cut: list[int | None] = []
        for at in range(0, len(order), CHUNK):
            rows = order[at : at + CHUNK]
            features = preprocess([texts[i] for i in rows.tolist()])
            tensors = {name: v.numpy() for name, v in features.items() if name in padding}
            rest = {name: v for name, v in features.items() if name not in padding}
            mask = tensors.get(MASK)
            simple = all(isinstance(value, (str, int)) for value in rest.values())
            if mask is None or mask.ndim != 2 or not simple or (parts and rest != others):  # noqa: PLR2004 - [m, T]
                return None
            here = mask == 1
            lengths[rows], others = here.sum(axis=1), rest
            if mask.shape != (len(rows), lengths[rows].max()) or not _padded_as(tensors, here, padding):
                return None
            cut.append(_longer(features))
            parts.append({name: v[here].astype(np.int32) for name, v in tensors.items() if name != MASK})
        starts = np.empty(len(texts), np.int64)
        starts[order] = np.cumsum(lengths[order]) - lengths[order]
        values = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
        total = None if None in cut else sum(count or 0 for count in cut)
        return cls(lengths, starts, values, padding, tokenizer.padding_side == "left", others, total)

    def features(self, rows: Rows, longest: int | None = None) -> dict[str, Any]:
        """The features of a batch: what ``preprocess`` makes of these texts, by default as wide as the longest."""
        import torch

        lengths = self.lengths[rows]
        longest = longest or int(lengths.max())
        columns = np.arange(longest) - (longest - lengths[:, None] if self.left else 0)
        here = (columns >= 0) & (columns < lengths[:, None])  # [m, longest]
        at = np.where(here, self.starts[rows][:, None] + columns, 0)
        made: dict[str, torch.Tensor] = {
            name: torch.from_numpy(np.where(here, values[at], self.padding[name]).astype(np.int64))
            for name, values in self.values.items()
        }
        return {**self.others, **made, MASK: torch.from_numpy(here.astype(np.int64))}


def _longer(features: object) -> int | None:
    """How many texts of a batch lost tokens; None where that is not known."""
    if not isinstance(features, Encodings) or features.encodings is None:
        return None
    return sum(bool(encoding.overflowing) for encoding in features.encodings)


def _padded_as(tensors: dict[str, np.ndarray], here: np.ndarray, padding: dict[str, int]) -> bool:
    """Whether all features have a value per token, and padding is what it is taken for."""
    return all(v.shape == here.shape and (v[~here] == padding[name]).all() for name, v in tensors.items())
