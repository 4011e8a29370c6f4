"""One data set of a blend, from its YAML mapping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from hf_posmine.core.check import is_number, is_whole
from hf_posmine.core.errors import InputError
from hf_posmine.training.instructions import SOURCE, instruction_for

Task: TypeAlias = Literal["retrieval", "classification", "clustering", "sts", "nli", "reranking"]

ROLES: dict[str, dict[str, str | None]] = {
    "retrieval": {"query": None, "positive": None, "negatives": None, "judged_positives": None},
    "classification": {"text": "text", "label": "label"},
    "clustering": {"text": "text", "label": "label"},
    "sts": {"text1": "sentence1", "text2": "sentence2", "score": "score"},
    "nli": {"premise": "premise", "hypothesis": "hypothesis", "label": "label"},
    "reranking": {"query": None, "positive": None, "negative": None},
}
"""Task -> role -> the column that plays it where ``columns`` has no entry; None: as mining recorded it, else found by name."""

SYMMETRIC = ("sts", "clustering")
IN_BATCH = ("retrieval", "reranking", "nli")
ONLY_FOR = {
    "positives": ("classification",),
    "label_texts": ("classification", "nli"),
    "min_score": ("sts",),
    "scores": ("retrieval",),
    "judged_positives": ("retrieval",),
    "mine": ("sts", "retrieval"),
    "corpus": ("retrieval",),
}
OPINION = ("teacher", "filters", "rank_by", "depth", "band")
"""Keys of a second opinion, as :class:`~hf_posmine.mining.second_opinion.SecondOpinion` takes them."""
MINE_EXTRAS = ("teacher", "teacher_options", "corpus", "second_opinion")


@dataclass(frozen=True)
class DatasetSpec:
    """One data set of a blend: its source, its task, and how it becomes training rows.

    Attributes:
        name: its name in the blend; also looks up the public instruction.
        path: Hub id, file, or folder.
        task: ``retrieval``, ``classification``, ``clustering``, ``sts``, ``nli`` or ``reranking``.
        config: configuration of a Hub dataset.
        split: split.
        revision: revision on the Hub.
        columns: role -> column, where they differ from :data:`ROLES`; by default what the provenance beside mined rows has,
            else found by name, see :func:`~hf_posmine.data.layouts.pick_columns`.
        instruction: the task instruction; by default the public one of ``name``, "" for none (then the student's own prompt,
            such as ``query: ``, stays).
        symmetric: the instruction also goes before the documents; by default for STS and clustering (NV-Embed, section
            4.2).
        num_negatives: n, by default the blend's, else as many as were mined; 0 for pairs with in-batch negatives only.
        in_batch_negatives: whether other rows' documents are negatives; by default for retrieval, reranking and NLI.
        positives: of a classification: ``auto``, ``label`` or ``example``.
        label_texts: of a classification, class -> text; of NLI, label -> relation.
        min_score: of STS, the least score of a positive.
        scores: of mined retrieval rows, whose scores are learnt by the recipe's ``distillation``: ``teacher`` or ``second``.
        judged_positives: whether the column of that name, of ``hf-posmine judge --action relabel``, holds positives too; by
            default where it is there.
        corpus: of retrieval, the documents that columns of ids name: a BEIR folder or a source with texts or images. Rows of
            images need none where all of their negatives are positives of other rows.
        max_samples: at most so many rows, drawn by ``seed``.
        weight: for sampling between data sets by weight.
        seed: of the draws, by default the blend's.
        mine: mine the negatives of STS or retrieval pairs (which replaces those they have): ``teacher``,
            ``teacher_options``, ``second_opinion`` (a mapping ``teacher, filters, rank_by, depth, band``), ``corpus`` (of
            retrieval: a BEIR folder or a source with a column ``text``; by default the
            positives of the set) and options of :class:`~hf_posmine.core.settings.MiningSettings`.

    Raises:
        InputError: a value that is out of range or has no effect on this task, or no instruction.
    """

    name: str
    path: str
    task: Task
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    instruction: str | None = None
    symmetric: bool | None = None
    num_negatives: int | None = None
    in_batch_negatives: bool | None = None
    positives: Literal["auto", "label", "example"] | None = None
    label_texts: Mapping[Any, str] | None = None
    min_score: float | None = None
    scores: Literal["teacher", "second"] | None = None
    judged_positives: bool | None = None
    corpus: str | None = None
    max_samples: int | None = None
    weight: float = 1.0
    seed: int | None = None
    mine: Mapping[str, Any] | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> DatasetSpec:
        """A spec from one entry of the YAML's ``datasets``.

        Raises:
            InputError: an unknown or missing key.
        """
        if not isinstance(mapping, Mapping):
            raise InputError(f"expected a mapping with name, path and task, got {mapping!r}")
        name = mapping.get("name", "?")
        fields = dataclasses.fields(cls)
        unknown = [key for key in mapping if key not in {f.name for f in fields}]
        if unknown:
            raise InputError(
                f"data set {name!r}: unknown key {unknown[0]!r}; there are {', '.join(f.name for f in fields)}"
            )
        missing = [key for key in ("name", "path", "task") if not mapping.get(key)]
        if missing:
            raise InputError(f"data set {name!r}: {missing[0]} is missing; give name, path and task")
        return cls(**mapping)

    def __post_init__(self) -> None:
        self._check_types()
        if self.task not in get_args(Task):
            self._refuse(f"task={self.task!r}; choose one of {list(get_args(Task))}")
        roles = ROLES[self.task]
        strange = [role for role in self.columns if role not in roles]
        if strange:
            self._refuse(f"columns has no role {strange[0]!r} for the task {self.task!r}; it has {list(roles)}")
        given = vars(self)
        for name, tasks in ONLY_FOR.items():
            if given[name] is not None and self.task not in tasks:
                self._refuse(f"{name} has no effect on the task {self.task!r}; it is for {' and '.join(tasks)}")
        if self.instruction is None and instruction_for(self.name) is None:
            self._refuse(
                f"no public instruction under this name ({SOURCE}); give instruction: '...', or '' to train without one"
            )
        if self.symmetric and self.text_before == "":
            self._refuse("symmetric has no effect without an instruction; give one, or leave symmetric out")
        if self.task == "sts" and self.mine is None and self.num_negatives != 0:
            self._refuse(
                "sts pairs have no negatives of their own; give mine: {teacher: ..., filters: PercPos(0.95)}, or num_negatives: 0 "
                "with in_batch_negatives: true"
            )
        if self.num_negatives == 0 and (self.mine is not None or self.task not in ("retrieval", "sts")):
            self._refuse("num_negatives=0 is for retrieval or sts pairs that are not mined; ask for at least 1")
        if self.num_negatives == 0 and not self.in_batch:
            self._refuse("num_negatives=0 leaves nothing to contrast with; set in_batch_negatives: true")
        if self.scores not in (None, "teacher", "second"):
            self._refuse(f"scores={self.scores!r}; choose 'teacher' or 'second'")
        if self.scores is not None and self.num_negatives == 0:
            self._refuse("scores are learnt from negatives, and num_negatives=0 leaves none")
        self._check_mine()

    def _check_types(self) -> None:
        """Texts are texts and numbers numbers; YAML reads ``1e-5`` as a text and ``no`` as a boolean."""
        given = vars(self)
        for name in ("name", "path", "task", "split"):
            if not isinstance(given[name], str) or not given[name]:
                self._refuse(f"{name}={given[name]!r}; expected a text")
        for name in ("config", "revision", "instruction", "corpus"):
            if not isinstance(given[name], (str, type(None))):
                self._refuse(f"{name}={given[name]!r}; expected a text")
        for name in ("symmetric", "in_batch_negatives", "judged_positives"):
            if not isinstance(given[name], (bool, type(None))):
                self._refuse(f"{name}={given[name]!r}; expected true or false")
        for name, least in (("num_negatives", 0), ("max_samples", 1), ("seed", 0)):
            value = given[name]
            if value is not None and not is_whole(value, least):
                self._refuse(f"{name}={value!r}; expected a whole number of at least {least}")
        for name, above in (("weight", 0.0), ("min_score", -math.inf)):
            value = given[name]
            if not (is_number(value) and value > above) and not (name == "min_score" and value is None):
                self._refuse(f"{name}={value!r}; expected a number{' above 0' * (above == 0)}")
        for name in ("columns", "label_texts", "mine"):
            value = given[name]
            if not isinstance(value, Mapping) and not (value is None and name != "columns"):
                self._refuse(f"{name}={value!r}; expected a mapping")

    def _check_mine(self) -> None:
        """The mining options, before any data are read."""
        if self.mine is None:
            return
        from hf_posmine.core.settings import MiningSettings

        if "num_negatives" in self.mine:
            self._refuse("mine takes num_negatives from the data set; set it there")
        if self.mine.get("corpus") is not None and self.task == "sts":
            self._refuse("mine: corpus has no effect on sts, whose negatives come from the texts of the set")
        opinion = self.mine.get("second_opinion")
        if opinion is not None and not (isinstance(opinion, Mapping) and {"teacher"} <= set(opinion) <= set(OPINION)):
            self._refuse(
                f"mine: second_opinion={opinion!r}; expected a mapping with teacher, and of {list(OPINION[1:])}"
            )
        try:
            MiningSettings.from_options(self.mining_options)
        except InputError as error:
            self._refuse(f"mine: {error}")

    def _refuse(self, what: str) -> None:
        raise InputError(f"data set {self.name!r}: {what}")

    @property
    def text_before(self) -> str:
        """The instruction: as given, else the public one."""
        return self.instruction if self.instruction is not None else instruction_for(self.name) or ""

    @property
    def is_symmetric(self) -> bool:
        """Whether documents get the instruction too."""
        return (self.task in SYMMETRIC if self.symmetric is None else self.symmetric) and self.text_before != ""

    @property
    def in_batch(self) -> bool:
        """Whether other rows' documents are negatives."""
        return self.task in IN_BATCH if self.in_batch_negatives is None else self.in_batch_negatives

    @property
    def mining_options(self) -> dict[str, Any]:
        """The part of ``mine`` for :class:`~hf_posmine.core.settings.MiningSettings`; short rows are dropped by default."""
        return {"on_short": "drop"} | {k: v for k, v in (self.mine or {}).items() if k not in MINE_EXTRAS}
