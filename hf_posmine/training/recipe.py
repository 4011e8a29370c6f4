"""A training stage as one YAML file: the student, the blend, and the trainer's own arguments, flat.

Any argument of ``SentenceTransformerTrainingArguments`` is a key. The command line overrides the file, also within lists
and mappings: ``--learning_rate 1e-5 --datasets.0.max_samples 1000``.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from hf_posmine.errors import InputError
from hf_posmine.training.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformerTrainingArguments


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
    lora: Mapping[str, Any] | None = None
    merge_adapters: bool = True


@dataclass(frozen=True)
class Contrastive:
    """What is learnt from, and how rows are contrasted.

    Attributes:
        datasets: the blend, each a mapping for :class:`~hf_posmine.training.dataset_spec.DatasetSpec`.
        num_negatives: hard negatives per row (paper, Table 11: 1 in stage 1, 5 in stage 2).
        batches: ``homogeneous``, each of one data set, or ``mixed``.
        temperature: of the softmax; the paper does not say, its neighbours take 0.02.
        false_negatives: a ceiling within the batch, such as ``PercPos(0.95)``: another row's document that the student
            scores at or above it is left out.
        gather_across_devices: other processes' documents are negatives too.
        mini_batch_size: rows per step of GradCache, which allows batches larger than memory.
        mini_batch_num_tokens: the same in tokens.
        evals: judged collections: ``name``, ``path``, ``instruction``, ``qrels``.
    """

    datasets: tuple[DatasetSpec, ...]
    num_negatives: int = 1
    batches: Literal["homogeneous", "mixed"] = "homogeneous"
    temperature: float = 0.02
    false_negatives: str | None = None
    gather_across_devices: bool = True
    mini_batch_size: int | None = None
    mini_batch_num_tokens: int | None = None
    evals: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.batches not in ("homogeneous", "mixed"):
            raise InputError(f"batches={self.batches!r} must be 'homogeneous' or 'mixed'")
        if self.mini_batch_size is not None and self.mini_batch_num_tokens is not None:
            raise InputError("give mini_batch_size or mini_batch_num_tokens, not both")
        for number, told in enumerate(self.evals):
            unknown = sorted(set(told) - set(EVAL_KEYS))
            if unknown or "path" not in told:
                raise InputError(f"evals.{number}: {unknown or 'no path'}; an entry has the keys {list(EVAL_KEYS)}")


EVAL_KEYS = ("name", "path", "instruction", "qrels")


@dataclass(frozen=True)
class Recipe:
    """A stage: see :func:`read_recipe`."""

    student: Student
    contrastive: Contrastive
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of SentenceTransformerTrainingArguments, as written."""

    def training_arguments(self) -> SentenceTransformerTrainingArguments:
        """The trainer's arguments; on a machine with several processes this joins them.

        Raises:
            InputError: a value the trainer refuses.
        """
        from sentence_transformers import SentenceTransformerTrainingArguments
        from transformers import HfArgumentParser

        parser = HfArgumentParser(SentenceTransformerTrainingArguments, exit_on_error=False)
        actions = {action.dest: action for action in parser._actions}
        for key, value in self.trainer.items():  # a default that is a text is converted as an argument would be
            actions[key].default, actions[key].required = value, False
        try:
            return parser.parse_args_into_dataclasses(args=[])[0]
        except (ValueError, TypeError) as error:
            raise InputError(f"a training argument is wrong: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The whole recipe, defaults included, as JSON would hold it."""
        said = {
            **dataclasses.asdict(self.student),
            **dataclasses.asdict(self.contrastive),
            **self.trainer,
        }
        return {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A stage from its YAML file.

    Args:
        path: the file.
        overrides: ``--key value`` or ``--key=value``, with dots into lists and mappings.

    Raises:
        InputError: no such file, an unknown key, or a data set that is wrong.
    """
    try:
        said = yaml.safe_load(Path(path).read_text("utf8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the recipe {str(path)!r}: {error}") from error
    if not isinstance(said, dict):
        raise InputError(f"the recipe {str(path)!r} holds no mapping of keys")
    for key, value in _pairs(overrides):
        _override(said, key, value)
    return recipe_from(said)


def recipe_from(said: Mapping[str, Any]) -> Recipe:
    """A stage from one flat mapping.

    Raises:
        InputError: an unknown or missing key, or a data set that is wrong.
    """
    student, contrastive = (_names(cls) for cls in (Student, Contrastive))
    trainer = _trainer_names()
    known = student | contrastive | trainer
    for key in said:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise InputError(f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key in ("model", "datasets", "output_dir"):
        if not said.get(key):
            raise InputError(f"the recipe has no {key}")
    if said.get("prompts"):
        raise InputError("prompts has no effect here; give each data set its instruction")
    specs = tuple(DatasetSpec.from_mapping(told) for told in said["datasets"])
    told = {**said, "datasets": specs, "evals": tuple(said.get("evals") or ())}
    return Recipe(
        Student(**{key: told[key] for key in student & set(said)}),
        Contrastive(**{key: told[key] for key in contrastive & set(told)}),
        {key: said[key] for key in said if key in trainer},
    )


def _names(cls: type) -> set[str]:
    return {entry.name for entry in dataclasses.fields(cls)}


def _trainer_names() -> set[str]:
    from sentence_transformers import SentenceTransformerTrainingArguments

    return {entry.name for entry in dataclasses.fields(SentenceTransformerTrainingArguments) if entry.init}


def _pairs(overrides: Sequence[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(overrides)
    while rest:
        flag = rest.pop(0)
        key, equals, value = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or not key or not (equals or rest):
            raise InputError(f"cannot read {flag!r}; override as --key value or --key=value")
        pairs.append((key, value if equals else rest.pop(0)))
    return pairs


def _override(said: dict[str, Any], key: str, value: str) -> None:
    """Set one value; a text stays a text where the file has one (``yes: no`` would become a mapping)."""
    *path, last = key.replace("-", "_").split(".")
    node: Any = said
    for part in path:
        node = _child(node, part, key)
    place: Any = _index(node, last, key) if isinstance(node, list) else last
    before = node[place] if isinstance(node, list) else node.get(place)
    node[place] = value if isinstance(before, str) else yaml.safe_load(value)


def _child(node: Any, part: str, key: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, key)]
    if not isinstance(node, dict) or part not in node:
        raise InputError(f"--{key}: the recipe has no {part!r} there")
    return node[part]


def _index(node: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"--{key}: {part!r} is no number from 0 to {len(node) - 1}")
    return int(part)
