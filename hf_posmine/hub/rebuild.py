"""From a record back to the miner, and what turned out to be otherwise on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import as_splits
from hf_posmine.hub.inputs import InputChange, Inputs
from hf_posmine.hub.rebuild_teachers import rebuild_opinion, rebuild_teachers
from hf_posmine.mining.provenance import describe_rows, hub_revision, versions
from hf_posmine.mining.rows_digest import file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord, Source
    from hf_posmine.mining.second_opinion import SecondOpinion


@dataclass(frozen=True)
class Rebuilt:
    """A miner made from a record, the rows for it, and every difference that was met."""

    miner: PositiveAwareMiner
    rows: Mapping[str, Any]
    from_source: bool
    changes: tuple[InputChange, ...]


def rebuild(pushed: Mapping[str, Any], record: MiningRecord, inputs: Inputs) -> Rebuilt:
    """The miner that a record describes.

    The rows to mine are those that were pushed, without what mining added, as long as their digest says that they are the
    whole source; else the source is loaded again.

    Args:
        pushed: the rows in the repository, splits by name.
        record: how they were made.
        inputs: replacements.

    Raises:
        InputError: an input that was local and is not given, or a recipe that cannot be repeated here.
    """
    changes = _versions_changed(record)
    there = describe_rows(pushed)
    untouched = there == dict(record.rows)
    if not untouched:
        changes.append(InputChange("the rows in the repository", _digests(record.rows), _digests(there)))
    rows, known, from_source = _rows(pushed, record, inputs, untouched, changes)
    if known is not None and record.known_positives and known.fingerprint != record.known_positives.fingerprint:
        was = record.known_positives
        change = InputChange(
            "the known positives", f"{was.judgements:,} ({was.fingerprint[:8]})",
            f"{known.num_judgements:,} ({known.fingerprint[:8]})",
        )  # fmt: skip
        changes.append(change)
    corpus = _corpus(record, inputs, known, changes)
    teachers = rebuild_teachers(record, inputs, corpus, known, changes)
    opinion = rebuild_opinion(record, inputs, corpus, changes)
    return Rebuilt(_miner(record, corpus, teachers, known, opinion, changes), rows, from_source, tuple(changes))


def _rows(
    pushed: Mapping[str, Any], record: MiningRecord, inputs: Inputs, untouched: bool, changes: list[InputChange]
) -> tuple[Mapping[str, Any], Qrels | None, bool]:
    """The rows to mine, their known positives, and whether they are the source's rather than the pushed ones."""
    own = {name: split.remove_columns(_added(record, split)) for name, split in pushed.items()}
    if inputs.dataset is not None:
        given = (
            _load(inputs.dataset, record.source, "source")
            if isinstance(inputs.dataset, (str, Path))
            else inputs.dataset
        )
        return _as(given, own), _known(given, record, inputs.dataset), True
    known = _known(own, record, None)
    if known is None or record.known_positives is None or known.fingerprint == record.known_positives.fingerprint:
        return own, known, False
    source = record.source
    if source.revision is not None or (source.path is not None and Path(source.path).expanduser().exists()):
        _note_moved("the source dataset", source, changes)
        loaded = _load(None, source, "source")
        return _as(loaded, own), _known(loaded, record, source.path), True
    if untouched:
        raise InputError(
            f"the pushed rows are not all that the miner knew, and the source {source.path!r} was local data; pass it as "
            "Inputs(dataset=...), or --dataset"
        )
    return own, known, False


def _added(record: MiningRecord, split: Any) -> list[str]:
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.mining.columns import column_types

    settings = MiningSettings.from_options(dict(record.settings))
    added = column_types(settings, second=record.second_opinion is not None)
    return [name for name in split.column_names if name in added]


def _known(rows: Any, record: MiningRecord, where: Any) -> Qrels | None:
    from datasets import DatasetDict

    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import is_beir

    if record.known_positives is None:
        return None
    columns, match = record.columns, record.corpus.match
    if isinstance(where, (str, Path)) and is_beir(Path(where).expanduser()):
        return Qrels.from_beir(Path(where).expanduser(), record.source.split or "train")
    rows = DatasetDict(rows) if isinstance(rows, dict) else rows
    return Qrels.from_dataset(rows, columns.query, columns.positive, columns.positive_id, match=match)  # type: ignore[arg-type]


