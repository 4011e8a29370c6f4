"""One stage of training, from a recipe to a saved model (paper, section 3.2).

Everything that can be wrong with a recipe is met before the first step: the recipe is read, the blend loaded, the student
loaded and the trainer made, in this order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.errors import InputError, MissingExtraError
from hf_posmine.models.items import prefix_of
from hf_posmine.models.portable import has_adapters
from hf_posmine.training.blend import Blend, load_blend, mixed
from hf_posmine.training.collator import text_columns
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
from hf_posmine.training.student import last_checkpoint, load_student

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from torch import nn

    from hf_posmine.models.encoder import InstructSentenceTransformer
    from hf_posmine.training.recipe import Contrastive, Recipe
    from hf_posmine.training.trainer import RecipeTrainer

RECIPE_FILE = "recipe.json"


def run_stage(recipe: Recipe) -> InstructSentenceTransformer:
    """Train a stage and save its model in ``output_dir``; given again after an interruption, it goes on.

    Raises:
        InputError: a recipe that cannot be trained, or an ``output_dir`` that holds another recipe's run.
    """
    checkpoint = claim_output(recipe)
    args = recipe.training_arguments()
    with args.main_process_first(desc="loading the blend"):
        blend = load_blend(recipe.contrastive.datasets, num_negatives=recipe.contrastive.num_negatives, seed=args.seed)
    model = load_student(recipe.student)
    trainer = make_trainer(recipe, args, model, blend)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return finish(recipe, trainer, model)


def claim_output(recipe: Recipe) -> Path | None:
    """Note the recipe in its output folder; the checkpoint to go on from, if there is one.

    Raises:
        InputError: the folder holds checkpoints of another recipe.
    """
    folder = Path(str(recipe.trainer["output_dir"]))
    said = json.loads(json.dumps(recipe.as_dict(), default=str))
    note, checkpoint = folder / RECIPE_FILE, last_checkpoint(folder)
    if checkpoint is not None and note.exists():
        before = json.loads(note.read_text("utf8"))
        changed = sorted(key for key in {*before, *said} if before.get(key) != said.get(key))
        if changed:
            raise InputError(
                f"{folder} holds a run whose {changed[0]} was {before.get(changed[0])!r}, now {said.get(changed[0])!r}; choose "
                "another output_dir, or remove that folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(said, indent=2), "utf8")
    return checkpoint


def make_trainer(
    recipe: Recipe, args: SentenceTransformerTrainingArguments, model: InstructSentenceTransformer, blend: Blend
) -> RecipeTrainer:
    """The trainer of a stage: batches, loss, lengths and evaluation as the recipe says.

    Raises:
        InputError: nothing to contrast with, or arguments that give wrong gradients.
    """
    from hf_posmine.training.trainer import RecipeTrainer

    chosen = recipe.contrastive
    rows = mixed(blend) if chosen.batches == "mixed" else blend.datasets
    if len(blend.specs) == 1:
        rows = next(iter(blend.datasets.values()))
    name_tasks(args, model, blend)
    evaluator = make_evaluator(chosen)
    if evaluator is not None and args.load_best_model_at_end and not args.metric_for_best_model:
        args.metric_for_best_model, args.greater_is_better = f"eval_{evaluator.primary_metric}", True
    weights = {name: spec.weight for name, spec in blend.specs.items()}
    return RecipeTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        loss=make_loss(chosen, model),
        evaluator=evaluator,
        dataset_weights=weights if len(set(weights.values())) > 1 else None,
    )


def make_loss(chosen: Contrastive, model: InstructSentenceTransformer) -> nn.Module:
    """InfoNCE, or its GradCache form where a mini-batch is given."""
    options: dict[str, Any] = {
        "temperature": chosen.temperature,
        "false_negatives": chosen.false_negatives,
        "gather_across_devices": chosen.gather_across_devices,
    }
    if chosen.mini_batch_size is None and chosen.mini_batch_num_tokens is None:
        return InfoNCELoss(model, **options)
    sizes = {name: getattr(chosen, name) for name in ("mini_batch_size", "mini_batch_num_tokens")}
    return CachedInfoNCELoss(model, **options, **{name: size for name, size in sizes.items() if size is not None})


def name_tasks(args: SentenceTransformerTrainingArguments, model: InstructSentenceTransformer, blend: Blend) -> None:
    """Give every column its role, which sets its length and prompt, and store the instructions with the model."""
    columns = sorted({column for rows in blend.datasets.values() for column in text_columns(rows.column_names)})
    args.router_mapping = {column: "query" if column == "query" else "document" for column in columns}
    args.prompts = {column: prompt for column, role in args.router_mapping.items() if (prompt := model.prompts[role])}
    for name, spec in blend.specs.items():
        if spec.text_before:
            model.prompts[name] = prefix_of(model.instruction_template, spec.text_before)
    told = [spec.text_before for spec in blend.specs.values() if spec.task == "retrieval" and spec.text_before]
    if told and not model.prompts["query"]:
        model.prompts["query"] = prefix_of(model.instruction_template, told[0])


def make_evaluator(chosen: Contrastive) -> Any:
    """Retrieval on the recipe's collections, the first of which is the main one; None without any."""
    if not chosen.evals:
        return None
    from sentence_transformers.sentence_transformer.evaluation import SequentialEvaluator

    from hf_posmine.evaluation.collection import load_collection
    from hf_posmine.evaluation.evaluator import RetrievalEvaluator

    evaluators = [
        RetrievalEvaluator(
            load_collection(told["path"], told.get("qrels")),
            name=told.get("name"),
            query_instruction=told.get("instruction"),
        )
        for told in chosen.evals
    ]
    if len(evaluators) == 1:
        return evaluators[0]
    together = SequentialEvaluator(evaluators, main_score_function=lambda scores: scores[0])
    together.primary_metric = evaluators[0].primary_metric
    return together


def finish(recipe: Recipe, trainer: RecipeTrainer, model: InstructSentenceTransformer) -> InstructSentenceTransformer:
    """Evaluate once more, merge the adapters, and save the model in ``output_dir``."""
    if trainer.evaluator is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    if recipe.student.merge_adapters and has_adapters(model[0].model):
        model.merge_adapters()
    trainer.save_model()
    trainer.save_state()
    return model


def need_train_extra() -> None:
    """Refuse early where accelerate is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise MissingExtraError("training", "train") from None
