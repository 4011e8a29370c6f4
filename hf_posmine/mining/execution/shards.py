"""Mined rows as parquet shards in a folder: each written whole and only once, together what ``load_dataset`` loads.

Layout: ``<root>/data/train-00000.parquet`` and so on; below ``.mining`` what the work is, and where in a stream each shard
ended. A finished shard is its own checkpoint. Once all are there they get the names by which the Hub and ``datasets`` know
the shards of any split, ``train-00000-of-00012.parquet``.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_posmine.core.errors import CorruptFileError, CorruptShardError, InputError
from hf_posmine.utils.cache import broken_once, read_json, seal_of, write_json
from hf_posmine.utils.files import remove_stale, write_file
from hf_posmine.utils.upstream import cast_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from datasets import Dataset, Features

PARQUET_SHARD_ROWS = 50_000
WORK = ".mining"


@dataclass(frozen=True)
class ShardManifest:
    """What a folder of shards holds.

    Attributes:
        miner: fingerprint of the miner.
        rows: digest that stands for the rows to be mined.
        shard_rows: rows to be mined per shard.
        batch_rows: rows per call of the miner, and per row group.
        shards: how many there are; None until all are finished.
    """

    miner: str
    rows: str
    shard_rows: int = PARQUET_SHARD_ROWS
    batch_rows: int = 1000
    shards: int | None = None

    def __post_init__(self) -> None:
        if self.shard_rows < 1 or self.batch_rows < 1:
            raise InputError(f"shard_rows={self.shard_rows}, batch_size={self.batch_rows}; both must be at least 1")


@dataclass(frozen=True)
class ShardFolder:
    """One split of a folder of shards, as those who write it see it.

    Attributes:
        root: the folder.
        split: name of the split.
    """

    root: Path
    split: str = "train"

    def path(self, number: int, shards: int | None = None) -> Path:
        """The file of a shard, before or (with the number of shards) after all are finished."""
        name = f"{self.split}-{number:05d}" if shards is None else f"{self.split}-{number:05d}-of-{shards:05d}"
        return self.root / "data" / f"{name}.parquet"

    def found(self, number: int) -> Path | None:
        """The file of a finished shard, under either name; None if it is not there."""
        first = self.path(number)
        if os.path.lexists(first):
            return first
        work = self.work  # read second: the number of shards is written before they get their final names
        last = None if work is None or work.shards is None else self.path(number, work.shards)
        return last if last is not None and os.path.lexists(last) else None

    @property
    def work_file(self) -> Path:
        """Says what the shards are of."""
        return self.root / WORK / f"{self.split}.json"

    @property
    def work(self) -> ShardManifest | None:
        """What the shards are of; None if nothing was begun."""
        try:
            return ShardManifest(**read_json(self.work_file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except CorruptFileError as error:
            raise CorruptFileError(
                f"{error}; it belongs to finished work, so delete the folder {str(self.root)!r} and run again, or restore the file"
            ) from None

    def begin(self, work: ShardManifest) -> ShardManifest:
        """Begin or continue; work that was begun with other shard and batch sizes keeps them.

        Raises:
            InputError: the folder holds something else, or rows of other work.
        """
        begun = self.work
        if begun is not None and (begun.miner, begun.rows) != (work.miner, work.rows):
            raise InputError(
                f"{self.root} holds split {self.split!r} of other work: miner {begun.miner[:8]} over rows {begun.rows[:8]}, "
                f"this is miner {work.miner[:8]} over rows {work.rows[:8]}; choose another folder or remove it"
            )
        for other in split_folders(self.root):
            if other.work is not None and other.work.miner != work.miner:
                raise InputError(
                    f"{self.root} holds split {other.split!r} by another miner; choose another folder or remove it"
                )
        if begun is None:
            check_folder(self.root)
            self._write_work(work)
        self._clear()
        return begun or work

    def finish(self, work: ShardManifest, shards: int) -> MinedShards:
        """Name all shards for good, and return them."""
        self._write_work(replace(work, shards=shards))
        for number in range(shards):
            if self.path(number).is_file():
                self.path(number).replace(self.path(number, shards))
        self._clear()
        return self.read()

    def _clear(self) -> None:
        """Remove what dead processes left."""
        remove_stale(self.path(0).parent)
        remove_stale(self._note_file(0).parent)

    def _write_work(self, work: ShardManifest) -> None:
        write_json(self.work_file, asdict(work))

    def has(self, number: int) -> bool:
        """Whether a shard is finished.

        Raises:
            CorruptShardError: it is not as it was written. It is finished work, so it is not mined again unasked.
        """
        path = self.found(number)
        if path is None:
            return False
        try:
            self._check(path, number)
        except CorruptShardError:
            renamed = self.found(number)  # another process may just have finished the folder
            if renamed in (None, path):
                raise
            self._check(renamed, number)
        return True

    def note(self, number: int) -> dict[str, Any]:
        """What was noted with a finished shard."""
        return self._sealed(number)["note"]

    def _check(self, path: Path, number: int) -> None:
        """Compare a finished shard with its digest, once per process."""
        reason = broken_once(path, self._sealed(number)["seal"])
        if reason is not None:
            raise CorruptShardError(
                f"shard {str(path)!r} is damaged or not the one noted in {str(self._note_file(number))!r}: {reason}; delete the "
                "file and run again, which mines only these rows"
            )

    def _sealed(self, number: int) -> dict[str, Any]:
        """Digest of a finished shard, and its note."""
        path = self._note_file(number)
        try:
            return read_json(path)
        except (FileNotFoundError, CorruptFileError):
            raise CorruptShardError(
                f"{str(path)!r}, which holds the digest of a finished shard, is missing or damaged; delete the shard "
                f"{str(self.found(number))!r} too and run again, which mines only these rows"
            ) from None

    def _note_file(self, number: int) -> Path:
        return self.root / WORK / self.split / f"{number:05d}.json"

    def write(
        self,
        number: int,
        tables: Iterable[pa.Table],
        features: Features,
        note: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """Write a shard, table by table.

        Args:
            number: of the shard.
            tables: with the columns of ``features``; a row group each.
            features: ``datasets.Features``, kept in the file.
            note: what to note with the shard, not in its file; called once the tables are through.
        """
        schema = features.arrow_schema

        def write(temporary: Path) -> None:
            options = {"write_page_checksum": True, "write_page_index": True, "use_content_defined_chunking": True}
            with pq.ParquetWriter(temporary, schema, **options) as writer:
                for table in tables:
                    if len(table):  # datasets cannot read a row group of no rows
                        writer.write_table(cast_table(table, schema))
            # before the shard gets its name, so that no shard is without
            write_json(self._note_file(number), {"seal": seal_of(temporary), "note": note() if note else None})

        write_file(self.path(number), write)

    def read(self) -> MinedShards:
        """The finished shards.

        Raises:
            InputError: not all are finished.
            CorruptShardError: one is not as it was written.
        """
        work = self.work
        count = -1 if work is None or work.shards is None else work.shards
        files = tuple(self.path(number, count) for number in range(count))
        if count < 0 or not all(map(os.path.lexists, files)):
            raise InputError(
                f"{self.root}: split {self.split!r} is not mined to its end; run the same again to continue"
            )
        for number, file in enumerate(files):
            self._check(file, number)
        return MinedShards(files, self.split)


def check_folder(root: Path) -> None:
    """Refuse to write among files that are not earlier shards.

    Raises:
        InputError: the folder is a file, or holds something else.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; shards need a folder")
    if root.is_dir() and not (root / WORK).is_dir() and any(root.iterdir()):
        raise InputError(f"{root} exists and holds no mined shards; choose another folder or remove it")


