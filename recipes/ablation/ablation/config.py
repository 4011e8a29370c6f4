"""The configuration of an ablation: what is learnt from, who teaches, how students are trained, and the studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ablation.grid import Cell, Mining, Study, check_keys, is_random, plain, read_study
from ablation.student import STUDENT_KEYS
from ablation.windows import Part, WindowSettings
from hf_posmine.core import InputError
from hf_posmine.training import typed
from hf_posmine.utils import json_digest

VERSION = 1
"""Part of every digest: raised when the same configuration would give other figures."""

KEYS = ("name", "windows", "train", "evaluate", "measure", "teachers", "mining", "training", "studies")
TRAIN_KEYS = (
    "name",
    "path",
    "config",
    "split",
    "query",
    "positive",
    "corpus",
    "visible",
    "qrels",
    "instruction",
    "task",
)
EVALUATE_KEYS = ("name", "path", "qrels", "instruction")
MINING_KEYS = ("depth", "on_short", "ceiling_from", "near_duplicates", "exclude_other_positives")
SET_HERE = ("datasets", "output_dir", "seed", "num_negatives", "evals")
"""Keys of a training stage that the cells set themselves."""


@dataclass(frozen=True)
class Config:
    """An ablation; see :func:`read_config`.

    Attributes:
        name: of the whole.
        train: the sets that students learn from, each mined by itself.
        evaluate: the judged collections that they are measured on.
        measure: what the tables are of.
        teachers: name -> ``model`` and options of the teacher.
        mining: options of all mining, and the ``depth`` of stored runs.
        training: name -> keys of a training stage, ``in_batch_negatives``, ``bag_of_words`` and ``prompts``.
        studies: the tables.
        windows: a corpus to be cut first, and SQuAD's places.
    """

    name: str
    train: tuple[Mapping[str, Any], ...]
    evaluate: tuple[Mapping[str, Any], ...]
    measure: str
    teachers: Mapping[str, Mapping[str, Any]]
    mining: Mapping[str, Any]
    training: Mapping[str, Mapping[str, Any]]
    studies: tuple[Study, ...]
    windows: WindowSettings | None = None
    sources: tuple[str, ...] = field(default=(), compare=False)

    @property
    def cells(self) -> dict[str, Cell]:
        """Every cell once, by digest, in the order of the studies."""
        return {self.digest(cell): cell for study in self.studies for cell in study.cells}

    def digest(self, cell: Cell) -> str:
        """What a cell's result is kept under: equal for cells that must give the same."""
        data = self._data(self.train, self.evaluate)
        training = dict(self.training[cell.training])
        decides = {"version": VERSION, **data, **self._mining(cell.mining), "measure": self.measure}
        return json_digest({**decides, "training": training, "seed": cell.seed})[:16]

    def mining_digest(self, mining: Mining) -> str:
        """What mined negatives are kept under."""
        return json_digest({"version": VERSION, **self._data(self.train, ()), **self._mining(mining)})[:16]

    def minings(self) -> dict[str, Mining]:
        """Every way to mine once, by digest."""
        return {self.mining_digest(cell.mining): cell.mining for cell in self.cells.values()}

    def teacher(self, name: str, seed: int) -> dict[str, Any]:
        """A teacher as :func:`~hf_posmine.teachers.factory.make_teacher` takes it; a random one by the seed."""
        teacher = dict(self.teachers[name])
        if is_random(teacher):
            teacher["model"] = f"random:{seed}"
        return teacher

    def _mining(self, mining: Mining) -> dict[str, Any]:
        own = plain(Cell(mining, "", 0))["mining"]
        teachers = [self.teacher(name, mining.seed) for name in mining.teachers]
        return {"mining": {**own, "teachers": teachers}, "options": dict(self.mining) if mining.teachers else {}}

    def _data(self, train: Any, evaluate: Any) -> dict[str, Any]:
        from dataclasses import asdict

        windows = None if self.windows is None else asdict(self.windows)
        return {"train": [dict(t) for t in train], "evaluate": [dict(e) for e in evaluate], "windows": windows}


