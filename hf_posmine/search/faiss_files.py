"""A FAISS index on disk: built once, a block of documents at a time, continued after a kill, mapped by every process.

It is stored beside its embeddings, addressed by their content, and may be deleted at any time::

    <embeddings>/indexes/<digest>/index.faiss               the finished index, and lists.ivfdata with lists on disk
    <embeddings>/indexes/<digest>.parts/trained.faiss       until then: the trained, empty index
                                        filled.faiss        ... with the documents added so far
                                        part-000000.faiss   ... or its parts, for lists on disk
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.search.index_files import blocks_of, index_folder, rows_in, vectors_of
from hf_posmine.utils.cache import broken_seal, build_once, parts_folder, read_json, remove, seal_of, write_json
from hf_posmine.utils.files import private_folder, remove_stale, write_file
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    import faiss

    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.specs import Approximate

SEED = 0
LISTS = "lists.ivfdata"
ROWS_PER_LIST, LEAST_ROWS = 40, 65_536
"""Training documents per list (FAISS asks for at least 39), and for codebooks at least."""
PART_BYTES = 256 << 20
"""Vectors of a part of lists on disk."""
SAVE_SECONDS, SAVE_SHARE = 60, 20
"""The unfinished index is saved after so many seconds, and after so many times as long as the last save took."""


def opened(faiss: ModuleType, spec: Approximate, exact: ExactIndex) -> Any:
    """The finished index, mapped from disk; built or completed first where it is not there."""
    folder = index_folder(exact, ["faiss", SEED, spec.factory, spec.train_rows, spec.on_disk])
    return _mapped(faiss, build_once(folder, lambda new: _build(faiss, spec, exact, _Build(new, folder))))


@dataclass(frozen=True)
class _Build:
    """Where an index is being built.

    Attributes:
        new: the folder that becomes ``done``.
        done: the folder of the finished index.
    """

    new: Path
    done: Path

    def part(self, name: str) -> Path:
        """A file that outlives an interruption."""
        return parts_folder(self.done) / f"{name}.faiss"

    def read(self, faiss: ModuleType, name: str) -> Any:
        """The index in such a file; None if it is not there or damaged."""
        path = self.part(name)
        try:
            if broken_seal(path, read_json(_seal(path))["seal"]) is None:
                return faiss.read_index(str(path))
        except (FileNotFoundError, PosmineError):
            return None
        return None

    def save(self, faiss: ModuleType, index: faiss.Index, name: str) -> None:
        """Write an index to such a file."""
        path = self.part(name)
        remove(_seal(path))  # first: a kill between the two writes must leave no old seal beside a new file
        write_file(path, lambda temporary: faiss.write_index(index, str(temporary)))
        write_json(_seal(path), {"seal": seal_of(path)})


def _seal(path: Path) -> Path:
    """Where the digest of such a file is kept."""
    return path.with_suffix(".json")


def _mapped(faiss: ModuleType, folder: Path) -> Any:
    path = str(folder / "index.faiss")
    if not (folder / LISTS).is_file():
        return faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))  # without a copy, from faiss 1.11 on
    try:
        return faiss.read_index(path)
    except RuntimeError:  # the folder was moved
        return faiss.read_index(path, faiss.IO_FLAG_ONDISK_SAME_DIR)


def _build(faiss: ModuleType, spec: Approximate, exact: ExactIndex, place: _Build) -> None:
    remove_stale(private_folder(parts_folder(place.done)))
    try:
        empty = _empty(faiss, spec, exact)
        with progress_bar(exact.num_candidates, f"Building {spec.factory}", "document") as bar:
            _train(faiss, spec, exact, empty, place)
            fill = _fill_parts if spec.on_disk else _fill
            fill(faiss, exact, place, bar.update)
    except PosmineError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"FAISS cannot build {spec.factory!r} over {exact.num_candidates:,} documents of {exact.vectors.dim} dimensions: "
            f"{_reason(error)}"
        ) from None


def _empty(faiss: ModuleType, spec: Approximate, exact: ExactIndex) -> Any:
    metric = faiss.METRIC_L2 if exact.similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(exact.vectors.dim, spec.factory, metric)
    if spec.on_disk and faiss.try_extract_index_ivf(index) is None:
        raise RuntimeError("it has no inverted lists to keep on disk; leave on_disk out, or write IVF<lists>,<codes>")
    return index


def _train(faiss: ModuleType, spec: Approximate, exact: ExactIndex, index: faiss.Index, place: _Build) -> None:
    """Train the index on a sample, unless that was done before an interruption."""
    if place.read(faiss, "trained") is None:
        lists = faiss.try_extract_index_ivf(index)
        wanted = spec.train_rows or max(LEAST_ROWS, ROWS_PER_LIST * (lists.nlist if lists is not None else 0))
        if not index.is_trained:  # Flat and HNSW indexes need no training
            index.train(vectors_of(exact, training_rows(exact.num_candidates, wanted)))
        exact.vectors.release()
        place.save(faiss, index, "trained")


def training_rows(documents: int, wanted: int) -> np.ndarray:
    """Rows of the documents to train on, in order: the same for every run."""
    if wanted >= documents:
        return np.arange(documents)
    return np.sort(np.random.default_rng(SEED).choice(documents, wanted, replace=False))


def _fill(faiss: ModuleType, exact: ExactIndex, place: _Build, progress: Callable[[int], object]) -> None:
    """Add all documents to one index, which is saved now and then."""
    index = place.read(faiss, "filled")
    index = place.read(faiss, "trained") if index is None else index
    progress(index.ntotal)
    # saving an index of gigabytes takes long itself: the pause grows with it, so that saving stays below 1 / 20 of the work
    pause, saved = float(SAVE_SECONDS), time.monotonic()
    for block in blocks_of(exact, index.ntotal, exact.num_candidates):
        index.add(block)
        progress(len(block))
        if time.monotonic() - saved >= pause and index.ntotal < exact.num_candidates:
            began = time.monotonic()
            place.save(faiss, index, "filled")
            saved = time.monotonic()
            pause = max(SAVE_SECONDS, SAVE_SHARE * (saved - began))
    faiss.write_index(index, str(place.new / "index.faiss"))


def _fill_parts(faiss: ModuleType, exact: ExactIndex, place: _Build, progress: Callable[[int], object]) -> None:
    """Add the documents to parts that fit in memory, each saved whole, and merge their lists on disk."""
    from faiss.contrib.ondisk import merge_ondisk

    # inverted lists larger than memory cannot grow in place: parts are filled in memory, saved, and merged by file copies
    rows, documents = rows_in(exact, PART_BYTES), exact.num_candidates
    names = [f"part-{number:06d}" for number in range(-(-documents // rows))]
    for number, name in enumerate(names):
        start, stop = number * rows, min(documents, (number + 1) * rows)
        if place.read(faiss, name) is None:
            index = place.read(faiss, "trained")
            for block in blocks_of(exact, start, stop):
                index.add_with_ids(block, np.arange(start, start + len(block)))
                start += len(block)
            place.save(faiss, index, name)
        progress(stop - number * rows)
    index = place.read(faiss, "trained")
    merge_ondisk(index, [str(place.part(name)) for name in names], str(place.new / LISTS))
    # merging wrote the lists into the folder that is renamed when it is finished, so they are pointed at its final name
    faiss.downcast_InvertedLists(faiss.extract_index_ivf(index).invlists).filename = str(place.done / LISTS)
    faiss.write_index(index, str(place.new / "index.faiss"))


def _reason(error: BaseException) -> str:
    """The message of FAISS without the position in its source."""
    message = re.sub(r"^Error in .*?\.(cpp|h):\d+: ", "", " ".join(str(error).split()))
    return (re.sub(r"^Error: '.*?' failed: ?", "", message) or message)[:200]
