"""Texts on disk: immutable, memory-mapped, addressed by content, looked up by 128-bit keys.

Nothing here keeps texts in Python: a part of N documents costs 24 bytes of (memory-mapped) lookup arrays per document,
so lookups stay bounded for tens of millions. Keys are the beginning of a SHA-256: two different texts never share one,
also where somebody tries to write such texts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import unicodedata
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from hf_posmine.core.types import PADDING, Match, Rows
from hf_posmine.data.images import ImageWriter, StoredImages
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.files import staging_folder
from hf_posmine.utils.mapped import Appended, blocks, key_ranges, npy_file, preallocate, release_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

KEY = np.dtype("S16")
Keys: TypeAlias = npt.NDArray[np.bytes_]
"""Keys of texts: 16 bytes each, which numpy sorts, searches and compares as they are."""
Numbers: TypeAlias = npt.NDArray[np.uint64]
CHUNK_ROWS = 65_536
CHUNK_BYTES = 256 << 20


def normalize(text: str) -> str:
    r"""NFKC, case-folded, white space collapsed: the form in which two texts count as the same (semantics 1).

    >>> normalize("  The ﬁrst   STEP ")
    'the first step'
    """
    if text.isascii():
        text = text.lower()
        return text if _single_spaced(text) else " ".join(text.split())
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def _single_spaced(text: str) -> bool:
    """Whether an ASCII text has no white space but single spaces inside; most texts, and quicker than to split them."""
    return text.isprintable() and "  " not in text and text[:1] != " " and text[-1:] != " "


INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Control and format characters, soft hyphens, fillers and variation selectors."""


def loosen(text: str) -> str:
    r"""As :func:`normalize`, without invisible characters: the form in which texts count as the same by ``match="loose"``.

    >>> loosen("The\u200b first\u00ad step")
    'the first step'
    """
    return normalize(text if text.isascii() and text.isprintable() else INVISIBLE.sub("", text))


def text_keys(texts: Iterable[str], match: Match = "normalized") -> Keys:
    """Keys of 128 bits, ``[N]``: equal for texts that count as the same, and only for those.

    They are the beginning of a SHA-256, so nobody can write a text that is taken for another one.
    """
    digest, kept = hashlib.sha256, KEY.itemsize
    keys = bytearray(b"".join([digest(text).digest()[:kept] for text in _encoded(texts, match)]))
    return np.frombuffer(keys, KEY) if keys else np.empty(0, KEY)


def text_numbers(texts: Iterable[str], match: Match = "normalized") -> Numbers:
    """64-bit hashes uint64 ``[N]`` of texts: for draws and counts, not as identities, since they can be forged."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, _encoded(texts, match)), np.uint64)


def _encoded(texts: Iterable[str], match: Match) -> Iterator[bytes]:
    """The texts as bytes, which are equal where the texts count as the same."""
    form = FORMS[match]
    return (form(text).encode("utf-8", "surrogatepass") for text in texts)


FORMS: dict[Match, Callable[[str], str]] = {"exact": str, "normalized": normalize, "loose": loosen}
"""The form in which texts are compared, by ``match``."""


class KeyIndex:
    """Key -> row by binary search in a sorted array; of equal keys the first row wins.

    >>> KeyIndex.build(np.array([7, 3, 7], np.uint64)).rows(np.array([3, 7, 5], np.uint64)).tolist()
    [1, 0, -1]
    """

    def __init__(self, keys: Keys | Numbers, values: Rows) -> None:
        self.keys, self.values = keys, values

    @classmethod
    def build(cls, keys: Keys | Numbers, values: Rows | None = None) -> KeyIndex:
        """Sort ``keys`` ``[N]``; ``values`` int64 ``[N]`` default to the positions."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order if values is None else values[order])

    def rows(self, wanted: Keys | Numbers) -> Rows:
        """The row of each key, int64, -1 where it is unknown."""
        if not len(self.keys):
            return np.full(len(wanted), PADDING, np.int64)
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.values[at], PADDING).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class TextPart:
    """A folder with texts that are unique under ``match``, their ids, and the lookup arrays.

    A source document whose text was already there is dropped; its id then leads to the row that stayed.
    """

    path: Path

    @cached_property
    def info(self) -> dict:
        """Digest, rows, duplicates dropped, whether it has ids."""
        return json.loads((checked(self.path) / "info.json").read_text())

    @property
    def digest(self) -> str:
        """sha256 over texts and ids."""
        return self.info["digest"]

    @property
    def texts_digest(self) -> str:
        """sha256 over the texts alone, in order: what embeddings depend on."""
        return self.info["texts_digest"]

    def __len__(self) -> int:
        return self.info["rows"]

    @cached_property
    def _table(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(checked(self.path) / "texts.arrow"))).read_all()

    @cached_property
    def _starts(self) -> Rows:
        return np.cumsum([0, *(len(c) for c in self._table.column("text").chunks)]).astype(np.int64)

    @cached_property
    def by_text(self) -> KeyIndex:
        """Text key -> row."""
        return KeyIndex(self._load("text_keys"), self._load("text_rows"))

    @cached_property
    def by_id(self) -> KeyIndex:
        """Key of an id -> row; includes the ids of dropped duplicates, and is empty without ids."""
        return KeyIndex(self._load("id_keys"), self._load("id_rows"))

    def _load(self, name: str) -> np.ndarray:
        return np.load(checked(self.path) / f"{name}.npy", mmap_mode="r")

    def take(self, column: Literal["text", "id"], rows: Rows) -> pa.Array:
        """The texts or ids of ``rows`` (int64 ``[m]``), as an Arrow array of strings."""
        if column == "id" and not self.info["has_ids"]:
            return pa.array([str(r) for r in rows.tolist()], pa.string())
        chunks = self._table.column(column).chunks
        which = np.searchsorted(self._starts, rows, side="right") - 1
        if len(chunks) == 1:
            return chunks[0].take(pa.array(rows))
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(chunks) + 1))
        pieces = [
            chunks[c].take(pa.array(rows[order[bounds[c] : bounds[c + 1]]] - self._starts[c])) for c in np.unique(which)
        ]
        if not pieces:
            return pa.array([], pa.string())
        return pa.concat_arrays(pieces).take(pa.array(np.argsort(order, kind="stable")))

    @property
    def num_images(self) -> int:
        """How many of its texts are the names of images (:mod:`hf_posmine.data.images`)."""
        return int(self.info.get("images", 0))

    @cached_property
    def _images(self) -> StoredImages:
        return StoredImages(checked(self.path))

    def items(self, rows: Rows) -> list[str]:
        """The texts of ``rows`` (int64 ``[m]``), with those that name an image as one that can be opened."""
        texts = self.take("text", rows).to_pylist()
        return self._images.named(texts, rows) if self.num_images else texts

    def text_chunks(self) -> list[pa.Array]:
        """All texts in order, as memory-mapped Arrow arrays."""
        return self._table.column("text").chunks

    def iter_texts(self, batch_rows: int = 8192) -> Iterator[list[str]]:
        """All texts in order, as lists of at most ``batch_rows``."""
        for batch in self._table.select(["text"]).to_batches(max_chunksize=batch_rows):
            yield batch.column(0).to_pylist()

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        object.__setattr__(self, "path", state["path"])


