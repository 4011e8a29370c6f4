"""Lance, the tables of LanceDB, as the engine of an :class:`~hf_posmine.search.approximate.ApproximateIndex`.

The vectors become a Lance table on disk, beside the embeddings, with an index of Lance's own. It is an ordinary table: LanceDB
and ``load_dataset`` open it.
"""

from __future__ import annotations

import math
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.core.types import PADDING, Floats, Rows
from hf_posmine.search.index_files import blocks_of, index_folder
from hf_posmine.utils.cache import MANIFEST, build_once, parts_folder
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType

    import pyarrow as pa

    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.specs import Lance

SCALED = ("nprobes", "ef")
"""Search options that say how hard to look."""
PER_PARTITION = 256
"""Documents per partition that Lance recommends."""
QUERIES = 256
DEEPEST = 1 << 14
_used_by: int | None = None


def open_lance(spec: Lance, exact: ExactIndex) -> LanceSearcher:
    """The Lance table over the documents of ``exact``, written and indexed unless it is on disk.

    Raises:
        InputError: documents that Lance refuses to index so.
        MissingExtraError: Lance is not installed.
    """
    lance = import_lance()
    if exact.similarity == "manhattan":
        raise InputError(f"{spec!r} cannot search Manhattan distances; search exactly, without index=")
    home = index_folder(exact, ["lance", spec.index, spec.partitions])

    def build(new: Path) -> None:
        written = build_once(parts_folder(home) / "table", lambda part: _write(lance, exact, part))
        shutil.copytree(written, new, dirs_exist_ok=True, copy_function=_link)
        (new / MANIFEST).unlink()
        _build(spec, lance.dataset(str(new)), exact)

    path = build_once(home, build)
    probes = 2 * math.isqrt(_partitions(spec, exact.num_candidates))
    return LanceSearcher(str(path), {"nprobes": probes, **spec.search})


def _partitions(spec: Lance, documents: int) -> int:
    return spec.partitions or max(1, min(documents // PER_PARTITION, 4 * math.isqrt(documents)))


def _build(spec: Lance, table: pa.Table, exact: ExactIndex) -> None:
    """Lance writes an index atomically: after a kill here it is built again."""
    metric = "l2" if exact.similarity == "euclidean" else "dot"
    partitions = _partitions(spec, exact.num_candidates)
    try:
        table.create_index("vector", spec.index, metric=metric, num_partitions=partitions)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Lance cannot build {spec.index} over {exact.num_candidates:,} documents of {exact.vectors.dim} dimensions: "
            f"{' '.join(str(error).split())[:200]}"
        ) from None


class LanceSearcher:
    """A Lance table and its search options.

    Attributes:
        deepest: the greatest depth of a request.
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


def _link(source: str, target: str) -> None:
    """The same file under another name, as Lance never changes a file; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(lance: ModuleType, exact: ExactIndex, folder: Path) -> None:
    """Write the vectors as a table of ``row`` and ``vector``."""
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

    with progress_bar(exact.num_candidates, "Writing a Lance table", "document") as bar:
        schema = pa.schema([("row", pa.int64()), ("vector", vector)])
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(folder))
