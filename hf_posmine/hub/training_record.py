"""The record of a trained model: its base, its stages, their data and their evaluation, in one JSON form."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.mining.provenance import FILE, hub_revision, now, read_provenance, versions
from hf_posmine.mining.record import SCHEMA, TOOL
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.utils.files import write_file
from hf_posmine.utils.redact import redact, redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.evaluation.results import RetrievalResult
    from hf_posmine.training.blend import Blend
    from hf_posmine.training.recipe import Recipe

RESAMPLES = 10_000
INTERVAL = (2.5, 97.5)


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
        task: as the recipe says.
        instruction: before its queries.
        rows: training rows.
        digest: of the training rows, see :func:`~hf_posmine.mining.rows_digest.rows_digest`.
        mined: how its negatives were mined, where that is known: miner_fingerprint, filters, sampler, teacher.
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
        base: what the first stage started from: Hub id or folder.
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
        plain = asdict(self)
        first = {name: plain.pop(name) for name in ("schema", "tool")}
        return json.dumps(first | plain, indent=1, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = FILE) -> TrainingRecord:
        """Read what :meth:`to_json` gave.

        Raises:
            InputError: no record, one of a later version, or a damaged one.
        """
        try:
            said = json.loads(text)
            if said.get("tool") != TOOL or "model_digest" not in said:
                raise InputError(f"{where} is no record of a trained model")
            if said["schema"] > SCHEMA:
                raise InputError(
                    f"{where} has schema {said['schema']}, this version reads up to {SCHEMA}; upgrade hf-posmine"
                )
            stages = tuple(
                StageRecord(
                    s["recipe"],
                    s["steps"],
                    tuple(TrainedOn(**d) for d in s["datasets"]),
                    tuple(EvaluationRecord(**e) for e in s["evaluation"]),
                )
                for s in said.pop("stages")
            )
            return cls(**said, stages=stages)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{where} is damaged ({type(error).__name__}: {error})") from None


def describe_model(
    model: Any, stages: tuple[StageRecord, ...] = (), before: TrainingRecord | None = None
) -> TrainingRecord:
    """The record of a model as it is now.

    Args:
        model: a SentenceTransformer.
        stages: the stages it went through here.
        before: the record of the model that they started from.
    """
    from hf_posmine.encoding.encode import Encoder
    from hf_posmine.teachers.dense import live_commit_of

    card = getattr(model, "model_card_data", None)
    base = getattr(card, "base_model", None)
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


def describe_stage(recipe: Recipe, blend: Blend, steps: int, results: list[RetrievalResult]) -> StageRecord:
    """The record of a stage that has just ended."""
    datasets = tuple(_trained_on(blend, name) for name in blend.specs)
    evaluation = tuple(interval(result, measure) for result in results for measure in result.scores)
    return StageRecord(redacted(json.loads(json.dumps(recipe.as_dict(), default=str))), steps, datasets, evaluation)


def interval(result: RetrievalResult, measure: str, seed: int = 0) -> EvaluationRecord:
    """The mean of a measure with its bootstrap interval."""
    from hf_posmine.evaluation.statistics.resampling import bootstrap_means

    scores = np.asarray(result.scores[measure], np.float64)
    drawn = bootstrap_means(scores, np.ones(len(scores), np.int64), RESAMPLES, np.random.default_rng(seed))
    low, high = np.percentile(drawn, INTERVAL)
    return EvaluationRecord(result.name, measure, float(scores.mean()), float(low), float(high), len(scores))


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


def _trained_on(blend: Blend, name: str) -> TrainedOn:
    spec, rows = blend.specs[name], blend.datasets[name]
    local = Path(spec.path).exists()
    return TrainedOn(
        name=name,
        path=redact(spec.path),
        config=spec.config,
        split=spec.split,
        revision=None if local else spec.revision or hub_revision(spec.path),
        task=spec.task,
        instruction=spec.text_before,
        rows=len(rows),
        digest=rows_digest(rows),
        mined=redacted(dict(spec.mine)) if spec.mine else _mined(Path(spec.path)),
    )


def _mined(folder: Path) -> dict[str, Any] | None:
    """How the negatives of a local set were mined, from the record beside it."""
    file = folder / FILE if folder.is_dir() else folder.with_suffix(f"{folder.suffix}.{FILE}")
    if not file.is_file():
        return None
    record = read_provenance(file)
    settings = {name: record.settings[name] for name in ("filters", "sampler", "num_negatives", "seed")}
    return {"miner_fingerprint": record.miner_fingerprint, **settings, "teacher": record.teachers[0].name}
