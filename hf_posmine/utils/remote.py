"""Files behind an fsspec address (``hf://``, ``s3://``, ``https://``, ...): copied here before they are read, and there after."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.redact import redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_remote(place: object) -> bool:
    """Whether a place is an address rather than a local path or a Hub id.

    >>> is_remote("hf://datasets/me/rows/train.jsonl"), is_remote("me/rows"), is_remote("train.jsonl")
    (True, False, False)
    """
    return isinstance(place, str) and ADDRESS.match(place) is not None


def fetched(address: str) -> Path:
    """A local copy of a file or folder, kept in the cache until the file there changes.

    Raises:
        InputError: nothing there, or no way to it.
    """
    files, path = _opened(address)
    try:
        found = files.find(path) or [path]
        state = [[name, str(files.info(name).get("size")), _version(files, name)] for name in found]
        folder = build_once(
            cache_root() / "remote" / json_digest([address, state]), partial(_download, files, path, found)
        )
    except FileNotFoundError:
        raise InputError(f"{redact(address)}: there is no such file or folder") from None
    return folder / Path(path).name


def _version(files: AbstractFileSystem, name: str) -> str:
    """Of a file, as its file system knows it."""
    info: dict[str, Any] = files.info(name)
    known = ("ETag", "etag", "blob_id", "lfs", "last_commit", "mtime", "LastModified", "updated", "created")
    return str({key: info[key] for key in known if key in info})


def _download(files: AbstractFileSystem, path: str, found: list[str], folder: Path) -> None:
    for name in found:
        target = (
            folder / Path(path).name / name.removeprefix(path).lstrip("/")
            if found != [path]
            else folder / Path(path).name
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(name, str(target))


def sent(folder: Path, address: str) -> None:
    """Copy all files of a local folder beside an address, whose last part is the name of one of its entries."""
    files, path = _opened(address)
    parent = path.rpartition("/")[0]
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        target = f"{parent}/{file.relative_to(folder).as_posix()}"
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        files.put_file(str(file), target)


def _opened(address: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(address.rstrip("/"))
    except (ImportError, ValueError) as error:
        raise InputError(f"{redact(address)}: {error}") from None
    return files, str(path)
