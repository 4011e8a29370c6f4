"""The spellings of approximate indexes: frozen values, without the engines that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hf_posmine.core.check import is_whole, whole
from hf_posmine.core.errors import SpecError
from hf_posmine.core.spec import spell

if TYPE_CHECKING:
    from collections.abc import Mapping

LANCE_INDEXES = ("IVF_RQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_FLAT")
LANCE_SEARCH = ("nprobes", "ef", "refine_factor")


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
        if not isinstance(self.search, dict) or not all(is_whole(value, 1) for value in self.search.values()):
            raise SpecError(f"search={self.search!r}; write options with whole numbers, such as {{'nprobe': 32}}")
        object.__setattr__(self, "search", {name: int(value) for name, value in self.search.items()})
        if self.train_rows is not None:
            object.__setattr__(self, "train_rows", whole("train_rows", self.train_rows, least=1, error=SpecError))
        if not isinstance(self.on_disk, bool):
            raise SpecError(f"on_disk={self.on_disk!r}; expected True or False")

    def __repr__(self) -> str:
        return spell(self)


@dataclass(frozen=True, repr=False)
class Lance:
    """Search by an index of Lance: ``Lance('IVF_RQ')``.

    Attributes:
        index: IVF_RQ (a bit per dimension), IVF_SQ (a byte), IVF_FLAT, IVF_HNSW_SQ or IVF_HNSW_FLAT.
        search: options of the search: ``nprobes``, ``ef``, ``refine_factor``. By default twice as many probes as the
            root of the number of partitions.
        partitions: of the documents; by default one for each 256, and at most four times the root of their number.

    >>> Lance("IVF_RQ", {"nprobes": 20})
    Lance(index='IVF_RQ', search={'nprobes': 20}, partitions=None)
    """

    index: str = "IVF_RQ"
    search: Mapping[str, int] = field(default_factory=dict, hash=False)
    partitions: int | None = None

    def __post_init__(self) -> None:
        if self.index not in LANCE_INDEXES:
            raise SpecError(f"Lance has no index {self.index!r}; choose one of {', '.join(LANCE_INDEXES)}")
        if not isinstance(self.search, dict) or not set(self.search) <= set(LANCE_SEARCH):
            raise SpecError(f"search={self.search!r}; Lance has the options {', '.join(LANCE_SEARCH)}")
        given = {name: value for name, value in self.search.items() if value is not None}
        searched = {name: whole(name, value, least=1, error=SpecError) for name, value in given.items()}
        object.__setattr__(self, "search", searched)
        if self.partitions is not None:
            object.__setattr__(self, "partitions", whole("partitions", self.partitions, least=1, error=SpecError))

    def __repr__(self) -> str:
        return spell(self)
