"""Columns that a scan reads besides the vectors: measured in one pass, kept in memory while small, else on disk.

On disk it is addressed by the content of the vectors, written atomically, made once and then shared by every
later run and every worker, which map it. It may be deleted at any time, and is made again where it is damaged.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.search.error_bounds import PAD, Coded, Documents, Int8, refuse_tiny, scale_and_bias
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import npy_file
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.rescore import Similarity

VERSION = 1
"""Part of the address: raised when the same vectors would be prepared otherwise."""

EXTREMES = "extremes.json"

Layout = dict[str, tuple[Any, tuple[int, ...]]]
"""Name of a column -> its dtype and the shape of one row."""


def prepare(similarity: Similarity, vectors: Vectors, stop: int, *, int8: bool, rows: int, held: int) -> Documents:
    """Measure the first ``stop`` documents, and round them to int8 if asked.

    Args:
        similarity: cosine, dot, euclidean or manhattan.
        vectors: the documents.
        stop: how many of them.
        int8: whether a coarse scan will want codes.
        rows: documents at a time.
        held: bytes that may stay in memory; beyond, the columns are files.
    """
    layout = _layout(vectors.dim, int8)
    blocks = _measured(similarity, vectors, stop, rows, int8)
    if stop * row_bytes(vectors.dim, int8=int8) <= held:
        return _in_memory(layout, blocks, stop)
    name = content_digest(similarity, vectors, stop, int8)
    roots = scan_folders(vectors)
    for root in roots:
        try:
            return _on_disk(root / name, layout, blocks, stop)
        except ReadOnlyError:
            if root == roots[-1]:
                raise
    raise AssertionError("the last root returns or raises")


def row_bytes(dimensions: int, *, int8: bool) -> int:
    """Bytes per document of what :func:`prepare` makes."""
    return sum(np.dtype(dtype).itemsize * int(np.prod(tail)) for dtype, tail in _layout(dimensions, int8).values())


def _layout(dimensions: int, int8: bool) -> Layout:
    columns: Layout = {"scale": (np.float32, ()), "bias": (np.float32, ())}
    if int8:
        padded = -(-dimensions // PAD) * PAD
        columns |= {
            "codes": (np.int8, (padded,)),
            "coded_scale": (np.float32, ()),
            "quantization_error": (np.float32, ()),
        }
    return columns


def _measured(
    similarity: Similarity, vectors: Vectors, stop: int, rows: int, int8: bool
) -> Iterator[dict[str, np.ndarray]]:
    """The columns, block by block, and beside them ``squares`` float64."""
    for start, block in vectors.blocks(rows, stop, once=True):
        block = np.asarray(block, np.float32)
        squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        refuse_tiny(squares, "document", start)
        scale, bias = scale_and_bias(similarity, squares)
        columns = {"squares": squares, "scale": scale, "bias": bias}
        if int8:
            coded = Int8.of(block)
            quantization_error = np.nextafter((coded.quantization_error * scale).astype(np.float32), np.float32(np.inf))
            columns |= {
                "codes": coded.codes,
                "coded_scale": coded.steps * scale,
                "quantization_error": quantization_error,
            }
        yield columns


def _in_memory(layout: Layout, blocks: Iterator[dict[str, np.ndarray]], stop: int) -> Documents:
    columns = {name: np.empty((stop, *tail), dtype) for name, (dtype, tail) in layout.items()}
    extremes, at = _Extremes(), 0
    for block in blocks:
        size = extremes.see(block)
        for name, column in columns.items():
            column[at : at + size] = block[name]
        at += size
    return extremes.documents(columns)


def _on_disk(folder: Path, layout: Layout, blocks: Iterator[dict[str, np.ndarray]], stop: int) -> Documents:
    """The columns as files, written now unless they are there."""

    def build(new: Path) -> None:
        (new / EXTREMES).write_text(json.dumps(_write(new, layout, blocks, stop).largest))

    build_once(folder, build)
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in layout}
    return _Extremes(json.loads((folder / EXTREMES).read_text())).documents(columns)


def _write(new: Path, layout: Layout, blocks: Iterator[dict[str, np.ndarray]], stop: int) -> _Extremes:
    extremes = _Extremes()
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar(stop, "Preparing the search", "document"))
        files = {
            name: stack.enter_context(npy_file(new / f"{name}.npy", dtype, (stop, *tail)))
            for name, (dtype, tail) in layout.items()
        }
        for block in blocks:
            for name, file in files.items():
                file.write(np.ascontiguousarray(block[name]).data)
            bar.update(extremes.see(block))
    return extremes


class _Extremes:
    """The largest of what goes into error bounds."""

    def __init__(self, largest: dict[str, float] | None = None) -> None:
        self.largest = largest or {"length": 0.0, "square": 0.0, "quantization_error": 0.0}

    def see(self, block: dict[str, np.ndarray]) -> int:
        """Take note of a block; returns its rows."""
        lengths = np.sqrt(block["squares"]) * block["scale"]
        for name, values in (
            ("length", lengths),
            ("square", block["squares"]),
            ("quantization_error", block.get("quantization_error")),
        ):
            if values is not None:
                self.largest[name] = max(self.largest[name], float(values.max(initial=0)))
        return len(lengths)

    def documents(self, columns: dict[str, np.ndarray]) -> Documents:
        """The columns with what was noted of them."""
        coded = None
        if "codes" in columns:
            coded = Coded(
                columns["codes"],
                columns["coded_scale"],
                columns["quantization_error"],
                self.largest["quantization_error"],
            )
        return Documents(columns["scale"], columns["bias"], self.largest["length"], self.largest["square"], coded)


def scan_folders(vectors: Vectors) -> list[Path]:
    """Folders for the columns: beside the embeddings they belong to, else in the cache."""
    first = vectors.shards[0]
    home = Path(first.filename).parent if isinstance(first, np.memmap) and first.filename else None
    beside = [home / "scan"] if home is not None and (home / "manifest.json").is_file() else []
    return [*beside, cache_root() / "scans"]


def content_digest(similarity: Similarity, vectors: Vectors, stop: int, int8: bool) -> str:
    """Digest of the content of the vectors, from the checksums of their shards, and of what is made of them."""
    digest = xxhash.xxh3_128(json.dumps([VERSION, similarity, stop, int8, vectors.dim]).encode())
    for start, shard in zip(vectors.starts, vectors.shards, strict=False):
        if start >= stop:
            break
        digest.update(f"{_checksum(shard)} {shard.dtype} {len(shard)}".encode())
    return digest.hexdigest()


def _checksum(shard: np.ndarray) -> str:
    """The checksum in the shard's file, if the array is all of it; else a digest of the numbers."""
    if (
        isinstance(shard, np.memmap)
        and shard.mode == "r"
        and shard.flags.c_contiguous
        and str(shard.filename).endswith(".safetensors")
    ):
        from safetensors import safe_open

        with safe_open(shard.filename, "np") as opened:
            recorded = (opened.metadata() or {}).get("checksum")
            whole = opened.keys() == ["vectors"] and opened.get_slice("vectors").get_shape() == list(shard.shape)
        if recorded and whole:
            return str(recorded).split()[0]  # behind it, the shard's place
    digest = xxhash.xxh3_128()
    for start in range(0, len(shard), 4096):
        digest.update(np.ascontiguousarray(shard[start : start + 4096]).data)
    return digest.hexdigest()
