"""Codes of documents in groups of 8, two numbers of each in turn: what a compiled product reads one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

GROUP = 8
"""Documents of a group."""


def grouped(codes: np.ndarray) -> np.ndarray:
    """Codes ``[N, p]`` in groups of 8 rows, two numbers of each row in turn; rows behind the last whole group as they are.

    >>> import numpy as np
    >>> grouped(np.arange(32).reshape(8, 4))[0].tolist()
    [0, 1, 4, 5]
    """
    return _swapped(codes, (GROUP, codes.shape[1] // 2))


def ungrouped(codes: np.ndarray) -> np.ndarray:
    """The inverse of :func:`grouped`."""
    return _swapped(codes, (codes.shape[1] // 2, GROUP))


def _swapped(codes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    whole = len(codes) // GROUP * GROUP
    made = codes.copy()
    made[:whole] = codes[:whole].reshape(whole // GROUP, *shape, 2).transpose(0, 2, 1, 3).reshape(whole, codes.shape[1])
    return made
