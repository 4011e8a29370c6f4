"""``mine``: ``dataset.map(miner)`` that survives being killed.

``datasets.map`` keeps nothing of an interrupted run. Here the rows are mined in contiguous shards, each saved whole;
a second run takes the finished ones from disk and ends with the same rows.
"""

from __future__ import annotations

import atexit
import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import as_dataset, has_numbered_rows
from hf_posmine.mining.columns import without_outputs
from hf_posmine.mining.languages import check_query_languages
from hf_posmine.teachers.capabilities import search_device
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root, is_writable
from hf_posmine.utils.progress import progress_bar, quiet_bars
from hf_posmine.utils.upstream import dataset_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.miner import PositiveAwareMiner

BATCH, SHARD = 1000, 5000
UPDATE_BATCH, UPDATE_SHARD = 5000, 50_000
"""Rows of an update take so little that more of them are mined, and saved, at a time."""


def mine(
    dataset: AnyDataset,
    miner: PositiveAwareMiner,
    *,
    output: str | Path | None = None,
    work_dir: str | Path | None = None,
    batch_size: int | None = None,
    num_proc: int | None = None,
    shard_rows: int | None = None,
    since: str | Path | Dataset | None = None,
) -> Any:
    """Map a dataset with a miner, resuming an interrupted run of the same work.

    Columns that an earlier mining wrote are left out.

    Args:
        dataset: a Dataset or DatasetDict, a DataFrame or a list of dicts; with ``output`` also a stream (IterableDataset,
            IterableDatasetDict).
        miner: the miner; its embeddings are prepared first.
        output: a folder for parquet shards, which ``load_dataset(output)`` loads: for what is larger than memory or than a
            cache on disk.
        work_dir: without ``output``, where finished shards are kept, by default below
            :func:`~hf_posmine.utils.files.cache_root`; where that is read-only, in a temporary folder, with a warning.
        batch_size: rows per call of the miner, by default 1,000, with ``since`` 5,000; does not change the rows.
        num_proc: worker processes, without ``output``; does not change the rows. With an output, see
            :func:`~hf_posmine.mining.execution.mine_on_ray`.
        shard_rows: rows that a kill can lose: by default 5,000, with ``output`` or ``since`` 50,000.
        since: an earlier mining of documents and pairs that changed since: what ``mine`` returned, or what
            ``hf-posmine mine`` wrote. Searches that cannot end otherwise are not repeated; the rows are those of a full mining.

    Returns:
        The mined dataset, memory-mapped from the shards; with ``output`` a stream (or dict of streams) over them.

    Raises:
        InputError: nothing to mine, or an ``output`` that holds something else.
        DiskFullError: no space left; free some, and the same call continues.
    """
    dataset = as_dataset(dataset)
    if output is not None:
        if num_proc is not None or work_dir is not None:
            raise InputError(
                "output= is written by one process and is its own work_dir; leave num_proc and work_dir out"
            )
        _refuse_since(since, "output=")
        return _mine_into(Path(output), dataset, miner, BATCH if batch_size is None else batch_size, shard_rows)
    usual = (BATCH, SHARD) if since is None else (UPDATE_BATCH, UPDATE_SHARD)
    batch_size = usual[0] if batch_size is None else batch_size
    shard_rows = usual[1] if shard_rows is None else shard_rows
    options: dict[str, Any] = {"work_dir": work_dir, "batch_size": batch_size, "num_proc": num_proc, "since": since}
    if isinstance(dataset, dict):
        empty = [name for name, split in dataset.items() if has_numbered_rows(split) and not len(split)]
        if empty:
            raise InputError(f"the dataset has no rows in split {empty[0]!r}; drop the split before mining")
        return type(dataset)(
            {name: mine(split, miner, shard_rows=shard_rows, **options) for name, split in dataset.items()}
        )
    if not has_numbered_rows(dataset):
        raise InputError(
            f"mine() takes a Dataset or DatasetDict, not {type(dataset).__name__}; give a stream a folder for its shards, "
            "mine(stream, miner, output=...), or map it with "
            "stream.map(miner, batched=True, features=miner.features(stream.features))"
        )
    return _mine_cached(dataset, miner, shard_rows=shard_rows, **options)


def _refuse_since(since: object, beside: str) -> None:
    if since is not None:
        raise InputError(f"{beside} keeps no searches, so since= has no effect; leave one of the two out")


