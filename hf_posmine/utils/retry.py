"""One loop for all that is tried again after a pause: services and the Hub.

Both decide by what failed, how often, and what the other side asks for, and say so in one function each. So a loop of six
lines serves them, and no library is needed.
"""

from __future__ import annotations

import random
from time import sleep
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def retry(call: Callable[[], T], pause: Callable[[Exception], float]) -> T:
    """The result of ``call``, which is run again as long as ``pause`` allows.

    Args:
        call: running it again must be harmless.
        pause: takes the error of an attempt, and gives the seconds until the next one or raises.
    """
    while True:
        try:
            return call()
        except Exception as error:
            seconds = pause(error)
        sleep(seconds)


def backoff(attempt: int, first: float, longest: float) -> float:
    """Seconds before another attempt: twice as long each time, and up to half more or less, so that clients spread.

    >>> 1.0 <= backoff(2, 0.5, 60) <= 3.0
    True
    """
    return min(longest, first * 2**attempt) * (0.5 + random.random())
