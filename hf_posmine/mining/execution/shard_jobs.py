"""Mining into a folder of parquet shards: rows of a Dataset by number, a stream from where an earlier run stopped."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import StreamedRows, has_numbered_rows
from hf_posmine.mining.columns import without_outputs
from hf_posmine.mining.execution.shards import PARQUET_SHARD_ROWS, MinedShards, ShardFolder, ShardManifest
from hf_posmine.mining.execution.streams import StreamCheckpoint, StreamReader, first_row_key
from hf_posmine.mining.languages import check_query_languages
from hf_posmine.utils.progress import progress_bar
from hf_posmine.utils.upstream import dataset_fingerprint, with_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa
    from datasets import Features

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.miner import PositiveAwareMiner


def mine_into(
    dataset: AnyDataset, miner: PositiveAwareMiner, root: Path, *, batch_size: int = 1000, shard_rows: int | None = None
) -> dict[str, MinedShards]:
    """Mine every split of a dataset, in memory or streaming, into ``root``; what is finished there stays.

    Args:
        dataset: Dataset, DatasetDict, IterableDataset or IterableDatasetDict.
        miner: the miner; its embeddings are prepared first.
        root: the folder.
        batch_size: rows per call of the miner.
        shard_rows: rows per shard.

    Returns:
        The finished shards of each split.
    """
    jobs = jobs_of(dataset, miner, root, batch_size, shard_rows)
    if any(job.missing() != [] for job in jobs):
        check_query_languages(dataset, miner.settings.language_column)
        miner.prepare()
    return {job.folder.split: (_mine_rows if job.countable else _mine_stream)(job, miner) for job in jobs}


def as_streams(dataset: AnyDataset, mined: dict[str, MinedShards]) -> Any:
    """Finished shards as a stream, or as a dict of streams where the dataset was a dict."""
    from datasets import IterableDatasetDict

    streams = {name: shards.stream() for name, shards in mined.items()}
    return IterableDatasetDict(streams) if isinstance(dataset, dict) else next(iter(streams.values()))


@dataclass(frozen=True)
class Job:
    """One split to be mined into a folder.

    Attributes:
        rows: a Dataset or a stream.
        folder: where to.
        work: as the folder has it.
    """

    rows: Any
    folder: ShardFolder
    work: ShardManifest

    @property
    def countable(self) -> bool:
        """Whether the rows are a Dataset, which has numbered rows."""
        return has_numbered_rows(self.rows)

    @property
    def shards(self) -> int:
        """The shards of a Dataset."""
        return -(-len(self.rows) // self.work.shard_rows)

    def rows_of(self, number: int) -> range:
        """The rows of a Dataset that a shard is made of."""
        start = number * self.work.shard_rows
        return range(start, min(len(self.rows), start + self.work.shard_rows))

    def missing(self) -> list[int] | None:
        """The shards that are not finished; None where nobody knows how many there will be."""
        count = self.shards if self.countable else self.work.shards
        return None if count is None else [n for n in range(count) if not self.folder.has(n)]

    def mine_shard(self, miner: PositiveAwareMiner, number: int) -> bool:
        """Mine one shard of a Dataset unless it is finished; returns whether it was mined."""
        if self.folder.has(number):
            return False
        rows, size, arrow = self.rows_of(number), self.work.batch_rows, self.rows.with_format("arrow")
        batches = (arrow[at : min(rows.stop, at + size)] for at in range(rows.start, rows.stop, size))
        self.folder.write(number, map(miner, batches), miner.features(arrow.features))
        return True


def jobs_of(
    dataset: AnyDataset, miner: PositiveAwareMiner, root: Path, batch_size: int, shard_rows: int | None
) -> list[Job]:
    """A job for each split of a dataset, begun or continued."""
    from hf_posmine.data.columns import as_splits

    jobs = []
    for name, rows in as_splits(dataset).items():
        work = ShardManifest(
            miner.fingerprint, _key(rows), PARQUET_SHARD_ROWS if shard_rows is None else shard_rows, batch_size
        )
        folder = ShardFolder(root, name)
        jobs.append(Job(without_outputs(rows), folder, folder.begin(work)))
    return jobs


def _key(rows: AnyDataset) -> str:
    """What tells these rows from others.

    Raises:
        InputError: no rows, or no dataset.
    """
    if has_numbered_rows(rows):
        if not len(rows):
            raise InputError("the dataset has no rows; there is nothing to mine")
        return dataset_fingerprint(rows)
    if not isinstance(rows, StreamedRows):
        raise InputError(f"mine() takes a dataset of Hugging Face, not {type(rows).__name__}")
    return first_row_key(rows)


def _mine_rows(job: Job, miner: PositiveAwareMiner) -> MinedShards:
    with progress_bar(len(job.rows), "Mining", "row") as bar:
        for number in range(job.shards):
            job.mine_shard(miner, number)
            bar.update(len(job.rows_of(number)))
    return job.folder.finish(job.work, job.shards)


def _mine_stream(job: Job, miner: PositiveAwareMiner) -> MinedShards:
    """Shard after shard; what finished ones hold is not read again."""
    folder, work, stream = job.folder, job.work, with_features(job.rows)
    place, reader, number = StreamCheckpoint(), None, 0
    with ExitStack() as stack, progress_bar(None, "Mining", "row") as bar:
        while number != work.shards:
            if folder.has(number):
                before, place = place.rows, StreamCheckpoint(**folder.note(number))
                bar.update(place.rows - before)
            else:
                if reader is None or reader.place != place:
                    reader = StreamReader(stream, work.batch_rows, place)
                    stack.callback(reader.close)
                batches = _watched(reader.batches(work.shard_rows), bar.update)
                if not _write_batches(batches, reader, miner, folder, number, miner.features(stream.features)):
                    break
                place = reader.place
            number += 1
    return folder.finish(work, number)


def _write_batches(
    batches: Iterator[pa.Table],
    reader: StreamReader,
    miner: PositiveAwareMiner,
    folder: ShardFolder,
    number: int,
    features: Features,
) -> bool:
    """Mine and write a shard; False, and nothing written, where the stream has ended."""
    first = next(batches, None)
    if first is not None:
        folder.write(number, map(miner, itertools.chain([first], batches)), features, lambda: asdict(reader.place))
    return first is not None


def _watched(tables: Iterable[pa.Table], progress: Callable[[int], object]) -> Iterator[pa.Table]:
    """The tables, each counted when the next one is asked for."""
    for table in tables:
        yield table
        progress(len(table))
