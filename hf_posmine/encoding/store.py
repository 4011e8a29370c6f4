"""Embeddings on disk: sharded, memory-mapped, addressed by content, safe against a kill at any moment.

Layout: ``<root>/<what the model is>/<what the texts are>/shard-000000.safetensors``. A shard is written whole or not
at all, so a killed run continues after its last whole shard and ends with the same bytes. Every shard carries a
checksum of its vectors and its place (model, texts, number), which are compared when the store is opened.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import xxhash

from hf_posmine.core.errors import CorruptFileError, CorruptShardError, ReadOnlyError, StoreError
from hf_posmine.encoding.reuse import OtherParts, note_texts
from hf_posmine.utils.cache import locked, read_json, remove, write_json
from hf_posmine.utils.files import remove_stale, write_file
from hf_posmine.utils.memory import allow_files
from hf_posmine.utils.upstream import mapped_buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.data.texts import TextPart

EMBEDDING_SHARD_ROWS = 2048
STORE_VERSION = 1
MANIFEST = "manifest.json"
FILLING = "shards"
"""Named by the lock of a folder: ``shards.lock``."""
UNREADABLE = (OSError, ValueError, AttributeError, RecursionError, KeyError, TypeError, OverflowError, MemoryError)
"""Errors of reading a file that is damaged."""


@runtime_checkable
class CountsCut(Protocol):
    """A function from texts to vectors that counts the texts of which the model reads the beginning alone."""

    def cut_among(self, texts: int) -> int | None:
        """How many of the last texts those were, if all of them were encoded and counted."""


@dataclass(frozen=True)
class Vectors:
    """Rows of vectors over several memory-mapped shards; row r is row r of the corpus.

    Attributes:
        shards: float32 or float16 arrays ``[n_s, d]``, one after the other.
    """

    shards: tuple[np.ndarray, ...]

    @cached_property
    def starts(self) -> Rows:
        """First row of each shard, and the number of rows."""
        return np.cumsum([0, *map(len, self.shards)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dim(self) -> int:
        """Dimensions d."""
        return int(self.shards[0].shape[1])

    def __getitem__(self, rows: Rows) -> Floats:
        """A copy of some rows, float32 ``[m, d]``."""
        out = np.empty((len(rows), self.dim), np.float32)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(which):  # one fancy index per shard, not per row
            mine = which == shard
            out[mine] = self.shards[shard][rows[mine] - self.starts[shard]]
        return out

    def span(self, start: int, stop: int) -> Vectors:
        """The rows from ``start`` up to ``stop``, not copied; row 0 of the result is row ``start``."""
        pieces = zip(self.starts, self.shards, strict=False)
        cut = [shard[max(0, start - int(at)) : max(0, stop - int(at))] for at, shard in pieces]
        return Vectors(tuple(piece for piece in cut if len(piece)) or (self.shards[0][:0],))

    def release(self) -> None:
        """Let go of the mapped pages: they stay in the system's cache, and no longer count as this process's memory."""
        for shard in self.shards:
            _release(shard)

    def blocks(self, size: int, stop: int | None = None, *, once: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks of at most ``size`` rows in order, each with its first row; ends before row ``stop``.

        With ``once``, shards are released as they are passed.
        """
        stop = len(self) if stop is None else stop
        for start, shard in zip(self.starts, self.shards, strict=False):
            shard = shard[: max(0, stop - int(start))]
            for at in range(0, len(shard), size):
                yield int(start) + at, shard[at : at + size]
            if once:
                _release(shard)


