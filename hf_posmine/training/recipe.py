"""A training stage as one YAML file: the student, the blend, and the trainer's own arguments, flat.

Any argument of ``SentenceTransformerTrainingArguments`` is a key. The command line overrides the file, also within lists
and mappings: ``--learning_rate 1e-5 --datasets.0.max_samples 1000``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from hf_posmine.core.errors import InputError
from hf_posmine.training.dataset_spec import DatasetSpec
from hf_posmine.training.objective import Objective
from hf_posmine.training.values import is_text, typed
from hf_posmine.utils.config import read_mapping, unknown_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformerTrainingArguments

    from hf_posmine.training.neighbours import Neighbours

NUM_POSITIVES = 4
EVAL_KEYS = ("name", "path", "instruction", "qrels")
NO_EFFECT = {
    "prompts": "give each data set its instruction",
    "router_mapping": "query and document columns follow from the data sets",
    "resume_from_checkpoint": "a run resumes from its last checkpoint when it is started again",
}
"""Arguments of the trainer that a stage decides itself, and what does their work."""


@dataclass(frozen=True)
class Student:
    """The model that learns.

    Attributes:
        model: Hub id or folder of a saved model or of a decoder, or ``"embedded"``. A decoder becomes a bidirectional
            encoder, see :func:`~hf_posmine.models.bidirectional.bidirectional_encoder`.
        num_layers: keep only the first so many layers, for a smaller student.
        dtype: of the weights.
        attn_implementation: ``posmine_varlen`` computes no padding.
        max_query_length: tokens of a query; by default the model's, 192 for a decoder (paper, Table 10).
        max_document_length: tokens of a document; by default the model's, 512 for a decoder (paper, Table 10).
        instruction_template: how instruction and text are joined.
        pool_instructions: whether the mean is also over the instruction. By default not (paper, section 3), but a saved
            model that stores prompts and pools them, such as E5, stays as it is.
        lora: adapters, such as ``{r: 16, lora_alpha: 32}`` (paper, Table 10); without it all weights are trained.
        merge_adapters: add the adapters into the weights at the end, so that the model loads everywhere.
    """

    model: str
    num_layers: int | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    max_query_length: int | None = None
    max_document_length: int | None = None
    instruction_template: str | None = None
    pool_instructions: bool | None = None
    lora: Mapping[str, Any] | None = None
    merge_adapters: bool = True


@dataclass(frozen=True)
class Contrastive:
    """The rows that are learnt from, and what they are evaluated on.

    Attributes:
        datasets: the blend, each a mapping for :class:`~hf_posmine.training.dataset_spec.DatasetSpec`.
        num_negatives: hard negatives per row (paper, Table 11: 1 in stage 1, 5 in stage 2); by default as many as the
            provenance beside each data set has, else 1.
        num_positives: at most so many positives of a query in one row, with the objective's ``several_positives``; a query
            with more has several rows.
        batches: ``homogeneous``, each of one data set, or ``mixed``.
        neighbours: rows that are near by a teacher share a batch, and none of them is above the ceiling of another; a mapping
            of :class:`~hf_posmine.training.neighbours.Neighbours`, such as ``{teacher: embedded, ceiling: PercPos(0.95)}``.
        query_prompt_of: the data set whose instruction becomes the stored prompt of queries; by default the retrieval set
            with the most rows.
        evals: judged collections: ``name``, ``path``, ``instruction``, ``qrels``.
        early_stopping_patience: end training when the measure of ``load_best_model_at_end`` did not improve in so many
            evaluations.
        rounds: trainings; from the second on, sets with ``mine:`` are mined by the student of the round before.
        round_start: what a later round trains: the student as named here (``student``), or the model of the round before
            (``previous``).
        round_ceiling: whose ceiling holds in later rounds, and within a run: the ``teacher``'s, as a second opinion on what
            the student finds, or the ``student``'s own.
        remine_steps: sets with ``mine:`` are mined again by the student every so many steps of a run.
    """

    datasets: tuple[DatasetSpec, ...]
    num_negatives: int | None = None
    num_positives: int | None = None
    batches: Literal["homogeneous", "mixed"] = "homogeneous"
    neighbours: Mapping[str, Any] | None = None
    query_prompt_of: str | None = None
    evals: tuple[Mapping[str, Any], ...] = ()
    early_stopping_patience: int | None = None
    rounds: int = 1
    round_start: Literal["student", "previous"] = "student"
    round_ceiling: Literal["teacher", "student"] = "teacher"
    remine_steps: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("round_start", ("student", "previous")), ("round_ceiling", ("teacher", "student"))):
            if vars(self)[name] not in choices:
                raise InputError(f"{name}={vars(self)[name]!r}; choose one of {list(choices)}")
        if self.batches not in ("homogeneous", "mixed"):
            raise InputError(f"batches={self.batches!r} must be 'homogeneous' or 'mixed'")
        _ = self.near
        for number, listed in enumerate(self.evals):
            if not isinstance(listed, Mapping) or "path" not in listed or not set(listed) <= set(EVAL_KEYS):
                raise InputError(
                    f"evals.{number}: {listed!r}; expected a mapping with a path, and of {list(EVAL_KEYS)}"
                )

    @property
    def near(self) -> Neighbours | None:
        """The batches of near rows that ``neighbours`` asks for."""
        from hf_posmine.training.neighbours import Neighbours

        return None if self.neighbours is None else Neighbours.of(self.neighbours)


@dataclass(frozen=True)
class Recipe:
    """A stage: see :func:`read_recipe`."""

    student: Student
    contrastive: Contrastive
    objective: Objective = field(default_factory=Objective)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of SentenceTransformerTrainingArguments, as written."""

    def __post_init__(self) -> None:
        if self.contrastive.num_positives is not None and self.objective.several_positives == "rows":
            raise InputError(
                f"num_positives={self.contrastive.num_positives} has no effect on rows of one positive each; give "
                "several_positives: log_sum_exp, mean or random"
            )
        scored = [spec.name for spec in self.contrastive.datasets if spec.scores is not None]
        if self.objective.distillation is not None and not scored:
            raise InputError("distillation learns mined scores; give a data set scores: teacher, or scores: second")
        if self.objective.distillation is None and scored:
            raise InputError(
                f"data set {scored[0]!r}: scores have no effect without distillation, such as {{objective: kl, temperature: 0.02}}"
            )
        if self.contrastive.remine_steps is not None:
            self._check_remining()
        near = self.contrastive.near
        if near is not None and self.trainer.get("batch_sampler") is not None:
            raise InputError(f"batch_sampler={self.trainer['batch_sampler']!r} beside neighbours; give one of the two")
        if near is not None and near.ceiling is not None:
            self._hold_ceiling(near.ceiling, near.teacher)

    def _hold_ceiling(self, ceiling: str, teacher: str) -> None:
        """Let the loss leave out what is above the ceiling of the batches, by the same teacher."""
        for key, value in (("false_negatives", ceiling), ("guide", teacher)):
            given = vars(self.objective)[key]
            if given not in (None, value):
                raise InputError(f"{key}={given!r} beside neighbours, which holds {value!r}; leave {key} out")
        held = dataclasses.replace(self.objective, false_negatives=ceiling, guide=teacher)
        object.__setattr__(self, "objective", held)

    def _check_remining(self) -> None:
        """Whatever holds the negatives of the beginning, or counts in epochs of the rows, does not go with other negatives."""
        steps = f"remine_steps={self.contrastive.remine_steps}"
        if all(spec.mine is None for spec in self.contrastive.datasets):
            raise InputError(f"{steps} mines again, but no data set has mine: {{teacher: ...}}")
        if self.rounds > 1:
            raise InputError(f"{steps} beside rounds={self.rounds}; give one of the two")
        for key, held in (("distillation", "scores"), ("guide", "vectors")):
            if vars(self.objective)[key] is not None:
                raise InputError(
                    f"{steps}: {key} has {held} of the negatives of the beginning only; leave one of the two out"
                )
        if self.contrastive.near is not None and self.contrastive.near.ceiling is not None:
            raise InputError(f"{steps}: neighbours keeps the negatives of the beginning apart; leave its ceiling out")
        for key in ("save_strategy", "eval_strategy", "logging_strategy"):
            if self.trainer.get(key) == "epoch":
                raise InputError(f"{steps}: an epoch is the steps between two minings; give {key}: steps")
        if self.trainer.get("dataloader_persistent_workers"):
            raise InputError(
                f"{steps}: persistent workers would keep old negatives; leave dataloader_persistent_workers out"
            )

    @property
    def positives_per_row(self) -> int:
        """At most so many positives of a query in one training row."""
        if self.objective.several_positives == "rows":
            return 1
        return NUM_POSITIVES if self.contrastive.num_positives is None else self.contrastive.num_positives

    @property
    def rounds(self) -> int:
        """How often the stage is trained; see :func:`~hf_posmine.training.rounds.run_rounds`."""
        return self.contrastive.rounds

    def training_arguments(self) -> SentenceTransformerTrainingArguments:
        """The trainer's arguments; on a machine with several processes this joins them.

        Raises:
            InputError: a value the trainer refuses, or an evaluation of nothing.
        """
        from sentence_transformers import SentenceTransformerTrainingArguments
        from transformers.integrations import get_available_reporting_integrations

        for key in ("load_best_model_at_end", "eval_strategy", "eval_on_start"):
            if not self.contrastive.evals and self.trainer.get(key, "no") not in ("no", False):
                raise InputError(
                    f"{key}={self.trainer[key]!r} needs something to evaluate on; give evals: [{{path: ...}}]"
                )
        if self.contrastive.early_stopping_patience is not None and not self.trainer.get("load_best_model_at_end"):
            raise InputError("early_stopping_patience needs load_best_model_at_end: true, and evals: to be best at")
        try:
            args = SentenceTransformerTrainingArguments(**self.trainer)
        except (ValueError, TypeError) as error:
            raise InputError(f"a training argument is wrong: {' '.join(str(error).split())}") from error
        loggers = get_available_reporting_integrations()
        for name in set(args.report_to) - set(loggers):
            raise InputError(f"report_to={name!r} is not installed or not known; there are {loggers}, or 'none'")
        if args.device.type == "cpu":
            args.dataloader_pin_memory = False  # there is no device to copy to; torch would warn
        return args

    def as_dict(self) -> dict[str, Any]:
        """The whole recipe, defaults included, as JSON holds it."""
        own = (self.student, self.contrastive, self.objective)
        options = {name: value for part in own for name, value in dataclasses.asdict(part).items()} | dict(self.trainer)
        return json.loads(json.dumps(options, default=str))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A stage from its YAML file.

    Args:
        path: the file.
        overrides: ``--key value`` or ``--key=value``, with dots into lists and mappings.

    Raises:
        InputError: no such file, an unknown key, or a data set that is wrong.
    """
    options = read_mapping(path)
    for key, value in _pairs(overrides):
        _override(options, key, value)
    try:
        return recipe_from(options)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


def recipe_from(options: Mapping[str, Any]) -> Recipe:
    """A stage from one flat mapping.

    Raises:
        InputError: an unknown or missing key, or a data set that is wrong.
    """
    known = _fields()
    for key in options:
        if key not in known:
            raise unknown_key(None, str(key), known)
        if key in NO_EFFECT:
            raise InputError(f"{key} has no effect here: {NO_EFFECT[key]}")
    for key in ("model", "datasets", "output_dir"):
        if not options.get(key):
            raise InputError(f"the recipe has no {key}")
    student, contrastive, objective, trainer = (
        typed(cls, {key: value for key, value in options.items() if known[key] is cls})
        for cls in dict.fromkeys(known.values())
    )
    contrastive["datasets"] = tuple(map(DatasetSpec.from_mapping, contrastive["datasets"]))
    trainer["output_dir"] = str(Path(trainer["output_dir"]).expanduser())  # as the trainer does
    return Recipe(Student(**student), Contrastive(**contrastive), Objective(**objective), trainer)


def _fields() -> dict[str, type]:
    """Every key of a recipe, and the class that has it; Student's first, the trainer's last."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    parts = (Student, Contrastive, Objective, SentenceTransformerTrainingArguments)
    return {entry.name: cls for cls in parts for entry in dataclasses.fields(cls) if entry.init}