class PartWriter:
    """Takes texts (and ids) as they come and leaves a part without duplicates at ``root/<digest>``.

    Texts and their keys go straight to disk; keys are sorted there range by range, so that memory does not grow. A context
    manager of its temporary files.
    """

    def __init__(self, root: Path, match: Match) -> None:
        self.root, self.match = root, match
        self.has_ids = False
        self._staging = staging_folder(root)
        self._raw = Path(self._staging.name) / "raw.arrow"
        self._sink = pa.OSFile(str(self._raw), "wb")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._keys, self._id_keys = (Appended(self._raw.with_name(n), KEY) for n in ("keys", "id_keys"))
        self._images = ImageWriter(self._raw.parent)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()
        self._staging.cleanup()

    def add(self, texts: Sequence[str], ids: Sequence[str] | None = None) -> None:
        """Append texts; either every call gives ids or none does."""
        if not texts:
            return
        self.has_ids = ids is not None
        columns = {"text": pa.array(texts, pa.string())} | ({} if ids is None else {"id": pa.array(ids, pa.string())})
        self._write(pa.record_batch(columns))
        keys = text_keys(texts, self.match)
        self._keys.add(keys)
        self._images.add(texts, keys)
        if ids is not None:
            self._id_keys.add(text_keys(ids, "exact"))

    def _write(self, batch: pa.RecordBatch) -> None:
        self._writer = self._writer or pa.ipc.new_file(self._sink, batch.schema)
        self._writer.write_batch(batch)

    def finish(self, known: Sequence[KeyIndex] = ()) -> TextPart:
        """Drop duplicates and the texts in ``known``, and put the part in its place; the first of equals stays."""
        if self._writer is None:
            self._write(pa.record_batch({"text": pa.array([], pa.string())}))
        self._writer.close()  # type: ignore[union-attr]
        self._sink.close()
        keys, id_keys = self._keys.array(), self._id_keys.array()
        with staging_folder(self.root) as staging:
            folder = Path(staging)
            unique = _Unique.among(keys, known, self._raw.parent)
            texts_digest, ids_digest = _copy_kept(self._raw, folder / "texts.arrow", unique.kept)
            unique.write_lookups(keys, id_keys, folder)
            images = self._images.finish(unique.kept, unique.before, folder)
            if images:  # a text that reads like the name of an image is another document, with another vector
                rows = np.load(folder / "image_rows.npy").tobytes()
                texts_digest = hashlib.sha256(texts_digest.encode() + rows).hexdigest()
            digest = hashlib.sha256(f"{self.match} {texts_digest} {ids_digest} {len(keys) - unique.rows}".encode())
            for name in ("id_keys", "id_rows"):
                array = np.load(folder / f"{name}.npy", mmap_mode="r") if len(id_keys) else id_keys
                for span in blocks(len(array)):
                    digest.update(array[span].tobytes())
            info: dict[str, Any] = {
                "digest": digest.hexdigest(),
                "texts_digest": texts_digest,
                "rows": unique.rows,
                "duplicates": len(keys) - unique.rows,
                "has_ids": self.has_ids,
                "match": self.match,
                "images": images,
            }
            (folder / "info.json").write_text(json.dumps(info))
            return TextPart(build_once(self.root / info["digest"][:32], partial(_move_files, folder)))


