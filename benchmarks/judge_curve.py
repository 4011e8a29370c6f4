"""When is a judge worth paying for? A student's NDCG@10 against the sensitivity and specificity of the judge of its negatives.

    python -m benchmarks.judge_curve --output docs/benchmarks/judge_curve.json [--collections cranfield vaswani] [--seeds 5]

One positive of each training query is known, the others are hidden; the embedded all-MiniLM-L6-v2 mines four negatives a
query. A judge that knows all judgements and errs at given rates (OracleJudge) judges them, what it calls relevant is dropped
or relabelled, and the next candidates are mined and judged in their place (top_up), as ``hf-posmine judge --top-up`` does. The
student, the average of MiniLM's word embeddings, is trained by a stage that reads ``judged_positives`` (run_stage).

Queries are split as in benchmarks/folds.py; the known positives, the judge's errors and the batches follow from the seed, too.
The learning rate of each action is chosen on dev. Ways are done in blocks, seed by seed, and the output has what is done after
each seed. Every cell is a file in ``--cells``, and one that is there is not repeated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.folds import (
    MEASURE,
    RATES,
    Cells,
    N,
    Records,
    Rows,
    Task,
    best_rate,
    differences,
    means,
    number,
    parser_of,
    spelled,
    studied,
    untrained,
)
from benchmarks.measure import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasets import Dataset

    from hf_posmine.evaluation import OracleJudge
    from hf_posmine.evaluation.judge.candidates import JudgedList, Verdict

DEPTH = 100
LEVELS = (0.6, 0.8, 0.9, 1.0)
CEILING = "PercPos(0.95)"


@dataclass(frozen=True)
class Way:
    """What becomes of mined negatives.

    Attributes:
        filters: ``naive`` or a ceiling.
        action: ``keep`` asks no judge; ``drop`` and ``relabel`` do.
        sensitivity: of the judge.
        specificity: of the judge.
        several: the loss of several positives.
    """

    filters: str = "naive"
    action: str = "keep"
    sensitivity: float = 1.0
    specificity: float = 1.0
    several: str = "log_sum_exp"

    @property
    def kept(self) -> Way:
        """The same negatives without a judge."""
        return Way(self.filters)


CHANCE = Way("naive", "relabel", 0.5, 0.5)
"""What near documents as further positives give, without any knowledge of which are relevant."""


def blocks() -> dict[str, list[Way]]:
    """Ways by block, the most telling first."""
    grid = [(se, sp) for se in LEVELS for sp in LEVELS]
    rounds = {
        "oracle": [(1.0, 1.0)],
        "alike": [(0.8, 0.8), (0.6, 0.6)],
        "corners": [(1.0, 0.6), (0.6, 1.0)],
        "the rest of 0.8": [(1.0, 0.8), (0.8, 1.0), (0.8, 0.6), (0.6, 0.8)],
        "0.9": [judge for judge in grid if 0.9 in judge],
    }
    relabel = {f"relabel, {name}": [Way("naive", "relabel", *judge) for judge in some] for name, some in rounds.items()}
    drop = {f"drop, {name}": [Way("naive", "drop", *judge) for judge in some] for name, some in rounds.items()}
    alike = [Way(CEILING, action, x, x) for x in (1.0, 0.8, 0.6) for action in ("relabel", "drop")]
    losses = [Way("naive", "relabel", x, x, loss) for loss in ("random", "mean", "rows") for x in (1.0, 0.8)]
    first = {
        "no judge": [Way(), Way(CEILING)],
        "drop, oracle": drop["drop, oracle"],
        "relabel, oracle": relabel["relabel, oracle"],
        "relabel, by chance": [CHANCE],
    }
    return first | relabel | drop | {"judge and ceiling": alike, "losses": losses}


@dataclass
class Counted:
    """A judge that counts the passages it is asked about."""

    judge: OracleJudge
    asked: int = 0

    def judge_candidates(self, lists: Sequence[JudgedList]) -> list[list[Verdict]]:
        self.asked += sum(len(one.passages) for one in lists)
        return self.judge.judge_candidates(lists)

    def costs(self) -> list:
        return self.judge.costs()


class Miner:
    """Mined and judged rows of a task with a seed; each way to mine is mined once."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        self.visible = task.judgements.draw_visible(seed)
        self.ids = list(self.visible)
        self.mined = cache(self._mined)

    def _mined(self, filters: str):
        from datasets import Dataset

        from hf_posmine import PositiveAwareMiner
        from hf_posmine.evaluation.negatives.false_negatives import visible_qrels

        corpus, judgements = self.task.corpus, self.task.judgements
        texts = corpus.texts(corpus.required_rows(list(self.visible.values()), "visible")).to_pylist()
        queries = [judgements.queries[query] for query in self.ids]
        miner = PositiveAwareMiner(
            corpus=corpus, teachers=[self.task.teacher], known_positives=visible_qrels(judgements, self.visible, self.ids),
            query_column="query", positive_column="positive", filters=[] if filters == "naive" else [filters],
            num_negatives=N, keep=("scores",), on_short="keep", weak_positive="keep",
        )  # fmt: skip
        pairs = Dataset.from_dict({"query": queries, "positive": texts})
        return miner, pairs.map(miner, batched=True, load_from_cache_file=False)

    def judged(self, way: Way) -> Rows:
        """The rows after a way's action, topped up."""
        from hf_posmine.evaluation import OracleJudge, apply_judgements, judge_negatives, top_up

        miner, rows = self.mined(way.filters)
        truth = OracleJudge.of(self.task.judgements, self.task.corpus)
        judge = Counted(replace(truth, sensitivity=way.sensitivity, specificity=way.specificity, seed=self.seed))
        if way.action != "keep":
            verdicts = judge_negatives(rows, judge, query_column="query", positive_column="positive")
            rows, verdicts = top_up(rows, verdicts, judge, miner, num_negatives=N, depth=DEPTH)
            rows = apply_judgements(rows, verdicts, action=way.action)
        return Rows(rows, self.ids, describe(rows, truth, judge.asked))


