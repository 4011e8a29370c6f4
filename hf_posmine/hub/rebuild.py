"""The miner that a record describes, and every input that is not as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.hub.inputs import InputChange, Inputs
from hf_posmine.hub.rebuild_data import rebuild_corpus, rebuild_rows
from hf_posmine.hub.rebuild_teachers import rebuild_teachers
from hf_posmine.hub.record_check import column_changes, record_changes, summary_changes
from hf_posmine.mining.columns import MINED_COLUMNS, column_types, output_columns
from hf_posmine.mining.provenance import describe_rows, versions
from hf_posmine.mining.record_schema import check_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord, OpinionRecord
    from hf_posmine.mining.second_opinion import SecondOpinion


@dataclass(frozen=True)
class Rebuilt:
    """A miner made from a record.

    Attributes:
        miner: the miner.
        rows: rows to mine by split, without any column that mining writes.
        from_source: whether they were read from the source instead of the repository.
        changes: inputs that are not as recorded.
    """

    miner: PositiveAwareMiner
    rows: Mapping[str, Any]
    from_source: bool
    changes: tuple[InputChange, ...]

    @property
    def mined_columns(self) -> tuple[str, ...]:
        """The columns that mining writes; they follow from the settings alone."""
        return tuple(column_types(self.miner.settings, second=self.miner.second_opinion is not None))


def rebuild(pushed: Mapping[str, Any], record: MiningRecord, inputs: Inputs) -> Rebuilt:
    """The miner that a record describes.

    The rows to mine are those in the repository, without the columns that mining writes, if their known positives are the
    recorded ones; else the source is loaded again.

    Args:
        pushed: rows in the repository by split.
        record: how they were mined.
        inputs: inputs in the place of the recorded ones.

    Raises:
        InputError: an input that was local and is not given, or a recipe that cannot be repeated here.
    """
    _check_sizes(record, record.corpus.documents)
    changes = _versions_changed(record)
    there = describe_rows(pushed)
    untouched = there == dict(record.rows)
    if not untouched:
        changes.append(InputChange("the rows in the repository", _digests(record.rows), _digests(there)))
    changes += summary_changes(pushed, record)
    own = _without_mined(pushed)
    rows, known, from_source = rebuild_rows(own, record, inputs, untouched, changes)
    rows = _without_mined(rows)
    changes += _known_changed(record, known)
    corpus = rebuild_corpus(record, rows, inputs, known, changes)
    _check_sizes(record, len(corpus))
    second = record.second_opinion
    recorded = [*record.teachers, *([] if second is None else second.teachers)]
    teachers = rebuild_teachers(recorded, inputs, corpus, None if known is None else known.queries, changes)
    opinion = None if second is None else _opinion(second, teachers[len(record.teachers) :])
    miner = _miner(record, corpus, teachers[: len(record.teachers)], known, opinion)
    rebuilt = Rebuilt(miner, rows, from_source, ())
    changes += column_changes(pushed, rebuilt.mined_columns)
    if not any(change.decisive for change in changes):  # else the leaves of the record only repeat it
        changes += record_changes(record, miner, inputs, from_source=from_source)
    return Rebuilt(miner, rows, from_source, tuple(changes))


def _check_sizes(record: MiningRecord, documents: int) -> None:
    try:
        settings = MiningSettings.from_options(dict(record.settings))
        check_sizes(settings, record.second_opinion.depth if record.second_opinion else 0, documents)
    except InputError as error:
        raise InputError(f"the settings of the record cannot be used: {' '.join(str(error).split())}") from None


def _without_mined(splits: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: split.remove_columns([column for column in output_columns(split.column_names) if column in MINED_COLUMNS])
        for name, split in splits.items()
    }


def _miner(
    record: MiningRecord, corpus: Corpus, teachers: list[Teacher], known: Qrels | None, opinion: SecondOpinion | None
) -> PositiveAwareMiner:
    from hf_posmine.mining.miner import PositiveAwareMiner

    return PositiveAwareMiner(
        corpus=corpus,
        teachers=teachers,
        known_positives=known,
        query_column=record.columns.query,
        positive_column=record.columns.positive,
        positive_id_column=record.columns.positive_id,
        second_opinion=opinion,
        **{"exclude_same": (), **record.settings},
    )


def _opinion(was: OpinionRecord, teachers: list[Teacher]) -> SecondOpinion:
    from hf_posmine.mining.second_opinion import SecondOpinion

    rank_by: Any = was.rank_by
    first = None if was.first is None else _opinion(was.first, teachers[1:])
    return SecondOpinion(teachers[0], list(was.filters), rank_by, was.depth, was.band, first)


def _known_changed(record: MiningRecord, known: Qrels | None) -> list[InputChange]:
    was = record.known_positives
    if known is None or was is None or known.fingerprint == was.fingerprint:
        return []
    found = f"{known.num_judgements:,} ({known.fingerprint[:8]})"
    return [InputChange("the known positives", f"{was.judgements:,} ({was.fingerprint[:8]})", found)]


def _versions_changed(record: MiningRecord) -> list[InputChange]:
    here = versions()
    return [
        InputChange(f"the version of {name}", was, here.get(name, "not installed"), decisive=False)
        for name, was in record.versions.items()
        if here.get(name) != was
    ]


def _digests(rows: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {held.rows:,} rows ({held.digest[:8]})" for name, held in rows.items()) or "not recorded"
