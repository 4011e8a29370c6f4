"""FAISS as the engine of an :class:`~hf_posmine.search.approximate.ApproximateIndex`, by its factory strings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError, SpecError
from hf_posmine.core.spec import spell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.search.exact import ExactIndex

SCALED = ("nprobe", "efSearch")
"""Search options that say how hard to look."""
EF_SEARCH = 128
DEEPEST, DEEPEST_ON_GPU = 1 << 16, 2048


@dataclass(frozen=True, repr=False)
class Approximate:
    """Search by a FAISS index: ``Approximate('IVF1024,SQ8')``, or the factory string alone.

    Whatever FAISS finds is scored exactly, so ``RFlat`` and other refinements in the factory string gain nothing.

    Attributes:
        factory: what ``faiss.index_factory`` takes, such as ``IVF4096,SQ8``, ``OPQ48,IVF65536_HNSW32,PQ48`` or ``HNSW32``.
        search: options of the search, such as ``{'nprobe': 32}`` or ``{'efSearch': 200}``. By default twice as
            many lists as the root of their number, and an efSearch of 128.
        train_rows: documents that the index is trained on, drawn with a fixed seed; by default 40 per list and at least 65,536.
        on_disk: build the inverted lists on disk, and search them there: for indexes larger than memory.

    >>> Approximate("IVF1024,SQ8", {"nprobe": 32})
    Approximate(factory='IVF1024,SQ8', search={'nprobe': 32}, train_rows=None, on_disk=False)
    """

    factory: str
    search: Mapping[str, int] = field(default_factory=dict, hash=False)
    train_rows: int | None = None
    on_disk: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.factory, str) or not self.factory.strip():
            raise SpecError(f"factory={self.factory!r}; write a factory string of FAISS, such as 'IVF1024,SQ8'")
        if not isinstance(self.search, dict) or not all(_whole(value) for value in self.search.values()):
            raise SpecError(f"search={self.search!r}; write options with whole numbers, such as {{'nprobe': 32}}")
        if self.train_rows is not None and not _whole(self.train_rows):
            raise SpecError(f"train_rows={self.train_rows!r}; expected a whole number of at least 1")
        if not isinstance(self.on_disk, bool):
            raise SpecError(f"on_disk={self.on_disk!r}; expected True or False")

    def __repr__(self) -> str:
        return spell(self)

    def open(self, exact: ExactIndex) -> FaissSearcher:
        """The index over the documents of ``exact``, built unless it is on disk.

        Raises:
            InputError: a factory string that FAISS refuses for these documents, or options that the index does not have.
            MissingExtraError: FAISS is not installed.
        """
        from hf_posmine.search.faiss_files import opened

        faiss = import_faiss()
        if exact.similarity == "manhattan":
            raise InputError(f"{self!r} cannot search Manhattan distances; search exactly, without index=")
        return FaissSearcher(opened(faiss, self, exact), self.search, exact.device)


class FaissSearcher:
    """A FAISS index and its search options, on the GPU if documents are searched there and this build of FAISS can.

    Attributes:
        deepest: the most documents it gives for a query; on a GPU FAISS gives 2,048.
        options: the search options, those by default included.
    """

    def __init__(self, index: Any, options: Mapping[str, int], device: str = "cpu") -> None:
        faiss = import_faiss()
        self.options = {**_defaults(faiss, index), **options}
        self.index, self._gpu = to_device(faiss, index, device)
        self.deepest = DEEPEST if self._gpu is None else DEEPEST_ON_GPU
        self._space = faiss.ParameterSpace() if self._gpu is None else faiss.GpuParameterSpace()
        for name, value in self.options.items():
            if not _accepts(self._space, self.index, name, value):
                raise InputError(f"the index has no search option {name!r}; IVF has nprobe, HNSW has efSearch")

    def candidates(self, vectors: Floats, k: int, effort: int) -> Rows:
        """See :class:`~hf_posmine.search.approximate.Searcher`."""
        for name, value in self.options.items():
            wanted = min(value * effort, self.deepest) if name in SCALED else value
            self._space.set_index_parameter(self.index, name, wanted)
        return self.index.search(vectors, k)[1].astype(np.int64)


def import_faiss() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("an index such as 'IVF1024,SQ8'", "faiss") from None
    return faiss


def to_device(faiss: Any, index: Any, device: str) -> tuple[Any, Any]:
    """The index on the GPU and what it needs to live there, if documents are searched on one; else as it is, and None."""
    if not device.startswith("cuda") or not hasattr(faiss, "StandardGpuResources"):
        return index, None
    resources = faiss.StandardGpuResources()
    try:
        return faiss.index_cpu_to_gpu(resources, int(device.partition(":")[2] or 0), index), resources
    except RuntimeError:  # a graph, or codes that have no form for a GPU
        return index, None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _defaults(faiss: Any, index: Any) -> dict[str, int]:
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        return {"nprobe": 2 * math.isqrt(lists.nlist)}
    return {"efSearch": EF_SEARCH} if _accepts(faiss.ParameterSpace(), index, "efSearch", EF_SEARCH) else {}


def _accepts(space: Any, index: Any, name: str, value: int) -> bool:
    try:
        space.set_index_parameter(index, name, value)
    except RuntimeError:
        return False
    return True
