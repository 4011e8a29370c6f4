"""One stage of training, from a recipe to a saved model (paper, section 3.2).

Everything that can be wrong with a recipe is met before the first step, and what is quick to check comes first: the
recipe, its folder, the evaluations, then the blend, the student and the trainer.
"""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.evaluation.evaluator import RetrievalEvaluator, retrieval_evaluators
from hf_posmine.evaluation.loading import load_collection
from hf_posmine.evaluation.retrieval import RetrievalSettings
from hf_posmine.models.adapters import has_adapters
from hf_posmine.models.bidirectional import check_lora
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.items import prefix_of
from hf_posmine.training.blend import Blend, load_blend, mixed
from hf_posmine.training.collator import text_columns
from hf_posmine.training.convert.images import with_images
from hf_posmine.training.guide import Guide
from hf_posmine.training.remine import Remine
from hf_posmine.training.run_folder import STATE, RunFolder
from hf_posmine.training.sharded import loading_whole
from hf_posmine.training.student import load_student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.evaluation import BaseEvaluator
    from transformers import TrainerCallback

    from hf_posmine.training.recipe import Contrastive, Recipe
    from hf_posmine.training.trainer import RecipeTrainer


def run_stage(recipe: Recipe, announce: Callable[[str], object] = str) -> InstructSentenceTransformer:
    """Train a stage and save its model in ``output_dir``; run again after an interruption, it resumes.

    A run that was killed ends with the weights of one that was not. A finished one is loaded as it is.

    Args:
        recipe: the stage.
        announce: called before the first step with a line for each data set: its columns and negatives, such as ``print``.

    Raises:
        InputError: a recipe that cannot be trained, or an ``output_dir`` that holds another recipe's run.
    """
    if recipe.rounds > 1:
        raise InputError(f"the recipe has {recipe.rounds} rounds; train it with run_rounds")
    folder = RunFolder(Path(recipe.trainer["output_dir"]))
    folder.check(recipe)
    with quiet_models():
        if folder.finished:
            return InstructSentenceTransformer(str(folder.path))
        checkpoint = None if recipe.trainer.get("save_only_model") else folder.last_checkpoint
        trainer, blend = prepare(recipe)
        if trainer.is_world_process_zero():
            folder.note(recipe)
            for name, columns in blend.columns.items():
                announce(f"{name}: {columns}")
            near = recipe.contrastive.near
            if near is not None and near.ceiling is not None:
                announce(
                    f"neighbours: the loss leaves out what is above {near.ceiling} of {near.teacher} in a batch, too"
                )
        if checkpoint is None or not was_last(trainer, checkpoint):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return finish(recipe, trainer, blend)


def prepare(recipe: Recipe) -> tuple[RecipeTrainer, Blend]:
    """Check and load everything: what is left is to train.

    Raises:
        InputError: a recipe that cannot be trained, or an ``output_dir`` that holds another recipe's run.
    """
    from transformers import set_seed

    from hf_posmine.training.record_stage import check_push

    check_push(recipe)
    RunFolder(Path(recipe.trainer["output_dir"])).check(recipe)
    if recipe.student.lora is not None:
        check_lora()  # before minutes of loading and mining
    args = recipe.training_arguments()
    args.push_to_hub = False  # done at the end by record_stage, with the record, instead of at every checkpoint
    evaluator = make_evaluator(recipe.contrastive)
    choose_metric(recipe, args, evaluator)
    chosen = recipe.contrastive
    blend = load_blend(
        chosen.datasets, num_negatives=chosen.num_negatives, num_positives=recipe.positives_per_row, seed=args.seed
    )
    set_seed(args.seed)  # new weights, such as adapters, are drawn
    with loading_whole(args.deepspeed_plugin):
        student = load_student(recipe.student)
    trainer = make_trainer(recipe, args, student, blend, evaluator)
    check_rows(trainer, blend)
    return trainer, blend


