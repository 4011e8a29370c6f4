"""A whole corpus encoded in parts, each on disk as soon as it is done: what a kill leaves is taken up again."""

from __future__ import annotations

import shutil
import zipfile
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from hf_posmine.utils.files import new_folder, write_file
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus

PART_TEXTS = 2048
"""Texts that a kill can lose."""
ENCODE_TEXTS = 256
"""Texts encoded at a time."""

Arrays = dict[str, np.ndarray]


def build_once(folder: Path, build: Callable[[Path, Path], object]) -> Path:
    """The folder; built first, by one of several processes, unless it is there.

    Args:
        folder: of what is built.
        build: takes a new folder to write to, and a folder for parts, which outlives an interruption.
    """
    parts = folder.with_name(f"{folder.name}.parts")
    if folder.is_dir() and not parts.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            parts.mkdir(exist_ok=True)
            with new_folder(folder) as new:
                build(new, parts)
        shutil.rmtree(parts, ignore_errors=True)
    return folder


def encoded_parts(
    folder: Path, corpus: Corpus, encode: Callable[[list[str]], Mapping[str, np.ndarray]]
) -> Iterator[Arrays]:
    """What ``encode`` makes of the documents, part after part; parts that the folder has are read.

    Args:
        folder: of the parts.
        corpus: the documents.
        encode: takes texts and gives arrays, whose first axes are put one after the other.
    """
    with progress_bar(len(corpus), "Encoding document texts", "text") as bar:
        for start in range(0, len(corpus), PART_TEXTS):
            stop = min(len(corpus), start + PART_TEXTS)
            path = folder / f"{start:010d}-{stop:010d}.npz"
            part = _read(path)
            if part is None:
                part = _encoded(corpus, start, stop, encode)
                write_file(path, partial(_save, part))
            bar.update(stop - start)
            yield part


def _encoded(corpus: Corpus, start: int, stop: int, encode: Callable[[list[str]], Mapping[str, np.ndarray]]) -> Arrays:
    rows = np.arange(start, stop)
    found = [encode(corpus.texts(rows[i : i + ENCODE_TEXTS]).to_pylist()) for i in range(0, len(rows), ENCODE_TEXTS)]
    return {name: np.concatenate([arrays[name] for arrays in found]) for name in found[0]}


def _save(arrays: Arrays, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> Arrays | None:
    """The arrays of a part; None if it is not there or damaged."""
    try:
        with np.load(path) as found:
            return dict(found)
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
        return None
