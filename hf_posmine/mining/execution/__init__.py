"""The same mining on many machines (Ray), and encoding by several processes (accelerate, torchrun, plain variables).

Nothing here schedules: the work is cut into pieces that one process does alone and whose finished files are the
checkpoint, and Ray or the launcher decides who does which. Every machine must see the same files under the same paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.mining.execution.ray import MapWithMiner, mine_on_ray
    from hf_posmine.mining.execution.ray_pool import Workers
    from hf_posmine.mining.execution.shards import read_shards

__all__ = ["MapWithMiner", "Workers", "mine_on_ray", "read_shards"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ray": (
            "MapWithMiner",
            "mine_on_ray",
        ),
        "ray_pool": ("Workers",),
        "shards": ("read_shards",),
    },
)
