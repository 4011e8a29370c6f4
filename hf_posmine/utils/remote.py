"""Files behind an address (``hf://``, ``s3://``, ``https://``, ...): copied here before they are read, and there after.

Addresses of the web are read as they are; all others belong to a file system of fsspec.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hf_posmine.core.errors import InputError
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import file_sha256, json_digest
from hf_posmine.utils.files import cache_root, out_of_resources, staging_folder
from hf_posmine.utils.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsspec import AbstractFileSystem

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
WEB = ("http://", "https://")
HERE = ("file://", "local://", "memory://")
"""Addresses that need no network."""
NOTE, FILES = "address", "files"
RECORD = ".provenance.json"
"""Of the record beside a file of mined rows, which comes with it."""
VERSION = ("etag", "last-modified")
"""Of a page: what changes when it does."""


def is_remote(place: object) -> bool:
    """Whether a place is an address rather than a local path or a Hub id.

    >>> is_remote("hf://datasets/me/rows/train.jsonl"), is_remote("me/rows"), is_remote("train.jsonl")
    (True, False, False)
    """
    return isinstance(place, str) and ADDRESS.match(place) is not None


def is_offline() -> bool:
    """Whether no network request may be made: ``HF_POSMINE_OFFLINE``, or ``--offline``."""
    return os.environ.get("HF_POSMINE_OFFLINE", "") not in ("", "0")


def fetched(address: str) -> Path:
    """A local copy of a file or folder, kept in the cache until the file there changes.

    Raises:
        InputError: nothing there, no way to it, or no network allowed.
    """
    _check_online(address)
    with _named(address, "cannot be read"):
        return _of_web(address) if address.startswith(WEB) else _of_file_system(address)


def address_of(place: str | Path) -> str | None:
    """The address (without secrets) of which a local file or folder is the copy; None if it is not one."""
    path = Path(place)
    note = path.parent.parent / NOTE
    if path.parent.name != FILES or path.parent.parent.parent != _folder() or not note.is_file():
        return None
    return note.read_text("utf-8")


def check_target(address: str) -> None:
    """Refuse an address that nothing can be written to, before the work whose result is to go there.

    Raises:
        InputError: with the reason.
    """
    _check_online(address)
    if address.startswith(WEB):
        raise InputError(f"{redact(address)} can only be read; write to a file, or to hf://, s3:// and the like")
    with _named(address, "cannot be written"):
        files, path = _opened(address)
        if address.startswith("hf://"):
            _check_repository(files, path)


def _check_repository(files: AbstractFileSystem, path: str) -> None:
    from huggingface_hub import HfFileSystem

    if isinstance(files, HfFileSystem):
        try:
            files.resolve_path(path)
        except FileNotFoundError:
            raise InputError(f"hf://{path}: there is no such repository; create it first") from None


def sent(folder: Path, address: str) -> None:
    """Copy all files of a local folder beside an address, whose last part is the name of one of its entries.

    Raises:
        InputError: no way to it.
    """
    with _named(address, "cannot be written"):
        files, path = _opened(address)
        parent = path.rpartition("/")[0]
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            target = f"{parent}/{file.relative_to(folder).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(file), target)


def _check_online(address: str) -> None:
    if is_offline() and not address.startswith(HERE):
        raise InputError(f"{redact(address)}: no network request is made (HF_POSMINE_OFFLINE or --offline); use a file")


@contextlib.contextmanager
def _named(address: str, what: str) -> Iterator[None]:
    """Errors of a file system or a server name the address; those of this machine stay as they are."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{redact(address)}: there is no such file or folder") from None
    except Exception as error:  # each file system has its own
        if out_of_resources(error):
            raise
        reason = " ".join(redact(str(error)).split())
        raise InputError(f"{redact(address)} {what} ({type(error).__name__}: {reason[:300]})") from error


def _folder() -> Path:
    return cache_root() / "remote"


def _kept(address: str, state: object, fill: Callable[[Path], object]) -> Path:
    """The folder of a copy in the cache, which is filled unless a copy of the same state is there."""

    def build(folder: Path) -> None:
        (folder / NOTE).write_text(redact(address), "utf-8")
        (folder / FILES).mkdir()
        fill(folder / FILES)

    return build_once(_folder() / json_digest([address, state]), build) / FILES


def _of_file_system(address: str) -> Path:
    files, path = _opened(address)
    found = files.find(path) or [path]
    if found == [path] and files.exists(path + RECORD):
        found = [path, path + RECORD]
    state = [[name, files.ukey(name)] for name in found]
    return _kept(address, state, partial(_download, files, path, found)) / Path(path).name


def _download(files: AbstractFileSystem, path: str, found: Sequence[str], folder: Path) -> None:
    for name in found:
        rest = name.removeprefix(path)
        if ".." in Path(rest).parts:
            raise InputError(f"{name}: a name with '..' leads out of its folder, and is not copied")
        target = folder / f"{Path(path).name}{rest}"
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(name, str(target))


def _of_web(address: str) -> Path:
    """One request: its head tells whether the copy in the cache is still right, and only if not its body is read."""
    from hf_posmine.utils.http import opened_page

    name = Path(unquote(urlsplit(address).path)).name or "index"
    with opened_page(address) as answer:

        def write(folder: Path) -> None:
            with (folder / name).open("wb") as file:
                file.writelines(answer.iter_raw())

        version = [answer.headers.get(header) for header in VERSION]
        if any(version):
            return _kept(address, [*version, answer.headers.get("content-length")], write) / name
        with staging_folder(_folder()) as scratch:  # only its content tells its version
            write(Path(scratch))
            body = Path(scratch) / name
            return _kept(address, file_sha256(body), lambda folder: shutil.move(body, folder / name)) / name


def _opened(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, which forgets what it listed before, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(address.rstrip("/"))
    except (ImportError, ValueError) as error:
        raise InputError(f"{redact(address)}: {error}") from None
    files.invalidate_cache()
    return files, str(path)
