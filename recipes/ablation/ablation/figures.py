"""Figures of an ablation, like the paper's: sweeps, differences, histograms of scores and losses, overlaps of negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ablation.table import mean_interval
from ablation.training_set import scores_of
from hf_posmine.data import text_numbers
from hf_posmine.evaluation import overlap_matrix
from hf_posmine.evaluation.plots import COLOURS, look, new_figure, plot_overlap, save_figure, shared_legend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ablation.config import Config
    from ablation.grid import Row, Study
    from ablation.mined import MinedSets

BINS = 40
MOST_ROWS = 6
"""Methods in one figure of histograms."""


def draw(
    study: Study, config: Config, mined: MinedSets, table: Mapping[str, Any], records: Any, folder: Path
) -> list[Path]:
    """Every figure that a study asks for, as far as its cells are done.

    Args:
        study: of the configuration.
        config: the ablation.
        mined: its negatives.
        table: what :func:`~ablation.table.study_table` gave.
        records: results of cells by digest.
        folder: where PNG files go.
    """
    made = {
        "differences": lambda path: plot_differences(table, path),
        "sweep": lambda path: plot_sweeps(study, config, records, path),
        "histograms": lambda path: plot_histograms(study, config, mined, path),
        "overlap": lambda path: plot_overlaps(study, config, mined, path),
    }
    paths = [made[name](folder / f"{study.name}-{name}.png") for name in study.figures]
    return [path for path in paths if path is not None]


def plot_differences(table: Mapping[str, Any], path: Path) -> Path | None:
    """Every row against the baseline with its interval; a hollow point is not a claim."""
    rows = [row for row in table["rows"] if any("comparison" in found for found in row["collections"].values())]
    if not rows:
        return None
    names = list(rows[0]["collections"])
    figure, (axes,) = new_figure(1, len(names), (5.6, 0.9 + 0.32 * len(rows)))
    for axis, name in zip(axes, names, strict=True):
        for at, row in enumerate(rows):
            found = row["collections"][name]
            made = found["comparison"]
            axis.plot([made["low"], made["high"]], [at, at], color=COLOURS[0], linewidth=2)
            axis.plot(
                made["difference"], at, "o", markersize=7, markeredgecolor=COLOURS[0],
                markerfacecolor=COLOURS[0] if found["differs"] else "white",
            )  # fmt: skip
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel(f"{_spelled(table['measure'])} minus that of {table['baseline']}", fontsize=9)
        axis.set_title(name if len(names) > 1 else table["title"], fontsize=9, loc="left")
    return save_figure(figure, path)


def plot_sweeps(study: Study, config: Config, records: Mapping[str, Any], path: Path) -> Path | None:
    """The measure minus the baseline's over the parameter of each method, a panel for each (paper, Figure 1).

    Intervals are of the paired differences: those of the measure itself would mostly show how unlike the queries are.
    """
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in study.rows:
        family, value = parameter(row)
        if family is not None:
            lines.setdefault(family, []).append((value, row))
    lines = {family: sorted(points, key=lambda point: point[0]) for family, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    found = _scores(study, config, records)
    base = found.get(study.baseline)
    found = {label: _minus(scores, base) for label, scores in found.items()}
    figure, (axes,) = new_figure(1, len(lines), (2.9, 3.0))
    for axis, (number, (family, points)) in zip(axes, enumerate(lines.items()), strict=True):
        there = [(value, found[row.label]) for value, row in points if row.label in found]
        ends = [mean_interval(scores) for _, scores in there]
        x, style = [value for value, _ in there], look(number)
        axis.fill_between(
            x, [low for low, _ in ends], [high for _, high in ends], color=style["color"], alpha=0.15, linewidth=0
        )
        axis.plot(x, [scores.mean() for _, scores in there], **style)
        if base is not None:
            axis.axhline(0, color="black", linewidth=0.9, linestyle=(0, (4, 2)), label=study.baseline)
        axis.set_xlabel(f"parameter of {family}", fontsize=9)
    _same_limits(axes)
    minus = "" if base is None else f" minus that of {study.baseline}"
    axes[0].set_ylabel(f"{_spelled(config.measure)}{minus}", fontsize=9)
    shared_legend(figure, axes[0], columns=1)
    return save_figure(figure, path)


def _minus(scores: np.ndarray, base: np.ndarray | None) -> np.ndarray:
    """Differences ``[seeds, Q]``, of the seeds that both have so far."""
    if base is None:
        return scores
    seeds = min(len(scores), len(base))
    return scores[:seeds] - base[:seeds]


def _same_limits(axes: Any) -> None:
    """One vertical scale for all panels, with its numbers at the first."""
    low, high = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low, high)
        axis.tick_params(labelleft=axis is axes[0])


def parameter(row: Row) -> tuple[str | None, float]:
    """The method of a row that a sweep can draw, and its number: a sampler's k, else that of its one filter."""
    mining = row.cells[0].mining
    spelled = mining.sampler if mining.sampler not in ("Top()",) else mining.filters
    name, _, rest = spelled.partition("(")
    number = rest.split(",")[0].removeprefix("k=").rstrip(")")
    try:
        return (name, float(number)) if mining.teachers and " + " not in spelled else (None, 0.0)
    except ValueError:
        return None, 0.0