@dataclasses.dataclass(frozen=True)
class _Unique:
    """Which of N source texts stay, as maps of files.

    Attributes:
        kept: bool ``[N]``.
        first: int64 ``[N]``, position of the first text that counts as the same, -1 where it is known elsewhere.
        before: int64 ``[N]``, how many are kept before it, which is the row of one that is kept.
        rows: how many are kept in all.
    """

    kept: np.ndarray
    first: Rows
    before: Rows
    rows: int

    @classmethod
    def among(cls, keys: Keys, known: Sequence[KeyIndex], folder: Path) -> _Unique:
        """Of equal keys the first stays, unless it is known."""
        kept = preallocate(folder / "kept", bool, len(keys))
        first_of, before = (preallocate(folder / name, np.int64, len(keys)) for name in ("first", "before"))
        for at in key_ranges(keys):
            unique, first, inverse = np.unique(keys[at], return_index=True, return_inverse=True)
            new = np.ones(len(first), bool)
            for index in known:
                new &= index.rows(unique) < 0
            kept[at[first[new]]] = True
            first_of[at] = np.where(new, at[first], PADDING)[inverse]
            for array in (keys, kept, first_of):
                release_pages(array)
        rows = 0
        for span in blocks(len(keys)):
            before[span] = rows + np.cumsum(kept[span]) - kept[span]
            rows += int(kept[span].sum())
            release_pages(before, span.start, span.stop)
        return cls(kept, first_of, before, rows)

    def write_lookups(self, keys: Keys, id_keys: Keys, folder: Path) -> None:
        """Text key -> row, and key of an id -> row, sorted."""
        ids = sum(int((self.first[span] >= 0).sum()) for span in blocks(len(id_keys)))
        for name, all_keys, length in (("text", keys, self.rows), ("id", id_keys, ids)):
            with (
                npy_file(folder / f"{name}_keys.npy", KEY, (length,)) as key_file,
                npy_file(folder / f"{name}_rows.npy", np.int64, (length,)) as row_file,
            ):
                for at in key_ranges(all_keys):
                    at = at[self.kept[at] if name == "text" else self.first[at] >= 0]
                    index = KeyIndex.build(all_keys[at], self.before[self.first[at]])
                    key_file.write(index.keys.tobytes())
                    row_file.write(index.values.tobytes())
                    for array in (all_keys, self.kept, self.first, self.before):
                        release_pages(array)


def write_part(
    batches: Iterable[tuple[Sequence[str], Sequence[str] | None]],
    root: Path,
    match: Match,
    known: Sequence[KeyIndex] = (),
) -> TextPart:
    """Write batches of texts and ids (or None) as one part; see :class:`PartWriter`."""
    with PartWriter(root, match) as writer:
        for texts, ids in batches:
            writer.add(texts, ids)
        return writer.finish(known)


def _move_files(folder: Path, target: Path) -> None:
    for file in list(folder.iterdir()):
        file.rename(target / file.name)


def _copy_kept(raw: Path, target: Path, kept: np.ndarray) -> tuple[str, str]:
    """Copy the kept rows into chunks of bounded size; return the digests of their texts and of their ids."""
    digests = {"text": hashlib.sha256(), "id": hashlib.sha256()}
    pending: list[pa.RecordBatch] = []
    with (
        pa.OSFile(str(raw)) as source,
        pa.ipc.open_file(source) as reader,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, reader.schema) as writer,
    ):

        def flush() -> None:
            if pending:
                writer.write_table(pa.Table.from_batches(pending).combine_chunks(), max_chunksize=CHUNK_ROWS)
                pending.clear()

        start = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            part = batch.filter(pa.array(kept[start : start + len(batch)]))
            start += len(batch)
            for name in part.schema.names:
                digests[name].update(_with_lengths(part.column(name)))
            pending.append(part)
            if sum(map(len, pending)) >= CHUNK_ROWS or sum(b.nbytes for b in pending) >= CHUNK_BYTES:
                flush()
        flush()
    return digests["text"].hexdigest(), digests["id"].hexdigest()


def _with_lengths(texts: pa.Array) -> memoryview:
    """The UTF-8 bytes of all texts, each after its length (8 bytes, little-endian), so that no two lists give the same."""
    values = texts.cast(pa.large_binary())
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False).astype("<i8")
    before = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(values), [None, pa.py_buffer(lengths)])
    joined = pc.binary_join_element_wise(before.cast(pa.large_binary()), values, pa.scalar(b"", pa.large_binary()))
    return memoryview(joined.buffers()[2] or b"")[: int(lengths.sum()) + lengths.nbytes]
