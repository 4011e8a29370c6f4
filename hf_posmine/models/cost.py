"""Operations and memory of a transformer, counted from its shape before a job starts.

A product ``[m, k] x [k, n]`` has 2mkn operations. With F frozen and R trained weights in the linear layers of the stack
(embeddings are looked up), T tokens in texts of length L, and H = heads x head size:

- a forward pass has 2 (F + R) T + 4 layers H sum(L^2): attention is two products, queries by keys and weights by values;
- a backward pass has 2 (F + R) T for the gradients of inputs, 2 R T for those of weights, and 8 layers H sum(L^2);
- gradient checkpointing and GradCache each repeat the forward pass.

Not counted: pooling, norms, softmax, the loss. Counted, though the lowest layer does not need it where it is frozen: the
gradient of its input (below 0.4 % at 7B).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

    from hf_posmine.core.types import Rows

SAVED_BYTES = 45
"""Bytes of activations that a token leaves in each layer for the backward pass, per hidden unit and in 16 bits: 181 KiB at
width 4096, measured on Mistral's layer with scaled-dot-product attention. 32 bits take twice as much."""
LAYER_INPUT_BYTES = 2
ADAPTER_BYTES = 4


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a transformer that decide what it costs.

    Attributes:
        frozen: weights in the linear layers of the stack that are not trained.
        trained: those that are.
        layers: of the stack.
        hidden: units of a token's state.
        attention: heads x head size.
        frozen_bytes: of all weights that are not trained, embeddings included.
        trained_bytes: of all that are.
        itemsize: bytes of an activation.
    """

    frozen: int
    trained: int
    layers: int
    hidden: int
    attention: int
    frozen_bytes: int
    trained_bytes: int
    itemsize: int

    @classmethod
    def of(cls, model: nn.Module, config: PretrainedConfig, itemsize: int) -> ModelShape:
        """The shape of a model, with whatever adapters it has; it may be on the meta device."""
        linear = [weight for layer in _linear_layers(model, config.num_hidden_layers) for weight in layer.parameters()]
        linear = [weight for weight in linear if weight.ndim > 1]
        heads = config.num_attention_heads
        head_size = config.to_dict().get("head_dim") or config.hidden_size // heads
        return cls(
            frozen=sum(weight.numel() for weight in linear if not weight.requires_grad),
            trained=sum(weight.numel() for weight in linear if weight.requires_grad),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            attention=heads * head_size,
            frozen_bytes=sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad),
            trained_bytes=sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad),
            itemsize=itemsize,
        )

    @classmethod
    def of_config(cls, config: PretrainedConfig, *, itemsize: int = 2, lora_rank: int | None = None) -> ModelShape:
        """The shape of a configuration, without its weights.

        Args:
            config: of a transformer.
            itemsize: bytes of a weight and of an activation.
            lora_rank: adapters of this rank on all linear layers are trained, in 32 bits; None trains all weights.
        """
        import torch
        from transformers import AutoModel

        with torch.device("meta"):
            model = AutoModel.from_config(config)
        whole, every = cls.of(model, config, itemsize), itemsize * sum(p.numel() for p in model.parameters())
        if lora_rank is None:
            return replace(whole, trained_bytes=every)
        layers = _linear_layers(model, config.num_hidden_layers)
        adapters = lora_rank * sum(layer.in_features + layer.out_features for layer in layers)
        adapter_bytes = ADAPTER_BYTES * adapters
        return replace(whole, frozen=whole.trained, trained=adapters, frozen_bytes=every, trained_bytes=adapter_bytes)

    def forward(self, lengths: Rows) -> float:
        """Operations of a forward pass over texts of these lengths in tokens, int64 ``[m]``."""
        return 2.0 * (self.frozen + self.trained) * float(lengths.sum()) + 4 * self._pairs(lengths)

    def step(self, lengths: Rows, *, repeats: int = 0) -> float:
        """Operations of a forward and a backward pass, where ``repeats`` further forward passes are made."""
        weights = 2.0 * (self.frozen + self.trained) + 2.0 * self.trained
        backward = weights * float(lengths.sum()) + 8 * self._pairs(lengths)
        return (1 + repeats) * self.forward(lengths) + backward

    def encoding_bytes(self, tokens: float) -> float:
        """Memory to encode batches of so many tokens: weights, and one layer's activations."""
        return self.frozen_bytes + self.trained_bytes + tokens * self.hidden * SAVED_BYTES * self._wide

    def training_bytes(self) -> float:
        """Memory of the weights, and of the gradients and the two moments of Adam of those that are trained."""
        return self.frozen_bytes + 4.0 * self.trained_bytes

    def saved_bytes(self, *, checkpointing: bool) -> float:
        """Memory of a token from its forward to its backward pass.

        Gradient checkpointing keeps the input of each layer, and one layer as it is computed.
        """
        saved = LAYER_INPUT_BYTES * self.layers + SAVED_BYTES if checkpointing else SAVED_BYTES * self.layers
        return saved * self._wide * self.hidden

    @property
    def _wide(self) -> float:
        return self.itemsize / 2

    def _pairs(self, lengths: Rows) -> float:
        """Operations of a product of attention, halved."""
        return self.layers * self.attention * float(np.square(lengths.astype(np.float64)).sum())


def _linear_layers(model: nn.Module, layers: int) -> list[nn.Linear]:
    """The linear layers that every token passes: those of the stack, not a pooler's or a head's."""
    from torch import nn

    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == layers]
    return [module for stack in stacks[:1] for module in stack.modules() if isinstance(module, nn.Linear)]
