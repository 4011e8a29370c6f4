"""Statements of a record compared with what the repository and the rebuilt miner give."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from hf_posmine.hub.compare import differing, same
from hf_posmine.hub.inputs import InputChange
from hf_posmine.mining.columns import MINED_COLUMNS, list_column, written_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord

DECIDING = (
    "algo_version", "miner_fingerprint", "settings", "teachers", "columns", "corpus", "known_positives", "second_opinion",
)  # fmt: skip
"""Parts of a record that the miner made from it has to give again."""
MEASURED = ("approximation", "cut_texts")
"""Parts of a teacher's description that are measured while it prepares."""
MOST_SUBSETS = 64


def record_changes(
    record: MiningRecord, miner: PositiveAwareMiner, inputs: Inputs, *, from_source: bool
) -> list[InputChange]:
    """Fields that decide rows, and the account of the data, where the rebuilt miner does not give them again.

    Args:
        record: as it was read.
        miner: made from it.
        inputs: those of the caller, whose places the record does not know.
        from_source: whether the rows are those of the source, with any that mining left out.
    """
    from hf_posmine.mining.provenance import provenance

    again = provenance(miner, source=record.source, corpus_source=record.corpus.source)
    skipped = {*MEASURED, *(("commit", "spelling") if inputs.teacher is not None else ())}
    was, now = (_deciding(made, skipped) for made in (record, again))
    if record.data:
        was["data"], now["data"] = record.data, _data(record, miner, inputs, from_source=from_source)
    return [InputChange(f"the record's {path}", _shown(one), _shown(two)) for path, one, two in differing(was, now)]


def _data(record: MiningRecord, miner: PositiveAwareMiner, inputs: Inputs, *, from_source: bool) -> dict[str, Any]:
    """The account of the data by the rebuilt miner, but for what it cannot know."""
    was = record.data
    unknown = [
        *(["corpus"] if inputs.corpus is not None else []),  # columns of the caller's own documents
        *(["bad_rows"] if record.settings["skip_bad_rows"] and not from_source else []),  # no longer among the rows
    ]
    now = miner.data_compared(near=was.get("near") is not None).to_dict()
    return now | {name: was.get(name) for name in unknown}


def _deciding(record: MiningRecord, skipped: set[str]) -> dict[str, Any]:
    plain = record.to_dict()
    plain["corpus"]["source"] = None
    for teacher in plain["teachers"]:
        for name in skipped & set(teacher):
            del teacher[name]
    return {name: plain.get(name) for name in DECIDING}


def summary_changes(pushed: Mapping[str, Any], record: MiningRecord) -> list[InputChange]:
    """The recorded summary, where it is that of no splits in the repository; a later push may have added splits."""
    from hf_posmine.mining.summary import MiningSummary

    if record.summary is None:
        return []
    was = {"bad_rows": None, "dropped_rows": None, "languages": {}} | json.loads(json.dumps(dict(record.summary)))
    found = None
    for splits in _subsets(list(pushed.values())):
        if any(list_column(split.column_names) is None for split in splits):
            continue
        if found is not None and sum(map(len, splits)) != was.get("rows"):
            continue
        made = MiningSummary.from_dataset(dict(enumerate(splits)), record.settings["num_negatives"])
        gone = {"bad_rows": record.num_bad_rows, "dropped_rows": was["dropped_rows"]}  # no longer among the rows
        now = json.loads(json.dumps(made.to_dict())) | gone
        if same(was, now):
            return []
        found = found or now
    return [
        InputChange(f"the summary's {path}", _shown(one), _shown(two)) for path, one, two in differing(was, found or {})
    ]


def _subsets(splits: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """All splits together, then fewer."""
    every = (itertools.combinations(splits, number) for number in range(len(splits), 0, -1))
    return itertools.islice(itertools.chain.from_iterable(every), MOST_SUBSETS)


def column_changes(pushed: Mapping[str, Any], mined: Sequence[str]) -> list[InputChange]:
    """Columns that the settings write and the repository lacks, or the other way round."""
    changes = []
    for name, split in pushed.items():
        there = set(written_columns(split)) | (set(mined) & set(split.column_names))
        for column in sorted(MINED_COLUMNS.keys() & (set(mined) ^ there)):
            was, now = ("written", "missing") if column in mined else ("not written", "present")
            changes.append(InputChange(f"the column {column!r} of split {name!r}", was, now))
    return changes


def card_changes(record: str, in_card: str | None) -> list[InputChange]:
    """The record that a card shows, where it is not the one in the file.

    Args:
        record: text of ``provenance.json``.
        in_card: text in the card; None without one.
    """
    if in_card is None:
        return []
    try:
        shown = json.loads(in_card)
    except (ValueError, RecursionError):
        shown = None
    return [
        InputChange(f"the record in the card, {path}", _shown(two), _shown(one))
        for path, one, two in differing(shown, json.loads(record))
    ]


def _shown(value: object) -> str:
    return f"{value!r:.80}"
