"""FAISS as the engine of an :class:`~hf_posmine.search.approximate.ApproximateIndex`, by its factory strings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.search.faiss_files import opened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import faiss

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.specs import Approximate

SCALED = ("nprobe", "efSearch")
"""Search options that say how hard to look."""
EF_SEARCH = 128
DEEPEST, DEEPEST_ON_GPU = 1 << 16, 2048


def open_faiss(spec: Approximate, exact: ExactIndex) -> FaissSearcher:
    """The FAISS index over the documents of ``exact``, built unless it is on disk.

    Raises:
        InputError: a factory string that FAISS refuses for these documents, or options that the index does not have.
        MissingExtraError: FAISS is not installed.
    """
    faiss = import_faiss()
    if exact.similarity == "manhattan":
        raise InputError(f"{spec!r} cannot search Manhattan distances; search exactly, without index=")
    return FaissSearcher(opened(faiss, spec, exact), spec.search, exact.device)


class FaissSearcher:
    """A FAISS index and its search options, on the GPU if documents are searched there and this build of FAISS can.

    Attributes:
        deepest: the most documents it gives for a query; on a GPU FAISS gives 2,048.
        options: the search options, those by default included.
    """

    def __init__(self, index: faiss.Index, options: Mapping[str, int], device: str = "cpu") -> None:
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


def to_device(faiss: ModuleType, index: faiss.Index, device: str) -> tuple[Any, Any]:
    """The index on the GPU and what it needs to live there, if documents are searched on one; else as it is, and None."""
    if not device.startswith("cuda") or not hasattr(faiss, "StandardGpuResources"):
        return index, None
    resources = faiss.StandardGpuResources()
    try:
        return faiss.index_cpu_to_gpu(resources, int(device.partition(":")[2] or 0), index), resources
    except RuntimeError:  # a graph, or codes that have no form for a GPU
        return index, None


def _defaults(faiss: ModuleType, index: faiss.Index) -> dict[str, int]:
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None:
        return {"nprobe": 2 * math.isqrt(lists.nlist)}
    return {"efSearch": EF_SEARCH} if _accepts(faiss.ParameterSpace(), index, "efSearch", EF_SEARCH) else {}


def _accepts(space: faiss.ParameterSpace, index: faiss.Index, name: str, value: int) -> bool:
    try:
        space.set_index_parameter(index, name, value)
    except RuntimeError:
        return False
    return True
