"""Vectors that other programs wrote: a column of a table, an array or a tensor; read a block at a time, kept in one array."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.data.aliases import ID_NAMES, QUERY_NAMES, QUERY_TEXT_NAMES, TEXT_NAMES, first_named
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import file_sha256, json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import Appended, release_pages
from hf_posmine.utils.remote import fetched, is_remote
from hf_posmine.utils.upstream import dataset_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.corpus import Corpus

BLOCK_ROWS = 4096
VECTOR_NAMES = ("embedding", "embeddings", "vector", "vectors", "sentence_embedding", "emb")
Block: TypeAlias = tuple["Floats", list[str] | None]
"""Vectors float32 ``[n, d]`` and the id or text of each; None where the file has neither."""


@dataclass(frozen=True)
class VectorSource:
    """Where vectors come from.

    Attributes:
        path: a .npy, .safetensors, .parquet, .arrow or .jsonl file, a Lance or saved dataset, or a Hub id. The ids or texts of
            an array are a list in a .json file of the same name.
        column: of the vectors, or the name of the tensor; None for the only one, or one named ``embedding`` or ``vector``.
        keys: names of the column that says whose vector it is, by preference.
    """

    path: str
    column: str | None
    keys: tuple[str, ...]

    def blocks(self) -> Iterator[Block]:
        """All vectors, some at a time, checked for shape, type and finite values.

        Raises:
            InputError: a file, column, type, shape or value that is wrong, by its row.
        """
        start, dimensions = 0, 0
        for vectors, keys in self._read():
            dimensions = dimensions or vectors.shape[1]
            if vectors.shape[1] != dimensions:
                raise InputError(f"{self.path}, row {start}: {vectors.shape[1]} dimensions; the first has {dimensions}")
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                raise InputError(f"{self.path}, row {start + bad[0]}: the vector is not finite")
            yield np.asarray(vectors, np.float32), keys
            start += len(vectors)
        if not start:
            raise InputError(f"{self.path} holds no vectors")

    @property
    def digest(self) -> str:
        """Digest of the content and of what is read of it."""
        path = Path(self.path)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path, _beside(path)]
        found: Any = [file_sha256(file) for file in files if file.is_file()]
        return json_digest([found or dataset_fingerprint(self._dataset), self.column, self.keys])

    @property
    def _dataset(self) -> Any:
        from hf_posmine.data.sources import load_source

        return load_source(self.path)

    def _read(self) -> Iterator[Block]:
        suffix = Path(self.path).suffix.lower()
        if suffix in (".npy", ".safetensors"):
            if not Path(self.path).is_file():
                raise InputError(f"Vectors: there is no file {self.path!r}")
            return self._of_array(*(_npy(self.path) if suffix == ".npy" else _tensor(self.path, self.column)))
        return (self._of_batch(batch) for batch in self._batches(suffix) if batch.num_rows)

    def _of_array(self, shape: Sequence[int], read: Callable[[slice], np.ndarray]) -> Iterator[Block]:
        if len(shape) != 2:  # noqa: PLR2004 - [rows, dimensions]
            raise InputError(f"{self.path} has shape {list(shape)}; expected [rows, dimensions]")
        beside = _beside(Path(self.path))
        keys = [str(key) for key in json.loads(beside.read_text("utf-8"))] if beside.is_file() else None
        if keys is not None and len(keys) != shape[0]:
            raise InputError(f"{beside} names {len(keys):,} rows; {self.path} has {shape[0]:,} vectors")
        for start in range(0, shape[0], BLOCK_ROWS):
            rows = slice(start, min(shape[0], start + BLOCK_ROWS))
            yield _floats(read(rows), self.path), None if keys is None else keys[rows]

    def _batches(self, suffix: str) -> Iterator[pa.RecordBatch]:
        if suffix == ".parquet" and Path(self.path).is_file():
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield from file.iter_batches(BLOCK_ROWS)
        elif suffix == ".lance":
            yield from _lance(self.path)
        else:
            for table in self._dataset.with_format("arrow").iter(batch_size=BLOCK_ROWS):
                yield from table.combine_chunks().to_batches()

    def _of_batch(self, batch: pa.RecordBatch) -> Block:
        names = batch.schema.names
        column = self.column or first_named(names, VECTOR_NAMES)
        if column is None or column not in names:
            wanted = f"no column {self.column!r}" if self.column else "no column of vectors that is known by its name"
            raise InputError(f"{self.path} has {wanted}; its columns: {names}; name it: Vectors(..., column='...')")
        key = first_named((name for name in names if name != column), self.keys)
        keys = None if key is None else [str(value) for value in batch.column(key).to_pylist()]
        return _matrix(batch.column(column), f"{self.path}, column {column!r}"), keys


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _npy(path: str) -> tuple[Sequence[int], Callable[[slice], np.ndarray]]:
    array = np.load(path, mmap_mode="r")

    def read(rows: slice) -> np.ndarray:
        part = np.array(array[rows])
        release_pages(array, rows.start, rows.stop)
        return part

    return array.shape, read


def _tensor(path: str, name: str | None) -> tuple[Sequence[int], Callable[[slice], np.ndarray]]:
    from safetensors import safe_open

    file: Any = safe_open(path, "numpy")
    names = list(file.keys())
    chosen = name or (names[0] if len(names) == 1 else first_named(names, VECTOR_NAMES))
    if chosen not in names:
        raise InputError(
            f"{path} has no tensor {name or 'known by its name'!r}; its tensors: {names}; name it with column="
        )
    part = file.get_slice(chosen)
    if part.get_dtype() not in ("F16", "F32", "F64"):
        raise InputError(f"{path}: the tensor {chosen!r} holds {part.get_dtype()}; write it as float32 or float16")
    return part.get_shape(), lambda rows: part[rows.start : rows.stop]


def _lance(path: str) -> Iterator[pa.RecordBatch]:
    try:
        import lance
    except ImportError:
        raise MissingExtraError("Lance datasets", "lance") from None
    yield from lance.dataset(path).to_batches(batch_size=BLOCK_ROWS)


def _matrix(column: pa.Array, where: str) -> Floats:
    """The vectors of a column of lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise InputError(f"{where} holds {kind}; expected lists of float32, float16 or float64")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    uneven = np.flatnonzero(lengths != lengths[0])
    if len(uneven) or not lengths[0]:
        at = int(uneven[0]) if len(uneven) else 0
        raise InputError(f"{where}: a vector has {lengths[at]} dimensions, the first of its batch {lengths[0]}")
    return _floats(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1), where)


