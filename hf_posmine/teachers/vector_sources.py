"""Vectors that other programs wrote, read a block at a time: a column of a table or dataset, an array or a tensor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.data.aliases import first_named
from hf_posmine.utils.digest import file_sha256, json_digest
from hf_posmine.utils.mapped import release_pages
from hf_posmine.utils.redact import redact
from hf_posmine.utils.remote import fetched, is_remote
from hf_posmine.utils.upstream import dataset_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from hf_posmine.core.types import Floats

BLOCK_ROWS = 4096
VECTOR_NAMES = ("embedding", "embeddings", "vector", "vectors", "sentence_embedding", "emb")
ARRAYS = (".npy", ".safetensors")
Block: TypeAlias = tuple["Floats", list[Any] | None]
"""Vectors float32 ``[n, d]`` and the id or text of each; None where the file has neither."""
Batches: TypeAlias = "Iterator[pa.RecordBatch]"


@dataclass(frozen=True)
class OpenVectors:
    """Vectors that are about to be read.

    Attributes:
        key: the column or file of the ids or texts; None where there is none.
        blocks: all vectors, some at a time.
    """

    key: str | None
    blocks: Iterator[Block]


@dataclass(frozen=True)
class VectorSource:
    """Where vectors come from.

    Attributes:
        name: as it was given, for errors and records.
        path: a .npy, .safetensors, .parquet, .arrow, .feather or .jsonl file, a Lance or saved dataset, or a Hub id.
        column: of the vectors, or the name of the tensor; None for the only one, or one named ``embedding`` or ``vector``.
        keys: names of the column that says whose vector it is, by preference.
        beside: for an array, the .json file of the same name that lists ids or texts; None without one.
    """

    name: str
    path: str
    column: str | None
    keys: tuple[str, ...]
    beside: Path | None = None

    @classmethod
    def find(cls, name: str, column: str | None, keys: tuple[str, ...]) -> VectorSource:
        """The source that a name stands for; what is at an address is copied to the cache."""
        array = Path(name).suffix.lower() in ARRAYS
        if not is_remote(name):
            beside = Path(name).with_suffix(".json")
            return cls(name, name, column, keys, beside if array and beside.is_file() else None)
        path = str(fetched(name))
        return cls(redact(name), path, column, keys, _fetched_list(name) if array else None)

    @property
    def digest(self) -> str:
        """Digest of the content and of what is read of it."""
        path = Path(self.path)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found: Any = [file_sha256(file) for file in (*files, *filter(None, [self.beside])) if file.is_file()]
        return json_digest([found or dataset_fingerprint(self._dataset), self.column, self.keys])

    @property
    def list_name(self) -> str:
        """The file of ids or texts that an array may have beside it."""
        return Path(self.name).with_suffix(".json").name

    def open(self) -> OpenVectors:
        """The vectors, which are checked for shape, type and finite values as they are read.

        Raises:
            InputError: a file, column, type, shape or value that is wrong, by its row; some of them while blocks are read.
        """
        suffix = Path(self.path).suffix.lower()
        found = self._of_array(suffix) if suffix in ARRAYS else self._of_table(suffix)
        return OpenVectors(found.key, self._checked(found.blocks))

    def _checked(self, blocks: Iterator[Block]) -> Iterator[Block]:
        start, dimensions = 0, 0
        for vectors, keys in blocks:
            dimensions = dimensions or vectors.shape[1]
            if vectors.shape[1] != dimensions:
                raise InputError(f"{self.name}, row {start}: {vectors.shape[1]} dimensions; the first has {dimensions}")
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                raise InputError(f"{self.name}, row {start + bad[0]}: the vector is not finite")
            if keys is not None and None in keys:
                raise InputError(f"{self.name}, row {start + keys.index(None)}: no id or text")
            yield vectors, None if keys is None else list(map(str, keys))
            start += len(vectors)
        if not start:
            raise InputError(f"{self.name} holds no vectors")

    def _of_array(self, suffix: str) -> OpenVectors:
        if not Path(self.path).is_file():
            raise InputError(f"Vectors: there is no file {self.name!r}")
        shape, read = _npy(self.path, self.name) if suffix == ".npy" else _tensor(self.path, self.name, self.column)
        if len(shape) != 2:  # noqa: PLR2004 - [rows, dimensions]
            raise InputError(f"{self.name} has shape {list(shape)}; expected [rows, dimensions]")
        keys = None if self.beside is None else _listed(self.beside)
        if keys is not None and len(keys) != shape[0]:
            raise InputError(f"{self.beside} names {len(keys):,} rows; {self.name} has {shape[0]:,} vectors")

        def blocks() -> Iterator[Block]:
            for start in range(0, shape[0], BLOCK_ROWS):
                rows = slice(start, min(shape[0], start + BLOCK_ROWS))
                yield _floats(read(rows), self.name), None if keys is None else keys[rows]

        return OpenVectors(None if self.beside is None else self.beside.name, blocks())

    def _of_table(self, suffix: str) -> OpenVectors:
        names, read = self._table(suffix)
        column = self.column or first_named(names, VECTOR_NAMES)
        if column is None or column not in names:
            wanted = f"no column {self.column!r}" if self.column else "no column of vectors that is known by its name"
            raise InputError(f"{self.name} has {wanted}; its columns: {names}; name it: Vectors(..., column='...')")
        key = first_named((name for name in names if name != column), self.keys)
        return OpenVectors(key, self._of_batches(read([column, *filter(None, [key])]), column, key))

    def _of_batches(self, batches: Batches, column: str, key: str | None) -> Iterator[Block]:
        row = 0
        for whole in batches:
            for start in range(0, whole.num_rows, BLOCK_ROWS):
                batch = whole.slice(start, BLOCK_ROWS)
                vectors = _matrix(batch.column(column), f"{self.name}, column {column!r}", row)
                yield vectors, None if key is None else batch.column(key).to_pylist()
                row += len(batch)

    def _table(self, suffix: str) -> tuple[list[str], Callable[[list[str]], Batches]]:
        """The columns, and a function that reads some of them."""
        path = Path(self.path)
        if suffix == ".lance":
            return _lance(self.path, self.name)
        if path.is_file() and suffix == ".parquet":
            return _parquet(path)
        if path.is_file() and suffix in (".arrow", ".feather"):
            return _arrow(path)
        dataset = self._dataset

        def read(columns: list[str]) -> Batches:
            for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=BLOCK_ROWS):
                yield from table.combine_chunks().to_batches()

        return list(dataset.column_names), read

    @property
    def _dataset(self) -> Any:
        from hf_posmine.data.sources import load_source

        return load_source(self.path)


def _fetched_list(address: str) -> Path | None:
    """A copy of the .json file beside an array at an address, if there is one."""
    try:
        return fetched(f"{address.rpartition('.')[0]}.json")
    except InputError:
        return None


def _listed(file: Path) -> list[str]:
    try:
        keys = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    if not isinstance(keys, list):
        raise InputError(f"{file} holds a {type(keys).__name__}; expected a list of ids or texts, one per vector")
    return keys


def _npy(path: str, name: str) -> tuple[Sequence[int], Callable[[slice], np.ndarray]]:
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{name} is not an array that can be mapped ({error}); write float32 with numpy.save"
        ) from None

    def read(rows: slice) -> np.ndarray:
        part = np.array(array[rows])
        release_pages(array, rows.start, rows.stop)
        return part

    return array.shape, read


def _tensor(path: str, where: str, name: str | None) -> tuple[Sequence[int], Callable[[slice], np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, "numpy")
    except SafetensorError as error:
        raise InputError(f"{where} is not a safetensors file ({error})") from None
    names = list(file.keys())
    chosen = name or (names[0] if len(names) == 1 else first_named(names, VECTOR_NAMES))
    if chosen not in names:
        raise InputError(
            f"{where} has no tensor {name or 'known by its name'!r}; its tensors: {names}; name it with column="
        )
    part = file.get_slice(chosen)
    if part.get_dtype() not in ("F16", "F32", "F64"):
        raise InputError(f"{where}: the tensor {chosen!r} holds {part.get_dtype()}; write it as float32 or float16")
    return part.get_shape(), lambda rows: part[rows.start : rows.stop]


def _parquet(path: Path) -> tuple[list[str], Callable[[list[str]], Batches]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is truncated, or not a parquet file ({error}); copy it again") from None

    def read(columns: list[str]) -> Batches:
        only = None if any("." in name for name in columns) else columns  # pyarrow takes a dot for a nested column
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield from file.iter_batches(BLOCK_ROWS, columns=only)

    return names, read


def _arrow(path: Path) -> tuple[list[str], Callable[[list[str]], Batches]]:
    """Arrow's IPC format as a file (Feather) or a stream; pages are released batch by batch, and stay in the system's cache."""
    import pyarrow as pa

    if not path.stat().st_size:
        raise InputError(f"{path} is empty")
    raw = np.memmap(path, np.uint8, "r")
    buffer = pa.py_buffer(raw)
    try:
        file = pa.ipc.open_file(buffer)
    except pa.ArrowInvalid:
        file = None
    try:
        names = (pa.ipc.open_stream(buffer) if file is None else file).schema.names
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a file in Arrow's IPC format ({error}); write it again") from None

    def read(_: list[str]) -> Batches:
        stream = pa.ipc.open_stream(buffer) if file is None else map(file.get_batch, range(file.num_record_batches))
        for batch in stream:
            yield batch
            release_pages(raw)

    return names, read


def _lance(path: str, name: str) -> tuple[list[str], Callable[[list[str]], Batches]]:
    try:
        import lance
    except ImportError:
        raise MissingExtraError("Lance datasets", "lance") from None
    try:
        dataset = lance.dataset(path)
    except ValueError as error:
        raise InputError(f"{name} is not a Lance dataset ({str(error)[:200]})") from None
    return dataset.schema.names, lambda columns: dataset.to_batches(columns=columns, batch_size=BLOCK_ROWS)


def _matrix(column: pa.Array, where: str, row: int) -> Floats:
    """The vectors of a part of a column of lists, which begins at a row."""
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
        raise InputError(
            f"{where}, row {row + at}: a vector has {lengths[at]} dimensions, the first of its batch {lengths[0]}"
        )
    return _floats(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1), where)


def _floats(values: np.ndarray, where: str) -> Floats:
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"{where} holds {values.dtype}; expected float32, float16 or float64")
    return np.asarray(values, np.float32)
