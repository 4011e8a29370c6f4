"""The record of a trained model: its base, its stages, their data and their evaluation, in one JSON form."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.hub.training_schema import TRAINING
from hf_posmine.mining.provenance import FILE, now, versions
from hf_posmine.mining.record import SCHEMA, TOOL, of_known
from hf_posmine.utils.files import write_file
from hf_posmine.utils.redact import redact
from hf_posmine.utils.typed_json import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class EvaluationRecord:
    """A mean over queries with its bootstrap interval of 95 %, resampling queries."""

    collection: str
    measure: str
    mean: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class TrainedOn:
    """One data set of a stage.

    Attributes:
        name: in the blend.
        path: Hub id, file or folder.
        config: configuration of a Hub dataset.
        split: split.
        revision: commit on the Hub.
        task: as in the recipe.
        instruction: before its queries.
        rows: training rows.
        digest: of the training rows, see :func:`~hf_posmine.mining.rows_digest.rows_digest`.
        mined: how its negatives were mined, where that is known: miner_fingerprint, filters, sampler, teacher.
        columns: role -> column that its rows came from.
        num_negatives: negatives of a row that were asked for.
    """

    name: str
    path: str
    config: str | None
    split: str
    revision: str | None
    task: str
    instruction: str
    rows: int
    digest: str
    mined: Mapping[str, Any] | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    num_negatives: int | None = None


@dataclass(frozen=True)
class StageRecord:
    """One stage: its recipe with all defaults, its data, and the evaluation at its end."""

    recipe: Mapping[str, Any]
    steps: int
    datasets: tuple[TrainedOn, ...]
    evaluation: tuple[EvaluationRecord, ...] = ()


@dataclass(frozen=True)
class TrainingRecord:
    """Everything that made a model.

    Attributes:
        created: when.
        base: model that the first stage started from: Hub id or folder.
        base_commit: its commit on the Hub.
        model_digest: digest of the weights, the modules and the tokenizer.
        prompts: by name.
        similarity: how its vectors are compared.
        stages: in order; empty for a model that was not trained here.
        versions: of Python and the packages.
    """

    created: str
    base: str | None
    base_commit: str | None
    model_digest: str
    prompts: Mapping[str, str]
    similarity: str
    stages: tuple[StageRecord, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA
    tool: str = TOOL

    def to_json(self) -> str:
        """The canonical text."""
        values = asdict(self)
        first = {name: values.pop(name) for name in ("schema", "tool")}
        return json.dumps(first | values, indent=1, default=str).replace("<", "\\u003c") + "\n"

    @classmethod
    def from_json(cls, document: str, where: str = FILE) -> TrainingRecord:
        """Read the text that :meth:`to_json` gave.

        Raises:
            InputError: no record, one of a later version, or a damaged one.
        """
        found = read_json(document, where)
        if not isinstance(found, dict) or found.get("tool") != TOOL or "model_digest" not in found:
            raise InputError(f"{where} is not a record of a trained model")
        schema = found.get("schema")
        if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
            raise InputError(
                f"{where} has schema {schema!r:.60}, this version reads up to {SCHEMA}; upgrade hf-posmine"
            )
        try:
            TRAINING(found, "")
        except InputError as error:
            raise InputError(f"{where} is incomplete or damaged: {error}") from None
        stages = tuple(
            StageRecord(
                recipe=stage["recipe"],
                steps=stage["steps"],
                datasets=tuple(of_known(TrainedOn, d) for d in stage["datasets"]),
                evaluation=tuple(of_known(EvaluationRecord, e) for e in stage["evaluation"]),
            )
            for stage in found["stages"]
        )
        record: TrainingRecord = of_known(cls, found | {"stages": stages})
        return record


def describe_model(
    model: SentenceTransformer, stages: tuple[StageRecord, ...] = (), before: TrainingRecord | None = None
) -> TrainingRecord:
    """The record of a model as it is now.

    Args:
        model: a SentenceTransformer.
        stages: the stages it went through here.
        before: the record of the model that they started from.
    """
    from hf_posmine.encoding.encode import Encoder
    from hf_posmine.teachers.dense_model import live_commit_of

    base = model.model_card_data.base_model
    if before is not None:
        base, commit = before.base, before.base_commit
    else:
        commit = live_commit_of(model)
    if before is None and stages:
        base = str(stages[0].recipe["model"])
    return TrainingRecord(
        created=now(),
        base=None if base is None else redact(str(base)),
        base_commit=commit,
        model_digest=Encoder(model).model_digest,
        prompts=dict(model.prompts),
        similarity=str(model.similarity_fn_name),
        stages=(*(before.stages if before else ()), *stages),
        versions=versions(),
    )


def write_training_record(folder: Path, record: TrainingRecord) -> None:
    """Write it beside the model."""
    write_file(folder / FILE, lambda temporary: temporary.write_text(record.to_json(), "utf8"))


def read_training_record(folder: Path) -> TrainingRecord | None:
    """The record beside a model; None where there is none."""
    file = folder.expanduser() / FILE
    return TrainingRecord.from_json(file.read_text("utf8"), str(file)) if file.is_file() else None


def without_time(record: TrainingRecord) -> TrainingRecord:
    """The record without the time it was made, to compare two."""
    return dataclasses.replace(record, created="")
