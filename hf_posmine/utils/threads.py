"""Threads side by side, each computing on one core."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IMPORTED_BY = os.getpid()


def num_threads() -> int:
    """The threads that torch has, or would have if it were imported."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def use_one_thread() -> None:
    """Give torch and FAISS, where they are imported, one thread: a forked process has OpenMP's lock but not its threads."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)


def be_forked() -> None:
    """Use one thread in a process that was forked, which would wait for the threads it lacks for ever."""
    if os.getpid() != _IMPORTED_BY:
        use_one_thread()


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """One BLAS thread per call while our own threads run side by side."""
    from threadpoolctl import ThreadpoolController

    global _controller  # noqa: PLW0603 - finding the libraries takes milliseconds, so it is done once
    _controller = _controller or ThreadpoolController()
    return _controller.limit(limits=1, user_api="blas")


_controller: Any = None


@contextlib.contextmanager
def one_torch_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads give torch one thread each; the caller's number of threads is as before afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # torch hands the last number set, by any thread, to new threads


def least_seconds(action: Callable[[], object], times: int = 5) -> float:
    """The least CPU seconds of this thread, which other work on the machine disturbs little."""
    best = float("inf")
    for _ in range(times):
        start = time.thread_time()
        action()
        best = min(best, time.thread_time() - start)
    return best


def one_thread() -> ThreadPoolExecutor:
    """A pool of one thread, on the caller's GPU if there is one: CUDA's current device belongs to a thread."""
    import torch

    if not torch.cuda.is_available():
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(torch.cuda.current_device(),))
