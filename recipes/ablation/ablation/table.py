"""Tables of an ablation: means over seeds, differences from a baseline with intervals, and the paper's order beside ours."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core import InputError
from hf_posmine.evaluation import DRAWS, compare, compare_runs, corrected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablation.config import Config
    from ablation.grid import Row, Study
    from hf_posmine.evaluation import Comparison, Scores

    Records = Mapping[str, Mapping[str, Any]]
    Systems = Mapping[str, Mapping[str, Scores]]


def study_table(config: Config, study: Study, records: Records, draws: int = DRAWS) -> dict[str, Any]:
    """A study as far as its cells are done.

    Args:
        config: of the ablation.
        study: one of its studies.
        records: results of cells by digest.
        draws: of permutations and resamples.

    Returns:
        ``rows``, each with ``label``, ``seeds`` (done), ``average`` over collections, ``collections`` (mean, mean of each
        seed, and the comparison with the baseline), what came of mining, and the ``paper``'s figure; ``failed`` rows with
        the reason; and ``order`` against the paper where it has figures of two rows or more.
    """
    systems = _systems(config, study, records)
    failed = {row.label: reason for row in study.rows if (reason := _failure(config, row, records))}
    compared = _compared(study, systems, draws) if study.baseline in systems else {}
    rows = [
        {
            "label": row.label,
            "seeds": [cell.seed for cell in row.cells if _scores_there(records.get(config.digest(cell)))],
            "average": float(np.mean([scores.mean() for scores in systems[row.label].values()])),
            "collections": {
                name: _collection(scores, compared.get((row.label, name)), row.label, study.baseline)
                for name, scores in systems[row.label].items()
            },
            "mining": _mining(config, row, records),
            "paper": study.paper.get(row.label),
        }
        for row in study.rows
        if row.label in systems
    ]
    return {
        "study": study.name, "title": study.title, "measure": config.measure, "baseline": study.baseline,
        "source": study.source, "rows": rows, "failed": failed, "order": _order(study, systems, draws),
        "cells": {"done": sum(config.digest(cell) in records for cell in study.cells), "all": len(study.cells)},
    }  # fmt: skip


def _systems(config: Config, study: Study, records: Records) -> dict[str, dict[str, Scores]]:
    """Scores float64 ``[seeds, Q]`` by row and collection, of rows with a seed that is done."""
    systems: dict[str, dict[str, Scores]] = {}
    for row in study.rows:
        there = [records[digest] for cell in row.cells if (digest := config.digest(cell)) in records]
        there = [record for record in there if _scores_there(record)]
        if there:
            names = there[0]["collections"]
            systems[row.label] = {name: np.array([r["collections"][name]["scores"] for r in there]) for name in names}
    return systems


def _scores_there(record: Mapping[str, Any] | None) -> bool:
    return record is not None and "collections" in record


def _failure(config: Config, row: Row, records: Records) -> str | None:
    found = (records.get(config.digest(cell), {}).get("failed") for cell in row.cells)
    return next((reason for reason in found if reason), None)


def _compared(study: Study, systems: Systems, draws: int) -> dict[tuple[str, str], Comparison]:
    """Every row with the baseline on every collection, with Holm's correction over all of them."""
    base = systems[study.baseline]
    made = {
        (label, name): two_systems(base[name], scores, draws)
        for label, found in systems.items()
        if label != study.baseline
        for name, scores in found.items()
    }
    return corrected(made) if made else {}


def two_systems(a: Scores, b: Scores, draws: int = DRAWS) -> Comparison:
    """B against A, ``[seeds, Q]`` each: over seeds and queries where both have two seeds, else over queries alone."""
    options: dict[str, Any] = {"permutations": draws, "resamples": draws}
    if min(len(a), len(b)) > 1:
        return compare_runs(a, b, **options)
    return compare(a.mean(axis=0), b.mean(axis=0), **options)


