"""Does a guaranteed false-negative rate hold, and what hardness does it cost? On adi, Cranfield, SciFact and Vaswani.

    python -m benchmarks.guarantee --output docs/benchmarks [--resamples 1000]

Every setting of the ladder is mined once per collection. Then calibration queries are drawn with replacement from the queries of
the collection, which are the population: its true rates are known exactly, so a certified setting with a true rate above the
wanted one is an error of the method, and no sampling of a test set hides it. A judge's verdicts and counts are drawn anew each
time. Halves of the real queries are tried as well, where the test half is a sample, too. A collection that is done is in
guarantee.json and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data"
COLLECTIONS = ("adi", "cranfield", "vaswani", "scifact")
KINDS = {"complete": "rest", "held out": "one"}
RATES, ERROR = (0.02, 0.05, 0.1), 0.05
SIZES = (100, 200, 500, 2000)
ABILITIES = (0.6, 0.7, 0.8, 0.9, 1.0)
JUDGED = ((200, 200), (1000, 1000))
"""Queries whose negatives are judged, and passages of each kind on which the judge's errors are counted."""
JUDGE_RATE = 0.05
PER_ROW, MOST_JUDGED = 4, 300
"""Negatives; and queries from which on a judge is tried on those with several positives only, as in SciFact."""


