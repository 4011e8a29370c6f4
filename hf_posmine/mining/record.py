"""The record of a mining run: one frozen tree of plain values with one JSON form, wherever it is written.

``hf-posmine mine`` puts it beside its output, ``push_dataset`` into the repository and its card, and ``remine`` reads it
back. A reader ignores keys that it does not know; ``schema`` rises when a key changes its meaning.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.typed_json import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
TOOL = "hf_posmine"


@dataclass(frozen=True)
class Source:
    """Where rows or documents came from.

    Attributes:
        path: Hub id, file or folder; None if it is not known.
        name: configuration of a Hub dataset.
        split: split; None for all.
        revision: commit on the Hub.
        sha256: digest of a file.
        text: of documents, the column of the texts.
        id: of documents, the column of the ids.
        title: of documents, the column put before the text.
        image: of documents, the column of the images that belong to the texts.
    """

    path: str | None = None
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    sha256: str | None = None
    text: str | None = None
    id: str | None = None
    title: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns that the miner read."""

    query: str
    positive: str | None = None
    positive_id: str | None = None


@dataclass(frozen=True)
class CorpusRecord:
    """The documents and their digest; the source is None where they are the rows' positives."""

    source: Source | None
    fingerprint: str
    documents: int
    candidates: int
    duplicates_dropped: int
    match: str
    excluded_everywhere: int


@dataclass(frozen=True)
class KnownRecord:
    """The known positives of all queries."""

    fingerprint: str
    queries: int
    judgements: int


@dataclass(frozen=True)
class TeacherRecord:
    """Who scored.

    Attributes:
        name: Hub id, folder or ``"embedded"``.
        score_kind: meaning of its scores, such as cosine.
        fingerprint: digest of everything that a score depends on besides the texts.
        recipe: the rest of its description: kind, commit, weights digest, prompts, dtype, ...
    """

    name: str
    score_kind: str
    fingerprint: str
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OpinionRecord:
    """The second scorer of the candidates; see :class:`~hf_posmine.mining.second_opinion.SecondOpinion`."""

    teacher: TeacherRecord
    filters: tuple[str, ...]
    rank_by: str
    depth: int
    band: float | None = None
    first: OpinionRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "first"}
        first = {} if self.first is None else {"first": self.first.to_dict()}
        return {**plain, "teacher": _plain_teacher(self.teacher), **first}

    @property
    def teachers(self) -> list[TeacherRecord]:
        """Its teacher, and that of the first opinion if there is one."""
        return [self.teacher, *([] if self.first is None else self.first.teachers)]


@dataclass(frozen=True)
class RowsRecord:
    """The rows of one split: how many, and the digest of :func:`~hf_posmine.mining.rows_digest.rows_digest`."""

    rows: int
    digest: str


