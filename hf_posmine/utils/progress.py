"""Progress: bars that are switched as ``datasets`` and ``transformers`` switch theirs, or JSON lines for logs.

``HF_POSMINE_PROGRESS=json`` writes a line to stderr every ten seconds and at the end of every step, also in worker processes
and whether or not ``datasets`` shows its bars.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm.std import tqdm as std_tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "HF_POSMINE_PROGRESS"
SECONDS = 10.0
"""Between two lines of one step."""


def progress_bar(total: int | None, description: str, unit: str) -> Any:
    """A tqdm bar that obeys the switches of ``datasets`` and ``transformers``, or what writes JSON lines instead."""
    from datasets.utils import tqdm

    if os.environ.get(VARIABLE) == "json":
        return JsonProgress(total=total, desc=description, unit=unit, mininterval=SECONDS)
    return tqdm(total=total, desc=description, unit=f" {unit}s", dynamic_ncols=True, disable=_hidden())


def note(line: str) -> None:
    """Write a line to stderr where bars are shown, above those that are; as JSON where they are JSON lines."""
    from datasets.utils import are_progress_bars_disabled

    if os.environ.get(VARIABLE) == "json":
        print(json.dumps({"time": _now(), "note": line}), file=sys.stderr, flush=True)  # noqa: T201 - the log
    elif not are_progress_bars_disabled() and not _hidden():
        std_tqdm.write(line, file=sys.stderr)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _hidden() -> bool:
    """Whether ``transformers``, where it is loaded, is set to show no bars."""
    logging = sys.modules.get("transformers.utils.logging")
    return logging is not None and not logging.is_progress_bar_enabled()


class JsonProgress(std_tqdm):
    """A bar whose every refresh is one line of JSON on stderr: step, done, total, unit, rate, seconds passed and left."""

    monitor_interval = 0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, file=_Nowhere(), miniters=1, disable=False)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write the line; ``msg`` and ``pos`` are for bars."""
        state = self.format_dict
        rate = state["rate"] or (self.n / state["elapsed"] if state["elapsed"] else None)
        left = (self.total - self.n) / rate if rate and self.total is not None else None
        line = {
            "time": _now(),
            "step": self.desc.removesuffix(": "),
            "done": self.n,
            "total": self.total,
            "unit": self.unit,
            "per_second": _rounded(rate),
            "seconds": _rounded(state["elapsed"]),
            "seconds_left": _rounded(left),
        }
        print(json.dumps(line), file=sys.stderr, flush=True)  # noqa: T201 - the log
        return True


class _Nowhere:
    """Takes what a bar draws around its lines."""

    def write(self, _: str) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Silence the bars of ``datasets`` for steps inside a step that shows its own."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