def _pairs(overrides: Sequence[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(overrides)
    while rest:
        flag = rest.pop(0)
        key, equals, value = flag.removeprefix("--").partition("=")
        alone = not equals and (not rest or rest[0].startswith("--"))
        if not flag.startswith("--") or not key or alone:
            raise InputError(f"cannot read {flag!r}; override as --key value or --key=value")
        pairs.append((key, value if equals else rest.pop(0)))
    return pairs


def _override(options: dict[str, Any], key: str, value: str) -> None:
    """Set one value, read as YAML; a text stays a text where one is wanted or the file has one ("a: b" is not a mapping)."""
    first, *rest = key.split(".")
    *path, last = [first.replace("-", "_"), *rest]
    node: Any = options
    for part in path:
        node = node[_place(node, part, key, there=True)]
    place = _place(node, last, key, there=False)
    before = node[place] if isinstance(node, list) else node.get(place)
    fields = _fields()
    text = isinstance(before, str) or (not path and last in fields and is_text(fields[last], last))
    node[place] = None if value == "null" else value if text else _yaml(key, value)


def _place(node: object, part: str, key: str, *, there: bool) -> Any:
    """Where a part of a dotted key leads: a number of a list, or a key of a mapping."""
    if isinstance(node, list):
        if part.isdigit() and int(part) < len(node):
            return int(part)
        raise InputError(f"--{key}: {part!r} is not a number from 0 to {len(node) - 1}")
    if not isinstance(node, dict) or (there and part not in node):
        raise InputError(f"--{key}: the recipe has no {part!r} there")
    return part


def _yaml(key: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--{key}: cannot read {value!r} as YAML: {' '.join(str(error).split())}") from error
