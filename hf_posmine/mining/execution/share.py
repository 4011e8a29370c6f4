"""Mining by several equal processes, as accelerate and torchrun start them, over one folder that all of them see.

The encoding is cut into shards of the store, the rows into shards of the output. Each process does its share first, then
whatever nobody else holds, so a fast GPU does more and the work of a dead process is taken over. A process holds a piece by
the lock of a file; nothing else passes between them.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution.encode_share import Rank, do_piece, pieces_of, scorers
from hf_posmine.mining.execution.shard_jobs import Job, as_streams, jobs_of
from hf_posmine.mining.execution.shards import WORK, check_folder
from hf_posmine.utils.cache import locked
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.execution.shards import MinedShards
    from hf_posmine.mining.miner import PositiveAwareMiner

CLAIMS = "claims"
T = TypeVar("T")


def mine_share(
    dataset: AnyDataset,
    miner: PositiveAwareMiner,
    output: str | Path,
    *,
    rank: Rank | None = None,
    shard_rows: int = 1000,
    batch_size: int = 1000,
) -> Any:
    """Mine a dataset together with other processes that call this with the same arguments.

    The rows are those of ``dataset.map(miner, batched=True)``, in order. The call returns when all rows are mined, by
    whichever process. One that failed may be started again at any time, or not at all.

    Args:
        dataset: Dataset or DatasetDict.
        miner: the same in every process; it searches on the GPU that :meth:`Rank.use_gpu` chose.
        output: folder for parquet shards; every process reaches it, the store and the corpus under the same paths.
        rank: by default from the environment.
        shard_rows: rows of a shard: what a process takes at a time, and what a kill can lose.
        batch_size: rows per call of the miner; does not change the rows.

    Returns:
        A stream (or dict of streams) over the shards; ``load_dataset(output)`` loads them as a Dataset.

    Raises:
        InputError: a stream, nothing to mine, or an ``output`` that holds something else.
    """
    rank, root = Rank.from_environment() if rank is None else rank, Path(output).absolute()
    check_folder(root)
    with locked(root / WORK / "begin"):
        jobs = jobs_of(dataset, miner, root, batch_size, shard_rows)
    if not all(job.countable for job in jobs):
        raise InputError("a stream is read by one process: mine(stream, miner, output=...); a share is of a Dataset")
    shards = [(job, number) for job in jobs for number in job.missing() or []]
    if shards:
        encode_all(scorers(miner), root / WORK / CLAIMS / "encode", rank)
        miner.prepare()
        with progress_bar(None, rank.label("Mining"), "row") as bar:
            take_turns(shards, rank, root / WORK / CLAIMS / "mine", lambda shard: bar.update(_mine(miner, *shard)))
    with locked(root / WORK / "begin"):
        finished = {job.folder.split: _finish(job) for job in jobs}
    return as_streams(dataset, finished)


def encode_all(teachers: Sequence[Teacher], claims: Path, rank: Rank | None = None) -> None:
    """Encode what the teachers store together with other processes; returns when all of it is stored.

    Args:
        teachers: the same ones in every process.
        claims: a folder that all processes reach; :func:`take_turns` keeps its locks there.
        rank: by default from the environment.
    """
    rank = Rank.from_environment() if rank is None else rank
    with progress_bar(None, rank.label("Encoding"), "text") as bar:
        take_turns(pieces_of(teachers), rank, claims, lambda piece: do_piece(teachers, piece, bar.update))


def take_turns(pieces: Sequence[T], rank: Rank, claims: Path, do: Callable[[T], object]) -> None:
    """Do all pieces together with the other processes; returns when all are done.

    Args:
        pieces: the same ones in every process; one that is done is passed over by ``do``.
        rank: which of them come first here.
        claims: a folder of locks; a process holds a piece while it does it.
        do: does a piece.
    """
    claims.mkdir(parents=True, exist_ok=True)
    turns = [rank.number, *(other % rank.world for other in range(rank.number + 1, rank.number + rank.world))]
    left = [number for turn in turns for number in range(turn, len(pieces), rank.world)]
    for seconds in (0, -1):  # first those that nobody holds; then wait for the others, whose process may be dead
        held = []
        for number in left:
            with ExitStack() as stack:
                try:
                    stack.enter_context(FileLock(claims / f"{number}.lock").acquire(timeout=seconds))
                except Timeout:
                    held.append(number)
                    continue
                do(pieces[number])
        left = held


def _mine(miner: PositiveAwareMiner, job: Job, number: int) -> int:
    job.mine_shard(miner, number)
    return len(job.rows_of(number))


def _finish(job: Job) -> MinedShards:
    """The shards under their final names; the first process that gets here gives them."""
    work = job.folder.work
    done = work is not None and work.shards is not None
    return job.folder.read() if done else job.folder.finish(job.work, job.shards)
