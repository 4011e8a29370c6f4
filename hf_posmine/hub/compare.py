"""Values and rows of a repository compared with those that mining gives again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = 1e-4
"""Scores of another machine or batch differ in their last bits."""


def same(one: object, two: object) -> bool:
    """Whether two values are equal; numbers with a fraction within the tolerance.

    >>> same([0.5, {"a": 1}], [0.500001, {"a": 1}]), same([0.5], [0.6]), same(1, True)
    (True, False, False)
    """
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    return isinstance(one, bool) is isinstance(two, bool) and bool(one == two)


def leaves(value: object, path: str = "") -> dict[str, Any]:
    """The values of nested mappings and lists by their path; an empty mapping or list is a value.

    >>> leaves({"corpus": {"documents": 3}, "teachers": [{"name": "a"}]})
    {'corpus.documents': 3, 'teachers.0.name': 'a'}
    """
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, Any] = {}
    for name, held in items:
        found |= leaves(held, f"{path}.{name}" if path else str(name))
    return found if items else {path: value}


def differing(one: object, two: object) -> list[tuple[str, Any, Any]]:
    """Paths at which two nested values differ, with both values; None where one lacks the path."""
    first, second = leaves(one), leaves(two)
    paths = list(dict.fromkeys([*first, *second]))
    return [(path, first.get(path), second.get(path)) for path in paths if not _same_at(path, first, second)]


def _same_at(path: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return path in one and path in two and same(one[path], two[path])
