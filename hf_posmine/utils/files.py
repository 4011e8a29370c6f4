"""Folders of the store, and writes that leave a whole file or none when killed at any moment."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import platform
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import DiskFullError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ABANDONED_SECONDS = 3 * 24 * 3600
_RUN = uuid.uuid4().hex[:8]


def cache_root() -> Path:
    """The folder of corpora, embeddings and mined shards: ``$HF_POSMINE_HOME``, else ``$HF_HOME/posmine``."""
    home = os.environ.get("HF_POSMINE_HOME")
    if home:
        return Path(home).expanduser()
    hf_home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(hf_home).expanduser() / "posmine"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, sync it, and rename it into place; a killed run's is cleared."""
    _remove_stale_of(path)
    temporary = _temporary(path)
    try:
        with _space_for(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            _sync(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_pair(
    path: Path, write: Callable[[Path], object], beside: Path, write_beside: Callable[[Path], object]
) -> None:
    """Write a file, and then one beside it that describes it.

    Both are staged whole before either takes its place, and the old description goes first: a kill at any moment leaves no
    description of another file. What a killed run staged is cleared; :func:`unfinished_pair` recognizes it.
    """
    for target in (path, beside):
        _remove_stale_of(target)
    staged = {path: _temporary(path), beside: _temporary(beside)}
    try:
        with _space_for(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for target, writer in ((path, write), (beside, write_beside)):
                writer(staged[target])
                _sync(staged[target])
            beside.unlink(missing_ok=True)
            for target, temporary in staged.items():
                temporary.replace(target)
                _sync(path.parent)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def unfinished_pair(beside: Path) -> bool:
    """Whether a killed :func:`write_pair` left its description staged."""
    return any(beside.parent.glob(_staged_names(beside)))


def store_root(given: str | Path | None = None) -> Path:
    """Where embeddings are kept: the folder that was given, else one that all runs share."""
    return Path(given) if given else cache_root() / "stores"


def private_folder(path: Path) -> Path:
    """The folder, made where it is missing so that only this user can read it: it will hold texts and answers."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not path.is_dir():
        raise StoreError(f"{str(path)!r} is a file where a folder is needed; move it away or choose another folder")
    return path


def answers_folder(path: Path) -> Path:
    """As :func:`private_folder` for answers that were paid for; one that was there and that others may read is closed to them."""
    private_folder(path)
    with contextlib.suppress(PermissionError):  # it is somebody else's, who shares it
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    return path


def is_writable(folder: Path) -> bool:
    """Whether this user can write in a folder, or make it where it is missing."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return os.access(there, os.W_OK)


def staging_folder(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder below ``root``, where killed runs' are cleared; in the system's place if ``root`` is read-only."""
    if not is_writable(root):
        return tempfile.TemporaryDirectory(prefix="posmine-", ignore_cleanup_errors=True)
    remove_stale(private_folder(root))
    return tempfile.TemporaryDirectory(dir=root, prefix=f"staging.tmp-{_owner()}-", ignore_cleanup_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` when the block ends well; a folder already there wins."""
    private_folder(path.parent)
    temporary = _temporary(path)
    temporary.mkdir(mode=0o700)
    try:
        with _space_for(path):
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # else somebody finished the same content first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(path.parent)


def disk_full(error: BaseException) -> bool:
    """Whether an error of Python, Arrow or safetensors says that there is no space left."""
    return is_errno(error, errno.ENOSPC, errno.EDQUOT)


def out_of_resources(error: BaseException) -> bool:
    """Whether an error is of this machine and no fault of what was read: no space, memory or files left."""
    exhausted = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return isinstance(error, MemoryError) or is_errno(error, *exhausted)


def is_errno(error: BaseException, *codes: int) -> bool:
    """Whether an error of Python, Arrow or safetensors is one of these errors of the system."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in codes
    return any(os.strerror(code) in str(error) for code in codes)


@contextlib.contextmanager
def _space_for(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not disk_full(error):
            raise
        raise DiskFullError(
            f"no space left to write {str(path)!r}; free some and run the same again, which continues: what is finished "
            "stays, and nothing half-written is left"
        ) from error


def remove_stale(folder: Path, pattern: str = "*.tmp-*") -> None:
    """Remove what killed processes left half-written in a folder."""
    for leftover in folder.glob(pattern):
        if _abandoned(leftover):
            with contextlib.suppress(FileNotFoundError):  # another process clears, too
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _remove_stale_of(path: Path) -> None:
    """Remove what killed processes of this machine staged for one path: the folder is the user's, so nothing else."""
    remove_stale(path.parent, _staged_names(path))


def _staged_names(path: Path) -> str:
    return f"{glob.escape(path.name)}.tmp-{_host()}-*"


def _abandoned(leftover: Path) -> bool:
    """Whether nobody writes it any more: its process ended, or is on another machine and wrote nothing for days."""
    host, process, run, *_ = [*leftover.name.rsplit(".tmp-", 1)[1].split("-"), "", ""]
    if host != _host() or not process.isdigit():
        with contextlib.suppress(FileNotFoundError):
            newest = max(path.stat().st_mtime for path in (leftover, *leftover.rglob("*")))
            return time.time() - newest > ABANDONED_SECONDS
        return False
    return run != _RUN if int(process) == os.getpid() else not _alive(int(process))


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that tells which process writes it, so that the next run can clear it away."""
    return path.with_name(f"{path.name}.tmp-{_owner()}-{uuid.uuid4().hex[:8]}")


def _owner() -> str:
    """Machine, process and run: containers reuse the number of a process."""
    return f"{_host()}-{os.getpid()}-{_RUN}"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a folder beside ``path``, then put it in the place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_of(path)
    temporary = _temporary(path)
    try:
        write(temporary)
        old = _temporary(path)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(path.parent)
