"""The rows, known positives and corpus that a record names, or those given in their place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.data.columns import as_splits
from hf_posmine.hub.ids import on_hub
from hf_posmine.hub.inputs import InputChange
from hf_posmine.hub.reach import load_hub_dataset, out_of_reach, within_reach
from hf_posmine.mining.provenance import hub_revision
from hf_posmine.mining.record import Source
from hf_posmine.utils.digest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.mining.record import MiningRecord

GIVE_DATASET = "Inputs(dataset=...), or --dataset"
GIVE_CORPUS = "Inputs(corpus=...), or --corpus"


def rebuild_rows(
    own: Mapping[str, Any], record: MiningRecord, inputs: Inputs, untouched: bool, changes: list[InputChange]
) -> tuple[Mapping[str, Any], Qrels | None, bool]:
    """The rows to mine, their known positives, and whether they come from the source.

    Args:
        own: rows in the repository without the columns that mining wrote, by split.
        record: how they were mined.
        inputs: inputs in the place of the recorded ones.
        untouched: whether the rows in the repository are those recorded.
        changes: extended by a source that has moved on.
    """
    if inputs.dataset is not None:
        given = inputs.dataset
        rows = _load_given(given, record.source, "source", _kept(record)) if isinstance(given, (str, Path)) else given
        return _under_names(rows, own), _known(rows, record, given), True
    known = _known(own, record, None)
    if known is None or record.known_positives is None or known.fingerprint == record.known_positives.fingerprint:
        return own, known, False
    source, allow = record.source, inputs.allow_local
    if not within_reach(source, allow_local=allow):
        if untouched:
            raise out_of_reach(source, "source", GIVE_DATASET, allow_local=allow)
        return own, known, False  # the rows and the known positives are reported as changed
    loaded = _load_recorded(source, "source", changes, _kept(record))
    place = None if on_hub(source.path, source.revision) else source.path
    return _under_names(loaded, own), _known(loaded, record, place), True


def rebuild_corpus(
    record: MiningRecord, rows: Mapping[str, Any], inputs: Inputs, known: Qrels | None, changes: list[InputChange]
) -> Corpus:
    """The documents, and the known positives where ``from_dataset`` added them."""
    from hf_posmine.data.corpus import Corpus

    was, documents = record.corpus, known.documents if known is not None else None
    same = _kept(record)
    if same and documents is not None and was.source is None and record.columns.positive is not None:
        documents = documents.with_columns_of(dict(rows), record.columns.positive, same)  # type: ignore[arg-type]
    corpus = inputs.corpus if isinstance(inputs.corpus, Corpus) else _load_corpus(record, inputs, changes) or documents
    if corpus is None:
        raise _no_corpus(record)
    if corpus.fingerprint != was.fingerprint and documents is not None and corpus is not documents:
        corpus = corpus.union(documents, candidates=False)  # as from_dataset makes it
    if corpus.fingerprint != was.fingerprint:
        found = f"{len(corpus):,} ({corpus.fingerprint[:8]})"
        changes.append(InputChange("the corpus", f"{was.documents:,} documents ({was.fingerprint[:8]})", found))
    return corpus


def _load_corpus(record: MiningRecord, inputs: Inputs, changes: list[InputChange]) -> Corpus | None:
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.sources import is_beir

    source, given, match = record.corpus.source, inputs.corpus, record.corpus.match
    if given is None and source is None:
        return None
    if given is None and source is not None:
        if source.path is None:
            raise _no_corpus(record)
        if not within_reach(source, allow_local=inputs.allow_local):
            raise out_of_reach(source, "corpus", GIVE_CORPUS, allow_local=inputs.allow_local)
    source, keep = source or Source(), _kept(record)
    at_hub = given is None and on_hub(source.path, source.revision)
    path = Path(str(source.path if given is None else given)).expanduser()
    if not at_hub and is_beir(path):
        return Corpus.from_beir(path, match=match, keep=keep)
    if not at_hub and path.is_file() and source.sha256 is not None and file_sha256(path) != source.sha256:
        was, found = f"sha256 {source.sha256[:16]}", file_sha256(path)[:16]
        changes.append(InputChange(f"the corpus file {path.name}", was, found))
    documents = _load_recorded(source, "corpus", changes) if given is None else _load_given(path, source, "corpus")
    columns = {
        "text": source.text,
        "id": source.id or "",
        "title": source.title or "",
        "image": source.image,
    }  # "": the corpus was made without
    return Corpus.from_dataset(documents, **columns, match=match, keep=keep)  # type: ignore[arg-type]


def _kept(record: MiningRecord) -> list[str]:
    """The columns of the documents that decide about negatives."""
    return MiningSettings.from_options(dict(record.settings)).kept_columns


def _load_recorded(source: Source, what: str, changes: list[InputChange], keep: Sequence[str] = ()) -> Any:
    """A recorded source within reach, see :func:`~hf_posmine.hub.reach.check_reach`."""
    if not on_hub(source.path, source.revision):
        return _load_given(str(source.path), source, what, keep)
    head = hub_revision(str(source.path))
    if head is not None and head != source.revision:
        name = "the source dataset" if what == "source" else "the corpus"
        commits = f"commit {source.revision}", f"commit {head}"
        changes.append(InputChange(f"{name} {source.path}", *commits, decisive=False))
    return load_hub_dataset(str(source.path), str(source.revision), name=source.name, split=source.split)


def _load_given(path: str | Path, source: Source, what: str, keep: Sequence[str] = ()) -> Any:
    """Data that the caller named or allowed, read as the recorded source is."""
    from hf_posmine.data.sources import beir_corpus, beir_pairs, is_beir, load_source

    place, split = str(Path(path).expanduser()), source.split or "train"
    if is_beir(place):
        return beir_corpus(place) if what == "corpus" else beir_pairs(place, split, keep)
    return load_source(place, split, source.name)


def _known(rows: AnyDataset, record: MiningRecord, where: object) -> Qrels | None:
    from datasets import DatasetDict

    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import is_beir

    if record.known_positives is None:
        return None
    columns, match = record.columns, record.corpus.match
    if isinstance(where, (str, Path)) and is_beir(Path(where).expanduser()):
        return Qrels.from_beir(Path(where).expanduser(), record.source.split or "train", match=match)
    rows = DatasetDict(rows) if isinstance(rows, dict) else rows
    skip = bool(record.settings["skip_bad_rows"])
    return Qrels.from_dataset(
        rows, columns.query, columns.positive, columns.positive_id, match=match, skip_bad_rows=skip,  # type: ignore[arg-type]
    )  # fmt: skip


def _under_names(loaded: AnyDataset, own: Mapping[str, Any]) -> dict[str, Any]:
    """A source under the names of the pushed splits."""
    splits = as_splits(loaded)
    if len(splits) == len(own) == 1:
        return {next(iter(own)): next(iter(splits.values()))}
    missing = [name for name in own if name not in splits]
    if missing:
        raise InputError(f"the source has no split {missing[0]!r}; it has {list(splits)}")
    return {name: splits[name] for name in own}


def _no_corpus(record: MiningRecord) -> InputError:
    was = record.corpus
    return InputError(
        f"the record does not name the source of its {was.documents:,} documents (digest {was.fingerprint[:8]}); pass them as "
        f"{GIVE_CORPUS}"
    )