def check_rows(trainer: RecipeTrainer, blend: Blend) -> None:
    """Meet what a batch would refuse, before the first: a blank text, an instruction that leaves no room for texts.

    Raises:
        InputError: there is one.
    """
    import pyarrow.compute as pc

    for name, rows in blend.datasets.items():
        for column in text_columns(rows.column_names):
            blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(rows.data.column(column)), ""), True)
            row = pc.index(blank, True).as_py()
            if row >= 0:
                raise InputError(f"data set {name!r}: {column!r} is blank in training row {row}; drop the row")
        try:
            trainer.data_collator([rows[0]])
        except InputError as error:
            raise InputError(f"data set {name!r}: {error}") from error


def was_last(trainer: RecipeTrainer, checkpoint: Path) -> bool:
    """Whether a checkpoint is of the last step; then its model, or the best, is loaded.

    The trainer would take one step more, where that step is not the last of an epoch.
    """
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(checkpoint / STATE))
    if state.global_step < state.max_steps:
        return False
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer.state = state
    trainer.load_weights(best or str(checkpoint))
    return True


def make_trainer(
    recipe: Recipe,
    args: SentenceTransformerTrainingArguments,
    model: InstructSentenceTransformer,
    blend: Blend,
    evaluator: BaseEvaluator | None = None,
) -> RecipeTrainer:
    """The trainer of a stage: batches, loss and lengths of the recipe.

    Raises:
        InputError: nothing to contrast with, or arguments that give wrong gradients or cannot be used here.
    """
    from hf_posmine.training.trainer import RecipeTrainer

    chosen = recipe.contrastive
    rows = mixed(blend) if chosen.batches == "mixed" else blend.datasets
    if len(blend.specs) == 1:
        rows = next(iter(blend.datasets.values()))
    name_tasks(args, model, blend, chosen.query_prompt_of)
    guides = {name: Guide.over(name, blend.datasets, blend.images) for name in _guides(recipe)}
    if blend.images is not None:
        _check_images(recipe, model)
        model.model_card_data.images = partial(with_images, images=blend.images)
    near, guide = chosen.near, None if recipe.objective.guide is None else guides[recipe.objective.guide]
    weights = {name: spec.weight for name, spec in blend.specs.items()}
    return RecipeTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        loss=recipe.objective.make_loss(model),
        evaluator=evaluator,
        near_batches=None if near is None else lambda dataset: near.within(dataset, guides[near.teacher]),
        guide=guide,
        images=blend.images,
        remine=None if chosen.remine_steps is None else Remine(recipe, blend),
        callbacks=_callbacks(chosen),
        dataset_weights=weights if len(set(weights.values())) > 1 else None,
    )


def _check_images(recipe: Recipe, model: InstructSentenceTransformer) -> None:
    """Refuse what cannot be done with rows that hold images.

    Raises:
        InputError: a student of texts, or negatives that are mined within the run.
    """
    ModelParts.of(model).require_images()
    if recipe.contrastive.remine_steps is not None:
        raise InputError(
            "remine_steps mines texts; with images give rounds: instead, which mines between two trainings"
        )


def _guides(recipe: Recipe) -> list[str]:
    """The teachers whose vectors of the blend are needed."""
    near = recipe.contrastive.near
    named = [recipe.objective.guide, None if near is None else near.teacher]
    return list(dict.fromkeys(name for name in named if name is not None))


def _callbacks(chosen: Contrastive) -> list[TrainerCallback]:
    from transformers import EarlyStoppingCallback

    patience = chosen.early_stopping_patience
    return [] if patience is None else [EarlyStoppingCallback(patience)]


def name_tasks(
    args: SentenceTransformerTrainingArguments,
    model: InstructSentenceTransformer,
    blend: Blend,
    query_prompt_of: str | None = None,
) -> None:
    """Give every column its role, which sets its length and prompt, and store the instructions with the model.

    Rows without an instruction get the student's own prompt, such as E5's ``query: ``; an instruction that an earlier
    stage stored is none.
    """
    tasks = {prompt for name, prompt in model.prompts.items() if name not in ("query", "document")}
    own = {role: "" if model.prompts[role] in tasks else model.prompts[role] for role in ("query", "document")}
    columns = sorted({column for rows in blend.datasets.values() for column in text_columns(rows.column_names)})
    args.router_mapping = {column: "query" if column == "query" else "document" for column in columns}
    args.prompts = {column: prompt for column, role in args.router_mapping.items() if (prompt := own[role])}
    for name, spec in blend.specs.items():
        if spec.text_before:
            model.prompts[name] = prefix_of(model.instruction_template, spec.text_before)
    chosen = default_instruction(blend, query_prompt_of)
    if chosen and not model.prompts["query"]:
        model.prompts["query"] = prefix_of(model.instruction_template, chosen)


