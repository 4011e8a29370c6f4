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
from hf_posmine.search.axis_codes import AxisCodes, lengths_of
from hf_posmine.search.error_bounds import Coded, Documents, refuse_tiny, scale_and_bias
from hf_posmine.search.groups import GROUP, grouped
from hf_posmine.search.rounding import CODES, padded, rounded
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import npy_file
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.core.types import Floats, Rows
    from hf_posmine.encoding.store import Vectors
    from hf_posmine.search.axis_codes import Axes
    from hf_posmine.search.rescore import Similarity
    from hf_posmine.search.rounding import Kind

VERSION = 2
"""Part of the address: raised when the same vectors would be prepared otherwise."""

EXTREMES = "extremes.json"

Layout = dict[str, tuple[Any, tuple[int, ...]]]
"""Name of a column -> its dtype and the shape of one row."""


def prepare(
    similarity: Similarity, vectors: Vectors, stop: int, *, rounding: Kind | None, rows: int, held: int
) -> Documents:
    """Measure the first ``stop`` documents, and round them if asked.

    Args:
        similarity: cosine, dot, euclidean or manhattan.
        vectors: the documents.
        stop: how many of them.
        rounding: the codes that a coarse scan will want, if any.
        rows: documents at a time.
        held: bytes that may stay in memory; beyond, the columns are files.
    """
    layout, blocks = _layout(vectors.dim, rounding), _measured(similarity, vectors, stop, rows, rounding)
    columns, largest = _made(content_digest(similarity, vectors, stop, rounding), layout, blocks, vectors, stop, held)
    coded = None
    if rounding is not None:
        most = largest["quantization_error"]
        coded = Coded(columns["codes"], columns["coded_scale"], columns["quantization_error"], most)
    return Documents(columns["scale"], columns["bias"], largest["length"], largest["square"], coded)


def prepare_axes(similarity: Similarity, vectors: Vectors, stop: int, axes: Axes, *, rows: int, held: int) -> AxisCodes:
    """The first ``stop`` documents as codes along axes; arguments as in :func:`prepare`."""
    layout = _axis_layout(axes.lengths)
    own = "" if axes.basis is None else xxhash.xxh3_64(axes.basis.tobytes()).hexdigest()
    name = f"{content_digest(similarity, vectors, stop)}-axes{own}"
    blocks = _along_axes(similarity, vectors, stop, axes, rows)
    columns, largest = _made(name, layout, blocks, vectors, stop, held)
    found = tuple(columns[f"rest_{length}"] for length in axes.lengths.tolist())
    return AxisCodes(axes, columns["codes"], columns["scale"], found, largest["quantization_error"])


