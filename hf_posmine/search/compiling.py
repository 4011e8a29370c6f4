"""Compile the loops of a large search while texts are encoded."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from hf_posmine.search import kernels
from hf_posmine.search.product_speed import TYPICAL_DIMENSIONS, quickest_rounding
from hf_posmine.search.scan_cpu import warm_up
from hf_posmine.utils.progress import note

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def compiling(pairs: int) -> Iterator[None]:
    """Compile in a thread while the block runs, where so many pairs are worth it; the loops are ready after the block.

    Where that takes longer than the block, a line is printed, and no progress bar counts the time.

    Args:
        pairs: of a query and a document that will be compared.
    """
    if not kernels.AVAILABLE or kernels.ready() or pairs < kernels.WORTH_COMPILING:
        yield
        return
    rounding = quickest_rounding(TYPICAL_DIMENSIONS)  # asked here, because the answer sets torch's threads for a moment
    thread = threading.Thread(target=warm_up, args=(rounding,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            note("compiling the loops of the search; later runs on this machine load them from disk")
        thread.join()
