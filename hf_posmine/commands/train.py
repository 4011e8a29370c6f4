"""Train one stage of a retriever from a recipe, a YAML file.

The file names the student, the data sets with their instructions, and any argument of sentence-transformers' trainer;
the command line overrides it. Several processes: accelerate launch -m hf_posmine.cli train --config ...
An interrupted run goes on from its last checkpoint when the same command is given again. The model in output_dir loads
with plain sentence-transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.commands.shared import add_run_arguments

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from hf_posmine.training.plan import Plan
    from hf_posmine.training.recipe import Recipe

HELP = "train a retriever on mined negatives"
EXAMPLES = """examples:
  # what would be done: data sets, batches, tokens, memory, the first rows as the model reads them
  hf-posmine train --config recipes/quick/stage1.yaml --dry-run

  # with other values than the file's, also within lists
  hf-posmine train --config recipes/quick/stage1.yaml --learning_rate 1e-5 --datasets.0.max_samples 1000

  # eight GPUs
  accelerate launch --config_file recipes/accelerate/ddp.yaml -m hf_posmine.cli train --config recipes/nv_retriever/stage1.yaml
"""
TAKES_MORE = True
"""Arguments that are not known here override the recipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine train``."""
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show the plan, and stop")
    add_run_arguments(parser, config=False)


def run(args: argparse.Namespace) -> None:
    """Train, or show what would be trained."""
    from hf_posmine.training.recipe import read_recipe
    from hf_posmine.training.stage import need_train_extra, run_stage

    need_train_extra()
    recipe = read_recipe(args.config, args.more)
    if args.dry_run:
        from rich.console import Console

        show(recipe, Console())
        return
    run_stage(recipe)
    print(f"The model is in {recipe.trainer['output_dir']}")


def show(recipe: Recipe, console: Console) -> None:
    """Load and check everything, and print what would be done."""
    from hf_posmine.training.blend import load_blend
    from hf_posmine.training.plan import make_plan
    from hf_posmine.training.stage import make_trainer
    from hf_posmine.training.student import load_student

    arguments, chosen = recipe.training_arguments(), recipe.contrastive
    blend = load_blend(chosen.datasets, num_negatives=chosen.num_negatives, seed=arguments.seed)
    model = load_student(recipe.student)
    make_trainer(recipe, arguments, model, blend)
    plan = make_plan(recipe, arguments, model, blend)
    _show_data(plan, console)
    _show_work(plan, recipe, console)
    _show_examples(plan, console)


def _show_data(plan: Plan, console: Console) -> None:
    from rich.table import Table

    table = Table("data set", "task", "rows", "negatives", "in-batch", "words of query / document", "instruction")
    for line in plan.lines:
        where = " (on documents too)" if line.symmetric else ""
        table.add_row(
            line.name,
            line.task,
            f"{line.rows:,}",
            str(line.negatives),
            "yes" if line.in_batch_negatives else "no",
            f"{line.query_words:.0f} / {line.document_words:.0f}",
            f"{line.instruction}{where}" if line.instruction else "none",
        )
    console.print(table)
    for line in plan.lines:
        console.print(f"  {line.name}: " + ", ".join(f"{why} {count:,}" for why, count in line.counts.items()))


def _show_work(plan: Plan, recipe: Recipe, console: Console) -> None:
    chosen = recipe.contrastive
    grad_cache = chosen.mini_batch_num_tokens or chosen.mini_batch_size
    lines = {
        "batch": f"{plan.batch} rows per optimizer step, {plan.device_batch} on a device at a time, {chosen.batches}",
        "steps": f"{plan.steps:,}",
        "loss": f"InfoNCE at temperature {chosen.temperature}"
        + (f", GradCache in parts of {grad_cache}" if grad_cache else "")
        + (f", in-batch ceiling {chosen.false_negatives}" if chosen.false_negatives else ""),
        "tokens": f"{plan.row_tokens:.0f} per row, {plan.padded_tokens:.0f} with padding; the longest row has {plan.longest_row}",
        "memory": f"about {plan.weight_gib:.2f} GiB for weights and optimizer, {plan.activation_gib:.2f} GiB for a step",
    }
    for name, line in lines.items():
        console.print(f"{name:>8}  {line}")


def _show_examples(plan: Plan, console: Console) -> None:
    from rich.markup import escape

    console.print("\nThe first rows as the model reads them; what is pooled stands in [bold]⟦ ⟧[/bold]")
    for name, column, before, pooled in plan.examples:
        shown = pooled if len(pooled) <= SHOWN else f"{pooled[:SHOWN]} ..."
        console.print(f"  [dim]{name} {column:<11}{escape(before)}[/dim][bold]⟦{escape(shown)}⟧[/bold]", soft_wrap=True)


SHOWN = 120
"""Characters of a text in the plan."""
