"""Indexes by their spelling, as the command line, a YAML file and a record hold them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from hf_posmine.core.errors import InputError
from hf_posmine.core.spec import parse
from hf_posmine.search.faiss import open_faiss
from hf_posmine.search.lance import open_lance
from hf_posmine.search.specs import Approximate, Lance

if TYPE_CHECKING:
    from hf_posmine.search.approximate import Searcher
    from hf_posmine.search.exact import ExactIndex

INDEXES: dict[str, type] = {"Approximate": Approximate, "Lance": Lance}


@runtime_checkable
class CustomIndex(Protocol):
    """An engine of one's own: a frozen value whose repr is its spelling."""

    def open(self, exact: ExactIndex) -> Searcher:
        """The engine over the documents of ``exact``, built unless it is on disk."""


IndexSpec: TypeAlias = Approximate | Lance | CustomIndex


def as_index(value: object) -> IndexSpec | None:
    """The index that a spelling names; None for exact search.

    Args:
        value: a factory string of FAISS, ``Approximate(...)`` or ``Lance(...)``, spelled or as an object, ``exact`` or None.

    >>> as_index("IVF1024,SQ8")
    Approximate(factory='IVF1024,SQ8', search={}, train_rows=None, on_disk=False)
    >>> as_index("Lance(search={'nprobes': 20})")
    Lance(index='IVF_RQ', search={'nprobes': 20}, partitions=None)
    """
    if value is None or value == "exact":
        return None
    if isinstance(value, str):
        spelled = value in INDEXES or re.fullmatch(r"[A-Za-z_]\w*\(.*\)", value.strip(), re.S)
        return parse(value, INDEXES, "index") if spelled else Approximate(value)
    if isinstance(value, (Approximate, Lance, CustomIndex)):
        return value
    raise InputError(f"index={value!r:.60}; write a factory string of FAISS such as 'IVF1024,SQ8', or 'Lance()'")


def open_index(spec: IndexSpec, exact: ExactIndex) -> Searcher:
    """The engine that ``spec`` names, over the documents of ``exact``; built unless it is on disk."""
    if isinstance(spec, Approximate):
        return open_faiss(spec, exact)
    return open_lance(spec, exact) if isinstance(spec, Lance) else spec.open(exact)