@dataclass(frozen=True)
class MiningRecord:
    """Everything that decided the rows, and their summary; see :func:`~hf_posmine.mining.provenance.provenance`.

    ``update`` counts what ``mine(..., since=...)`` took from an earlier mining: rows and documents, and the sha256 of its
    record. ``guarantee`` is the bound on the false-negative rate by which the filters were chosen, with its evidence. Both
    decide no row.
    """

    algo_version: int
    created: str
    command: str | None
    miner_fingerprint: str
    settings: Mapping[str, Any]
    teachers: tuple[TeacherRecord, ...]
    source: Source
    columns: Columns
    corpus: CorpusRecord
    known_positives: KnownRecord | None
    summary: Mapping[str, Any] | None
    versions: Mapping[str, str]
    rows: Mapping[str, RowsRecord] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    format: str | None = None
    second_opinion: OpinionRecord | None = None
    update: Mapping[str, Any] | None = None
    guarantee: Mapping[str, Any] | None = None
    schema: int = SCHEMA
    tool: str = TOOL

    @property
    def num_bad_rows(self) -> int | None:
        """Rows that were left out by the account of the data; None if nobody counted any."""
        return sum((self.data.get("bad_rows") or {}).values()) or None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; sources without the keys that do not concern them."""
        plain = asdict(self)
        first = {name: plain.pop(name) for name in ("schema", "tool")}
        plain["source"] = _present(plain["source"])
        if plain["corpus"]["source"] is not None:
            plain["corpus"]["source"] = _present(plain["corpus"]["source"])
        plain["teachers"] = [_plain_teacher(teacher) for teacher in self.teachers]
        if self.second_opinion is not None:
            plain["second_opinion"] = self.second_opinion.to_dict()
        for name in ("rows", "data", "format", "second_opinion", "update", "guarantee"):
            if not plain[name]:
                del plain[name]
        return first | json.loads(json.dumps(plain))

    def to_json(self) -> str:
        """The canonical text, as in every ``provenance.json``.

        ``<`` is written as an escape, so that no value can end or open an HTML comment where the text is embedded.
        """
        return json.dumps(self.to_dict(), indent=1).replace("<", "\\u003c") + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "provenance.json") -> MiningRecord:
        """Read the canonical text.

        Raises:
            InputError: no record, one of a later version, or a field that is missing, of another type or out of its range.
        """
        found = read_json(text, where)
        if not isinstance(found, dict) or found.get("tool") != TOOL or "miner_fingerprint" not in found:
            raise InputError(f"{where} is not a record of a mining run")
        return cls.from_dict(found, where)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], where: str = "the record") -> MiningRecord:
        """Read the mapping that :meth:`to_dict` gave; see :meth:`from_json`."""
        from hf_posmine.mining.record_schema import check_record

        schema = plain.get("schema")
        if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
            raise InputError(
                f"{where} has schema {schema!r:.60}, this version reads up to {SCHEMA}; upgrade hf-posmine"
            )
        try:
            check_record(plain)
        except InputError as error:
            raise InputError(f"{where} is incomplete or damaged: {error}") from None
        corpus, known, opinion = dict(plain["corpus"]), plain.get("known_positives"), plain.get("second_opinion")
        source = corpus.pop("source")
        nested = {
            "teachers": tuple(_teacher(t) for t in plain["teachers"]),
            "source": of_known(Source, plain["source"]),
            "columns": of_known(Columns, plain["columns"]),
            "corpus": of_known(CorpusRecord, corpus | {"source": None if source is None else of_known(Source, source)}),
            "known_positives": None if known is None else of_known(KnownRecord, known),
            "second_opinion": None if opinion is None else _opinion(opinion),
            "rows": {split: of_known(RowsRecord, rows) for split, rows in (plain.get("rows") or {}).items()},
            "data": plain.get("data") or {},
        }
        record: MiningRecord = of_known(cls, {**plain, **nested})
        return record


def of_known(cls: type, plain: Mapping[str, Any]) -> Any:
    """An instance from a mapping that may hold more than this version knows."""
    names = {entry.name for entry in fields(cls)}
    return cls(**{name: value for name, value in plain.items() if name in names})


def _teacher(plain: Mapping[str, Any]) -> TeacherRecord:
    basic = {name: plain[name] for name in ("name", "score_kind", "fingerprint")}
    return TeacherRecord(**basic, recipe={name: value for name, value in plain.items() if name not in basic})


def _plain_teacher(teacher: TeacherRecord) -> dict[str, Any]:
    own = {"name": teacher.name, "score_kind": teacher.score_kind, "fingerprint": teacher.fingerprint}
    return own | dict(teacher.recipe)


def _opinion(plain: Mapping[str, Any]) -> OpinionRecord:
    first = plain.get("first")
    nested: dict[str, Any] = {"teacher": _teacher(plain["teacher"]), "filters": tuple(plain["filters"])}
    nested["first"] = None if first is None else _opinion(first)
    record: OpinionRecord = of_known(OpinionRecord, {**plain, **nested})
    return record


def _present(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if value is not None}
