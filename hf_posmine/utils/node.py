"""GPUs that a job is planned for: how long they take for so many operations."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from hf_posmine.core.errors import InputError

PEAKS = {"A100": 312, "H100": 989, "H200": 989, "L4": 121, "L40S": 362}
"""TFLOP/s of dense products in 16 bits, from NVIDIA's data sheets (SXM where there are several)."""
USED = 0.4
SPELLING = re.compile(r"(\d+)x([A-Za-z]\w*|\d+(?:\.\d+)?)(?:@(0?\.\d+|1))?")


ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Devices of NVIDIA's and AMD's drivers, and of Windows' for its Linux."""


def has_accelerator() -> bool:
    """Whether torch may find an accelerator on this machine; known without it."""
    return sys.platform in ("darwin", "win32") or any(Path(name).exists() for name in ACCELERATORS)


@dataclass(frozen=True)
class Node:
    """GPUs of one kind.

    Attributes:
        gpus: how many.
        kind: their name, or their peak in TFLOP/s.
        peak: operations a second of each, at most.
        used: share of the peak that is reached; 0.4 is assumed, not measured.
    """

    gpus: int
    kind: str
    peak: float
    used: float = USED

    @classmethod
    def parse(cls, text: str) -> Node:
        """From a spelling such as ``8xA100``, ``8xA100@0.5`` (half of the peak is reached) or ``4x400`` (TFLOP/s each).

        Raises:
            InputError: another spelling, or a GPU whose peak is not known here.

        >>> round(Node.parse("8xA100").hours(1e18), 3)
        0.278
        >>> str(Node.parse("4x400@0.5"))
        '4 GPUs of 400 TFLOP/s, 50 % of it used'
        """
        found = SPELLING.fullmatch(text.strip())
        gpus, kind, used = ("0", "", None) if found is None else (found[1], found[2].upper(), found[3])
        if kind[:1].isalpha() and kind not in PEAKS:
            raise InputError(f"node={text!r}: there are {', '.join(PEAKS)}, or a peak in TFLOP/s, such as {gpus}x400")
        peak = PEAKS[kind] if kind in PEAKS else float(kind or 0)
        if not int(gpus) or not peak or not float(used or USED):
            raise InputError(
                f"node={text!r}; expected a number of GPUs and their kind, such as 8xA100 or 4x400 (TFLOP/s)"
            )
        return cls(int(gpus), kind, peak * 1e12, USED if used is None else float(used))

    def hours(self, operations: float) -> float:
        """Hours for so many operations."""
        return operations / (self.gpus * self.peak * self.used) / 3600

    def time(self, operations: float) -> str:
        """The hours as people read them, and what they are taken from."""
        return f"about {show_duration(3600 * self.hours(operations))} on {self}"

    def __str__(self) -> str:
        known = f"{self.kind} of " if self.kind in PEAKS else "GPUs of "
        return f"{self.gpus} {known}{self.peak / 1e12:g} TFLOP/s, {self.used:.0%} of it used".replace("%", " %")


def show_duration(seconds: float | None) -> str:
    """Seconds as people read them.

    >>> [show_duration(s) for s in (None, 0, 7.3, 90, 5400, 200_000)]
    ['?', '', '7 s', '1.5 min', '1.5 h', '2.3 days']
    """
    if seconds is None:
        return "?"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.0f} s" if seconds >= 0.5 else ("under 1 s" if seconds else "")  # noqa: PLR2004
    for unit, length, most in (("min", 60, 3600), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86_400:,.1f} days"
