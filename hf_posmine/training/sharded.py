"""A student whose weights are spread over processes (FSDP2, ZeRO-3), and its whole copy on the process that saves.

A sharded weight has no storage to write, and a model class changes when it is sharded. So the process that saves keeps a
copy of the student in its memory, from before: it takes the gathered weights, and is what is saved and merged.
"""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from accelerate.utils import DeepSpeedPlugin

    from hf_posmine.models.instruct import InstructSentenceTransformer


class WholeCopy:
    """The student on one process, beside its shards.

    Args:
        model: the student, before it is sharded.
        keeps: whether this process keeps a copy; the others take part in gathering and spreading.
    """

    def __init__(self, model: InstructSentenceTransformer, keeps: bool) -> None:
        self.model: InstructSentenceTransformer | None = None
        if keeps:
            card = copy.copy(model.model_card_data)
            self.model = copy.deepcopy(model, {id(model.model_card_data): card}).cpu()
            card.register_model(self.model)

    def gathered(self, live: torch.nn.Module) -> InstructSentenceTransformer | None:
        """The copy with the weights of the shards, on the process that keeps it; all processes call this."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        weights = get_model_state_dict(live, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if self.model is not None:
            self.model.load_state_dict(weights)
        return self.model

    def spread(self, live: torch.nn.Module, load: Callable[[InstructSentenceTransformer], None]) -> None:
        """Load weights into the copy, and from there into the shards; all processes call this."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        if self.model is not None:
            load(self.model)
        weights = {} if self.model is None else self.model.state_dict()
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(live, weights, options=options)


class ZeroCopy(WholeCopy):
    """As :class:`WholeCopy` for DeepSpeed's ZeRO-3, which gathers one weight at a time.

    Args:
        model: the student, before it is spread.
        keeps: as there.
        plugin: DeepSpeed's part of the trainer's arguments.
    """

    def __init__(self, model: InstructSentenceTransformer, keeps: bool, plugin: DeepSpeedPlugin) -> None:
        super().__init__(model, keeps)
        self.plugin = plugin

    def gathered(self, live: torch.nn.Module) -> InstructSentenceTransformer | None:
        """As there."""
        for weight, copied in self._gathering(live, None):
            copied.data.copy_(weight.data)
        return self.model

    def spread(self, live: torch.nn.Module, load: Callable[[InstructSentenceTransformer], None]) -> None:
        """As there."""
        if self.model is not None:
            with loading_whole(self.plugin):
                load(self.model)
        for weight, copied in self._gathering(live, 0):
            weight.data.copy_(copied.data)

    def _gathering(self, live: torch.nn.Module, changed_by: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each weight while it is gathered and that of the copy, on the process that keeps it; the others only take part."""
        from deepspeed.runtime.zero import GatheredParameters

        whole = None if self.model is None else dict(self.model.named_parameters())
        for name, weight in live.named_parameters():
            with GatheredParameters([weight], modifier_rank=changed_by):
                if whole is not None:
                    yield weight, whole[name]


@contextlib.contextmanager
def loading_whole(plugin: DeepSpeedPlugin | None) -> Iterator[None]:
    """Load the student whole on each process; with ZeRO-3 transformers would spread it before it is checked and copied.

    Args:
        plugin: DeepSpeed's part of the trainer's arguments; None without it.
    """
    if plugin is None:
        yield
        return
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        plugin.set_deepspeed_weakref()
