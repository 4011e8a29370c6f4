"""From raw datasets to a trained retriever: instructions, converters, blends, losses and stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.training.blend import load_blend
    from hf_posmine.training.instructions import instruction_for
    from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
    from hf_posmine.training.merge import merge_by_validation, merge_models
    from hf_posmine.training.neighbours import Neighbours
    from hf_posmine.training.recipe import Recipe, read_recipe, recipe_from
    from hf_posmine.training.rounds import run_rounds
    from hf_posmine.training.stage import run_stage
    from hf_posmine.training.student import load_student
    from hf_posmine.training.trainer import RecipeTrainer
    from hf_posmine.training.values import typed

__all__ = [
    "CachedInfoNCELoss",
    "InfoNCELoss",
    "Neighbours",
    "Recipe",
    "RecipeTrainer",
    "instruction_for",
    "load_blend",
    "load_student",
    "merge_by_validation",
    "merge_models",
    "read_recipe",
    "recipe_from",
    "run_rounds",
    "run_stage",
    "typed",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "blend": ("load_blend",),
        "instructions": ("instruction_for",),
        "losses": ("CachedInfoNCELoss", "InfoNCELoss"),
        "merge": ("merge_by_validation", "merge_models"),
        "neighbours": ("Neighbours",),
        "recipe": ("Recipe", "read_recipe", "recipe_from"),
        "rounds": ("run_rounds",),
        "stage": ("run_stage",),
        "student": ("load_student",),
        "trainer": ("RecipeTrainer",),
        "values": ("typed",),
    },
)
