"""Progress bars, switched as ``datasets`` switches its own (``datasets.disable_progress_bars()``)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def progress_bar(total: int | None, description: str, unit: str) -> Any:
    """A tqdm bar that obeys the switch of ``datasets``."""
    from datasets.utils import tqdm

    return tqdm(total=total, desc=description, unit=f" {unit}s", dynamic_ncols=True)


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Silence the bars of ``datasets`` for steps inside a step that shows its own."""
    import datasets

    shown = datasets.is_progress_bar_enabled() if hasattr(datasets, "is_progress_bar_enabled") else True
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
