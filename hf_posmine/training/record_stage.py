"""The record of a stage that has ended, written beside its model and pushed where ``push_to_hub`` is set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.evaluator import retrieval_evaluators
from hf_posmine.evaluation.statistics.resampling import bootstrap_means
from hf_posmine.hub.push_model import push_model
from hf_posmine.hub.repository import Destination, check_login
from hf_posmine.hub.training_record import (
    EvaluationRecord,
    StageRecord,
    TrainedOn,
    describe_model,
    read_training_record,
    write_training_record,
)
from hf_posmine.mining.provenance import hub_revision, recorded_at
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.utils.redact import redact, redacted

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from hf_posmine.evaluation.results import RetrievalResult
    from hf_posmine.training.blend import Blend
    from hf_posmine.training.recipe import Recipe
    from hf_posmine.training.trainer import RecipeTrainer

RESAMPLES = 10_000
INTERVAL = (2.5, 97.5)


def record_stage(recipe: Recipe, trainer: RecipeTrainer, model: SentenceTransformer, blend: Blend) -> None:
    """Write the record of a stage beside its model, and push both if the recipe has ``push_to_hub: true``.

    The recipe's ``hub_model_id``, ``hub_private_repo`` and ``hub_revision`` choose the repository, as for any trainer.
    """
    if not trainer.is_world_process_zero():
        return
    results = [e.result for e in retrieval_evaluators(trainer.evaluator) if e.result is not None]
    before = read_training_record(Path(recipe.student.model))
    stage = describe_stage(recipe, blend, trainer.state.global_step, results)
    record = describe_model(model, (stage,), before)
    folder = Path(str(recipe.trainer["output_dir"]))
    write_training_record(folder, record)
    if recipe.trainer.get("push_to_hub"):
        private, revision = recipe.trainer.get("hub_private_repo"), recipe.trainer.get("hub_revision")
        push_model(model, _repo_id(recipe), record, private=private, revision=revision)


def check_push(recipe: Recipe) -> None:
    """Refuse what would fail after hours of training.

    Raises:
        InputError: a token in the recipe.
        HubError: ``push_to_hub`` and nobody is logged in.
    """
    if recipe.trainer.get("hub_token"):
        raise InputError(
            "hub_token has no place in a recipe, which is kept and published; use hf auth login or HF_TOKEN"
        )
    if recipe.trainer.get("push_to_hub"):
        Destination(_repo_id(recipe), "model")
        check_login()


def describe_stage(recipe: Recipe, blend: Blend, steps: int, results: list[RetrievalResult]) -> StageRecord:
    """The record of a stage that has just ended."""
    datasets = tuple(_trained_on(blend, name) for name in blend.specs)
    evaluation = tuple(interval(result, measure) for result in results for measure in result.scores)
    return StageRecord(redacted(json.loads(json.dumps(recipe.as_dict(), default=str))), steps, datasets, evaluation)


def interval(result: RetrievalResult, measure: str, seed: int = 0) -> EvaluationRecord:
    """The mean of a measure with its bootstrap interval."""
    scores = np.asarray(result.scores[measure], np.float64)
    drawn = bootstrap_means(scores, np.ones(len(scores), np.int64), RESAMPLES, np.random.default_rng(seed))
    low, high = np.percentile(drawn, INTERVAL)
    return EvaluationRecord(result.name, measure, float(scores.mean()), float(low), float(high), len(scores))


def _repo_id(recipe: Recipe) -> str:
    return str(recipe.trainer.get("hub_model_id") or Path(str(recipe.trainer["output_dir"])).name)


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
        columns=dict(blend.columns[name].by_role),
        num_negatives=blend.columns[name].num_negatives,
    )


def _mined(place: Path) -> dict[str, Any] | None:
    """How the negatives of a local set were mined, from the record beside it."""
    record = recorded_at(place)
    if record is None:
        return None
    settings = {name: record.settings[name] for name in ("filters", "sampler", "num_negatives", "seed")}
    return {"miner_fingerprint": record.miner_fingerprint, **settings, "teacher": record.teachers[0].name}
