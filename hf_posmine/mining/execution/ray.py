"""Mining on a Ray cluster: encode shard by shard, search per part of the corpus, merge, select, write shard by shard.

Both steps are ``map_batches`` of Ray Data over pieces of work with a pool of actors. Ray starts an actor again when its
process or its machine is lost, and hands its piece to another; a piece whose file is finished is passed over. So a lost
worker costs the piece it was at, and a lost run continues.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution.encode_share import Piece, do_piece, is_done, pieces_of, scorers, trust
from hf_posmine.mining.execution.ray_index import remote_index, search_actors
from hf_posmine.mining.execution.ray_pool import Workers, connected, environment, require_ray, run_pool
from hf_posmine.mining.execution.shard_jobs import as_streams, jobs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.execution.shard_jobs import Job
    from hf_posmine.mining.miner import PositiveAwareMiner


def mine_on_ray(
    dataset: AnyDataset,
    miner: PositiveAwareMiner,
    output: str | Path,
    *,
    encode: Workers | None = None,
    search: Workers | None = None,
    mine: Workers | None = None,
    shard_rows: int | None = None,
    batch_size: int = 1000,
) -> Any:
    """Mine a dataset on the Ray cluster that is connected, or on a new one on this machine.

    The rows are those of ``dataset.map(miner, batched=True)``, in order, as parquet shards below ``output``. What is
    finished, embeddings or rows, is not done again: after any failure the same call continues.

    Args:
        dataset: Dataset or DatasetDict.
        miner: a miner whose teachers were made from names or folders, which every machine can load.
        output: folder that every machine reaches under this path, as it does the embeddings and the corpus.
        encode: who encodes; one GPU each is usual.
        search: actors that each hold an equal part of a teacher's corpus, for one that no machine can scan fast enough
            alone; all of them have to find room. None: every worker of ``mine`` searches the whole corpus.
        mine: who selects, and searches if ``search`` is None.
        shard_rows: rows per shard, by default 50,000.
        batch_size: rows per call of the miner.

    Returns:
        A stream (or dict of streams) over the shards; ``load_dataset(output)`` loads them as a Dataset.

    Raises:
        InputError: a stream, nothing to mine, or an ``output`` that holds something else.
        PosmineError: whatever stopped a worker, such as a full disk; what is finished stays.
    """
    require_ray()
    jobs = jobs_of(dataset, miner, Path(output).absolute(), batch_size, shard_rows)
    if not all(job.countable for job in jobs):
        raise InputError("a stream is read by one process: mine(stream, miner, output=...); Ray takes a Dataset")
    if any(job.missing() for job in jobs):
        with connected():
            _encode_all(miner, encode or Workers())
            with _searching(miner, search) as searchers:
                _mine_all(miner, jobs, searchers, mine or Workers())
    return as_streams(dataset, {job.folder.split: job.folder.finish(job.work, job.shards) for job in jobs})


class MapWithMiner:
    """The miner as a class for ``map_batches`` of a Ray Dataset of one's own, such as of files in a bucket.

    ``ray.data.read_parquet(files).map_batches(MapWithMiner, fn_constructor_args=(miner,), batch_format="pyarrow",
    compute=ray.data.ActorPoolStrategy(size=4)).write_parquet(folder)``. Call ``miner.prepare()`` first.
    """

    def __init__(self, miner: PositiveAwareMiner) -> None:
        self.miner = miner

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Mine a batch."""
        return self.miner(batch)


def _encode_all(miner: PositiveAwareMiner, workers: Workers) -> None:
    import ray

    teachers = scorers(miner)
    pieces = [asdict(piece) for piece in pieces_of(teachers) if not is_done(teachers, piece)]
    run_pool("Encoding", "shard", pieces, _Encode, ([ray.put(miner)],), workers)
    trust(teachers)


class _Encode:
    """Encodes pieces."""

    def __init__(self, miner: list[Any]) -> None:
        self.teachers = scorers(_fetch(miner))

    def __call__(self, piece: dict[str, int]) -> tuple[int, str]:
        with _warnings_with("encoded again") as messages:
            do_piece(self.teachers, Piece(**piece), lambda _: None)
        return 1, "; ".join(messages)


def _mine_all(miner: PositiveAwareMiner, jobs: list[Job], searchers: list[list[Any]], workers: Workers) -> None:
    import ray

    shards = [{"split": split, "shard": shard} for split, job in enumerate(jobs) for shard in job.missing() or []]
    run_pool("Mining", "row", shards, _Mine, ([ray.put((miner, jobs))], searchers), workers)


class _Mine:
    """Mines shards of rows."""

    def __init__(self, job: list[Any], searchers: list[list[Any]]) -> None:
        self.miner, self.jobs = _fetch(job)
        for teacher, actors in zip(self.miner.teachers, searchers, strict=False):
            if actors:
                teacher.index = remote_index(teacher.index, actors)

    def __call__(self, piece: dict[str, int]) -> tuple[int, str]:
        job, shard = self.jobs[piece["split"]], piece["shard"]
        with _warnings_with("mined again") as messages:
            job.mine_shard(self.miner, shard)
        return len(job.rows_of(shard)), "; ".join(messages)


@contextlib.contextmanager
def _searching(miner: PositiveAwareMiner, workers: Workers | None) -> Iterator[list[list[Any]]]:
    """Actors for parts of each teacher's corpus, for as long as the block lasts; none if nobody asked for them."""
    import ray

    if workers is None:
        yield []
        return
    threads = {"OMP_NUM_THREADS": str(max(1, int(workers.cpus)))}
    # no processors are set aside: where a machine was lost, a part must find a place beside workers that wait for it
    options = {"num_cpus": 0, "num_gpus": workers.gpus, "runtime_env": {"env_vars": environment() | threads}}
    count = workers.number(ray.nodes())
    actors = [search_actors(teacher, count, options) for teacher in miner.teachers]
    if not any(actors):
        names = ", ".join(miner.teacher_names)
        raise InputError(f"search= has no effect: {names} is not searched exactly by vectors; leave it out")
    try:
        yield actors
    finally:
        for actor in (a for of_teacher in actors for a in of_teacher):
            ray.kill(actor)


def _fetch(held: list[Any]) -> Any:
    """An object from the object store; a list holds its reference, which Ray would otherwise replace by the object."""
    import ray

    return ray.get(held[0])


@contextlib.contextmanager
def _warnings_with(phrase: str) -> Iterator[list[str]]:
    """The warnings of the block that hold a phrase, which the driver repeats."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(w.message) for w in caught if phrase in str(w.message)]
