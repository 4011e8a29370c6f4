"""Print versions and what this machine offers: paste it into a bug report."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.show import show

if TYPE_CHECKING:
    import argparse

HELP = "versions and what this machine offers"
EXAMPLES = "example:\n  hf-posmine env\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine env``."""
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print the environment, a line each."""
    import torch

    from hf_posmine.encoding.linear_layers import by_onednn
    from hf_posmine.mining.provenance import versions
    from hf_posmine.search import kernels
    from hf_posmine.utils.files import cache_root

    lines = versions() | {
        "platform": platform.platform(),
        "processors": str(os.cpu_count()),
        "cuda devices": str(torch.cuda.device_count()),
        "compiled scan": "yes" if kernels.AVAILABLE else "no (pip install 'hf-posmine[fast]')",
        "products of the search": _products() if kernels.AVAILABLE else "float32",
        "linear layers on a CPU": "oneDNN" if by_onednn() else "as torch computes them",
        "cache": str(cache_root()),
        "offline": os.environ.get("HF_POSMINE_OFFLINE", "0"),
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        show(f"{name:<{width}}  {value}")


def _products() -> str:
    """What a compiled search multiplies on this processor."""
    from hf_posmine.search.exact import SLOW
    from hf_posmine.search.product_speed import TYPICAL_DIMENSIONS, int16_share, quickest_rounding

    rounding = quickest_rounding(TYPICAL_DIMENSIONS)
    if rounding is not None:
        return rounding
    share = int16_share(TYPICAL_DIMENSIONS)
    return f"{'16-bit' if share <= SLOW else 'float32'} (16-bit ones take {share:.2f} of float32's time)"
