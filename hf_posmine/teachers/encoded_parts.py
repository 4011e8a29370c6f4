"""A whole corpus encoded in parts, each on disk as soon as it is done: what a kill leaves is taken up again."""

from __future__ import annotations

import warnings
import zipfile
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.utils.cache import remove
from hf_posmine.utils.files import private_folder, remove_stale, write_file
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


def encoded_parts(
    folder: Path, corpus: Corpus, encode: Callable[[list[str]], Mapping[str, np.ndarray]]
) -> Iterator[Arrays]:
    """What ``encode`` makes of the documents, part after part; parts that the folder has are read.

    Args:
        folder: of the parts.
        corpus: the documents.
        encode: takes texts and gives arrays, whose first axes are put one after the other.
    """
    remove_stale(private_folder(folder))
    with progress_bar(len(corpus), "Encoding document texts", "text") as bar:
        for start in range(0, len(corpus), PART_TEXTS):
            stop = min(len(corpus), start + PART_TEXTS)
            path = folder / f"{start:010d}-{stop:010d}.npz"
            part = read_arrays(path)
            if part is None:
                part = _encoded(corpus, start, stop, encode)
                write_file(path, partial(save_arrays, part))
            bar.update(stop - start)
            yield part


def _encoded(corpus: Corpus, start: int, stop: int, encode: Callable[[list[str]], Mapping[str, np.ndarray]]) -> Arrays:
    rows = np.arange(start, stop)
    found = [encode(corpus.items(rows[i : i + ENCODE_TEXTS])) for i in range(0, len(rows), ENCODE_TEXTS)]
    return {name: np.concatenate([arrays[name] for arrays in found]) for name in found[0]}


def save_arrays(arrays: Arrays, path: Path) -> None:
    """Write arrays together with checksums."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of a file; None if it is not there or damaged, which its checksums show."""
    try:
        with np.load(path) as found:
            return dict(found)
    except FileNotFoundError:
        return None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, KeyError, RuntimeError) as error:
        warnings.warn(f"{str(path)!r} cannot be read ({str(error)[:80]}); its texts are encoded again", stacklevel=2)
        remove(path)
        return None