class EmbeddingStore:
    """A folder of embeddings of many text parts by many models; texts that another part holds are not encoded again.

    Args:
        root: the folder.
        dtype: ``"float32"``, or ``"float16"`` for half the size at errors of about 5e-5 per score.
        shard_rows: rows per shard; a kill loses at most one shard of work. A store begun with another number keeps it.
    """

    def __init__(self, root: str | Path, *, dtype: str = "float32", shard_rows: int = EMBEDDING_SHARD_ROWS) -> None:
        if dtype not in ("float32", "float16"):
            raise StoreError(f"dtype={dtype!r}; choose 'float32' or 'float16'")
        if shard_rows < 1:
            raise StoreError(f"shard_rows={shard_rows}; a shard holds at least one row")
        self.root, self.dtype, self.shard_rows = Path(root).absolute(), np.dtype(dtype), shard_rows
        self._verified: set[Path] = set()
        self._others: dict[Path, OtherParts] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_others": {}}

    def folder(self, key: str, part: TextPart) -> Path:
        """The folder of the vectors of ``part`` by the model ``key``."""
        return self.root / f"{key}-{self.dtype.name}" / part.texts_digest[:32]

    def load(self, key: str, part: TextPart) -> Vectors | None:
        """The vectors, memory-mapped, or None if they are not complete.

        Raises:
            CorruptShardError: a shard that does not match its checksum, with its path.
        """
        folder = self.folder(key, part)
        try:
            plan = self._manifest(folder, part)
        except (FileNotFoundError, CorruptFileError):
            return None
        paths = [folder / _shard_name(n) for n in range(plan["shards"])]
        if not all(path.is_file() for path in paths):
            return None
        allow_files(len(paths))  # each shard stays open as a memory map
        shards = tuple(self._open(path, _place(key, part, number)) for number, path in enumerate(paths))
        for number, (path, shard) in enumerate(zip(paths, shards, strict=True)):
            rows = min(plan["shard_rows"], plan["rows"] - number * plan["shard_rows"])
            if len(shard) != rows or shard.shape[1:] != shards[0].shape[1:]:
                raise CorruptShardError(
                    f"shard {str(path)!r} has shape {shard.shape}, its store needs {rows} rows of {shards[0].shape[1]}; "
                    "delete the file and run again, which encodes only these rows"
                )
        return Vectors(shards)

    def missing(self, key: str, part: TextPart) -> int:
        """Texts of ``part`` without a stored vector."""
        folder = self.folder(key, part)
        if not (folder / "manifest.json").is_file():
            return len(part)
        rows = int(json.loads((folder / "manifest.json").read_text())["shard_rows"])
        starts = [int(path.stem.rsplit("-", 1)[1]) * rows for path in folder.glob("shard-*.safetensors")]
        return len(part) - sum(min(rows, len(part) - start) for start in starts)

    def held(self, part: TextPart, described: Mapping[str, Any]) -> int:
        """Texts of ``part`` with a stored vector by a model whose manifest has these entries; the most by any such model."""
        counts = [0]
        for file in self.root.glob(f"*-{self.dtype.name}/{part.texts_digest[:32]}/{MANIFEST}"):
            with contextlib.suppress(CorruptFileError):
                if described.items() <= read_json(file).items():
                    counts.append(len(part) - self.missing(file.parts[-3].rsplit("-", 1)[0], part))
        return max(counts)

    def cut_texts(self, key: str, part: TextPart) -> Iterator[tuple[Rows, int | None]]:
        """The rows of each shard, int64 ``[m]``, and how many of their texts were cut when they were encoded.

        That is None for a shard that is not there, is damaged, or was written without the count.
        """
        folder, size = self.folder(key, part), self.shard_rows
        with contextlib.suppress(FileNotFoundError, CorruptFileError):
            size = self._manifest(folder, part)["shard_rows"]
        for number, start in enumerate(range(0, len(part), size)):
            rows = np.arange(start, min(start + size, len(part)))
            yield rows, _read_cut(folder / _shard_name(number), _place(key, part, number))

    def fill(
        self,
        key: str,
        part: TextPart,
        encode: Callable[[Sequence[str], Callable[[int], object]], Floats],
        describe: dict[str, Any],
        progress: Callable[[int], object],
    ) -> Vectors:
        """Encode what is missing, shard by shard, and return all vectors.

        Args:
            key: the model, its prompts and so on, as a digest.
            part: the texts.
            encode: texts, and a callback for counts -> float32 ``[m, d]``; it may be one that :class:`CountsCut`.
            describe: a description of the model for the manifest.
            progress: called with the number of texts that are done, those found on disk included.
        """
        shards = self.begin(key, part, describe)
        folder = self.folder(key, part)
        with locked(folder / FILLING):  # several workers: one encodes, the others wait and find it done
            for number in range(shards):
                self.fill_shard(key, part, number, encode, progress)
        loaded = self.load(key, part)
        if loaded is None:
            raise StoreError(f"shards vanished from {str(folder)!r} while it was being filled; run again")
        return loaded

    def begin(self, key: str, part: TextPart, describe: dict[str, Any]) -> int:
        """Write the manifest unless it is there, remove temporary files of dead processes, and return the shards."""
        folder = self.folder(key, part)
        try:
            with locked(folder / FILLING):
                remove_stale(folder)
                self._write_manifest(folder, part, describe)
                note_texts(folder, part)
        except ReadOnlyError:  # a store that others filled
            if not (folder / MANIFEST).is_file():
                raise
        return int(self._manifest(folder, part)["shards"])

    def _write_manifest(self, folder: Path, part: TextPart, describe: dict[str, Any]) -> None:
        shard_rows = self.shard_rows
        try:  # a manifest that is there wins: shards of another size would not fit beside those on disk
            read_json(folder / MANIFEST)
            return
        except FileNotFoundError:
            pass
        except CorruptFileError as error:
            warnings.warn(f"the store is damaged: {error}; it is written again", stacklevel=2)
            shard_rows = _rows_of_first(folder) or shard_rows
            remove(folder / MANIFEST)
        plan = {
            "version": STORE_VERSION,
            "texts": part.texts_digest,
            "rows": len(part),
            "shards": -(-len(part) // shard_rows),
            "shard_rows": shard_rows,
            "dtype": self.dtype.name,
        }
        write_json(folder / MANIFEST, {**plan, **describe})

    def fill_shard(
        self,
        key: str,
        part: TextPart,
        number: int,
        encode: Callable[[Sequence[str], Callable[[int], object]], Floats],
        progress: Callable[[int], object],
        *,
        repair: bool = False,
    ) -> bool:
        """Encode one shard unless it is there; for processes that share the work, each with its own numbers.

        Args:
            key: as for :meth:`fill`, after :meth:`begin`.
            part: the texts.
            number: of the shard.
            encode: as for :meth:`fill`.
            progress: as for :meth:`fill`.
            repair: encode a damaged shard again, with a warning, instead of raising.

        Returns:
            Whether it was encoded.

        Raises:
            CorruptShardError: it is damaged, and ``repair`` is not set.
        """
        folder = self.folder(key, part)
        path, shard_rows = folder / _shard_name(number), self._manifest(folder, part)["shard_rows"]
        rows = np.arange(number * shard_rows, min(len(part), (number + 1) * shard_rows))
        place = _place(key, part, number)
        # lexists: a broken link is found by opening it, and is not silently written through
        if os.path.lexists(path) and self._is_whole(path, place, repair):
            progress(len(rows))
            return False
        if folder not in self._others:
            self._others[folder] = OtherParts(
                folder, lambda other, n: self._open(other / _shard_name(n), f"{key} {other.name} {n}")
            )
        vectors = self._others[folder].encode(part.items(rows), encode, progress)
        if len(vectors) != len(rows):
            raise StoreError(f"the model gave {len(vectors)} vectors for {len(rows)} texts; it must give one each")
        cut = encode.cut_among(len(rows)) if isinstance(encode, CountsCut) else None
        _write_shard(path, vectors.astype(self.dtype), place, cut)
        return True

    def _is_whole(self, path: Path, place: str, repair: bool) -> bool:
        try:
            self._open(path, place)
        except CorruptShardError as error:
            if not repair:
                raise
            warnings.warn(f"{str(error).split('; delete')[0]}; it is encoded again", stacklevel=2)
            remove(path)
            return False
        return True

    def is_trusted(self, key: str, part: TextPart, number: int) -> bool:
        """Whether a shard is there, and known to this process to be whole."""
        path = self.folder(key, part) / _shard_name(number)
        return path in self._verified and path.is_file()

    def trust(self, key: str, part: TextPart) -> None:
        """Take it from others that every shard is whole: this process, and those it hands the store to, check none."""
        folder = self.folder(key, part)
        remove_stale(folder)
        self._verified |= {folder / _shard_name(number) for number in range(self._manifest(folder, part)["shards"])}

    def _manifest(self, folder: Path, part: TextPart) -> dict[str, Any]:
        plan = read_json(folder / MANIFEST)
        if plan["texts"] != part.texts_digest or plan["rows"] != len(part):
            raise StoreError(
                f"store {str(folder)!r} holds {plan['rows']:,} vectors of texts {plan['texts'][:8]}, these are "
                f"{len(part):,} texts ({part.texts_digest[:8]}); encode them again or pass another store"
            )
        return plan

    def _open(self, path: Path, place: str) -> np.ndarray:
        vectors, checksum, found_place = _read_shard(path)
        if found_place != place:
            raise CorruptShardError(
                f"shard {str(path)!r} holds other vectors ({found_place}) than belong there ({place}); delete the file and "
                "run again, which encodes only these rows"
            )
        if path not in self._verified:
            found = _checksum(vectors)  # reads the whole shard: once per process, and its pages are released again
            if found != checksum:
                raise CorruptShardError(
                    f"shard {str(path)!r} has checksum {found[:12]}, written was {checksum[:12]}; delete the file and "
                    "run again, which encodes only these rows"
                )
            _release(vectors)
            self._verified.add(path)
        return vectors


def _release(shard: np.ndarray) -> None:
    buffer = mapped_buffer(shard)
    if buffer is not None and hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED)


