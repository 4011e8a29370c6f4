"""Where things lie on disk, and how they are written so that a kill at any moment leaves a whole file or none."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def cache_root() -> Path:
    """The folder of corpora, embeddings and mined shards: ``$HF_POSMINE_HOME``, else ``$HF_HOME/posmine``."""
    home = os.environ.get("HF_POSMINE_HOME")
    if home:
        return Path(home).expanduser()
    hf_home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(hf_home).expanduser() / "posmine"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, sync it, and rename it into place."""
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


def store_root(given: str | Path | None = None) -> Path:
    """Where embeddings are kept: the folder that was given, else one that all runs share."""
    return Path(given) if given else cache_root() / "stores"


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` when the block ends well; a folder already there wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        with _space_for(path):
            yield temporary
            for file in temporary.iterdir():
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
    said = str(error)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
        os.strerror(code) in said for code in (errno.ENOSPC, errno.EDQUOT)
    )


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


def remove_stale(folder: Path) -> None:
    """Remove what a killed process of this machine left half-written in a folder."""
    for leftover in folder.glob("*.tmp-*"):
        host, _, rest = leftover.name.rsplit(".tmp-", 1)[1].partition("-")
        process = rest.split("-")[0]
        if host == _host() and process.isdigit() and int(process) != os.getpid() and not _alive(int(process)):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that says who writes it, so that only its own machine ever cleans it up."""
    return path.with_name(f"{path.name}.tmp-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


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
