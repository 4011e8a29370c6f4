"""A grid of cells: which negatives, which training, which seed; each cell is known by a digest of all that decides it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hf_posmine import Top
from hf_posmine.core import ENSEMBLES, InputError, MiningSettings, as_sampler

NAIVE = "naive"
NO_TEACHER = "none"
IN_BATCH_ONLY = "in-batch only"
AXES = ("teachers", "filters", "samplers", "num_negatives", "training", "seeds")
DEFAULTS: dict[str, list[Any]] = {"filters": [NAIVE], "samplers": ["Top()"], "num_negatives": [4]}
"""The paper's ablation has 4 negatives, the best ones (its section 4)."""


@dataclass(frozen=True)
class Mining:
    """How the negatives of a cell are mined.

    Attributes:
        teachers: their names in the configuration; several for an ensemble, the best first; none for no mined negatives.
        filters: as spelled, joined by `` + ``, or ``naive``.
        sampler: as spelled.
        num_negatives: per row; 0 for none.
        seed: of whatever is drawn; 0 where nothing is, so that cells of several seeds share the negatives.
    """

    teachers: tuple[str, ...] = ()
    filters: str = NAIVE
    sampler: str = "Top()"
    num_negatives: int = 0
    seed: int = 0

    @property
    def filter_list(self) -> list[str]:
        """The filters, one by one."""
        return [] if self.filters == NAIVE else self.filters.split(" + ")

    @property
    def ensemble(self) -> bool:
        """Whether several teachers give the negatives."""
        return len(self.teachers) > 1


@dataclass(frozen=True)
class Cell:
    """One student: how its negatives are mined, how it is trained, and the seed of both."""

    mining: Mining
    training: str
    seed: int


@dataclass(frozen=True)
class Row:
    """One row of a study's table: the same cell with every seed."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: its key in the configuration.
        title: its heading.
        rows: what is compared.
        baseline: label of the row that the others are compared with.
        paper: the paper's figure of some rows, by label.
        source: where these figures stand.
        figures: ``differences``, ``sweep``, ``histograms``, ``overlap``.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    baseline: str
    paper: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    figures: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All its cells, in order."""
        return [cell for row in self.rows for cell in row.cells]


FIGURES = ("differences", "sweep", "histograms", "overlap")
STUDY_KEYS = ("title", "baseline", "paper", "source", "figures", "also", *AXES)


def read_study(name: str, options: Any, teachers: Mapping[str, Any], trainings: Mapping[str, Any]) -> Study:
    """A study from its part of the configuration: the product of its axes, and that of each mapping under ``also``.

    Args:
        name: its key.
        options: ``teachers``, ``filters``, ... as lists; ``also``: more of them, each over the study's own axes.
        teachers: those that the configuration has.
        trainings: the same.

    Raises:
        InputError: an axis or a value that does not exist, or a baseline that is not a row.
    """
    check_keys(f"studies.{name}", options, STUDY_KEYS)
    own = {axis: options[axis] for axis in AXES if axis in options}
    also = options.get("also", [])
    if not isinstance(also, list) or not all(isinstance(more, Mapping) for more in also):
        raise InputError(f"studies.{name}.also={also!r}; expected a list of mappings of axes")
    grids = [own, *({**own, **more} for more in also)]
    cells: dict[Cell, None] = {}
    for grid in grids:
        cells.update(dict.fromkeys(_product(f"studies.{name}", grid, teachers, trainings)))
    rows = _rows(list(cells), teachers)
    labels = [row.label for row in rows]
    baseline = str(options.get("baseline", labels[0]))
    paper = dict(options.get("paper") or {})
    for what, label in [("baseline", baseline), *(("paper", label) for label in paper)]:
        if label not in labels:
            raise InputError(f"studies.{name}.{what}: no row {label!r}; the rows are {labels}")
    figures = tuple(options.get("figures", ()))
    for figure in figures:
        if figure not in FIGURES:
            raise InputError(f"studies.{name}.figures: no figure {figure!r}; there are {list(FIGURES)}")
    return Study(name, str(options.get("title", name)), rows, baseline, paper, str(options.get("source", "")), figures)


def check_keys(where: str, given: Any, known: Sequence[str], required: Sequence[str] = ()) -> None:
    """Refuse what is not a mapping, unknown keys, and missing ones.

    Raises:
        InputError: with the keys that there are.
    """
    import difflib

    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected a mapping, got {given!r}")
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise InputError(f"{where}: unknown key {key!r}{hint}")
    for key in required:
        if not given.get(key):
            raise InputError(f"{where}: {key} is missing")