def describe(rows: Dataset, truth: OracleJudge, asked: int) -> dict[str, float | None]:
    """Passages judged and positives added per query; the shares of these and of the negatives that are relevant."""
    from hf_posmine.evaluation.judge.candidates import JudgedList

    queries = rows["query"][:]

    def relevant(column: str) -> tuple[int, int]:
        if column not in rows.column_names:
            return 0, 0
        lists = [JudgedList(q, "", tuple(found)) for q, found in zip(queries, rows[column][:], strict=True)]
        verdicts = [verdict for row in truth.judge_candidates(lists) for verdict in row]
        return sum(verdict == "equal" for verdict in verdicts), len(verdicts)

    false, negatives = relevant("negatives")
    right, added = relevant("judged_positives")
    return {
        "asked": asked / len(rows), "added": added / len(rows), "added_right": right / added if added else None,
        "false_negatives": false / max(1, negatives), "short": sum(len(row) < N for row in rows["negatives"][:]),
    }  # fmt: skip


miner_of = lru_cache(maxsize=1)(Miner)
"""The miner of a task and a seed; ways of one seed follow one another."""


def judged(task: Task, way: Way, seed: int) -> Rows:
    """The rows of a way."""
    return miner_of(task, seed).judged(way)


def cells_of(folder: Path, student: Path, **options: Any) -> Cells[Way]:
    """The cells of this study."""
    return Cells(folder, student, judged, lambda way: way.several, **options)


def measure(
    cells: Cells[Way], task: Task, seeds: Sequence[int], rates: Sequence[float], wanted: Mapping[str, Sequence[Way]]
) -> Iterator[dict[str, Any]]:
    """The table of a collection as far as it is there, after each seed of each block of ways."""
    dev = {action: cells.by_rate(task, Way("naive", action), rates) for action in ("keep", "drop", "relabel")}
    best = {action: best_rate(found) for action, found in dev.items()}
    start = {
        "queries": len(task.tested.queries),
        "untrained": untrained(task),
        "dev": dev,
        "learning_rates": best,
    }
    records: Records[Way] = {}
    for name, block in wanted.items():
        for seed in seeds:
            for way in block:
                record = cells.scores(task, way, seed, best[way.action])
                records.setdefault(way, {})[seed] = record
                value = np.mean(list(record["scores"].values()))
                print(f"{task.name}, {name}, seed {seed}, {label(way)}: {value:.4f}", flush=True)
            yield start | {"cells": sum(map(len, records.values()))} | table(records)