def _mine_into(
    output: Path, dataset: AnyDataset, miner: PositiveAwareMiner, batch_size: int, shard_rows: int | None
) -> Any:
    from hf_posmine.mining.execution.shard_jobs import as_streams, mine_into

    return as_streams(dataset, mine_into(dataset, miner, output, batch_size=batch_size, shard_rows=shard_rows))


def _mine_cached(
    dataset: AnyDataset,
    miner: PositiveAwareMiner,
    *,
    work_dir: str | Path | None,
    batch_size: int,
    num_proc: int | None,
    shard_rows: int,
    since: str | Path | Dataset | None,
) -> Any:
    if shard_rows < 1 or batch_size < 1:
        raise InputError(f"shard_rows={shard_rows}, batch_size={batch_size}; both must be at least 1")
    if not len(dataset):
        raise InputError("the dataset has no rows; there is nothing to mine")
    from datasets import concatenate_datasets, load_from_disk

    from hf_posmine.mining.execution.keeper import SearchKeeper

    several = num_proc is not None and num_proc > 1
    if several:
        _refuse_since(since, f"num_proc={num_proc}")
    check_query_languages(dataset, miner.settings.language_column)
    miner.prepare()
    dataset = without_outputs(dataset)
    folder = _work_root(work_dir) / _work_name(dataset, miner, shard_rows)
    dataset = dataset.with_format(None)
    keeper = SearchKeeper(miner, {}) if several else SearchKeeper.of(miner, folder, len(dataset), since)
    shards = []
    with progress_bar(len(dataset), "Mining", "row") as bar:
        for number, start in enumerate(range(0, len(dataset), shard_rows)):
            stop = min(len(dataset), start + shard_rows)

            def build(new: Path, start: int = start, stop: int = stop) -> None:
                rows = dataset.select(range(start, stop))
                with quiet_bars():
                    mined = _map(rows, keeper.miner, batch_size, num_proc, bar.update)
                    mined.save_to_disk(new / "data", num_shards=1)
                keeper.write(new)

            path = build_once(folder / f"shard-{number:06d}", build, finished=True)
            shards.append(load_from_disk(str(path / "data")))
            bar.update(stop - bar.n)  # what is not counted yet
    return concatenate_datasets(shards)


def _map(
    rows: Dataset, miner: PositiveAwareMiner, batch_size: int, num_proc: int | None, done: Callable[[int], object]
) -> Any:
    """The mined rows; ``done`` is called after every batch, unless several processes mine."""
    features = miner.features(rows.features)
    devices = {search_device(teacher) for teacher in miner.teachers} - {"cpu"}
    if num_proc is not None and num_proc > 1 and devices:
        raise InputError(f"num_proc={num_proc} forks processes, which cannot use {min(devices)}; leave num_proc out")
    processes = None if num_proc is None or num_proc <= 1 else min(num_proc, len(rows))

    def watched(batch: pa.Table) -> pa.Table:
        mined: pa.Table = miner(batch)
        done(len(batch))
        return mined

    mined = rows.with_format("arrow").map(
        miner if processes else watched,
        new_fingerprint=json_digest([dataset_fingerprint(rows), miner.fingerprint]),  # a bar has no digest
        batched=True,
        batch_size=batch_size,
        num_proc=processes,
        features=features,
        keep_in_memory=True,
        load_from_cache_file=False,
    )
    return mined.with_format(None)


def _work_root(work_dir: str | Path | None) -> Path:
    """Where shards are kept; a home that is read-only, because others filled it, lends its corpora and embeddings alone."""
    root = Path(work_dir) if work_dir else cache_root() / "mined"
    if work_dir or is_writable(root):
        return root
    temporary = tempfile.TemporaryDirectory(prefix="posmine-mined-")
    atexit.register(temporary.cleanup)  # the rows are mapped from there until the process ends
    warnings.warn(
        f"{str(root)!r} cannot be written: mined shards are kept in {temporary.name!r} until this process ends; give work_dir= "
        "to resume an interrupted run",
        stacklevel=2,
    )
    return Path(temporary.name)


def _work_name(dataset: AnyDataset, miner: PositiveAwareMiner, shard_rows: int) -> str:
    """One name per work: these rows, this miner, these shards."""
    return hashlib.sha256(f"{dataset_fingerprint(dataset)} {miner.fingerprint} {shard_rows}".encode()).hexdigest()[:32]
