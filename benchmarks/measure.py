"""Clocks, resident memory, and what a result must record of the machine. Linux only: memory is read from ``/proc``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import resource
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "hf-posmine",
    "sentence-transformers",
    "transformers",
    "datasets",
    "torch",
    "openvino",
    "numpy",
    "numba",
    "faiss-cpu",
    "pyarrow",
)
SAMPLE_SECONDS = 0.02


class Watch:
    """Wall and CPU seconds (user and system, all threads of the process) per phase; phases may nest and repeat."""

    def __init__(self) -> None:
        self.spans: dict[str, dict[str, float]] = {}
        self.active: list[str] = []

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        wall, cpu = now()
        self.active.append(phase)
        try:
            yield
        finally:
            self.active.pop()
            span = self.spans.setdefault(phase, {"wall": 0.0, "cpu": 0.0, "times": 0})
            end = now()
            span["wall"] += end[0] - wall
            span["cpu"] += end[1] - cpu
            span["times"] += 1

    def timed(self, phase: str, function: Any) -> Any:
        """``function`` with every call counted to ``phase``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self(phase):
                return function(*args, **kwargs)

        return call


def now() -> tuple[float, float]:
    """Wall and CPU seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def difference(total: dict[str, float], *parts: dict[str, float]) -> dict[str, float]:
    """What is left of a span without some others inside it."""
    return {clock: total[clock] - sum(part[clock] for part in parts) for clock in ("wall", "cpu")}


class MemoryPeak:
    """Samples resident memory every 20 ms in a thread and keeps the highest, in MiB."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.base = resident()
        self.peak, self.during = dict(self.base), ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        current = resident()
        if current["VmRSS"] > self.peak["VmRSS"]:
            self.peak, self.during = current, " > ".join(self.watch.active)

    def report(self) -> dict[str, Any]:
        """Base, peak and their difference; ``ru_maxrss`` is the kernel's own peak of the whole process."""
        maxrss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "base_mib": round(self.base["VmRSS"], 1),
            "above_inputs_mib": round(self.peak["VmRSS"] - self.base["VmRSS"], 1),
            "above_inputs_anonymous_mib": round(self.peak["RssAnon"] - self.base["RssAnon"], 1),
            "above_inputs_by_ru_maxrss_mib": round(maxrss - self.base["VmRSS"], 1),
            "peak_during": self.during,
        }


def resident() -> dict[str, float]:
    """Resident memory of this process in MiB: all of it, and the part that is not mapped from files."""
    wanted = ("VmRSS", "RssAnon")
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) / 1024 for line in lines if line[0][:-1] in wanted}


def release_memory() -> None:
    """Collect garbage and give freed heap back, so that a warm-up leaves no room for later allocations to hide in."""
    import ctypes
    import gc

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def machine() -> dict[str, Any]:
    """Hardware, versions and the code measured."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "int8_instructions": [flag for flag in ("avx512_vnni", "avx_vnni", "amx_int8") if flag in cpu],
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git_commit": git_commit(),
        "source_digest": source_digest(),
        "load_average": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def forked(job: Callable[[Path], object], home: Path) -> int:
    """Run ``job(home)`` in a process forked from one with everything imported, so that it starts at once; its number.

    What goes wrong is written to ``home/error``.
    """
    home.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            job(home)
            os._exit(0)
        except BaseException as error:
            (home / "error").write_text(repr(error))
            os._exit(1)
    return child


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit checked out, read from the files of git; None outside a plain checkout."""
    git = ROOT / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head[5:]
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((line[0] for line in packed if line[-1] == name), None)
    except OSError:
        return None


def source_digest() -> str:
    """Digest of the package's Python files: which code was measured, even where changes are not committed."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "hf_posmine").rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def busy_seconds() -> float:
    """CPU seconds used by everybody on the machine since it started."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers to the right."""
    shown = [[f"{v:,.2f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(3, *(len(row[c]) for row in [list(header), *shown])) for c in range(len(header))]
    lines = ["| " + " | ".join(h.ljust(w) for h, w in zip(header, widths, strict=True)) + " |"]
    lines += ["|" + "|".join("-" * (w + 1) + (":" if c else "-") for c, w in enumerate(widths)) + "|"]
    for row in shown:
        cells = [v.rjust(w) if c else v.ljust(w) for c, (v, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