def split_folders(root: Path) -> list[ShardFolder]:
    """The splits of a folder of shards, in order of their names."""
    return [ShardFolder(root, file.stem) for file in sorted((root / WORK).glob("*.json"))]


def read_shards(root: str | Path) -> dict[str, MinedShards]:
    """The finished shards of every split of a folder that :func:`~hf_posmine.mining.execution.local.mine` wrote.

    Raises:
        InputError: it is not such a folder, or a split is not mined to its end.
    """
    folders = split_folders(Path(root))
    if not folders:
        raise InputError(f"{root} holds no mined shards")
    return {folder.split: folder.read() for folder in folders}


@dataclass(frozen=True)
class MinedShards:
    """Finished shards of one split, read without a copy in a cache; what a push needs of a Dataset, it has too.

    Attributes:
        files: the shards, in order.
        split: name of the split.
        columns: which are read; None for all.
    """

    files: tuple[Path, ...]
    split: str = "train"
    columns: tuple[str, ...] | None = None

    @cached_property
    def features(self) -> Any:
        """``datasets.Features`` of the columns."""
        from datasets import Features

        features = Features.from_arrow_schema(pq.read_schema(self.files[0]))
        return features if self.columns is None else Features({name: features[name] for name in self.columns})

    @property
    def column_names(self) -> list[str]:
        """The columns."""
        return list(self.features)

    @cached_property
    def _length(self) -> int:
        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def __len__(self) -> int:
        return self._length

    def select_columns(self, names: list[str]) -> MinedShards:
        """The same rows with some of the columns."""
        return MinedShards(self.files, self.split, tuple(names))

    @property
    def cache_files(self) -> list[dict[str, str]]:
        """Where the rows lie."""
        return [{"filename": str(file)} for file in self.files]

    def __getitem__(self, row: int) -> dict[str, Any]:
        return next(iter(self.stream().skip(row)))

    def with_format(self, _: None) -> MinedShards:
        """Itself: rows are plain values."""
        return self

    def stream(self) -> Any:
        """The rows as an IterableDataset."""
        from datasets import load_dataset

        files = {self.split: [str(file) for file in self.files]}
        stream = load_dataset("parquet", data_files=files, split=self.split, streaming=True)
        return stream if self.columns is None else stream.select_columns(list(self.columns))

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Batches of rows as plain values."""
        return self.stream().iter(batch_size)

    def tables(self) -> Iterator[pa.Table]:
        """The rows of each shard.

        Raises:
            CorruptShardError: a page that does not match its checksum.
        """
        names = None if self.columns is None else list(self.columns)
        for file in self.files:
            try:
                yield pq.ParquetFile(file, page_checksum_verification=True).read(columns=names)
            except (pa.ArrowException, OSError) as error:
                raise CorruptShardError(
                    f"shard {str(file)!r} is damaged ({str(error)[:80]}); delete the file and run again, which mines only these "
                    "rows"
                ) from None

    def table(self) -> pa.Table:
        """All rows at once: for columns of numbers."""
        return pa.concat_tables(list(self.tables()))


def arrow_table(split: Dataset, columns: list[str]) -> pa.Table:
    """Some columns of a Dataset or of shards, in row order."""
    chosen = split.select_columns(columns)
    return chosen.table() if isinstance(split, MinedShards) else chosen.with_format("arrow")[:]