def _shard_name(number: int) -> str:
    return f"shard-{number:06d}.safetensors"


def _place(key: str, part: TextPart, number: int) -> str:
    """Where a shard belongs, so that a copy of another shard is not taken for it."""
    return f"{key} {part.texts_digest[:32]} {number}"


def _rows_of_first(folder: Path) -> int | None:
    """Rows of the first shard; None if it cannot be read."""
    try:
        return len(_read_shard(folder / _shard_name(0))[0])
    except (OSError, CorruptShardError):
        return None


def _checksum(vectors: np.ndarray) -> str:
    return xxhash.xxh3_128(np.ascontiguousarray(vectors).view(np.uint8).data).hexdigest()


def _write_shard(path: Path, vectors: np.ndarray, place: str, cut: int | None) -> None:
    from safetensors.numpy import save_file

    tensors = {"vectors": np.ascontiguousarray(vectors)}
    if cut is not None:
        tensors["cut"] = np.frombuffer(_cut_bytes(cut, place), np.uint8)
    metadata = {"checksum": f"{_checksum(vectors)} {place}"}  # one entry: safetensors writes several in any order
    write_file(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def tensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, without its tensors, and the byte at which these begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _cut_bytes(cut: int, place: str) -> bytes:
    """A count, and a checksum of it, in 16 bytes."""
    return cut.to_bytes(8, "little") + xxhash.xxh3_64_digest(f"{cut} {place}".encode())


def _read_cut(path: Path, place: str) -> int | None:
    """How many texts of a shard were cut; None where it does not hold that, or cannot be read."""
    try:
        header, data = tensors_header(path)
        with path.open("rb") as file:
            file.seek(data + header["cut"]["data_offsets"][0])
            found = file.read(16)
    except UNREADABLE:
        return None
    cut = int.from_bytes(found[:8], "little")
    return cut if found == _cut_bytes(cut, place) else None


def _read_shard(path: Path) -> tuple[np.ndarray, str, str]:
    """A read-only map of the vectors of a safetensors file, and the checksum and the place that it carries."""
    try:
        if not path.is_file():  # a device or a pipe could be read without end
            raise ValueError("it is not a file")
        header, data = tensors_header(path)
        entry = header["vectors"]
        dtype = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
        begin, _ = entry["data_offsets"]
        end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
        if path.stat().st_size < data + end:
            raise ValueError(f"it ends after {path.stat().st_size} of {data + end} bytes")
        shape = tuple(entry["shape"])
        vectors = np.memmap(path, dtype, "r", data + begin, shape)
        checksum, place = header["__metadata__"]["checksum"].split(" ", 1)
        return vectors, checksum, place
    except UNREADABLE as error:
        raise CorruptShardError(
            f"shard {str(path)!r} cannot be read ({str(error)[:80]}); delete the file and run again, which encodes only these rows"
        ) from None