def is_random(teacher: Any) -> bool:
    """Whether a teacher of the configuration scores at random."""
    return str(teacher["model"]).partition(":")[0] == "random"


def _product(
    where: str, grid: Mapping[str, Any], teachers: Mapping[str, Any], trainings: Mapping[str, Any]
) -> list[Cell]:
    check_keys(where, grid, AXES, ("teachers", "training", "seeds"))
    axes = {axis: grid.get(axis, DEFAULTS.get(axis)) for axis in AXES}
    for axis, values in axes.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}.{axis}={values!r}; expected a list of at least one value")
    for training in axes["training"]:
        if training not in trainings:
            raise InputError(f"{where}.training: no {training!r}; there are {list(trainings)}")
    if not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in axes["seeds"]):
        raise InputError(f"{where}.seeds={axes['seeds']!r}; expected whole numbers of at least 0")
    try:
        return [
            Cell(mining_of(_names(teacher), method, sampler, n, seed, teachers), training, seed)
            for teacher, method, sampler, n, training, seed in itertools.product(*axes.values())
        ]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _names(teacher: Any) -> tuple[str, ...]:
    several = teacher if isinstance(teacher, list) else [teacher]
    return () if several == [NO_TEACHER] else tuple(map(str, several))


def mining_of(
    names: tuple[str, ...], method: str, sampler: str, num_negatives: int, seed: int, teachers: Mapping[str, Any]
) -> Mining:
    """How to mine, in one spelling, without what has no effect: equal minings are equal values.

    A teacher that scores at random has no use for filters: what lies below a random ceiling is as random.

    Raises:
        InputError: an unknown teacher, a filter or sampler that cannot be read, an ensemble of one.
    """
    if not names:
        return Mining()
    for name in names:
        if name not in teachers:
            raise InputError(f"no teacher {name!r}; there are {[*teachers, NO_TEACHER]}")
    settings = MiningSettings(filters=str(method), sampler=sampler, num_negatives=num_negatives)
    if settings.ensemble != (len(names) > 1):
        raise InputError(
            f"sampler {sampler!r} with {len(names)} teachers; {sorted(ENSEMBLES)} take several, others one"
        )
    chance = all(is_random(teachers[name]) for name in names)
    if chance:
        settings = MiningSettings(filters=(), num_negatives=num_negatives)
    drawn = chance or type(settings.sampler).__name__ not in ("Top", "IntraSample")
    spelled = " + ".join(map(repr, settings.all_filters)) or NAIVE
    return Mining(names, spelled, repr(settings.sampler), settings.num_negatives, seed if drawn else 0)


def _rows(cells: Sequence[Cell], teachers: Mapping[str, Any]) -> tuple[Row, ...]:
    """Cells that differ in their seed alone belong to one row; its label has what varies between rows."""
    grouped: dict[tuple, list[Cell]] = {}
    for cell in cells:
        mining = cell.mining
        key = (mining.teachers, mining.filters, mining.sampler, mining.num_negatives, cell.training)
        grouped.setdefault(key, []).append(cell)
    described = [_parts(members[0], teachers) for members in grouped.values()]
    varying = [part for part in PARTS if len({parts[part] for parts in described if part in parts}) > 1]
    labels = [_label(parts, varying) for parts in described]
    return tuple(Row(label, tuple(members)) for label, members in zip(labels, grouped.values(), strict=True))


PARTS = ("teacher", "method", "sampler", "count", "training")


def _parts(cell: Cell, teachers: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a label; rows without a teacher that knows anything go by a name of their own."""
    mining, training = cell.mining, {"training": cell.training}
    if not mining.teachers:
        return {"name": IN_BATCH_ONLY, **training}
    count = {"count": f"{mining.num_negatives} negatives"}
    if all(is_random(teachers[name]) for name in mining.teachers):
        return {"name": " + ".join(mining.teachers), **count, **training}
    sampler = "" if as_sampler(mining.sampler) == Top() else mining.sampler
    teacher = "" if mining.ensemble else mining.teachers[0]
    return {"teacher": teacher, "method": mining.filters, "sampler": sampler, **count, **training}


def _label(parts: Mapping[str, str], varying: Sequence[str]) -> str:
    """A row's own name, then what varies between rows."""
    own = [parts["name"]] if "name" in parts else []
    return ", ".join([*own, *(parts[part] for part in varying if parts.get(part))]) or parts["method"]


def plain(cell: Cell) -> dict[str, Any]:
    """A cell as JSON holds it."""
    return {**asdict(cell), "mining": {**asdict(cell.mining), "teachers": list(cell.mining.teachers)}}