def mean_interval(scores: Scores, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean, over seeds and queries where there are two seeds, from scores ``[seeds, Q]``."""
    found = two_systems(np.zeros_like(scores), scores, draws)
    return found.low, found.high


def _collection(scores: Scores, found: Comparison | None, label: str, baseline: str) -> dict[str, Any]:
    figures: dict[str, Any] = {"mean": float(scores.mean()), "seed_means": scores.mean(axis=1).tolist()}
    if found is not None:
        figures |= {
            "comparison": asdict(found),
            "differs": found.differs(),
            "sentence": found.sentence(baseline, label),
        }
    return figures


def _mining(config: Config, row: Row, records: Records) -> dict[str, Any]:
    """Means over seeds and sets of what mining gave."""
    statistics = [s for c in row.cells if (r := records.get(config.digest(c))) for s in r["mining"].values()]
    found = {}
    for name in ("false_negative_rate", "hardness", "short_rows"):
        values = [s[name] for s in statistics if s.get(name) is not None]
        found[name] = float(np.mean(values)) if values else None
    return found


def _order(study: Study, systems: Systems, draws: int) -> dict[str, Any] | None:
    """Kendall's tau of the paper's order and ours, and which pairs of rows differ."""
    from scipy import stats

    labels = [label for label in study.paper if label in systems]
    if len(labels) < 2:  # noqa: PLR2004 - an order needs two
        return None
    ours = {label: float(np.mean([s.mean() for s in systems[label].values()])) for label in labels}
    paper = [study.paper[label] for label in labels]
    tau = float(stats.kendalltau(paper, [ours[label] for label in labels]).statistic)
    made = {
        (worse, better, name): two_systems(systems[worse][name], systems[better][name], draws)
        for worse, better in (sorted(pair, key=study.paper.__getitem__) for pair in itertools.combinations(labels, 2))
        if study.paper[worse] != study.paper[better]
        for name in systems[worse]
    }
    pairs = [
        {
            "worse": worse, "better": better, "collection": name, "paper": study.paper[better] - study.paper[worse],
            "ours": found.difference, "low": found.low, "high": found.high, "adjusted_p": found.adjusted_p,
            "verdict": _verdict(found),
        }
        for (worse, better, name), found in corrected(made).items()
    ]  # fmt: skip
    return {
        "tau": tau,
        "paper": sorted(labels, key=study.paper.__getitem__),
        "ours": sorted(labels, key=ours.__getitem__),
        "pairs": pairs,
    }


def _verdict(found: Comparison) -> str:
    if not found.differs():
        return "open"
    return "agrees" if found.difference > 0 else "contradicts"


def markdown(table: Mapping[str, Any]) -> str:
    """A study's table, a row per method, with a sentence on the order."""
    if not table["rows"]:
        return f"## {table['title']}\n\nNo cell is done yet.\n"
    names = list(table["rows"][0]["collections"])
    several = len(names) > 1
    header = ["method", *(["average"] if several else [])]
    for name in names:
        header += [name if several else table["measure"], f"against {table['baseline']}", "p (Holm)", "dz"]
    header += ["by seed", "false negatives", "hardness", *(["paper"] if table["order"] or _has_paper(table) else [])]
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    lines += [_line(row, names, several, len(header)) for row in table["rows"]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    parts = [f"## {table['title']}", text]
    done = table["cells"]
    if done["done"] < done["all"]:
        parts.append(f"{done['done']} of {done['all']} cells are done.")
    parts += [f"- {label}: not trained ({reason})" for label, reason in table["failed"].items()]
    if table["order"]:
        parts.append(order_text(table))
    return "\n\n".join(parts) + "\n"


def _has_paper(table: Mapping[str, Any]) -> bool:
    return any(row["paper"] is not None for row in table["rows"])


def _line(row: Mapping[str, Any], names: Sequence[str], several: bool, width: int) -> list[str]:
    cells = [f"`{row['label']}`", *([f"{row['average']:.4f}"] if several else [])]
    for name in names:
        found = row["collections"][name]
        made = found.get("comparison")
        if made is None:
            cells += [f"{found['mean']:.4f}", "", "", ""]
        else:
            claim = "" if found["differs"] else " (open)"
            cells += [
                f"{found['mean']:.4f}",
                f"{made['difference']:+.4f} ({made['low']:+.4f} to {made['high']:+.4f}){claim}",
                spell_p(made["adjusted_p"]),
                f"{made['effect_size']:+.2f}",
            ]
    first = row["collections"][names[0]]
    mining = row["mining"]
    cells += [
        " ".join(f"{mean:.3f}" for mean in first["seed_means"]),
        "" if mining["false_negative_rate"] is None else f"{mining['false_negative_rate']:.1%}",
        "" if mining["hardness"] is None else f"{mining['hardness']:.2f}",
    ]
    if len(cells) < width:
        cells.append("" if row["paper"] is None else f"{row['paper']:.4f}")
    return cells


def spell_p(p: float) -> str:
    """A p-value as tables show it."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"  # noqa: PLR2004


def order_text(table: Mapping[str, Any]) -> str:
    """What the paper's order and ours have in common, pair by pair."""
    order = table["order"]
    counts = {
        verdict: [p for p in order["pairs"] if p["verdict"] == verdict] for verdict in ("agrees", "contradicts", "open")
    }
    parts = [
        f"Order, worst first. Paper ({table['source']}): {' < '.join(f'`{name}`' for name in order['paper'])}. "
        f"Here: {' < '.join(f'`{name}`' for name in order['ours'])}. Kendall's tau {order['tau']:+.2f}. Of "
        f"{len(order['pairs'])} pairs (Holm over all of them) {len(counts['agrees'])} agree with the paper, "
        f"{len(counts['contradicts'])} are reversed, and {len(counts['open'])} do not differ significantly."
    ]
    for verdict, word in (("contradicts", "Reversed"), ("open", "No significant difference")):
        if counts[verdict]:
            pairs = ", ".join(
                f"`{p['worse']}` and `{p['better']}` ({p['ours']:+.4f}; paper {p['paper']:+.4f})"
                for p in counts[verdict]
            )
            parts.append(f"{word}: {pairs}.")
    return "\n\n".join(parts)


def check_same_queries(records: Records) -> None:
    """See that all cells were measured on the same queries.

    Raises:
        InputError: two that were not.
    """
    first: dict[str, tuple[str, list[str]]] = {}
    for digest, record in records.items():
        for name, found in record.get("collections", {}).items():
            other, ids = first.setdefault(name, (digest, found["query_ids"]))
            if ids != found["query_ids"]:
                raise InputError(
                    f"cells {other} and {digest} were measured on other queries of {name!r}: the data changed in between; "
                    "delete the older ones, or choose another output folder"
                )
