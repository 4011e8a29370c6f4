"""The record of a mining run made from the miner, with digests of everything it depends on, and written to disk."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import as_splits
from hf_posmine.mining.record import (
    Columns,
    CorpusRecord,
    KnownRecord,
    MiningRecord,
    OpinionRecord,
    RowsRecord,
    Source,
    TeacherRecord,
)
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.teachers.capabilities import describe
from hf_posmine.utils.digest import digest_as_read
from hf_posmine.utils.files import write_file
from hf_posmine.utils.redact import redact, redacted
from hf_posmine.utils.remote import address_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.second_opinion import SecondOpinion
    from hf_posmine.mining.summary import MiningSummary

__all__ = ["now", "provenance", "read_provenance", "versions", "write_provenance"]

FILE = "provenance.json"
PACKAGES = (
    "hf-posmine", "datasets", "sentence-transformers", "transformers", "torch", "accelerate", "peft", "numpy", "pyarrow", "numba",
    "pillow",
)  # fmt: skip


def provenance(
    miner: PositiveAwareMiner,
    *,
    source: Source | Mapping[str, Any],
    corpus_source: Source | Mapping[str, Any] | None = None,
    summary: MiningSummary | None = None,
    command: str | None = None,
    mined: AnyDataset = None,
    guarantee: Mapping[str, Any] | None = None,
) -> MiningRecord:
    """The record of a mining run.

    Args:
        miner: the miner.
        source: where the rows came from, such as ``{"path": ..., "split": ..., "revision": ...}``.
        corpus_source: where the documents came from; not needed if they are the rows' own positives.
        summary: of the mined rows.
        command: the command line, if there was one; secrets are redacted.
        mined: the mined Dataset or DatasetDict, whose rows are digested.
        guarantee: of the false-negative rate of these filters, as
            :meth:`~hf_posmine.evaluation.negatives.certify.Certified.to_dict` gives it.
    """
    from hf_posmine.mining.execution.keeper import update_of
    from hf_posmine.mining.miner import ALGO_VERSION

    return MiningRecord(
        algo_version=ALGO_VERSION,
        created=now(),
        command=None if command is None else redact(command),
        miner_fingerprint=miner.fingerprint,
        settings=miner.settings.to_dict(),
        teachers=tuple(describe_teacher(teacher) for teacher in miner.teachers),
        source=_source(source),
        columns=Columns(miner.query_column, miner.positive_column, miner.positive_id_column),
        corpus=_corpus(miner, corpus_source),
        known_positives=None if miner.known_positives is None else describe_known(miner.known_positives),
        summary=None if summary is None else replace(summary, bad_rows=miner.num_bad_rows).to_dict(),
        versions=versions(),
        data=miner.data.to_dict(),
        rows={} if mined is None else describe_rows(mined),
        second_opinion=None if miner.second_opinion is None else _describe_opinion(miner.second_opinion),
        update=None if mined is None else update_of(mined),
        guarantee=guarantee,
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_rows(mined: AnyDataset) -> dict[str, RowsRecord]:
    """Rows and digest of each split; a Dataset is the split that it was loaded as, else ``train``."""
    return {name: RowsRecord(len(split), rows_digest(split)) for name, split in as_splits(mined).items()}


def describe_known(known: Qrels) -> KnownRecord:
    """Digest and counts of the known positives."""
    return KnownRecord(known.fingerprint, known.num_queries, known.num_judgements)


def source_of_path(path: str, split: str | None, name: str | None = None, **columns: str | None) -> Source:
    """Where data came from: files with the digest of their bytes, Hub datasets with their commit, copies with their address."""
    file = Path(path)
    return Source(
        path=address_of(file) or redact(path),
        name=name,
        split=split,
        sha256=digest_as_read(file) if file.is_file() else None,
        revision=None if file.exists() else hub_revision(path),
        **columns,
    )


def hub_revision(repository: str, kind: str = "dataset") -> str | None:
    """The commit that is now the head of a repository; None where the Hub cannot be reached."""
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_info(repository, repo_type=kind).sha
    except Exception:  # offline, private, renamed: the record then has no revision
        return None


def write_provenance(path: str | Path, record: MiningRecord) -> None:
    """Write the record as JSON, atomically."""
    write_file(Path(path), lambda temporary: temporary.write_text(record.to_json(), "utf8"))


def read_provenance(path: str | Path) -> MiningRecord:
    """Read a record back.

    Raises:
        InputError: no such file, or no record in it.
    """
    try:
        text = Path(path).read_text("utf8")
    except OSError:
        raise InputError(f"no such file: {path}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text, so it is not a record") from None
    return MiningRecord.from_json(text, str(path))


def recorded_beside(dataset: Any) -> MiningRecord | None:
    """The record in the folder of a Dataset that was loaded from disk; None without one."""
    folders = dict.fromkeys(Path(file["filename"]).parent for file in dataset.cache_files)
    records = (recorded_at(place) for folder in folders for place in (folder, folder.parent))
    return next((record for record in records if record is not None), None)


def recorded_at(place: Path) -> MiningRecord | None:
    """The record in a folder of mined rows, or beside a file of them; None without one."""
    file = place / FILE if place.is_dir() else place.with_suffix(f"{place.suffix}.{FILE}")
    return read_provenance(file) if file.is_file() else None


def _source(given: Source | Mapping[str, Any]) -> Source:
    given = asdict(given) if isinstance(given, Source) else given
    unknown = sorted(set(given) - set(Source.__dataclass_fields__))
    if unknown:
        raise InputError(f"a source has no {unknown[0]!r}; it has {', '.join(Source.__dataclass_fields__)}")
    return Source(**redacted(dict(given)))


def _corpus(miner: PositiveAwareMiner, given: Source | Mapping[str, Any] | None) -> CorpusRecord:
    """The corpus; its source is None if it is the rows' own positives, and without a path if none was given."""
    corpus, known = miner.corpus, miner.known_positives
    positives = known is not None and known.documents is not None and known.documents.fingerprint == corpus.fingerprint
    return CorpusRecord(
        source=_source(given) if given is not None else None if positives else Source(),
        fingerprint=corpus.fingerprint,
        documents=len(corpus),
        candidates=corpus.num_candidates,
        duplicates_dropped=corpus.duplicates,
        match=corpus.match,
        excluded_everywhere=len(miner.excluded_everywhere),
    )


def _describe_opinion(opinion: SecondOpinion) -> OpinionRecord:
    given = opinion.to_dict()
    first = None if opinion.first is None else _describe_opinion(opinion.first)
    return OpinionRecord(describe_teacher(opinion.scorer), tuple(given.pop("filters")), **given, first=first)


def describe_teacher(teacher: Teacher) -> TeacherRecord:
    """A teacher as a record holds it."""
    own = ("name", "score_kind", "fingerprint")
    recipe = {name: value for name, value in redacted(describe(teacher)).items() if name not in own}
    return TeacherRecord(redact(teacher.name), teacher.score_kind, teacher.fingerprint, recipe)
