"""Keeps the searches of a mining beside its rows, and opens those of an earlier one for ``mine(..., since=...)``."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import CorruptFileError, InputError
from hf_posmine.data.columns import splits_of
from hf_posmine.mining.execution.searches import KeptDocuments, Searches
from hf_posmine.mining.execution.update import EarlierSearches, WatchedTeacher
from hf_posmine.search.exact import ExactIndex
from hf_posmine.teachers.capabilities import SearchesVectors
from hf_posmine.teachers.vectors import VectorTeacher
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.digest import file_sha256
from hf_posmine.utils.files import replace_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.miner import PositiveAwareMiner

DOCUMENTS, BASIS, REUSE = "documents", "basis.json", "reuse.json"
FEW_DOCUMENTS, DOCUMENTS_PER_ROW = 100_000, 100
"""Of more documents than either, searches are not kept: noting the documents would cost as much as to search them."""
ROW_COUNTS = ("rows_kept", "rows_updated", "rows_mined_again")


@dataclass(frozen=True)
class SearchKeeper:
    """The miner of a run, with its searches watched.

    Attributes:
        miner: gives the rows of the miner that was passed.
        watched: by number, the teachers whose searches are kept.
        facts: for the record of an update: documents that changed, and the digest of the earlier record.
    """

    miner: PositiveAwareMiner
    watched: dict[int, WatchedTeacher]
    facts: dict[str, Any] | None = None

    @classmethod
    def of(cls, miner: PositiveAwareMiner, folder: Path, rows: int, since: str | Path | Dataset | None) -> SearchKeeper:
        """For a prepared miner.

        Args:
            miner: the miner.
            folder: where the run keeps its shards.
            rows: how many there are to mine.
            since: an earlier mining, see :func:`kept_beside`.
        """
        place = None if since is None else kept_beside(since)
        indexes = _exact_indexes(miner)
        few = miner.corpus.num_candidates <= max(FEW_DOCUMENTS, DOCUMENTS_PER_ROW * rows)
        if not indexes or not few:
            if since is not None:
                _warn_full("no teacher searches vectors exactly" if few else "there are too few rows for the documents")
            return cls(miner, {})
        basis = _basis(miner, indexes)

        def build(new: Path) -> None:
            (new / BASIS).write_text(json.dumps(basis), "utf8")
            for number, (_, index) in indexes.items():
                KeptDocuments.write(new / str(number), index, miner.corpus, miner.excluded_everywhere)

        documents = build_once(folder / DOCUMENTS, build)
        if since is None:
            return cls._watching(miner, indexes, {}, None)
        earlier = _opened(place, basis, documents, indexes)
        if isinstance(earlier, str):
            _warn_full(earlier)
            return cls._watching(miner, indexes, {}, None)
        changes = next(iter(earlier.values())).changes
        return cls._watching(miner, indexes, earlier, {"previous": _record_digest(since), **changes.counts()})

    @classmethod
    def _watching(
        cls,
        miner: PositiveAwareMiner,
        indexes: dict[int, tuple[SearchesVectors, ExactIndex]],
        earlier: dict[int, EarlierSearches],
        facts: dict[str, Any] | None,
    ) -> SearchKeeper:
        watched = {
            number: WatchedTeacher(miner.teachers[number], vectors, earlier.get(number))
            for number, (vectors, _) in indexes.items()
        }
        teachers = [watched.get(number, teacher) for number, teacher in enumerate(miner.teachers)]
        return cls(miner.with_teachers(teachers), watched, facts)

    def write(self, shard: Path) -> None:
        """Write the searches since the last call into the folder of a shard."""
        for number, teacher in self.watched.items():
            teacher.taken().write(shard / f"searches-{number}.npz")
        if self.facts is not None:
            counts = np.sum([teacher.counts for teacher in self.watched.values()], axis=0)
            named = dict(zip(ROW_COUNTS, counts.tolist(), strict=True))
            (shard / REUSE).write_text(json.dumps({**self.facts, **named}), "utf8")
        for teacher in self.watched.values():
            teacher.counts[:] = 0


def kept_beside(mined: str | Path | Dataset) -> Path | None:
    """The searches kept with mined rows; None without any.

    Args:
        mined: what ``mine`` returned, the folder or file that ``hf-posmine mine`` wrote, or its rows loaded from the folder.

    Raises:
        InputError: no such folder or file.
    """
    if isinstance(mined, (str, Path)):
        path = Path(mined)
        if not path.exists():
            raise InputError(
                f"since={str(mined)!r}: there is no such folder or file; give the output of an earlier mining"
            )
        places = [path / "searches", path.with_name(f"{path.name}.searches")]
    else:
        files = [Path(file["filename"]) for file in mined.cache_files]
        places = [place for file in files[:1] for place in (file.parent / "searches", file.parent.parent.parent)]
    return next((place for place in places if (place / DOCUMENTS / BASIS).is_file()), None)


def keep_searches(mined: AnyDataset, output: Path) -> None:
    """Copy the searches of what ``mine`` returned beside its rows, for a later update; nothing where none were kept.

    Args:
        mined: what ``mine`` returned.
        output: the folder or the file that the rows were written to.
    """
    shards = [shard for shard in _shards(mined) if any(shard.glob("searches-*.npz"))]
    target = output / "searches" if output.is_dir() else output.with_name(f"{output.name}.searches")

    def write(new: Path) -> None:
        shutil.copytree(shards[0].parent / DOCUMENTS, new / DOCUMENTS)
        for number, shard in enumerate(shards):
            (new / f"{number:06d}").mkdir()
            for file in shard.glob("searches-*.npz"):
                shutil.copy(file, new / f"{number:06d}")

    if shards:
        replace_folder(target, write)


def update_of(mined: AnyDataset) -> dict[str, Any] | None:
    """How much of an earlier mining was re-used by what ``mine`` returned; None where it was mined in full."""
    files = [shard / REUSE for shard in _shards(mined) if (shard / REUSE).is_file()]
    if not files:
        return None
    found = [json.loads(file.read_text("utf8")) for file in files]
    return {**found[0], **{name: sum(facts[name] for facts in found) for name in ROW_COUNTS}}


def _shards(mined: AnyDataset) -> Iterator[Path]:
    """The folders of the shards that mined rows were loaded from."""
    files = [Path(file["filename"]) for split in splits_of(mined) for file in split.cache_files]
    yield from dict.fromkeys(file.parent.parent for file in files)


def _exact_indexes(miner: PositiveAwareMiner) -> dict[int, tuple[SearchesVectors, ExactIndex]]:
    """By number, the teachers whose searches can be kept, with their indexes."""
    found: dict[int, tuple[SearchesVectors, ExactIndex]] = {}
    for number, teacher in enumerate(miner.teachers):
        if isinstance(teacher, SearchesVectors) and isinstance(index := teacher.index, ExactIndex):
            found[number] = (teacher, index)
    return found


def _basis(miner: PositiveAwareMiner, indexes: dict[int, tuple[SearchesVectors, ExactIndex]]) -> dict[str, Any]:
    """Settings and teachers, which an update must share; another model of the same name has other vectors."""
    names = ["" if isinstance(teacher, VectorTeacher) else teacher.name for teacher in miner.teachers]  # a file's name
    scoring = [[name, indexes[at][1].similarity if at in indexes else None] for at, name in enumerate(names)]
    opinion = miner.second_opinion
    second = None if opinion is None else opinion.identity()
    basis = {"teachers": scoring, **miner.settings.to_dict(), "second_opinion": second}
    plain: dict[str, Any] = json.loads(json.dumps(basis))
    return plain


def _other(place: Path, basis: dict[str, Any]) -> str | None:
    """Why kept searches cannot serve; None where they can."""
    then = json.loads((checked(place / DOCUMENTS) / BASIS).read_text("utf8"))
    name = next((name for name in basis if basis[name] != then.get(name)), None)
    if name is None:
        return None
    return (
        f"{name} changed"
        if name in ("teachers", "second_opinion")
        else f"{name} was {then.get(name)!r}, is {basis[name]!r}"
    )


def _opened(
    place: Path | None, basis: dict[str, Any], documents: Path, indexes: dict[int, tuple[SearchesVectors, ExactIndex]]
) -> dict[int, EarlierSearches] | str:
    """Earlier searches, by number of the teacher; or why they cannot serve."""
    if place is None:
        return "the earlier mining kept no searches"
    try:
        return _other(place, basis) or _read(place, documents, indexes)
    except (CorruptFileError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        return f"the searches in {str(place)!r} are damaged ({str(error)[:80]})"


def _read(
    place: Path, documents: Path, indexes: dict[int, tuple[SearchesVectors, ExactIndex]]
) -> dict[int, EarlierSearches] | str:
    found = {}
    for number, (_, index) in indexes.items():
        before, after = (KeptDocuments.opened(at / str(number)) for at in (place / DOCUMENTS, documents))
        if len(np.setdiff1d(after.keys, before.keys)) > index.num_candidates // 2:
            return "more than half of the documents are new"
        searches = Searches.read(sorted(place.glob(f"*/searches-{number}.npz")))
        found[number] = EarlierSearches(searches, before, after, index)
    return found


def _record_digest(mined: str | Path | Dataset) -> str | None:
    """The sha256 of the record beside mined rows; None without one."""
    if not isinstance(mined, (str, Path)):
        return None
    path = Path(mined)
    places = [path / "provenance.json", path.with_name(f"{path.name}.provenance.json")]
    return next((file_sha256(place) for place in places if place.is_file()), None)


def _warn_full(reason: str) -> None:
    """Say in one line that every row is mined anew."""
    warnings.warn(f"since=: {reason}, so every row is mined anew", stacklevel=2)
