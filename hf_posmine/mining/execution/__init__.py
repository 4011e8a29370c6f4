"""The same mining on many machines (Ray), and by several equal processes (accelerate, torchrun, plain variables).

Nothing here schedules: the work is cut into pieces that one process does alone and whose finished files are the
checkpoint, and Ray or the launcher decides who does which. Every machine must see the same files under the same paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.mining.execution.encode_share import Rank
    from hf_posmine.mining.execution.ray import MapWithMiner, mine_on_ray
    from hf_posmine.mining.execution.ray_pool import Workers
    from hf_posmine.mining.execution.shards import read_shards
    from hf_posmine.mining.execution.share import encode_all, mine_share

__all__ = ["MapWithMiner", "Rank", "Workers", "encode_all", "mine_on_ray", "mine_share", "read_shards"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "encode_share": ("Rank",),
        "ray": ("MapWithMiner", "mine_on_ray"),
        "ray_pool": ("Workers",),
        "shards": ("read_shards",),
        "share": ("encode_all", "mine_share"),
    },
)
