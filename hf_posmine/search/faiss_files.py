"""A FAISS index on disk: built once, a block of documents at a time, continued after a kill, mapped by every process.

It is stored beside its embeddings, addressed by their content, and may be deleted at any time::

    <embeddings>/indexes/<digest>/index/index.faiss   the finished index, and lists.ivfdata with lists on disk
                                  trained.faiss       until then: the trained, empty index
                                  filled.faiss        ... with the documents added so far
                                  part-000000.faiss   ... or its parts, for lists on disk
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.search.index_files import blocks_of, index_folder, rows_in, vectors_of
from hf_posmine.utils.files import new_folder, remove_stale, write_file
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def opened(faiss: Any, spec: Approximate, exact: ExactIndex) -> Any:
    """The finished index, mapped from disk; built or completed first where it is not there."""
    home = index_folder(exact, ["faiss", SEED, spec.factory, spec.train_rows, spec.on_disk])
    done = home / "index"
    if not done.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):  # several workers: one builds, the others wait and find it done
            remove_stale(home)
            if not done.is_dir():
                _build(faiss, spec, exact, done)
            for leftover in home.glob("*.faiss"):
                leftover.unlink()
    return _mapped(faiss, done)


def _mapped(faiss: Any, folder: Path) -> Any:
    path = str(folder / "index.faiss")
    if not (folder / LISTS).is_file():
        return faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))  # without a copy, from faiss 1.11 on
    try:
        return faiss.read_index(path)
    except RuntimeError:  # the folder was moved
        return faiss.read_index(path, faiss.IO_FLAG_ONDISK_SAME_DIR)


def _build(faiss: Any, spec: Approximate, exact: ExactIndex, done: Path) -> None:
    try:
        empty = _empty(faiss, spec, exact)
        with progress_bar(exact.num_candidates, f"Building {spec.factory}", "document") as bar:
            trained = _trained(faiss, spec, exact, empty, done.parent / "trained.faiss")
            fill = _fill_parts if spec.on_disk else _fill
            fill(faiss, trained, exact, done, bar.update)
    except PosmineError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"FAISS cannot build {spec.factory!r} over {exact.num_candidates:,} documents of {exact.vectors.dim} dimensions: "
            f"{_reason(error)}"
        ) from None


def _empty(faiss: Any, spec: Approximate, exact: ExactIndex) -> Any:
    metric = faiss.METRIC_L2 if exact.similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(exact.vectors.dim, spec.factory, metric)
    if spec.on_disk and faiss.try_extract_index_ivf(index) is None:
        raise RuntimeError("it has no inverted lists to keep on disk; leave on_disk out, or write IVF<lists>,<codes>")
    return index


def _trained(faiss: Any, spec: Approximate, exact: ExactIndex, index: Any, path: Path) -> Path:
    """Train the index on a sample, unless that was done before an interruption."""
    if not path.is_file():
        lists = faiss.try_extract_index_ivf(index)
        wanted = spec.train_rows or max(LEAST_ROWS, ROWS_PER_LIST * (lists.nlist if lists is not None else 0))
        if not index.is_trained:
            index.train(vectors_of(exact, training_rows(exact.num_candidates, wanted)))
        exact.vectors.release()
        _save(faiss, index, path)
    return path


def training_rows(documents: int, wanted: int) -> np.ndarray:
    """Rows of the documents to train on, in order: the same for every run."""
    if wanted >= documents:
        return np.arange(documents)
    return np.sort(np.random.default_rng(SEED).choice(documents, wanted, replace=False))


def _fill(faiss: Any, trained: Path, exact: ExactIndex, done: Path, progress: Callable[[int], object]) -> None:
    """Add all documents to one index, which is saved now and then."""
    unfinished = done.parent / "filled.faiss"
    index = faiss.read_index(str(unfinished if unfinished.is_file() else trained))
    progress(index.ntotal)
    # saving an index of gigabytes takes long itself: the pause grows with it, so that saving stays below 1 / 20 of the work
    pause, saved = float(SAVE_SECONDS), time.monotonic()
    for block in blocks_of(exact, index.ntotal, exact.num_candidates):
        index.add(block)
        progress(len(block))
        if time.monotonic() - saved >= pause and index.ntotal < exact.num_candidates:
            began = time.monotonic()
            _save(faiss, index, unfinished)
            saved = time.monotonic()
            pause = max(SAVE_SECONDS, SAVE_SHARE * (saved - began))
    with new_folder(done) as new:
        faiss.write_index(index, str(new / "index.faiss"))


def _fill_parts(faiss: Any, trained: Path, exact: ExactIndex, done: Path, progress: Callable[[int], object]) -> None:
    """Add the documents to parts that fit in memory, each saved whole, and merge their lists on disk."""
    from faiss.contrib.ondisk import merge_ondisk

    # inverted lists larger than memory cannot grow in place: parts are filled in memory, saved, and merged by file copies
    rows, documents = rows_in(exact, PART_BYTES), exact.num_candidates
    parts = [done.parent / f"part-{number:06d}.faiss" for number in range(-(-documents // rows))]
    for number, part in enumerate(parts):
        start, stop = number * rows, min(documents, (number + 1) * rows)
        if not part.is_file():
            index = faiss.read_index(str(trained))
            for block in blocks_of(exact, start, stop):
                index.add_with_ids(block, np.arange(start, start + len(block)))
                start += len(block)
            _save(faiss, index, part)
        progress(stop - number * rows)
    with new_folder(done) as new:
        index = faiss.read_index(str(trained))
        merge_ondisk(index, [str(part) for part in parts], str(new / LISTS))
        faiss.downcast_InvertedLists(faiss.extract_index_ivf(index).invlists).filename = str(done / LISTS)
        faiss.write_index(index, str(new / "index.faiss"))


def _save(faiss: Any, index: Any, path: Path) -> None:
    write_file(path, lambda temporary: faiss.write_index(index, str(temporary)))


def _reason(error: BaseException) -> str:
    """The message of FAISS without the position in its source."""
    message = re.sub(r"^Error in .*?\.(cpp|h):\d+: ", "", " ".join(str(error).split()))
    return (re.sub(r"^Error: '.*?' failed: ?", "", message) or message)[:200]
