"""What an ablation leaves behind: its tables as Markdown and JSON, its figures, and what is still to be done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ablation.figures import draw, figure_names
from ablation.table import check_same_queries, markdown, study_table
from hf_posmine.evaluation import DRAWS
from hf_posmine.utils import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablation.cell import Cells


LEGEND = (
    'Differences have 95 % intervals over seeds and queries (over queries alone where there is one seed); "open" is what may '
    "not be claimed, because the corrected test, the permutation test and the interval do not agree. dz is the mean "
    "difference by its standard deviation over queries. False negatives are the negatives that judgements call relevant, "
    "where there are any; hardness is the mean score of the negatives divided by that of the positives, by their teacher."
)


def write_report(cells: Cells, folder: Path, *, command: str = "", figures: bool = True, draws: int = DRAWS) -> Path:
    """Write ``ablation.md``, ``ablation.json`` and the figures, as far as cells are done.

    Args:
        cells: of the ablation.
        folder: where they go.
        command: what was run.
        figures: whether to draw them, which needs matplotlib.
        draws: of permutations and resamples.
    """
    records = cells.done
    check_same_queries(records)
    config = cells.config
    tables, parts = [], [f"# Ablation {config.name}", about(records, command), LEGEND]
    for study in config.studies:
        table = study_table(config, study, records, draws)
        tables.append(table)
        parts.append(markdown(table))
        if figures and table["rows"]:
            parts += figure_names(draw(study, config, cells.mined, table, records, folder))
    first = next(iter(records.values()), {})
    report = {
        "name": config.name, "command": command, "machine": first.get("machine"), "versions": first.get("versions"),
        "training": dict(config.training), "seconds": seconds(records), "studies": tables,
    }  # fmt: skip
    write_file(folder / "ablation.json", lambda path: path.write_text(json.dumps(report, indent=1) + "\n"))
    write_file(folder / "ablation.md", lambda path: path.write_text("\n\n".join(parts).rstrip() + "\n"))
    return folder / "ablation.md"


def about(records: Mapping[str, Any], command: str) -> str:
    """One paragraph: the command, the machine, the versions and the time."""
    if not records:
        return "No cell is done yet."
    first = next(iter(records.values()))
    machine, versions = first["machine"], first["versions"]
    spent = seconds(records)
    parts = ", ".join(f"{name} {value / 60:.0f}" for name, value in spent.items())
    cpu = sum(record.get("cpu_seconds", 0) for record in records.values())
    sentences = [
        f"`{command}`." if command else "",
        f"{len(records)} cells, {sum(spent.values()) / 60:.0f} minutes by the clock",
    ]
    sentences[1] += f" ({parts}), students {cpu / 60:.0f} CPU minutes; {machine['processor']}, "
    sentences[1] += f"{machine['threads']} thread{'s' * (machine['threads'] > 1)} a cell; "
    sentences[1] += ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    return " ".join(part for part in sentences if part)


def seconds(records: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of mining, training and evaluation, each mining counted once."""
    minings = {json.dumps(r["cell"]["mining"], sort_keys=True): r["mining"] for r in records.values()}
    mined = sum(found.get("seconds", 0) for sets in minings.values() for found in sets.values())
    both = {
        name: sum(r["seconds"][name] for r in records.values() if "seconds" in r) for name in ("training", "evaluation")
    }
    return {"mining": mined, **both}


def estimate(cells: Cells, records: Mapping[str, Any]) -> float | None:
    """Seconds that the missing cells will take, by those of the same training that are done; None before there are any."""
    done: dict[str, list[float]] = {}
    for record in records.values():
        if "seconds" in record:
            done.setdefault(record["cell"]["training"], []).append(sum(record["seconds"].values()))
    if not done:
        return None
    everything = np.mean([value for values in done.values() for value in values])
    config = cells.config
    trainings = [config.cells[digest].training for digest in cells.missing]
    return float(sum(np.mean(done[name]) if name in done else everything for name in trainings))