def _made(
    name: str, layout: Layout, blocks: Iterator[dict[str, np.ndarray]], vectors: Vectors, stop: int, held: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The columns of a layout, in memory or from files, and the largest of what goes into error bounds."""
    if stop * _bytes(layout) <= held:
        return _in_memory(layout, blocks, stop)
    roots = scan_folders(vectors)
    for root in roots:
        try:
            return _on_disk(root / name, layout, blocks, stop)
        except ReadOnlyError:
            if root == roots[-1]:
                raise
    raise AssertionError("the last root returns or raises")


def row_bytes(dimensions: int, rounding: Kind | None = None) -> int:
    """Bytes per document of what :func:`prepare` makes."""
    return _bytes(_layout(dimensions, rounding))


def axis_row_bytes(dimensions: int) -> int:
    """The same of :func:`prepare` and :func:`prepare_axes` together, at most."""
    return row_bytes(dimensions) + _bytes(_axis_layout(lengths_of(dimensions, few=True)))


def _bytes(layout: Layout) -> int:
    """Bytes of a row."""
    return sum(np.dtype(dtype).itemsize * int(np.prod(tail)) for dtype, tail in layout.values())


def _layout(dimensions: int, rounding: Kind | None) -> Layout:
    columns: Layout = {"scale": (np.float32, ()), "bias": (np.float32, ())}
    if rounding is not None:
        columns |= {
            "codes": (CODES[rounding], (padded(dimensions),)),
            "coded_scale": (np.float32, ()),
            "quantization_error": (np.float32, ()),
        }
    return columns


def _axis_layout(lengths: Rows) -> Layout:
    """The columns of codes of which so many numbers may count, int64 ``[L]``."""
    rests: Layout = {f"rest_{length}": (np.float32, ()) for length in lengths.tolist()}
    return {"codes": (np.int16, (int(lengths[-1]),)), "scale": (np.float32, ()), **rests}


def _measured(
    similarity: Similarity, vectors: Vectors, stop: int, rows: int, rounding: Kind | None
) -> Iterator[dict[str, np.ndarray]]:
    """The columns, block by block, and beside them ``squares`` float64."""
    for start, block in vectors.blocks(rows, stop, once=True):
        block = np.asarray(block, np.float32)
        squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        refuse_tiny(squares, "document", start)
        scale, bias = scale_and_bias(similarity, squares)
        columns = {"squares": squares, "scale": scale, "bias": bias}
        if rounding is not None:
            coded = rounded(rounding, block)
            quantization_error = np.nextafter((coded.quantization_error * scale).astype(np.float32), np.float32(np.inf))
            columns |= {
                "codes": coded.codes,
                "coded_scale": coded.steps * scale,
                "quantization_error": quantization_error,
            }
        yield columns


def _along_axes(
    similarity: Similarity, vectors: Vectors, stop: int, axes: Axes, rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """The columns of codes along axes, block by block, and beside them what the extremes are of."""
    for block in _whole_groups(vectors, stop, rows):
        squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        scale, coded = scale_and_bias(similarity, squares)[0], axes.codes(block)
        columns = {"codes": grouped(coded.codes), "scale": coded.steps * scale, "squares": squares}
        for length, rest in zip(axes.lengths.tolist(), coded.rest, strict=True):
            columns[f"rest_{length}"] = np.nextafter((rest * scale).astype(np.float32), np.float32(np.inf))
        yield columns | {"quantization_error": coded.apart[-1] * scale}


def _whole_groups(vectors: Vectors, stop: int, rows: int) -> Iterator[Floats]:
    """Blocks of about ``rows`` documents, float32; all but the last have a multiple of 8, whatever the shards are."""
    left = np.empty((0, vectors.dim), np.float32)
    for _, block in vectors.blocks(rows, stop, once=True):
        block = np.concatenate([left, np.asarray(block, np.float32)])
        whole = len(block) // GROUP * GROUP
        left = block[whole:]
        if whole:
            yield block[:whole]
    if len(left):
        yield left


def _in_memory(
    layout: Layout, blocks: Iterator[dict[str, np.ndarray]], stop: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    columns = {name: np.empty((stop, *tail), dtype) for name, (dtype, tail) in layout.items()}
    extremes, at = _Extremes(), 0
    for block in blocks:
        size = extremes.see(block)
        for name, column in columns.items():
            column[at : at + size] = block[name]
        at += size
    return columns, extremes.largest


def _on_disk(
    folder: Path, layout: Layout, blocks: Iterator[dict[str, np.ndarray]], stop: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The columns as files, written now unless they are there."""

    def build(new: Path) -> None:
        (new / EXTREMES).write_text(json.dumps(_write(new, layout, blocks, stop).largest))

    build_once(folder, build)
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in layout}
    return columns, json.loads((folder / EXTREMES).read_text())


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

    def __init__(self) -> None:
        self.largest = {"length": 0.0, "square": 0.0, "quantization_error": 0.0}

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


def scan_folders(vectors: Vectors) -> list[Path]:
    """Folders for the columns: beside the embeddings they belong to, else in the cache."""
    first = vectors.shards[0]
    home = Path(first.filename).parent if isinstance(first, np.memmap) and first.filename else None
    beside = [home / "scan"] if home is not None and (home / "manifest.json").is_file() else []
    return [*beside, cache_root() / "scans"]


def content_digest(similarity: Similarity, vectors: Vectors, stop: int, rounding: Kind | None = None) -> str:
    """Digest of the content of the vectors, from the checksums of their shards, and of what is made of them."""
    digest = xxhash.xxh3_128(json.dumps([VERSION, similarity, stop, rounding, vectors.dim]).encode())
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
            whole = "vectors" in opened.keys() and opened.get_slice("vectors").get_shape() == list(shard.shape)
        if recorded and whole:
            return str(recorded).split()[0]  # behind it, the shard's place
    digest = xxhash.xxh3_128()
    for start in range(0, len(shard), 4096):
        digest.update(np.ascontiguousarray(shard[start : start + 4096]).data)
    return digest.hexdigest()
