"""A stage on two processes without a GPU, by DDP, with FSDP2 or ZeRO-3: `torchrun -m tests.support.sharded_runs CONFIG RECIPE...`.

accelerate shards on accelerators only; here it is told to on the CPU, with everything else as its configuration has it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from hf_posmine.training.recipe import read_recipe
from hf_posmine.training.stage import run_stage


def as_launched(config: Path) -> None:
    """Set what ``accelerate launch --config_file`` sets for FSDP and DeepSpeed."""
    said = yaml.safe_load(config.read_text("utf8"))
    if said["distributed_type"] == "DEEPSPEED":
        os.environ |= {"ACCELERATE_USE_DEEPSPEED": "true", "DS_ACCELERATOR": "cpu"}
        os.environ |= {f"ACCELERATE_DEEPSPEED_{k.upper()}": str(v).lower() for k, v in said["deepspeed_config"].items()}
        zero_on_the_cpu()
        return
    if said["distributed_type"] != "FSDP":
        return
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    for key, value in said["fsdp_config"].items():
        os.environ[key.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    shard_on_the_cpu()


def shard_on_the_cpu() -> None:
    """Let accelerate take FSDP where it has found several CPU processes."""
    init = AcceleratorState.__init__

    def sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = sharded


def zero_on_the_cpu() -> None:
    """Let accelerate find several CPU processes where it takes DeepSpeed, which it does for accelerators only."""
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_CPU)


def main(config: str, *recipes: str) -> None:
    """Run stages one after the other in the same processes."""
    as_launched(Path(config))
    for recipe in recipes:
        run_stage(read_recipe(recipe))


if __name__ == "__main__":
    main(*sys.argv[1:])
