"""Train one stage of a retriever from a recipe, a YAML file.

The file names the student, the data sets with their instructions, and any argument of sentence-transformers' trainer;
the command line overrides it. Several processes: accelerate launch -m hf_posmine.cli train --config ...
An interrupted run resumes from its last checkpoint when the same command is given again. The model in output_dir loads
with plain sentence-transformers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.show import screen, show
from hf_posmine.core.errors import InputError
from hf_posmine.utils.node import Node
from hf_posmine.utils.printable import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rich.console import Console

    from hf_posmine.training.blend import BlendLine
    from hf_posmine.training.objective import Objective
    from hf_posmine.training.plan import StagePlan, TokenEstimate
    from hf_posmine.training.recipe import Recipe

HELP = "train a retriever on mined negatives"
EXAMPLES = """examples:
  # what would be done: data sets, batches, tokens, memory, the first rows as the model reads them
  hf-posmine train --config recipes/quick/stage1.yaml --dry-run

  # and how long it would take on eight A100
  hf-posmine train --config recipes/quick/stage1.yaml --dry-run --node 8xA100

  # with other values than the file's, also within lists
  hf-posmine train --config recipes/quick/stage1.yaml --learning_rate 1e-5 --datasets.0.max_samples 1000

  # eight GPUs
  accelerate launch --config_file recipes/accelerate/ddp.yaml -m hf_posmine.cli train --config recipes/nv_retriever/stage1.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine train``."""
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe, a YAML file")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show the plan, and stop")
    parser.add_argument(
        "--node", metavar="GPUS",
        help="with --dry-run: estimate the hours on these GPUs, such as 8xA100, 8xA100@0.5 (half of their peak is reached; "
        "default 0.4) or 4x400 (TFLOP/s each)",
    )  # fmt: skip
    add_run_arguments(parser, config=False)


def run(args: argparse.Namespace) -> None:
    """Train, or show what would be trained."""
    from hf_posmine.training.recipe import read_recipe
    from hf_posmine.training.rounds import run_rounds
    from hf_posmine.training.stage import need_train_extra, run_stage

    node = node_of(args)
    need_train_extra()
    recipe = read_recipe(args.config, [*args.more, *(["--disable_tqdm=true"] if args.quiet else [])])
    if args.dry_run:
        show_plan(recipe, screen(), node)
        return
    if recipe.rounds > 1:
        run_rounds(recipe, show)
    else:
        run_stage(recipe, show)
    if int(os.environ.get("RANK", "0")) == 0:
        last = f"/round-{recipe.rounds}" if recipe.rounds > 1 else ""
        show(f"The model is in {recipe.trainer['output_dir']}{last}")


def node_of(args: argparse.Namespace) -> Node | None:
    """The GPUs that the plan is for.

    Raises:
        InputError: a spelling of none, or no plan.
    """
    if args.node is not None and not args.dry_run:
        raise InputError("--node has no effect without --dry-run")
    return None if args.node is None else Node.parse(args.node)


def show_plan(recipe: Recipe, console: Console, node: Node | None = None) -> None:
    """Load and check everything, and print what would be done."""
    from hf_posmine.training.plan import make_plan
    from hf_posmine.training.stage import prepare, quiet_models

    with quiet_models():
        trainer, blend = prepare(recipe)
        plan = make_plan(recipe.objective, trainer, blend)
    if trainer.is_world_process_zero():
        _show_data(plan.lines, console)
        _show_work(plan, recipe, console, node)
        if plan.tokens is not None:
            _show_examples(plan.tokens, console)


def _show_data(lines: Sequence[BlendLine], console: Console) -> None:
    """A line for each data set, and below it what stands before its queries and what became of its rows."""
    from rich.padding import Padding
    from rich.text import Text

    heads = ("data set", "task", "rows", "negatives", "in-batch", "words of query / document")
    cells = [
        (
            line.name,
            line.task,
            f"{line.rows:,}",
            str(line.negatives),
            "yes" if line.in_batch_negatives else "no",
            f"{line.query_words:.0f} / {line.document_words:.0f}",
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    spelt = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *cells)]
    console.print(Text(spelt[0], style="bold"))
    for row, line in zip(spelt[1:], lines, strict=True):
        console.print(Text(printable(row)))
        where = "queries and documents" if line.symmetric else "queries"
        counts = ", ".join(f"{why.replace('_', ' ')} {count:,}" for why, count in line.counts.items() if count)
        below = [line.columns, f"before {where}: {line.instruction}" if line.instruction else "no instruction", counts]
        for text in below:
            console.print(Padding(Text(printable(text), style="dim"), (0, 0, 0, 2)))


def _show_work(plan: StagePlan, recipe: Recipe, console: Console, node: Node | None) -> None:
    from rich.table import Table
    from rich.text import Text

    chosen, evals = recipe.objective, recipe.contrastive.evals
    grad_cache = chosen.mini_batch_num_tokens or chosen.mini_batch_size
    unit = "tokens" if chosen.mini_batch_num_tokens else "rows"
    trained = "all" if plan.trained_weights == plan.weights else f"{plan.trained_weights / 1e6:,.1f} M of them"
    lines = {
        "student": f"{recipe.student.model}, {plan.weights / 1e6:,.1f} M weights, {trained} trained",
        "batch": f"{plan.batch} rows per optimizer step, {plan.device_batch} on a device at a time, {recipe.contrastive.batches}",
        "steps": f"{plan.steps:,}",
        "loss": f"InfoNCE at temperature {chosen.temperature}"
        + (f", GradCache in parts of {grad_cache} {unit}" if grad_cache else "")
        + _show_ceiling(chosen)
        + (f", distillation {dict(chosen.distillation)}" if chosen.distillation else "")
        + (f", over the first {list(chosen.matryoshka_dims)} dimensions" if chosen.matryoshka_dims else ""),
        **_work_by_tokens(plan, node),
        "evaluation": ", ".join(str(entry.get("name", entry["path"])) for entry in evals) or "none",
    }
    table = Table.grid(padding=(0, 2))
    for name, line in lines.items():
        table.add_row(Text(name, style="bold"), Text(printable(line)))
    console.print()
    console.print(table)


def _work_by_tokens(plan: StagePlan, node: Node | None) -> dict[str, str]:
    """The lines that follow from the tokens of the rows, or why there are none."""
    tokens, memory = plan.tokens, f"{plan.weight_gib:.2f} GiB for weights, gradients and Adam"
    if tokens is None:
        reason = "not estimated, as the student reads images" + (
            "" if node is None else f"; nor are the hours on {node}"
        )
        return {"tokens": reason, "memory": f"{memory}, and the activations of a step"}
    return {
        "tokens": f"{tokens.row_tokens:.0f} per row, {tokens.padded_tokens:.0f} with padding; "
        f"the longest row has {tokens.longest_row}",
        "memory": f"{memory}, about {tokens.activation_gib:.2f} GiB for a step",
        "work": f"{tokens.operations:.1e} operations" + ("" if node is None else f", {node.time(tokens.operations)}"),
    }


def _show_ceiling(chosen: Objective) -> str:
    if chosen.false_negatives is None:
        return ""
    until = f" to {chosen.false_negatives_until}" if chosen.false_negatives_until else ""
    warmup = f" after {chosen.false_negatives_warmup:.0%} of the steps" if chosen.false_negatives_warmup else ""
    return f", in-batch ceiling {chosen.false_negatives}{until}{warmup} by {chosen.guide or 'the student'}"


def _show_examples(tokens: TokenEstimate, console: Console) -> None:
    """One line for each text, cut to the width of the screen unless the instruction fills it."""
    from rich.text import Text

    console.print("\nThe first rows as the model reads them; what is pooled stands in [bold]⟦ ⟧[/bold]")
    margin = max(len(f"{name} {column}") for name, column, _, _ in tokens.examples) + 4
    for name, column, before, pooled in tokens.examples:
        before, pooled = printable(before), printable(pooled)
        start = f"  {name} {column}".ljust(margin)
        room = max(LEAST_SHOWN, console.width - len(start) - len(before) - 2)
        shown = pooled if len(pooled) <= room else f"{pooled[: room - 2]} …"
        line = Text.assemble((start + before, "dim"), (f"⟦{shown}⟧", "bold"))
        console.print(line, soft_wrap=True, highlight=False)


LEAST_SHOWN = 40
"""Characters of a text in the plan, however long its instruction is."""
