"""Rounds: train, mine again with the student, and train again (ANCE, arXiv 2007.00808, with the model of a whole round).

The negatives of the sets with ``mine:`` come from the recipe's teacher in the first round and from the student of the round
before in each later one. The ceiling stays the teacher's unless the student is to set it: a student that has learnt little
ranks false negatives high and its own positives low.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.training.blend import load_blend
from hf_posmine.training.remine import mined_by, prompts_of, share_changed
from hf_posmine.training.stage import run_stage
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datasets import Dataset

    from hf_posmine.models.instruct import InstructSentenceTransformer
    from hf_posmine.training.recipe import Recipe

RECORD = "rounds.json"


@dataclass(frozen=True)
class RoundResult:
    """One round.

    Attributes:
        number: from 1.
        folder: of its model.
        changed: share of the negatives, by data set, that the round before did not have for the same query and positive;
            None in the first.
    """

    number: int
    folder: str
    changed: dict[str, float] | None


def run_rounds(
    recipe: Recipe, announce: Callable[[str], object] = lambda line: None
) -> tuple[InstructSentenceTransformer, list[RoundResult]]:
    """Train the rounds of a recipe, each in a folder ``round-N`` of its ``output_dir``.

    Given again after an interruption, finished rounds are taken as they are, and an interrupted one resumes.

    Args:
        recipe: a stage with at least one set that has ``mine:``.
        announce: called with lines about each round, such as ``print``.

    Returns:
        The model of the last round, and what each round changed.

    Raises:
        InputError: nothing to mine, or what :func:`~hf_posmine.training.stage.run_stage` refuses.
    """
    if not any(spec.mine is not None for spec in recipe.contrastive.datasets):
        raise InputError(f"rounds={recipe.rounds} mines again, but no data set has mine: {{teacher: ...}}")
    output, seed = Path(recipe.trainer["output_dir"]), int(recipe.trainer.get("seed", 42))
    results: list[RoundResult] = []
    before: Mapping[str, Dataset] | None = None
    template = ""
    for number in range(1, recipe.rounds + 1):
        current = round_recipe(recipe, number, template)
        model = run_stage(current, announce)
        template = model.instruction_template
        mined = [spec for spec in current.contrastive.datasets if spec.mine is not None]
        n, most = current.contrastive.num_negatives, current.positives_per_row
        after = load_blend(mined, num_negatives=n, num_positives=most, seed=seed).datasets
        changed = None if before is None else {name: share_changed(before[name], rows) for name, rows in after.items()}
        results.append(RoundResult(number, str(current.trainer["output_dir"]), changed))
        before = after
        shares = ", ".join(f"{share:.0%} of {name}" for name, share in (changed or {}).items())
        announce(f"round {number} of {recipe.rounds}" + (f": new negatives {shares}" if shares else ""))
        text = json.dumps([asdict(result) for result in results], indent=1) + "\n"
        write_file(output / RECORD, lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    return model, results


def round_recipe(recipe: Recipe, number: int, template: str) -> Recipe:
    """The stage of one round.

    Args:
        recipe: of all rounds.
        number: from 1.
        template: the student's, with which it searches by each set's instruction, as it was trained.
    """
    output = Path(recipe.trainer["output_dir"])
    trainer = {**recipe.trainer, "output_dir": str(output / f"round-{number}")}
    alone = replace(recipe, contrastive=replace(recipe.contrastive, rounds=1), trainer=trainer)
    if number == 1:
        return alone
    previous = str(output / f"round-{number - 1}")
    ceiling, start = recipe.contrastive.round_ceiling, recipe.contrastive.round_start
    datasets = tuple(
        mined_by(spec, previous, ceiling, **prompts_of(template, spec)) for spec in recipe.contrastive.datasets
    )
    student = alone.student if start == "student" else replace(alone.student, model=previous)
    return replace(alone, student=student, contrastive=replace(alone.contrastive, datasets=datasets))