def plot_histograms(study: Study, config: Config, mined: MinedSets, path: Path) -> Path | None:
    """Scores of positives and of the hardest negatives, their difference, and the loss they give (paper, Figure 4).

    All by the teacher, so that they show what the student is given, not what it makes of it. The loss is InfoNCE over the
    row's own negatives at the temperature of the training.
    """
    teacher = next(row for row in study.rows if row.label == study.baseline).cells[0].mining.teachers
    rows = [row for row in _mined_rows(study) if row.cells[0].mining.teachers == teacher][:MOST_ROWS]
    if not rows:
        return None
    temperature = float(config.training[rows[0].cells[0].training].get("temperature", 0.02))
    columns = [_columns(*_row_scores(row, config, mined), temperature) for row in rows]
    figure, axes = new_figure(len(rows), len(columns[0]), (3.4, 1.5))
    for number, label in enumerate(columns[0]):
        everything = np.concatenate([values for column in columns for values in column[label].values()])
        edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1)
        for axis, column in zip(axes[:, number], columns, strict=True):
            _histogram(axis, column[label], edges)
            axis.set_yticks([])
            axis.tick_params(labelbottom=axis is axes[-1, number])
        axes[-1, number].set_xlabel(label, fontsize=9)
    for (scores, gap, loss), row, column in zip(axes, rows, columns, strict=True):
        gaps, losses = (values for part in list(column.values())[1:] for values in part.values())
        scores.set_title(row.label, fontsize=8, loc="left", pad=2)
        gap.axvline(0, color="black", linewidth=0.8)
        gap.set_title(f"{(gaps <= 0).mean():.0%} not below their positive", fontsize=8, loc="right", pad=2)
        loss.set_title(f"mean {losses.mean():.2f}, highest {losses.max():.1f}", fontsize=8, loc="right", pad=2)
    shared_legend(figure, axes[0, 0], columns=2)
    return save_figure(figure, path)


def _columns(positives: np.ndarray, negatives: np.ndarray, temperature: float) -> dict[str, dict[str, np.ndarray]]:
    """What the histograms of a row show: panel -> name -> values."""
    differences = positives[:, None] - negatives
    loss = np.log1p(np.nansum(np.exp(-differences / temperature), axis=1))
    return {
        "teacher's score": {"positives": positives, "hardest negatives": np.nanmax(negatives, axis=1)},
        "positive minus negative": {"": differences[np.isfinite(differences)]},
        f"InfoNCE by the teacher, temperature {temperature:g}": {"": loss},
    }


def plot_overlaps(study: Study, config: Config, mined: MinedSets, path: Path) -> Path | None:
    """Mean Jaccard overlap of the negatives of every two rows (paper, Tables 6 to 8), of the first set."""
    rows = _mined_rows(study)
    if len(rows) < 2:  # noqa: PLR2004 - an overlap needs two
        return None
    name = config.train[0]["name"]
    choices = [_negatives(mined.read(row.cells[0].mining, name)) for row in rows]
    return plot_overlap([row.label for row in rows], overlap_matrix(choices), path)


def _mined_rows(study: Study) -> list[Row]:
    """Rows with mined negatives, those of the same mining once."""
    found: dict[Any, Row] = {}
    for row in study.rows:
        mining = row.cells[0].mining
        if mining.teachers:
            found.setdefault(mining, row)
    return list(found.values())


def _row_scores(row: Row, config: Config, mined: MinedSets) -> tuple[np.ndarray, np.ndarray]:
    """Scores of positives ``[B]`` and negatives ``[B, n]`` of all sets, rows without negatives left out."""
    parts = [scores_of(mined.read(row.cells[0].mining, entry["name"])) for entry in config.train]
    positives = np.concatenate([part["positives"] for part in parts])
    negatives = np.concatenate([part["negatives"] for part in parts])
    kept = np.isfinite(negatives).any(axis=1)
    return positives[kept], negatives[kept]


def _negatives(rows: Any) -> np.ndarray:
    """Keys of the negatives' texts, int64 ``[B, n]``, -1 where a row is short."""
    lists = rows["negatives"][:]
    keys = np.full((len(lists), max(map(len, lists))), -1, np.int64)
    for at, texts in enumerate(lists):
        keys[at, : len(texts)] = (text_numbers(texts) >> np.uint64(1)).astype(np.int64)
    return keys


def _histogram(axis: Any, values: Mapping[str, np.ndarray], edges: np.ndarray) -> None:
    for number, (label, numbers) in enumerate(values.items()):
        colour = COLOURS[number] if len(values) > 1 else COLOURS[2]
        axis.hist(numbers, edges, density=True, histtype="stepfilled", color=colour, alpha=0.35)
        axis.hist(numbers, edges, density=True, histtype="step", color=colour, linewidth=1.2, label=label or None)


def _scores(study: Study, config: Config, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Scores ``[seeds, Q]`` of each row that is done, all collections side by side."""
    found = {}
    for row in study.rows:
        there = [r for cell in row.cells if "collections" in (r := records.get(config.digest(cell), {}))]
        if there:
            found[row.label] = np.array(
                [np.concatenate([f["scores"] for f in r["collections"].values()]) for r in there]
            )
    return found


def _spelled(measure: str) -> str:
    return measure.upper().replace("RECALL", "Recall")


def figure_names(paths: Sequence[Path]) -> list[str]:
    """Markdown lines that show figures that are stored beside the text."""
    return [f"![{path.stem.replace('-', ', ')}]({path.name})" for path in paths]