def _as(loaded: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """A source under the names of the pushed splits."""
    splits = as_splits(loaded)
    if len(splits) == len(own) == 1:
        return {next(iter(own)): next(iter(splits.values()))}
    missing = [name for name in own if name not in splits]
    if missing:
        raise InputError(f"the source has no split {missing[0]!r}; it has {list(splits)}")
    return {name: splits[name] for name in own}


def _load(given: Any, source: Source, what: str) -> Any:
    """A recorded source, or another one read in its way."""
    import datasets

    from hf_posmine.data.sources import beir_corpus, beir_pairs, is_beir, load_source

    path = str(Path(given if given is not None else str(source.path)).expanduser())
    if is_beir(path):
        return beir_corpus(path) if what == "corpus" else beir_pairs(path, source.split or "train")
    if given is None and source.revision is not None:
        return datasets.load_dataset(path, source.name, split=source.split, revision=source.revision)
    return load_source(path, source.split or "train", source.name)


def _corpus(record: MiningRecord, inputs: Inputs, known: Qrels | None, changes: list[InputChange]) -> Corpus:
    from hf_posmine.data.corpus import Corpus

    was, documents = record.corpus, known.documents if known is not None else None
    corpus = inputs.corpus if isinstance(inputs.corpus, Corpus) else _load_corpus(record, inputs, changes) or documents
    if (
        corpus is not None
        and corpus.fingerprint != was.fingerprint
        and documents is not None
        and corpus is not documents
    ):
        corpus = corpus.union(documents, candidates=False)  # as from_dataset makes it
    if corpus is None:
        raise _no_corpus(record)
    if corpus.fingerprint != was.fingerprint:
        found = f"{len(corpus):,} ({corpus.fingerprint[:8]})"
        changes.append(InputChange("the corpus", f"{was.documents:,} documents ({was.fingerprint[:8]})", found))
    return corpus


def _load_corpus(record: MiningRecord, inputs: Inputs, changes: list[InputChange]) -> Corpus | None:
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.sources import is_beir
    from hf_posmine.mining.record import Source

    source, given = record.corpus.source, inputs.corpus
    if source is None and given is None:
        return None
    if given is None and source is not None and source.path is None:
        raise _no_corpus(record)
    source = source or Source()
    path = Path(str(given if given is not None else source.path)).expanduser()
    if given is None and source.revision is None and not path.exists():
        raise InputError(
            f"the corpus {source.path!r} was local data and is not here; pass it as Inputs(corpus=...), or --corpus"
        )
    if given is None:
        _note_moved("the corpus", source, changes)
    if is_beir(path):
        return Corpus.from_beir(path, match=record.corpus.match)
    if path.is_file() and source.sha256 is not None and file_digest(path) != source.sha256:
        changes.append(
            InputChange(f"the corpus file {path.name}", f"sha256 {source.sha256[:16]}", file_digest(path)[:16])
        )
    documents = _load(given, source, "corpus")
    columns = {"text": source.text, "id": source.id or "", "title": source.title or ""}
    return Corpus.from_dataset(documents, **columns, match=record.corpus.match)  # type: ignore[arg-type]


def _no_corpus(record: MiningRecord) -> InputError:
    was = record.corpus
    return InputError(
        f"the record does not say where its {was.documents:,} documents (digest {was.fingerprint[:8]}) came from; pass them as "
        "Inputs(corpus=...), or --corpus"
    )


def _miner(
    record: MiningRecord,
    corpus: Corpus,
    teachers: list[Any],
    known: Qrels | None,
    opinion: SecondOpinion | None,
    changes: list[InputChange],
) -> PositiveAwareMiner:
    from hf_posmine.mining.miner import ALGO_VERSION, PositiveAwareMiner

    miner = PositiveAwareMiner(
        corpus=corpus,
        teachers=teachers,
        known_positives=known,
        query_column=record.columns.query,
        positive_column=record.columns.positive,
        positive_id_column=record.columns.positive_id,
        second_opinion=opinion,
        **record.settings,
    )
    if record.algo_version != ALGO_VERSION:
        changes.append(InputChange("the mining algorithm", f"version {record.algo_version}", f"version {ALGO_VERSION}"))
    if miner.fingerprint != record.miner_fingerprint and not any(c.decisive for c in changes):
        changes.append(InputChange("the recipe", record.miner_fingerprint, miner.fingerprint))
    return miner


def _note_moved(what: str, source: Source, changes: list[InputChange]) -> None:
    head = hub_revision(str(source.path)) if source.revision is not None else None
    if head is not None and head != source.revision:
        changes.append(
            InputChange(f"{what} {source.path}", f"commit {source.revision}", f"commit {head}", decisive=False)
        )


def _versions_changed(record: MiningRecord) -> list[InputChange]:
    here = versions()
    return [
        InputChange(f"the version of {name}", was, here.get(name, "not installed"), decisive=False)
        for name, was in record.versions.items()
        if here.get(name) != was
    ]


def _digests(rows: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {held.rows:,} rows ({held.digest[:8]})" for name, held in rows.items()) or "not recorded"