def label(way: Way) -> str:
    judge = "" if way.action == "keep" else f" {way.sensitivity:g} x {way.specificity:g}, {way.several}"
    return f"{way.filters}, {way.action}{judge}"


def questions(wanted: Sequence[Way]) -> dict[str, list[tuple[Way, Way]]]:
    """Pairs of a baseline and another way, by question; Holm's correction is over those of one."""
    asked: dict[str, list[tuple[Way, Way]]] = {}
    for way in wanted:
        if way.several != Way.several:
            asked.setdefault(f"{way.several} against {Way.several}", []).append(
                (replace(way, several=Way.several), way)
            )
        elif way.action == "keep":
            if way.filters != "naive":
                asked.setdefault("a ceiling against none, no judge", []).append((Way(), way))
        else:
            where = "without a ceiling" if way.filters == "naive" else "with a ceiling"
            asked.setdefault(f"{way.action} against keep, {where}", []).append((way.kept, way))
            if way.action == "relabel" and way.filters == "naive" and way != CHANCE:
                asked.setdefault("relabel against relabelling by chance", []).append((CHANCE, way))
            if way.action == "relabel":
                asked.setdefault(f"relabel against drop, {where}", []).append((replace(way, action="drop"), way))
            if way.filters == "naive":
                asked.setdefault(f"{way.action} without a ceiling against the ceiling alone", []).append(
                    (Way(CEILING), way)
                )
    return {name: [pair for pair in pairs if set(pair) <= set(wanted)] for name, pairs in asked.items()}


def table(records: Records[Way]) -> dict[str, Any]:
    """Means and counts of each way, and differences with intervals over queries and seeds."""
    return {"rows": means(records), "differences": differences(records, questions(list(records)), label)}


def tables(collection: Mapping[str, Any]) -> str:
    """Markdown: the ways, then a grid of each question."""

    rows = [
        (label(way_of(r)), f"{r['mean']:.4f}", f"{r['asked']:.1f}", f"{r['added']:.1f}", number(r["added_right"], ".0%"),
         f"{r['false_negatives']:.1%}")
        for r in collection["rows"]
    ]  # fmt: skip
    parts = [markdown(("way", MEASURE, "judged", "relabelled", "rightly", "false negatives"), rows)]
    for question in dict.fromkeys(d["question"] for d in collection["differences"]):
        found = [d for d in collection["differences"] if d["question"] == question]
        shown = {(d["sensitivity"], d["specificity"]): spelled(d) for d in found}
        specificities = sorted({at[1] for at in shown})
        if len(found) == 1:
            parts.append(f"{question}: {spelled(found[0])}")
        elif all(at[0] == at[1] for at in shown):
            lines = [(f"{at[0]:g} x {at[1]:g}", cell) for at, cell in sorted(shown.items())]
            parts.append(f"{question}\n\n{markdown(('sensitivity x specificity', MEASURE), lines)}")
        else:
            lines = [
                (f"{se:g}", *(shown.get((se, sp), "") for sp in specificities))
                for se in sorted({at[0] for at in shown})
            ]
            parts.append(
                f"{question}\n\n{markdown(('sensitivity', *(f'specificity {sp:g}' for sp in specificities)), lines)}"
            )
    return "\n\n".join(parts)


def way_of(row: Mapping[str, Any]) -> Way:
    return Way(**{name: row[name] for name in asdict(Way())})


def main(given: Sequence[str] | None = None) -> None:
    args = parser_of(__doc__, "judge_curve").parse_args(given)
    seeds = range(1, args.seeds + 1)

    def measured(student: Path, task: Task) -> Iterator[dict[str, Any]]:
        return measure(cells_of(args.cells, student), task, seeds, RATES, blocks())

    settings = {"depth": DEPTH, "ceiling": CEILING}
    for name, found in studied(args.output, args.cells, args.collections, settings, measured):
        print(f"\n## {name}\n\n{tables(found)}\n", flush=True)


if __name__ == "__main__":
    main()
