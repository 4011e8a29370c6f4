"""Negatives that are mined again within a run, with the student as it is (ANCE, arXiv 2007.00808).

The rows of the trainer stay what they are. The collator replaces their negatives by those that were mined last, so that batches,
schedule and optimizer go on; they change only between two epochs, and an epoch of such a run is the steps between two
minings. Batches that a worker or accelerate prepared ahead are then of one mining each, and a resumed run meets the same.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import DEFAULT_FILTER
from hf_posmine.data.texts import KeyIndex, text_keys, text_numbers
from hf_posmine.encoding.defaults import DEFAULT_MODEL
from hf_posmine.models.items import prefix_of
from hf_posmine.training.blend import load_blend
from hf_posmine.training.collator import positive_columns, text_columns
from hf_posmine.training.dataset_rows import NothingMinedError
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from hf_posmine.core.types import Rows
    from hf_posmine.data.texts import Keys
    from hf_posmine.models.instruct import InstructSentenceTransformer
    from hf_posmine.training.blend import Blend
    from hf_posmine.training.dataset_spec import DatasetSpec
    from hf_posmine.training.recipe import Recipe

LOGGED = "negatives_changed"


def mined_by(spec: DatasetSpec, student: object, ceiling: str, **teacher_options: Any) -> DatasetSpec:
    """A data set that the student mines: below its own ceiling, or with the recipe's teacher as second opinion.

    Args:
        spec: the data set; without ``mine`` it stays as it is.
        student: a model or its folder.
        ceiling: ``teacher`` or ``student``.
        teacher_options: of the student as a teacher, instead of those of the recipe's.

    Raises:
        InputError: the teacher's ceiling beside a second opinion of the recipe.
    """
    if spec.mine is None:
        return spec
    mine: dict[str, Any] = {**spec.mine, "teacher": student, "teacher_options": teacher_options}
    if ceiling == "teacher":
        if "second_opinion" in spec.mine:
            raise InputError(
                f"data set {spec.name!r}: round_ceiling: teacher makes the teacher the second opinion of later rounds, and mine "
                "has one already; give round_ceiling: student, or leave the second opinion out"
            )
        filters = spec.mining_options.get("filters")
        opinion = {"teacher": spec.mine.get("teacher") or DEFAULT_MODEL, "filters": filters or [repr(DEFAULT_FILTER)]}
        mine |= {"second_opinion": opinion, "filters": []}
    return replace(spec, mine=mine)


def share_changed(before: Dataset, after: Dataset) -> float:
    """Share of the negatives of ``after`` that ``before`` does not have for the same query and positive."""
    known = _by_pair(before)
    new = total = 0
    for pair, negatives in _by_pair(after).items():
        new, total = new + len(negatives - known.get(pair, set())), total + len(negatives)
    return new / total if total else 0.0


def _by_pair(rows: Dataset) -> Mapping[tuple[int, int], set[int]]:
    columns = text_columns(rows.column_names)
    keys = text_numbers(text for column in columns for text in rows[column][:]).reshape(len(columns), -1).T
    first = 1 + len(positive_columns(columns))  # a row with several positives goes by its first
    found: dict[tuple[int, int], set[int]] = {}
    for row in keys.tolist():
        found.setdefault((row[0], row[1]), set()).update(row[first:])
    return found


@dataclass
class PairRows:
    """Training rows that are found by their query and positive.

    Attributes:
        rows: columns ``query, positive, negative_1..n``.
    """

    rows: Dataset

    def __post_init__(self) -> None:
        self.keys = _pair_keys(self.rows["query"][:], self.rows["positive"][:])
        self.index = KeyIndex.build(self.keys)
        self.columns = [column for column in text_columns(self.rows.column_names) if column.startswith("negative_")]

    def find(self, queries: Sequence[str], positives: Sequence[str]) -> Rows:
        """The row of each pair, int64 ``[m]``, the first of several; -1 where there is none."""
        return self.index.rows(_pair_keys(queries, positives))


def _pair_keys(queries: Sequence[str], positives: Sequence[str]) -> Keys:
    """Keys of pairs of texts, ``[m]``: equal for equal pairs, and only for those."""
    pairs = zip(queries, positives, strict=True)
    return text_keys((f"{len(query)} {query}{positive}" for query, positive in pairs), "exact")


class CurrentNegatives:
    """The negatives of training rows as they were mined last; the collator reads them.

    Args:
        rows: the training rows of the data sets that are mined again, by name.

    Raises:
        InputError: two data sets share a pair, whose negatives would be mixed up.
    """

    def __init__(self, rows: Mapping[str, Dataset]) -> None:
        self.sets = {name: PairRows(of) for name, of in rows.items()}
        seen: dict[bytes, str] = {}
        for name, of in self.sets.items():
            other = next((seen[key] for key in of.keys.tolist() if key in seen), None)
            if other is not None:
                raise InputError(
                    f"remine_steps: the data sets {other!r} and {name!r} share a pair of query and positive, so a row does not "
                    "know whose negatives it takes; leave the pair out of one of them"
                )
            seen |= dict.fromkeys(of.keys.tolist(), name)

    def replace(self, name: str, mined: Dataset) -> float:
        """Take newly mined rows; a row that found too few keeps its negatives. Returns the share that changed."""
        import datasets

        old, new = self.sets[name].rows, PairRows(mined)
        at = new.find(old["query"][:], old["positive"][:])
        columns = {column: old[column][:] for column in ("query", "positive")}
        for column in self.sets[name].columns:
            fresh = new.rows[column][:]
            kept = zip(at.tolist(), old[column][:], strict=True)
            columns[column] = [before if row < 0 else fresh[row] for row, before in kept]
        rows = datasets.Dataset.from_dict(columns)
        self.sets[name] = PairRows(rows)
        return share_changed(old, rows)

    def applied(self, features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows of a batch with their current negatives."""
        rows = [dict(feature) for feature in features]
        pairs = [[row[column] for row in rows] for column in ("query", "positive")]
        for of in self.sets.values():
            at = of.find(*pairs)
            there = np.flatnonzero(at >= 0).tolist()
            if there:
                negatives = of.rows.select_columns(of.columns)[at[there].tolist()]
                for number, row in enumerate(there):
                    rows[row] |= {column: texts[number] for column, texts in negatives.items() if column in rows[row]}
        return rows

    def write(self, folder: Path) -> None:
        """Keep them for a run that resumes."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, of in self.sets.items():
            texts = of.rows.select_columns(["query", "positive", *of.columns])
            write_file(folder / f"{name}.parquet", lambda path, texts=texts: texts.to_parquet(str(path)))  # type: ignore[misc]

    def read(self, folder: Path) -> None:
        """Take those that were kept.

        Raises:
            InputError: a file is missing.
        """
        import datasets

        files = {name: folder / f"{name}.parquet" for name in self.sets}
        for file in files.values():
            if not file.is_file():
                raise InputError(
                    f"{file} is missing, which the run needs to resume; delete the checkpoints after that step"
                )
        for name, file in files.items():
            self.sets[name] = PairRows(datasets.Dataset.from_parquet(str(file), keep_in_memory=True))


class Remine(TrainerCallback):
    """Mines the negatives again with the student, every so many steps.

    Args:
        recipe: the stage.
        blend: its rows; those of the data sets with ``mine:`` are mined again.

    Raises:
        InputError: two data sets share a pair.
    """

    def __init__(self, recipe: Recipe, blend: Blend) -> None:
        self.steps = int(recipe.contrastive.remine_steps or 0)
        self.ceiling = recipe.contrastive.round_ceiling
        self.num_negatives, self.seed = recipe.contrastive.num_negatives, int(recipe.trainer.get("seed", 42))
        self.num_positives = recipe.positives_per_row
        self.specs = {name: spec for name, spec in blend.specs.items() if spec.mine is not None}
        self.negatives = CurrentNegatives({name: blend.datasets[name] for name in self.specs})
        self.folder = Path(recipe.trainer["output_dir"]) / "remined"
        self.changed: dict[str, float] = {}

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: InstructSentenceTransformer | None = None,
        **_: Any,
    ) -> None:
        """Mine at the step where an epoch begins; a run that resumes within one reads what was mined then."""
        step = state.global_step // self.steps * self.steps
        if not step or model is None:
            return
        folder = self.folder / f"step-{step:06d}"
        if step < state.global_step:
            self.negatives.read(folder)
            return
        mined = {name: self.negatives.replace(name, rows) for name, rows in self.mine(model).items()}
        self.changed = dict.fromkeys(self.specs, 0.0) | mined
        if state.is_world_process_zero:
            self.negatives.write(folder)
            text = json.dumps(self.changed, indent=1) + "\n"
            write_file(folder / "changed.json", lambda path: path.write_text(text))

    def mine(self, model: InstructSentenceTransformer) -> Mapping[str, Dataset]:
        """The rows of each data set with the negatives that the student finds now; a set for which it finds none stays."""
        store, training, template = self.folder / "store", model.training, model.instruction_template
        specs = [
            mined_by(spec, model, self.ceiling, store=store, **prompts_of(template, spec))
            for spec in self.specs.values()
        ]
        n, most = self.num_negatives, self.num_positives
        rows: dict[str, Dataset] = {}
        try:
            for spec in specs:
                try:
                    rows |= load_blend([spec], num_negatives=n, num_positives=most, seed=self.seed).datasets
                except NothingMinedError as error:
                    warnings.warn(f"mined again by the student: {error}; its rows keep their negatives", stacklevel=2)
            return rows
        finally:
            model.train(training)
            shutil.rmtree(store, ignore_errors=True)  # vectors of weights that no later step has

    def take(self) -> dict[str, float]:
        """What the next log says: the mean share of negatives that changed, once after each mining."""
        changed, self.changed = self.changed, {}
        return {LOGGED: round(float(np.mean(list(changed.values()))), 4)} if changed else {}


def prompts_of(template: str, spec: DatasetSpec) -> dict[str, str]:
    """The prompts of a student that mines a data set: the set's instruction, as it trains with it; else its own."""
    prefix = prefix_of(template, spec.text_before)
    return {f"{role}_prompt": prefix for role in ("query", *(["document"] if spec.is_symmetric else [])) if prefix}
