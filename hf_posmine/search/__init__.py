"""The best k documents below a ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.sharded import search_on

__all__ = ["ExactIndex", "search_on"]

__getattr__, __dir__ = lazy_names(__name__, {"exact": ("ExactIndex",), "sharded": ("search_on",)})
