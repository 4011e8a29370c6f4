"""Numbers as users write them: a bool is not a number, and numbers of numpy are."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError, PosmineError

if TYPE_CHECKING:
    from typing import TypeGuard


def is_whole(value: object, least: float = -math.inf, most: float = math.inf) -> TypeGuard[int]:
    """Whether it is a whole number from ``least`` to ``most``.

    >>> is_whole(3, least=1), is_whole(True), is_whole(3.0), is_whole(0, least=1)
    (True, False, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) <= most


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; one that no float can hold is not.

    >>> is_number(0.5), is_number(2), is_number(False), is_number(math.nan), is_number(10**400)
    (True, True, False, False, False)
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def whole(name: str, value: object, least: int = 0, error: type[PosmineError] = InputError) -> int:
    """A whole number of at least ``least`` as an int.

    Raises:
        PosmineError: of the class ``error``; naming the option, its value and what is expected.
    """
    if not is_whole(value, least):
        raise error(f"{name}={value!r}; expected a whole number of at least {least}")
    return int(value)
