"""A pool of Ray actors that does pieces of work: how many, connected to what, and how errors come back."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hf_posmine.core import errors
from hf_posmine.core.errors import InputError, MissingExtraError, PosmineError
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ray.data import DataContext

MOST_TASKS = 10_000
"""Beyond that many pieces a task of Ray does several."""
TRAVELLING = ("HF_HOME", "HF_POSMINE_HOME", "HF_POSMINE_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE")


@dataclass(frozen=True)
class Workers:
    """Actors for one step.

    Attributes:
        count: at most so many, also of machines that an autoscaler has yet to start; None for as many as the cluster has
            room for now.
        cpus: processors of each; it computes with so many threads.
        gpus: GPUs of each; a fraction lets several share one.
    """

    count: int | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if (self.count is not None and self.count < 1) or self.cpus <= 0 or self.gpus < 0:
            raise InputError(f"{self}; give at least one worker, with some part of a processor")

    def number(self, nodes: Sequence[dict[str, Any]]) -> int:
        """How many there will be at most, on machines as ``ray.nodes()`` describes them.

        Raises:
            InputError: no machine has room for one, and ``count`` does not say that more will come.
        """
        if self.count is not None:
            return self.count
        there = [node["Resources"] for node in nodes if node["Alive"]]
        room = sum(
            int(min(has.get("CPU", 0) / self.cpus, has.get("GPU", 0) / self.gpus if self.gpus else float("inf")))
            for has in there
        )
        if not room:
            raise InputError(
                f"no machine of the cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs for a worker; ask for less, or give "
                "the number of workers if machines will be added"
            )
        return room


def run_pool(
    what: str,
    unit: str,
    pieces: Sequence[dict[str, int]],
    make: Callable[..., Callable[[dict[str, int]], tuple[int, str]]],
    arguments: tuple[Any, ...],
    workers: Workers,
) -> None:
    """Let a pool of actors do all pieces, in any order; a piece whose actor is lost goes to another.

    Args:
        what: for the progress bar.
        unit: of what is counted.
        pieces: numbers that say what to do.
        make: makes, in each actor, the function from a piece to (count, warning or "").
        arguments: of ``make``.
        workers: the pool.

    Raises:
        PosmineError: what one of them raised.
    """
    import ray
    import ray.data

    if not pieces:
        return
    pool = ray.data.ActorPoolStrategy(
        min_size=1, max_size=min(len(pieces), workers.number(ray.nodes())), max_tasks_in_flight_per_actor=2
    )
    with _quiet(ray.data.DataContext.get_current()), progress_bar(None, what, unit) as bar:
        done = ray.data.from_items(list(pieces), override_num_blocks=min(len(pieces), MOST_TASKS)).map_batches(
            _Actor,
            batch_size=1,
            fn_constructor_args=(make, arguments, str(Path.cwd())),
            compute=pool,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus or None,
            runtime_env={"env_vars": environment()},
        )
        for row in done.iter_rows():
            if row["error"]:
                raise _error(row["error"], row["message"])
            if row["message"]:
                warnings.warn(row["message"], stacklevel=2)
            bar.update(int(row["count"]))


def _error(name: str, message: str) -> PosmineError:
    """An error of this package as it was raised elsewhere, without the layers of Ray around it."""
    kind = vars(errors).get(name, PosmineError)
    error: PosmineError = kind.__new__(kind)
    error.args = (message,)
    return error


@runtime_checkable
class _Caused(Protocol):
    """An error that Ray wrapped."""

    cause: BaseException


class _Actor:
    """Does pieces in a process of its own, in the folder of whoever started it, so that relative paths mean the same."""

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        self.do = make(*arguments)
        use_own_threads()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        done: dict[str, list[Any]] = {"count": [], "message": [], "error": []}
        for row in zip(*(values.tolist() for values in batch.values()), strict=True):
            error = ""
            try:
                count, message = self.do(dict(zip(batch, row, strict=True)))
            except PosmineError as raised:  # as a value: on its way an exception would lose what caused it
                count, message, error = (
                    0,
                    str(raised.cause if isinstance(raised, _Caused) else raised),
                    type(raised).__name__,
                )
            for column, value in zip(done.values(), (count, message, error), strict=True):
                column.append(value)
        return done


def use_own_threads() -> None:
    """Compute with as many threads as Ray gave this process: a teacher that was unpickled allows only one."""
    import torch

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))


def environment() -> dict[str, str]:
    """Variables that decide where things lie, for the workers; no secrets."""
    return {name: os.environ[name] for name in TRAVELLING if name in os.environ}


def require_ray() -> None:
    """Raise :class:`MissingExtraError` where Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise MissingExtraError("mining on many machines", "ray") from None


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A connection to a Ray cluster: the one there is, else one for as long as the block lasts.

    Args:
        address: ``"auto"`` for the cluster that runs here, ``"local"`` for a new one of this machine alone, or what else
            ``ray.init`` takes; None for the first of these that is possible.

    Raises:
        InputError: no cluster there.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        reason = str(error).split(". ")[0]
        raise InputError(
            f"no Ray cluster at {address!r}: {reason}; start one with 'ray start --head', or pass 'local'"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _quiet(context: DataContext) -> Iterator[None]:
    """One bar, and each failure shown once, by its own error; the files of Ray keep their logs."""
    consoles = [h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)]
    consoles = [h for h in consoles if not isinstance(h, logging.FileHandler)]
    before, shown = [h.level for h in consoles], context.enable_progress_bars
    context.enable_progress_bars = False
    for handler in consoles:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = shown
        for handler, level in zip(consoles, before, strict=True):
            handler.setLevel(level)