def _floats(values: np.ndarray, where: str) -> Floats:
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"{where} holds {values.dtype}; expected float32, float16 or float64")
    return np.asarray(values, np.float32)


def document_vectors(path: str, column: str | None, corpus: Corpus) -> np.ndarray:
    """Vectors float32 ``[N, d]`` in the order of the corpus, memory-mapped; the file is read once and kept by its content.

    Rows are known by their id if the corpus has ids, else by their text, else they are in the order of the corpus.

    Raises:
        InputError: a document without a vector, or more vectors than documents and nothing to tell whose they are.
    """
    source = VectorSource(_local(path), column, (*(ID_NAMES if corpus.has_ids else ()), *TEXT_NAMES))
    name = json_digest(["documents", source.digest, corpus.fingerprint])
    folder = build_once(cache_root() / "vectors" / name, partial(_write_documents, source, corpus))
    return np.load(folder / "documents.npy", mmap_mode="r")


def _write_documents(source: VectorSource, corpus: Corpus, folder: Path) -> None:
    target: np.ndarray | None = None
    seen, count = np.zeros(len(corpus), np.bool_), 0
    for vectors, keys in source.blocks():
        if target is None:
            shape = (len(corpus), vectors.shape[1])
            target = np.lib.format.open_memmap(folder / "documents.npy", "w+", np.float32, shape)
        rows = _rows_of(keys, corpus, count, len(vectors), source.path)
        known = rows >= 0
        target[rows[known]] = vectors[known]
        release_pages(target)
        seen[rows[known]] = True
        count += len(vectors)
    if not seen.all():
        lost = np.flatnonzero(~seen)
        raise InputError(
            f"{source.path} has {count:,} vectors; {len(lost):,} of {len(corpus):,} documents have none, such as "
            f"{corpus.describe(int(lost[0]))}"
        )


def _local(path: str) -> str:
    return str(fetched(path)) if is_remote(path) else path


def _rows_of(keys: list[str] | None, corpus: Corpus, start: int, count: int, path: str) -> Rows:
    """The corpus row of each vector; -1 for those of other documents."""
    if keys is not None:
        rows = corpus.rows_of_texts(keys)
        return np.where(rows < 0, corpus.rows_of_ids(keys), rows) if corpus.has_ids else rows
    if start + count > len(corpus):
        raise InputError(
            f"{path} has more vectors than the {len(corpus):,} documents, and no ids to tell whose they are"
        )
    return np.arange(start, start + count)


def query_vectors(path: str, column: str | None) -> tuple[list[str], np.ndarray]:
    """Query texts and their vectors float32 ``[Q, d]``, memory-mapped.

    Raises:
        InputError: vectors without the texts of their queries.
    """
    source = VectorSource(_local(path), column, (*QUERY_NAMES, *QUERY_TEXT_NAMES))
    name = json_digest(["queries", source.digest])
    folder = build_once(cache_root() / "vectors" / name, partial(_write_queries, source))
    shape = json.loads((folder / "shape.json").read_text())
    return json.loads((folder / "texts.json").read_text("utf-8")), np.memmap(
        folder / "queries", np.float32, "r", shape=tuple(shape)
    )


def _write_queries(source: VectorSource, folder: Path) -> None:
    file, texts, dimensions = Appended(folder / "queries", np.float32), list[str](), 0
    for vectors, keys in source.blocks():
        if keys is None:
            raise InputError(
                f"{source.path} has no column of query texts ({', '.join(QUERY_NAMES)} or text); for an array, write them as "
                f"a list into {_beside(Path(source.path)).name}"
            )
        file.add(vectors)
        texts += keys
        dimensions = vectors.shape[1]
    file.array()
    (folder / "texts.json").write_text(json.dumps(texts, ensure_ascii=False), "utf-8")
    (folder / "shape.json").write_text(json.dumps([len(texts), dimensions]))
