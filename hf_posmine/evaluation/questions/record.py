"""The record of a set of questions: documents, prompts, models, settings, and every count, in one JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.quoting import QUOTE_SYSTEM
from hf_posmine.evaluation.questions.writing import prompt_of
from hf_posmine.mining.provenance import describe_rows, describe_teacher, now, versions
from hf_posmine.mining.record import SCHEMA, TOOL, Source, of_known
from hf_posmine.utils.redact import redact, redacted
from hf_posmine.utils.typed_json import fields, items, mapping, optional, plain, read_json, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset

    from hf_posmine.evaluation.judge.candidates import Cost
    from hf_posmine.evaluation.questions.making import MadeQuestions, QuestionMaker

FILE = "questions.json"
WHAT = "a set of questions"
COLUMNS = ("query", "positive", "positive_id", "kind", "model")


@dataclass(frozen=True)
class QuestionsRecord:
    """How questions were made; a reader ignores keys that it does not know.

    Attributes:
        created: time in UTC.
        command: the command line without secrets.
        documents: where they came from, with ``fingerprint`` of the corpus.
        settings: as :class:`~hf_posmine.evaluation.questions.settings.QuestionSettings`.
        writer: name of the model, with its place.
        prompts: its instruction, by kind.
        judge: name of the judge; None without the gate.
        judge_prompt: its instruction.
        teacher: of the consistency, as a mining record has it; None without the gate.
        attrition: as :class:`~hf_posmine.evaluation.questions.attrition.Attrition`.
        costs: what was paid in the run that wrote this, by model; answers that were kept cost nothing.
        rows: how many.
        digest: of the rows.
        versions: of the packages.
    """

    created: str
    command: str | None
    documents: Mapping[str, Any]
    settings: Mapping[str, Any]
    writer: str
    prompts: Mapping[str, str]
    judge: str | None
    judge_prompt: str | None
    teacher: Mapping[str, Any] | None
    attrition: Mapping[str, Any]
    costs: Sequence[Mapping[str, Any]]
    rows: int
    digest: str
    versions: Mapping[str, str]
    schema: int = SCHEMA
    tool: str = TOOL
    kind: str = "questions"

    @classmethod
    def of(
        cls, maker: QuestionMaker, made: MadeQuestions, rows: Dataset, source: Source, costs: Sequence[Cost], command: str
    ) -> QuestionsRecord:  # fmt: skip
        """From a maker and what it made."""
        settings, judge = maker.settings, maker.judge
        (described,) = describe_rows(rows).values()
        return cls(
            created=now(),
            command=redact(command),
            documents={**_present(asdict(source)), "fingerprint": maker.corpus.fingerprint},
            settings=asdict(settings),
            writer=redact(maker.writer.chat.name),
            prompts={kind: prompt_of(kind, settings.per_kind) for kind in settings.kinds},
            judge=None if judge is None else redact(judge.chat.name),
            judge_prompt=None if judge is None else QUOTE_SYSTEM,
            teacher=None if maker.teacher is None else redacted(asdict(describe_teacher(maker.teacher))),
            attrition=asdict(made.attrition),
            costs=[{**asdict(cost), "name": redact(cost.name)} for cost in costs],
            rows=described.rows,
            digest=described.digest,
            versions=versions(),
        )

    def to_json(self) -> str:
        """The text of ``questions.json``; ``<`` is an escape, as in every record."""
        return json.dumps(asdict(self), indent=1).replace("<", "\\u003c") + "\n"

    @classmethod
    def from_json(cls, content: str, where: str = FILE) -> QuestionsRecord:
        """Read it back.

        Raises:
            InputError: no such record, one of a later version, or a damaged one.
        """
        found = read_json(content, where)
        if not isinstance(found, dict) or (found.get("tool"), found.get("kind")) != (TOOL, "questions"):
            raise InputError(f"{where} is not a record of questions")
        if found.get("schema") != SCHEMA:
            raise InputError(f"{where} has schema {found.get('schema')!r:.60}, this version reads {SCHEMA}; upgrade")
        try:
            RECORD(found, "")
        except InputError as error:
            raise InputError(f"{where} is incomplete or damaged: {error}") from None
        record: QuestionsRecord = of_known(cls, found)
        return record


def read_record(place: Path) -> QuestionsRecord | None:
    """The record in a folder of questions, or beside a file of them; None where there is none."""
    file = place / FILE if place.is_dir() else place.with_suffix(f"{place.suffix}.{FILE}")
    return QuestionsRecord.from_json(file.read_text("utf8"), str(file)) if file.is_file() else None


def question_rows(maker: QuestionMaker, made: MadeQuestions) -> Dataset:
    """The questions that were kept, as ``mine`` and ``train`` take them: query, positive, positive_id, kind, model."""
    from datasets import Dataset, Features, Value

    at = np.array([question.row for question in made.questions], np.int64)
    columns = {
        "query": [question.query for question in made.questions],
        "positive": maker.corpus.texts(at).to_pylist(),
        "positive_id": maker.corpus.ids(at).to_pylist(),
        "kind": [question.kind for question in made.questions],
        "model": [maker.writer.chat.model] * len(at),
    }
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(COLUMNS, Value("string"))))


def dropped_rows(maker: QuestionMaker, made: MadeQuestions) -> Dataset:
    """The others: query, positive_id, kind and the reason."""
    from datasets import Dataset, Features, Value

    at = np.array([question.row for question, _ in made.dropped], np.int64)
    columns = {
        "query": [question.query for question, _ in made.dropped],
        "positive_id": maker.corpus.ids(at).to_pylist(),
        "kind": [question.kind for question, _ in made.dropped],
        "reason": [reason for _, reason in made.dropped],
    }
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(columns, Value("string"))))


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


NAME, COUNT = text(1_024), whole(0, 2**40)
RECORD = fields(
    {
        "created": text(64),
        "command": optional(text(65_536, lines=True)),
        "documents": mapping(plain),
        "settings": mapping(plain),
        "writer": NAME,
        "prompts": mapping(text(lines=True), NAME, 64),
        "attrition": mapping(plain),
        "costs": items(mapping(plain), 16),
        "rows": COUNT,
        "digest": text(256),
        "versions": mapping(text(256), text(128), 256),
    },
    {"judge": optional(NAME), "judge_prompt": optional(text(lines=True)), "teacher": optional(mapping(plain))},
)