def read_config(path: str | Path) -> Config:
    """An ablation from its YAML file; with ``base: other.yaml``, its keys replace those of that file.

    Raises:
        InputError: no such file, a key or value that is not known, or a study that names what is not there.
    """
    options = _read_yaml(Path(path))
    if isinstance(options, dict) and "base" in options:
        options = {**_read_yaml(Path(path).parent / str(options.pop("base"))), **options}
    try:
        return config_from(options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text("utf8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {str(path)!r}: {' '.join(str(error).split())}") from error


def config_from(options: Any) -> Config:
    """An ablation from one mapping; see :func:`read_config`."""
    check_keys("the configuration", options, KEYS, ("name", "train", "evaluate", "teachers", "training", "studies"))
    from hf_posmine.evaluation import parse_measure

    measure = str(options.get("measure", "ndcg@10"))
    parse_measure(measure)
    trainings = _training(options["training"])
    teachers = options["teachers"]
    check_keys("teachers", teachers, list(teachers))
    for name, teacher in teachers.items():
        if not isinstance(teacher, Mapping) or not teacher.get("model"):
            raise InputError(f"teachers.{name}={teacher!r}; expected a mapping with model, such as {{model: embedded}}")
    mining = options.get("mining") or {}
    check_keys("mining", mining, MINING_KEYS)
    check_keys("studies", options["studies"], list(options["studies"]))
    studies = tuple(read_study(name, study, teachers, trainings) for name, study in options["studies"].items())
    _check_contrast(studies, trainings)
    windows, sources = _windows(options.get("windows"))
    return Config(
        str(options["name"]),
        _mappings("train", options["train"], TRAIN_KEYS),
        _mappings("evaluate", options["evaluate"], EVALUATE_KEYS),
        measure,
        teachers,
        mining,
        trainings,
        studies,
        windows,
        sources,
    )


def _training(trainings: Any) -> dict[str, dict[str, Any]]:
    from hf_posmine.training import recipe_from

    check_keys("training", trainings, list(trainings) if isinstance(trainings, Mapping) else [])
    for name, keys in trainings.items():
        if not isinstance(keys, Mapping):
            raise InputError(f"training.{name}={keys!r}; expected a mapping of keys of a training stage")
        wrong = [key for key in SET_HERE if key in keys]
        if wrong:
            raise InputError(f"training.{name}: {wrong[0]} is set for each cell; leave it out")
        stage = {key: value for key, value in keys.items() if key not in (*STUDENT_KEYS, "in_batch_negatives")}
        example = {"name": "x", "path": "x", "task": "retrieval", "instruction": ""}
        example |= {"scores": "teacher"} if "distillation" in stage else {}
        try:
            recipe_from({**stage, "datasets": [example], "output_dir": "x"})
        except InputError as error:
            raise InputError(f"training.{name}: {error}") from None
    return {name: dict(keys) for name, keys in trainings.items()}


def _check_contrast(studies: tuple[Study, ...], trainings: Mapping[str, Mapping[str, Any]]) -> None:
    for study in studies:
        for row in study.rows:
            cell = row.cells[0]
            if not cell.mining.teachers and trainings[cell.training].get("in_batch_negatives") is False:
                raise InputError(
                    f"studies.{study.name}: teacher 'none' with training {cell.training!r}, which has in_batch_negatives: "
                    "false, leaves nothing to contrast with"
                )


def _mappings(where: str, entries: Any, known: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(entries, list):
        raise InputError(f"{where}={entries!r}; expected a list of mappings with name and path")
    for number, entry in enumerate(entries):
        check_keys(f"{where}.{number}", entry, known, ("name", "path"))
    names = [entry["name"] for entry in entries]
    if len(set(names)) < len(names):
        raise InputError(f"{where}: names {names}; give each its own")
    return tuple(entries)


def _windows(options: Any) -> tuple[WindowSettings | None, tuple[str, ...]]:
    if options is None:
        return None, ()
    check_keys("windows", options, ("sources", "parts", "words", "stride", "seed"), ("sources", "parts"))
    parts = []
    for name, part in options["parts"].items():
        check_keys(
            f"windows.parts.{name}", part, ("source", "articles", "questions"), ("source", "articles", "questions")
        )
        parts.append(Part(**typed(Part, {"name": name, **part})))
    numbers = {key: options[key] for key in ("words", "stride", "seed") if key in options}
    return WindowSettings(tuple(parts), **typed(WindowSettings, numbers)), tuple(options["sources"])
