"""Failures that a test orders from the loopback Hub, and the log of what was asked of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

ACTIONS = re.compile(r"(status|cut_after|truncate|truncate_rst):\d+|sleep:[\d.]+|cut|lose_response|no_space")


@dataclass
class Fault:
    """The next ``times`` requests of ``method`` whose path matches fail; ``after`` of them pass unharmed first.

    ``path`` is a substring of path?query, or a compiled pattern searched in it. ``times=None`` is for ever. Actions:

    - ``status:N``: answer N, nothing is applied.
    - ``no_space``: 507, what a storage that is full answers to a PUT.
    - ``cut``: the request is read, nothing is applied, the connection is reset.
    - ``cut_after:N``: it is reset after N bytes of the request's body; 0 is before the body.
    - ``truncate:N``, ``truncate_rst:N``: the request is applied; N bytes of the answer's body are sent, then the
      connection is closed (a proxy that gave up) or reset (a crash).
    - ``lose_response``: the request is applied, then the connection is reset without a byte.
    - ``sleep:S``: served after S seconds.
    """

    method: str
    path: str | re.Pattern[str]
    action: str
    times: int | None = 1
    after: int = 0
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if not ACTIONS.fullmatch(self.action):
            raise ValueError(f"no fault is called {self.action!r}; see the docstring of Fault")

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request fails; counts it."""
        found = self.path in path if isinstance(self.path, str) else self.path.search(path) is not None
        if self.method != method or not found:
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass(frozen=True)
class Exchange:
    """A request and its end: the status that was answered, or 0 when the connection was cut before one."""

    method: str
    path: str
    user: str | None
    status: int
    fault: str | None = None