@dataclass(frozen=True, eq=False)
class Population:
    """What mining with S settings gives for Q queries; ``families`` are the numbers of their settings, the safest first."""

    names: list[str]
    families: dict[str, list[int]]
    shares: np.ndarray
    negatives: np.ndarray
    score: np.ndarray
    positive: np.ndarray

    @property
    def tried(self) -> np.ndarray:
        """Whether each setting is in a family."""
        return np.isin(np.arange(len(self.names)), list(chain.from_iterable(self.families.values())))

    @property
    def true(self) -> np.ndarray:
        """The true rate of each setting."""
        return np.nanmean(self.shares, axis=1)

    def hardness(self) -> np.ndarray:
        """Mean score of the negatives divided by that of their positives."""
        return self.score.sum(axis=1) / self.positive.sum(axis=1)

    def gaps(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Positive minus negative score, ``[R, S]`` for weights ``[R, Q]``."""
        weights = np.ones((1, self.shares.shape[1])) if weights is None else weights
        return (weights @ (self.positive - self.score).T) / np.maximum(weights @ self.negatives.T, 1e-9)

    def only(self, family: str) -> Population:
        return Population(
            self.names, {family: self.families[family]}, self.shares, self.negatives, self.score, self.positive
        )

    def oracle(self, rate: float) -> int:
        """The hardest setting whose true rate is at most ``rate``, -1 without."""
        good = np.flatnonzero((self.true <= rate) & self.tried)
        return int(good[self.gaps()[0, good].argmin()]) if len(good) else -1


def load(name: str):
    from hf_posmine import Corpus, DenseTeacher
    from hf_posmine.evaluation import load_judged

    corpus, judgements, _ = load_judged(DATA / name, "qrels", None, 0)
    queries = Corpus.from_texts(judgements.queries.values(), match="exact")
    return corpus, judgements, DenseTeacher("embedded", corpus, queries=queries)


def population(trial, sums) -> Population:
    families: dict[str, list[int]] = {}
    for at, setting in enumerate(trial.settings):
        families.setdefault(setting.family, []).append(at)
    names = [setting.spelled[1] for setting in trial.settings]
    return Population(names, families, sums.shares, sums.negatives, sums.score, sums.positive)


def hidden(corpus, judgements, teacher, hide: str) -> Population:
    """Positives that are hidden."""
    from hf_posmine.evaluation.negatives.calibrate import Trial, count_hidden
    from hf_posmine.evaluation.negatives.hold_out import HiddenRows
    from hf_posmine.evaluation.negatives.ladder import declared, joined

    used, ladder = declared(corpus, judgements, teacher, None, 0, several=True)
    trial = Trial.of(corpus, HiddenRows.of(corpus, used, hide), teacher, joined(ladder, ()), {"num_negatives": PER_ROW})
    return population(trial, count_hidden(trial))


def labelled_once(corpus, judgements, teacher) -> tuple[Population, np.ndarray]:
    """One known positive per query, as in a training set; and per negative its number among those of its query.

    Returns:
        The population, whose false negatives are by the complete judgements; and int64 ``[S, Q, n]``: the number of each negative
        among the query's own, twice, plus 1 where it is relevant; -1 where there is none.
    """
    from hf_posmine.evaluation.negatives.calibrate import Trial
    from hf_posmine.evaluation.negatives.calibration import Sums
    from hf_posmine.evaluation.negatives.false_negatives import Judgements
    from hf_posmine.evaluation.negatives.hold_out import HiddenRows
    from hf_posmine.evaluation.negatives.ladder import declared, joined, only

    visible = judgements.draw_visible(0)
    labels = Judgements(judgements.queries, {q: frozenset([d]) for q, d in visible.items()}, judgements.unknown)
    used, ladder = declared(corpus, labels, teacher, None, 0, several=False)
    if len(used.relevant) > MOST_JUDGED:
        used = only(used, [query for query in used.relevant if len(judgements.relevant[query]) > 1])
    rows = HiddenRows.whole(corpus, used)
    by_text: dict[str, set[str]] = {}
    for query, documents in judgements.relevant.items():
        by_text.setdefault(judgements.queries[query], set()).update(documents)
    relevant = [corpus.rows_of_ids(sorted(by_text[query])) for query in rows.queries]
    trial = Trial.of(corpus, rows, teacher, joined(ladder, ()), {"num_negatives": PER_ROW})
    sums = Sums.zeros(len(trial.settings), len(rows.queries))
    found = np.full((len(trial.settings), len(rows.queries), PER_ROW), -1)
    for at, start, mined in trial.mined():
        numbers = start + np.arange(len(mined.rows))
        false = np.array([np.isin(row, relevant[q]) for q, row in zip(numbers, mined.rows, strict=True)]) & (
            mined.rows >= 0
        )
        sums.add(at, numbers, np.ones(len(rows.queries)), mined, false)
        found[at, numbers] = mined.rows
    for q in range(len(rows.queries)):
        documents = np.unique(found[:, q][found[:, q] >= 0])
        coded = 2 * np.searchsorted(documents, found[:, q]) + np.isin(found[:, q], relevant[q])
        found[:, q] = np.where(found[:, q] >= 0, coded, -1)
    return population(trial, sums), found


def certified(capital: np.ndarray, families: dict[str, list[int]]) -> np.ndarray:
    """Which settings ``[S]`` pass in each resample ``[R]``, tested in order within their families."""
    passed = np.zeros(capital.shape, bool)
    for members in families.values():
        passed[members] = np.logical_and.accumulate(capital[members] >= np.log(len(families) / ERROR), axis=0)
    return passed


def hardest(passed: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """The hardest of the settings ``[S, R]`` that passed, by gaps ``[R, S]``; -1 without."""
    chosen = np.where(passed, gaps.T, np.inf).argmin(axis=0)
    return np.where(passed.any(axis=0), chosen, -1)


def outcome(people: Population, chosen: np.ndarray, rate: float, true: np.ndarray | None = None) -> dict:
    """What resamples came to: ``true`` is the rate of each setting, or of each in each resample ``[R, S]``."""
    true = people.true if true is None else true
    some = np.flatnonzero(chosen >= 0)
    rates = true[chosen[some]] if true.ndim == 1 else true[some, chosen[some]]
    best = people.oracle(rate)
    hard = people.hardness()
    return {
        "certified": len(some) / len(chosen),
        "above": float((rates > rate).sum() / len(chosen)),
        "true_rate": float(rates.mean()) if len(some) else None,
        "hardness": float(hard[chosen[some]].mean()) if len(some) else None,
        "oracle_hardness": float(hard[best]) if best >= 0 else None,
        "oracle": people.names[best] if best >= 0 else None,
    }


def resampled(people: Population, size: int, rate: float, resamples: int, rng, other: np.ndarray) -> dict:
    """Samples of queries with replacement; ``other`` are true rates if more labels are missing than the evidence assumes."""
    from hf_posmine.evaluation.negatives.betting import bets, log_capital

    queries = people.shares.shape[1]
    weights = rng.multinomial(size, np.full(queries, 1 / queries), size=resamples).astype(float)
    capital = log_capital(bets(people.shares, rate) @ weights.T)
    gaps = people.gaps(weights)
    chosen = hardest(certified(capital, people.families), gaps)
    there = ~np.isnan(people.shares)
    estimate = (np.nan_to_num(people.shares) @ weights.T) / np.maximum(there @ weights.T, 1e-9)
    return {
        "ladder": outcome(people, chosen, rate),
        "estimate": outcome(people, hardest((estimate <= rate) & people.tried[:, None], gaps), rate),
        "more_missing": outcome(people, chosen, rate, other)["above"],
    }


def at_the_edge(people: Population, resamples: int, rng) -> dict:
    """Bounds that are just below the true rate of a setting, each setting in turn: where errors are likeliest."""
    from hf_posmine.evaluation.negatives.betting import bets, log_capital

    queries = people.shares.shape[1]
    edges = sorted({float(rate) for rate in people.true if 0.01 <= rate <= 0.2})
    above = {}
    for size in SIZES:
        weights = rng.multinomial(size, np.full(queries, 1 / queries), size=resamples).astype(float)
        gaps = people.gaps(weights)
        for edge in edges:
            passed = certified(log_capital(bets(people.shares, edge * (1 - 1e-9)) @ weights.T), people.families)
            chosen = hardest(passed, gaps)
            any_wrong = (passed & (people.true >= edge)[:, None]).any(axis=0)
            above[size, edge] = (
                float(any_wrong.mean()),
                float((people.true[chosen[chosen >= 0]] >= edge).sum() / resamples),
            )
    wrong, chosen_wrong = (max(pair[at] for pair in above.values()) for at in (0, 1))
    return {"edges": len(edges), "cells": len(above), "any_above": wrong, "above": chosen_wrong}


def halves(people: Population, rate: float, resamples: int, rng) -> dict:
    """Half of the real queries certify; the other half, a sample too, is what the rate is compared with."""
    from hf_posmine.evaluation.negatives.betting import bets, log_capital

    queries = people.shares.shape[1]
    order = np.argsort(rng.random((resamples, queries)), axis=1)
    here = (order < queries // 2).astype(float)
    capital = log_capital(bets(people.shares, rate) @ here.T)
    there = (1 - here) @ np.nan_to_num(people.shares).T / np.maximum((1 - here) @ (~np.isnan(people.shares)).T, 1)
    return outcome(people, hardest(certified(capital, people.families), people.gaps(here)), rate, there)


def by_judge(
    people: Population, found: np.ndarray, ability: tuple[float, float], size: int, counted: int, resamples: int, rng
):
    """Verdicts and counts of a judge drawn anew for every drawn query."""
    from hf_posmine.evaluation import MeasuredJudge, OracleJudge
    from hf_posmine.evaluation.negatives.betting import CAPITAL, bets

    sensitivity, specificity = ability
    settings, queries, width = found.shape
    cells = (width + 1) ** 2
    drawn = rng.multinomial(size, np.full(queries, 1 / queries), size=resamples)
    counts = np.zeros((cells, resamples, settings))
    for q in range(queries):
        mine, documents = found[:, q], found[:, q].max() // 2 + 1
        relevant = np.zeros(documents, bool)
        relevant[mine[mine >= 0] // 2] = mine[mine >= 0] % 2 == 1
        member = np.zeros((documents, settings), np.float32)
        np.add.at(member, (mine[mine >= 0] // 2, np.nonzero(mine >= 0)[0]), 1)
        chances = np.round(np.where(relevant, sensitivity, 1 - specificity) * 65536)
        some = np.flatnonzero(drawn[:, q])
        starts = np.cumsum(drawn[some, q]) - drawn[some, q]
        bits = np.frombuffer(rng.bytes(2 * drawn[:, q].sum() * documents), np.uint16).reshape(-1, documents)
        called = ((bits < chances).astype(np.float32) @ member).astype(np.uint8)
        negatives = (mine >= 0).sum(axis=1)
        for most, number in ((f, k) for f in np.unique(negatives) for k in range(f + 1)):
            here = np.flatnonzero(negatives == most)
            counts[most * (width + 1) + number, some[:, None], here] += np.add.reduceat(
                (called[:, here] == number).view(np.uint8), starts, axis=0, dtype=np.uint16
            )
    share = np.array([called / got if got else np.nan for got in range(width + 1) for called in range(width + 1)])
    share[share > 1] = np.nan  # no such cell
    capital = np.full((settings, resamples), -np.inf)
    right, good = rng.binomial(counted, specificity, resamples), rng.binomial(counted, sensitivity, resamples)
    thresholds: dict[tuple[int, int], float | None] = {}
    for r in range(resamples):
        key = int(right[r]), int(good[r])
        if key not in thresholds:
            judge = MeasuredJudge(OracleJudge({}), ((key[0], counted - key[0]), (counted - key[1], key[1])))
            thresholds[key] = judge.threshold(JUDGE_RATE, ERROR) if sum(judge.ends(ERROR)) > 1 else None
        if (threshold := thresholds[key]) is not None:
            sums = bets(share, threshold) @ counts[:, r]
            capital[:, r] = np.logaddexp.reduce(sums + np.log(CAPITAL)[:, None], axis=0)
    spent = MeasuredJudge(OracleJudge({}), ((1, 1), (1, 1))).spent(ERROR) / ERROR
    passed = certified(capital + np.log(1 - spent), people.families)  # what is left of the error
    return outcome(people, hardest(passed, people.gaps(drawn.astype(float))), JUDGE_RATE)


def measure(name: str, resamples: int) -> dict:
    corpus, judgements, teacher = load(name)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    people = {kind: hidden(corpus, judgements, teacher, hide) for kind, hide in KINDS.items()}
    once, found = labelled_once(corpus, judgements, teacher)
    mined = time.perf_counter() - start
    cells = []
    edges = {kind: at_the_edge(one, resamples, rng) for kind, one in people.items()}
    for kind, one in people.items():
        other = people["complete"].true
        for rate in RATES:
            cells.append({"kind": kind, "rate": rate, "size": "half", "halves": halves(one, rate, resamples, rng)})
            for size in SIZES:
                cells.append(
                    {"kind": kind, "rate": rate, "size": size} | resampled(one, size, rate, resamples, rng, other)
                )
                cells[-1]["PercPos"] = resampled(one.only("PercPos"), size, rate, resamples, rng, other)["ladder"]
    judged = [
        {"sensitivity": se, "specificity": sp, "size": size, "counted": counted}
        | by_judge(once, found, (se, sp), size, counted, resamples, rng)
        for size, counted in JUDGED
        for se in ABILITIES
        for sp in ABILITIES
    ]
    return {
        "queries": {kind: one.shares.shape[1] for kind, one in people.items()} | {"judge": found.shape[1]},
        "settings": len(once.names), "cells": cells, "edges": edges, "judge": judged, "seconds_mined": mined,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


EXPLAINED = """
Calibration queries are drawn with replacement from a collection's queries, which are the population, so the true rate of a
setting is known exactly. *certified*: resamples in which some setting passed; in the others mining is refused. *above*:
resamples in which the chosen setting's true rate is above the bound, of all. *true rate*, *hardness*: means over the chosen
settings; hardness is the mean score of the negatives divided by that of their positives, and the oracle's is that of the
hardest setting whose true rate is within the bound. *estimate above*: the same choice by the estimated rate alone. *more
missing*: resamples in which the true rate is above the bound if all labels but one are missing, though the evidence hid one at
a time: an assumption that fails, and a promise that fails with it.
"""
EDGES = """
Rates like 0.05 lie between those of two settings, which makes errors rare. Here the bound is, in turn, just below the true rate
of every setting that has 1 % to 20 %, with {} queries: the largest share of resamples in which the chosen setting's true rate
is above the bound, and in which any certified setting's is, which is what the proof bounds.
"""


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}".replace("%", " %")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def rows_of_kind(found: dict, kind: str) -> list[str]:
    lines = []
    for name, collection in found["collections"].items():
        for cell in collection["cells"]:
            if cell["kind"] != kind or cell["size"] == "half":
                continue
            one, guess, alone = cell["ladder"], cell["estimate"], cell["PercPos"]
            lines.append(
                f"| {name} | {cell['rate']:g} | {cell['size']:,} | {percent(one['certified'])} | **{percent(one['above'])}** | "
                f"{percent(one['true_rate'])} | {number(one['hardness'])} | {number(one['oracle_hardness'])} | "
                f"{percent(guess['above'])} | {percent(alone['above'])} | {number(alone['hardness'])} | "
                f"{number(alone['oracle_hardness'])} | {percent(cell['more_missing']) if kind == 'held out' else '-'} |"
            )
    return lines


def rows_of_halves(found: dict) -> list[str]:
    return [
        f"| {name} | {cell['kind']} | {cell['rate']:g} | {collection['queries'][cell['kind']] // 2} | "
        f"{percent(cell['halves']['certified'])} | {percent(cell['halves']['above'])} | {percent(cell['halves']['true_rate'])} |"
        for name, collection in found["collections"].items()
        for cell in collection["cells"]
        if cell["size"] == "half"
    ]


def rows_of_edges(found: dict) -> list[str]:
    return [
        f"| {name} | {kind} | {edge['edges']} | {percent(edge['above'])} | {percent(edge['any_above'])} |"
        for name, collection in found["collections"].items()
        for kind, edge in collection["edges"].items()
    ]


def rows_of_judges(found: dict, size: int) -> list[str]:
    lines = []
    for name, collection in found["collections"].items():
        for se in ABILITIES:
            cells = [c for c in collection["judge"] if (c["sensitivity"], c["size"]) == (se, size)]
            shown = [
                f"{percent(c['certified'])}, **{percent(c['above'])}**, "
                + (f"{c['hardness'] / c['oracle_hardness']:.2f}" if c["hardness"] and c["oracle_hardness"] else "-")
                for c in cells
            ]
            lines.append(f"| {name} | {se:g} | {' | '.join(shown)} |")
    return lines


def worst(found: dict) -> tuple[float, int]:
    """The largest share of resamples above the rate, and how many cells there are."""
    cells = [
        value
        for collection in found["collections"].values()
        for value in [
            *(
                cell[ladder]["above"]
                for cell in collection["cells"]
                if "ladder" in cell
                for ladder in ("ladder", "PercPos")
            ),
            *(cell["above"] for cell in collection["judge"]),
            *(edge["above"] for edge in collection["edges"].values()),
        ]
    ]
    return max(cells), len(cells)


def page(found: dict) -> str:
    most, cells = worst(found)
    head = ["collection", "rate", "queries", "certified", "above", "true rate", "hardness", "of the oracle", "estimate above",
            "PercPos alone: above", "hardness", "of its oracle", "more missing"]  # fmt: skip
    kinds = {
        "complete": "Complete judgements",
        "held out": "One known positive held out",
    }
    lines = [
        "# A guaranteed false-negative rate: coverage and cost", "",
        f"{found['resamples']:,} resamples per cell, all-MiniLM-L6-v2, {PER_ROW} negatives, 95 % confidence. What is promised: "
        " [a guaranteed rate](../guarantee.md).", "",
        f"**In {cells:,} cells the share of resamples with a true rate above the bound is at most {most:.1%}; allowed are "
        f"{ERROR:.0%}.**".replace("%", " %"), "",
        *(" ".join(text.split()) for text in (EXPLAINED, "")),
        "Queries of the populations (a tenth, and at least 10, scale the ladder and are left out): "
        + "; ".join(
            f"{name} {c['queries']['complete']} with several positives, {c['queries']['judge']} with a judge"
            for name, c in found["collections"].items()
        )
        + ".", "",
    ]  # fmt: skip
    for kind, title in kinds.items():
        lines += [
            f"## {title}",
            "",
            f"| {' | '.join(head)} |",
            "|---" * len(head) + "|",
            *rows_of_kind(found, kind),
            "",
        ]
    lines += [
        "## Bounds at the edge", "",
        " ".join(EDGES.split()).format(", ".join(f"{size:,}" for size in SIZES)), "",
        "| collection | evidence | bounds | above | any above |", "|---|---|---|---|---|", *rows_of_edges(found), "",
        "## Halves of the real queries", "",
        "Half of the queries certify, and the rate of the chosen setting is that of the other half. It is a sample as well, so "
        "it may lie above the bound where the true rate does not; nothing is promised about this share.", "",
        "| collection | evidence | rate | queries | certified | other half above | its rate |", "|---|---|---|---|---|---|---|",
        *rows_of_halves(found), "",
    ]  # fmt: skip
    for size, counted in JUDGED:
        lines += [
            f"## A judge: {size:,} queries judged, its errors counted on {counted:,} passages of each kind", "",
            f"One positive per query is labelled, as in a training set. Rate {JUDGE_RATE:g}; rows are sensitivities, columns "
            "specificities. Each cell: certified, **above**, and the hardness as a share of the oracle's.", "",
            f"| collection | sensitivity | {' | '.join(f'{sp:g}' for sp in ABILITIES)} |", "|---" * (2 + len(ABILITIES)) + "|",
            *rows_of_judges(found, size), "",
        ]  # fmt: skip
    seconds = sum(c["seconds"] for c in found["collections"].values())
    lines.append(
        f"Made by `python -m benchmarks.guarantee --output docs/benchmarks` in {seconds / 60:.0f} minutes on two cores."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from hf_posmine.mining.provenance import versions
    from hf_posmine.utils import write_file

    file = Path(args.output, "guarantee.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    if found.get("resamples") != args.resamples:
        found = {"resamples": args.resamples, "versions": versions(), "collections": {}}
    for name in args.collections:
        if name not in found["collections"]:
            found["collections"][name] = measure(name, args.resamples)
            write_file(file, lambda path: path.write_text(json.dumps(found, indent=1) + "\n"))
            print(f"{name}: {found['collections'][name]['seconds']:.0f} s")
    Path(args.output, "guarantee.md").write_text(page(found))


if __name__ == "__main__":
    main()
