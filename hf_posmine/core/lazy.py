"""Public packages whose names are imported on first use (PEP 562): torch and datasets cost seconds."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: its ``__name__``.
        modules: module below the package -> the names that it gives.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def import_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = vars(importlib.import_module(f"{package}.{homes[name]}"))[name]
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted([*homes, *(name for name in vars(sys.modules[package]) if name == "__version__")])

    return import_name, list_names
