"""Lance, the tables of LanceDB, as the engine of an :class:`~hf_posmine.search.approximate.ApproximateIndex`.

The vectors become a Lance table on disk, beside the embeddings, with an index of Lance's own. It is an ordinary table: LanceDB
and ``load_dataset`` open it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from hf_posmine.core.errors import InputError, MissingExtraError, SpecError
from hf_posmine.core.spec import spell
from hf_posmine.core.types import PADDING, Floats, Rows
from hf_posmine.search.index_files import blocks_of, index_folder
from hf_posmine.utils.files import new_folder, remove_stale
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hf_posmine.search.exact import ExactIndex

INDEXES = ("IVF_RQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_FLAT")
SEARCH = ("nprobes", "ef", "refine_factor")
SCALED = ("nprobes", "ef")
"""Search options that say how hard to look."""
PER_PARTITION = 256
"""Documents per partition that Lance asks for."""
QUERIES = 256
DEEPEST = 1 << 14
_used_by: int | None = None


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
        if self.index not in INDEXES:
            raise SpecError(f"Lance has no index {self.index!r}; choose one of {', '.join(INDEXES)}")
        if not isinstance(self.search, dict) or not set(self.search) <= set(SEARCH):
            raise SpecError(f"search={self.search!r}; Lance has the options {', '.join(SEARCH)}")
        for name, value in (*self.search.items(), ("partitions", self.partitions)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise SpecError(f"{name}={value!r}; expected a whole number of at least 1")

    def __repr__(self) -> str:
        return spell(self)

    def open(self, exact: ExactIndex) -> LanceSearcher:
        """The table over the documents of ``exact``, written and indexed unless it is on disk.

        Raises:
            InputError: documents that Lance refuses to index so.
            MissingExtraError: Lance is not installed.
        """
        lance = import_lance()
        if exact.similarity == "manhattan":
            raise InputError(f"{self!r} cannot search Manhattan distances; search exactly, without index=")
        home = index_folder(exact, ["lance", self.index, self.partitions])
        path = home / "table"
        if not (path.is_dir() and lance.dataset(str(path)).describe_indices()):
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".lock"):  # several workers: one builds, the others wait and find it done
                remove_stale(home)
                table = _table(lance, exact, path)
                if not table.describe_indices():
                    self._build(table, exact)
        probes = 2 * math.isqrt(self._partitions(exact.num_candidates))
        return LanceSearcher(str(path), {"nprobes": probes, **self.search})

    def _partitions(self, documents: int) -> int:
        return self.partitions or max(1, min(documents // PER_PARTITION, 4 * math.isqrt(documents)))

    def _build(self, table: Any, exact: ExactIndex) -> None:
        """Lance writes an index whole or not at all: a kill here starts it again."""
        metric = "l2" if exact.similarity == "euclidean" else "dot"
        try:
            table.create_index(
                "vector", self.index, metric=metric, num_partitions=self._partitions(exact.num_candidates)
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"Lance cannot build {self.index} over {exact.num_candidates:,} documents of {exact.vectors.dim} dimensions: "
                f"{' '.join(str(error).split())[:200]}"
            ) from None


class LanceSearcher:
    """A Lance table and its search options.

    Attributes:
        deepest: the most documents it is asked for.
        options: the search options, those by default included.
    """

    def __init__(self, table: str, options: Mapping[str, int]) -> None:
        self.deepest, self.options = DEEPEST, dict(options)
        self._table = import_lance().dataset(table)

    def candidates(self, vectors: Floats, k: int, effort: int) -> Rows:
        """See :class:`~hf_posmine.search.approximate.Searcher`."""
        options = {name: value * effort if name in SCALED else value for name, value in self.options.items()}
        ids = np.full((len(vectors), k), PADDING, np.int64)
        for start in range(0, len(vectors), QUERIES):
            part = vectors[start : start + QUERIES]
            found = self._table.to_table(
                columns=["row"],
                nearest={"column": "vector", "q": part, "k": k, **options},
                disable_scoring_autoprojection=True,
            )
            queries, rows = (found[name].to_numpy() for name in ("query_index", "row"))
            order = np.argsort(queries, kind="stable")
            queries, rows = queries[order], rows[order]
            place = np.arange(len(queries)) - np.searchsorted(queries, queries)
            ids[start + queries, place] = rows
        return ids


def import_lance() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
        InputError: this process was forked from one that used it. Lance does not support that, and may wait for ever.
    """
    global _used_by  # noqa: PLW0603 - what a fork inherits
    try:
        import lance
    except ImportError:
        raise MissingExtraError("an index such as 'Lance()'", "lance") from None
    if _used_by not in (None, os.getpid()):
        raise InputError("Lance cannot be used by forked processes, which num_proc makes; leave num_proc out")
    _used_by = os.getpid()
    return lance


def _table(lance: Any, exact: ExactIndex, path: Path) -> Any:
    """The vectors as a table of ``row`` and ``vector``, written unless it is there."""
    import pyarrow as pa

    vector = pa.list_(pa.float32(), exact.vectors.dim)

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for block in blocks_of(exact, 0, exact.num_candidates):
            rows = pa.array(np.arange(start, start + len(block)))
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), type=vector)
            yield pa.record_batch([rows, values], names=["row", "vector"])
            start += len(block)
            bar.update(len(block))

    if not path.is_dir():
        with progress_bar(exact.num_candidates, "Writing a Lance table", "document") as bar, new_folder(path) as new:
            schema = pa.schema([("row", pa.int64()), ("vector", vector)])
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(new))
    return lance.dataset(str(path))