def default_instruction(blend: Blend, name: str | None) -> str:
    """The instruction of queries that bring none: of the named data set, else of the retrieval set with the most rows.

    Raises:
        InputError: no data set of that name.
    """
    if name is not None:
        if name not in blend.specs:
            raise InputError(f"query_prompt_of={name!r} is not a data set of the blend; there are {list(blend.specs)}")
        return blend.specs[name].text_before
    sets = [n for n, spec in blend.specs.items() if spec.task == "retrieval" and spec.text_before]
    return blend.specs[max(sets, key=lambda n: len(blend.datasets[n]))].text_before if sets else ""


def make_evaluator(chosen: Contrastive) -> Any:
    """Retrieval on the recipe's collections, the first of which is the main one; None without any."""
    if not chosen.evals:
        return None
    from sentence_transformers.sentence_transformer.evaluation import SequentialEvaluator

    evaluators = [
        RetrievalEvaluator(
            load_collection(entry["path"], entry.get("qrels")),
            name=entry.get("name"),
            query_instruction=entry.get("instruction"),
        )
        for entry in chosen.evals
    ]
    names = [evaluator.name for evaluator in evaluators]
    if len(set(names)) < len(names):
        raise InputError(f"evals are named {names}; give each its own name")
    if len(evaluators) == 1:
        return evaluators[0]
    together = SequentialEvaluator(evaluators, main_score_function=lambda scores: scores[0])
    together.primary_metric = evaluators[0].primary_metric
    return together


def choose_metric(recipe: Recipe, args: SentenceTransformerTrainingArguments, evaluator: BaseEvaluator | None) -> None:
    """Choose the best checkpoint by the main measure of the first collection, unless the recipe names another.

    Raises:
        InputError: a metric that no evaluation gives.
    """
    if evaluator is None:
        return
    if "metric_for_best_model" not in recipe.trainer:
        if args.metric_for_best_model is not None:  # "loss", which no evaluation gives
            args.metric_for_best_model, args.greater_is_better = f"eval_{evaluator.primary_metric}", True
        return
    every = retrieval_evaluators(evaluator)
    there = [f"{e.name}_{measure}" for e in every for measure in RetrievalSettings(**e.settings).measures]
    if str(args.metric_for_best_model).removeprefix("eval_") not in there:
        raise InputError(f"metric_for_best_model={args.metric_for_best_model!r} is not evaluated; there are {there}")


def finish(recipe: Recipe, trainer: RecipeTrainer, blend: Blend) -> InstructSentenceTransformer:
    """Evaluate once more, merge the adapters, and save the model with its record; push it with ``push_to_hub``."""
    from hf_posmine.training.record_stage import record_stage

    if trainer.evaluator is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    model = trainer.whole_model()
    if model is None:  # spread weights, on a process that does not save: what was trained comes back from the folder
        trainer.accelerator.wait_for_everyone()
        with loading_whole(trainer.args.deepspeed_plugin):
            return InstructSentenceTransformer(recipe.trainer["output_dir"])
    if recipe.student.merge_adapters and has_adapters(model[0].model):
        model.merge_adapters()
    model.model_card_data.model_id = recipe.trainer.get("hub_model_id") or Path(recipe.trainer["output_dir"]).name
    if trainer.args.should_save:
        trainer.write_model(model)
    record_stage(recipe, trainer, model, blend)
    trainer.save_state()  # last: a run with this file is finished
    if trainer.whole is not None:
        trainer.accelerator.wait_for_everyone()
    return model


@contextlib.contextmanager
def quiet_models() -> Iterator[None]:
    """Without the bars of transformers over loading and writing weights; those over steps stay."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def need_train_extra() -> None:
    """Refuse early where accelerate is not installed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise MissingExtraError("training", "train") from None
