"""Limits of memory. They change no result, so they are settings of the process, not of the miner.

``--max-memory 4GiB`` sets ``HF_POSMINE_MAX_MEMORY``, which workers inherit; ``--max-gpu-memory`` likewise. Counted is
the process's own memory; pages mapped from files can be released by the system.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY, GPU_MEMORY = "HF_POSMINE_MAX_MEMORY", "HF_POSMINE_MAX_GPU_MEMORY"
SPARE_FILES = 256
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class Budget:
    """Bytes of main memory and of GPU memory; None for what is usual.

    >>> Budget(parse_size("4GiB")).memory
    4294967296
    """

    memory: int | None = None
    gpu_memory: int | None = None

    @classmethod
    def current(cls) -> Budget:
        """What the environment says."""
        variables = {name: os.environ.get(name) for name in (MEMORY, GPU_MEMORY)}
        return cls(*(None if value is None else parse_size(value, name) for name, value in variables.items()))

    def left(self) -> int | None:
        """Bytes of main memory that are not taken yet; None if there is no limit."""
        return None if self.memory is None else self.memory - own_memory()


def parse_size(text: str, name: str = "size") -> int:
    """Bytes of a size such as ``4GiB``, ``500 MB`` or ``2g``.

    Raises:
        InputError: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if found is None or (found[3] and not found[2]) or float(found[1]) <= 0:
        raise InputError(f"{name}={text!r} is not a size; write one such as 4GiB or 500MB")
    base = 1000 if found[2] and not found[3] and text.lower().rstrip().endswith("b") else 1024
    return int(float(found[1]) * base ** UNITS[found[2]])


def show_size(size: float) -> str:
    """A number of bytes as people read it.

    >>> show_size(1536), show_size(27 << 30)
    ('1.5 KiB', '27.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:  # noqa: PLR2004
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def ask_size(size: float) -> str:
    """A size to be typed that is at least so many bytes.

    >>> ask_size(600 << 20), ask_size(1)
    ('608MiB', '16MiB')
    """
    return f"{(int(size) // (16 << 20) + 1) * 16}MiB"


def own_memory() -> int:
    """Bytes of this process that are not mapped from files; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def address_space_limit() -> int | None:
    """Bytes that this process may map (``ulimit -v``); None without a limit."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


@contextlib.contextmanager
def open_files_limit() -> Iterator[None]:
    """Put the limit of open files back, which :func:`allow_files` may raise."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        yield
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        yield
    finally:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def allow_files(more: int) -> None:
    """Let this process open so many more files: a mapped shard is one, and the usual limit is 1,024.

    Raises:
        StoreError: the system allows fewer, with what to do.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = Path("/proc/self/fd")
    wanted = more + SPARE_FILES + (len(list(listed.iterdir())) if listed.is_dir() else 0)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        raise StoreError(
            f"the embeddings are {more:,} files, and the system lets a process open {hard:,}; raise that limit (ulimit -Hn), "
            "or encode into a new store with larger shards (shard_rows=65_536)"
        ) from None
