"""Folders addressed by content: built once, by one process, and checked before they are read.

A folder gets its name when everything in it is written, a manifest with the size and the digest of every file included.
Each process compares the files with the manifest once, before it first reads them. So a damaged file is found before it
decides a row: what can be built again is built again, with a warning that names the file, and what cannot is an error.

::

    corpora/<digest>/              what was built
    corpora/<digest>/files.json    its manifest
    corpora/<digest>.lock          held by the process that builds it
    corpora/<digest>.parts/        what an interrupted build continues from
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import warnings
from typing import TYPE_CHECKING, Any

import xxhash
from filelock import FileLock

from hf_posmine.core.errors import CorruptFileError, ReadOnlyError
from hf_posmine.utils.files import new_folder, private_folder, remove_stale, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MANIFEST = "files.json"
PARTS = ".parts"
DIGEST = "xxh3_128 of the rest"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
PIECE = 1 << 18
ABSENT = "it does not exist"

Identity = tuple[int, int, int, int]

_checked: dict[Path, dict[Path, Identity]] = {}
"""Folders that this process has compared with their manifests -> the files that they held."""
_checked_files: dict[tuple[Path, Identity], str] = {}
"""The same of single files -> their digests."""


def build_once(folder: Path, build: Callable[[Path], object], *, finished: bool = False) -> Path:
    """The folder, checked; built first, by one of several processes, unless it is there.

    A folder that is there is neither locked nor written to, so a cache that others fill may be read-only.

    Args:
        folder: named by what decides its content.
        build: writes the content into a new, empty folder.
        finished: it holds finished work. Damage is an error then, because building it again would hide the damage.

    Raises:
        CorruptFileError: ``finished`` work is damaged; the message names the file and the cure.
        ReadOnlyError: the folder is missing or damaged, and the cache cannot be written.
    """
    if damage(folder) is None:
        shutil.rmtree(parts_folder(folder), ignore_errors=True)  # its process was killed before it did so
        return folder
    with locked(folder):
        found = damage(folder)  # another process may have built it in the meantime
        if found is None:
            return folder
        if os.path.lexists(folder):
            if finished:
                raise CorruptFileError(f"finished work is damaged: {found}; delete {str(folder)!r} and run again")
            warnings.warn(f"the cache is damaged: {found}; {str(folder)!r} is built again", stacklevel=2)
            remove(folder)
        remove_stale(folder.parent)
        with new_folder(folder) as new:
            build(new)
            _write_manifest(new)
        shutil.rmtree(parts_folder(folder), ignore_errors=True)
    return folder


def checked(folder: Path) -> Path:
    """The folder, compared with its manifest once per process: for readers that cannot build it.

    Raises:
        CorruptFileError: it is missing or damaged; the message names the file.
    """
    found = damage(folder)
    if found is not None:
        raise CorruptFileError(f"the cache is damaged: {found}; delete {str(folder)!r} and run again, which builds it")
    return folder


def parts_folder(folder: Path) -> Path:
    """Where the build of a folder keeps what an interrupted build continues from; removed when the folder is built."""
    return folder.with_name(folder.name + PARTS)


def damage(folder: Path) -> str | None:
    """The first file of a folder that is not as it was written, and in which way; None if all are.

    The digests are compared once per process, and again where a file was written to or replaced.
    """
    folder = folder.absolute()
    manifest = folder / MANIFEST
    try:
        known = _checked.get(folder)
        if known is not None and all(_identity(path) == identity for path, identity in known.items()):
            return None
        seen = {manifest: _identity(manifest)}
        files = read_json(manifest)["files"]
        seen |= {folder / name: _identity(folder / name) for name in files}
    except FileNotFoundError as error:
        return f"{str(error.filename if folder.is_dir() else folder)!r}: {ABSENT}"
    except OSError as error:
        return f"{str(error.filename or folder)!r}: {error.strerror}"
    except (CorruptFileError, KeyError) as error:
        return str(error)
    for name, seal in files.items():
        reason = broken_seal(folder / name, seal)
        if reason is not None:
            return f"{str(folder / name)!r}: {reason}"
    _checked[folder] = seen
    return None


def _write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / MANIFEST, {"files": {path.relative_to(folder).as_posix(): seal_of(path) for path in files}})


def seal_of(path: Path) -> dict[str, Any]:
    """Size in bytes and xxh3_128 digest of a file."""
    return {"bytes": path.stat().st_size, "xxh3_128": file_xxh3(path)}


def broken_seal(path: Path, seal: dict[str, Any]) -> str | None:
    """How a file differs from its seal; None if it does not."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a device or a pipe could be read without end
            return "it is not a file"
        if found.st_size != seal["bytes"]:
            return f"it has {found.st_size:,} bytes, {seal['bytes']:,} were written"
        return None if file_xxh3(path) == seal["xxh3_128"] else "its content is not what was written"
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return str(error.strerror)


def broken_once(path: Path, seal: dict[str, Any]) -> str | None:
    """As :func:`broken_seal`; a file that this process found as it was written is not read again."""
    found = None
    with contextlib.suppress(OSError):
        found = (path.absolute(), _identity(path))
    if found is not None and _checked_files.get(found) == seal["xxh3_128"]:
        return None
    reason = broken_seal(path, seal)
    if reason is None and found is not None:
        _checked_files[found] = seal["xxh3_128"]
    return reason


def file_xxh3(path: Path) -> str:
    """The xxh3_128 digest of a file's bytes."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values as JSON together with a digest of them."""
    sealed = {**values, DIGEST: _json_xxh3(values)}
    write_file(path, lambda temporary: temporary.write_text(json.dumps(sealed, indent=1), "utf8"))


def read_json(path: Path) -> dict[str, Any]:
    """The values that :func:`write_json` wrote.

    Raises:
        CorruptFileError: they are not what was written.
        FileNotFoundError: no such file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("a device or a pipe could be read without end")
        values: dict[str, Any] = json.loads(path.read_text("utf8"))
        if values.pop(DIGEST) == _json_xxh3(values):
            return values
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CorruptFileError(f"{str(path)!r}: its content is not what was written")


def _json_xxh3(values: dict[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that is written by one process at a time; its parent folder is made.

    Raises:
        ReadOnlyError: the cache cannot be written.
    """
    with writable(path):
        private_folder(path.parent)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the refusal to write ``path`` into one error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        raise ReadOnlyError(
            f"{str(path)!r} is not in the cache, which cannot be written ({error.strerror}); set HF_POSMINE_HOME to a folder "
            "that can, or fill the cache by a run that may write it"
        ) from None


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
