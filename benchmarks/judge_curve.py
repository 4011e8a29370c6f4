"""When is a judge worth paying for? A student's NDCG@10 against the sensitivity and specificity of the judge of its negatives.

    python -m benchmarks.judge_curve --output docs/benchmarks/judge_curve.json [--collections cranfield vaswani] [--seeds 5]

One positive of each training query is known, the others are hidden; the embedded all-MiniLM-L6-v2 mines four negatives a
query. A judge that knows all judgements and errs at given rates (OracleJudge) judges them, what it calls relevant is dropped
or relabelled, and the next candidates are mined and judged in their place (top_up), as ``hf-posmine judge --top-up`` does. The
student, the average of MiniLM's word embeddings, is trained by a stage that reads ``judged_positives`` (run_stage).

A fifth of the queries is dev, on which the learning rate of each action is chosen, with another seed. The others are tested in
two halves, each by a student of the other half; the halves, the known positives, the judge's errors and the batches follow from
the seed. Ways are done in blocks, seed by seed, and the output has what is done after each seed. Every cell is a file in
``--cells``, and one that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.judged_scores import DATA
from benchmarks.measure import machine, markdown
from benchmarks.students import bag_of_words
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine import Corpus
    from hf_posmine.core import Teacher
    from hf_posmine.evaluation import Collection, Judgements, OracleJudge
    from hf_posmine.evaluation.judge.candidates import JudgedList, Verdict

MEASURE, N, DEPTH, FOLDS = "ndcg@10", 4, 100, 2
DEV_SEED, RATES = 100, (1e-3, 2e-3, 5e-3, 1e-2)
LEVELS = (0.6, 0.8, 0.9, 1.0)
CEILING = "PercPos(0.95)"
STEPS, BATCH, QUERY_TOKENS, TOKENS = 16, 32, 48, 64
COLLECTIONS = ("cranfield", "vaswani")


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
    return first | relabel | {"judge and ceiling": alike, "losses": losses} | drop


@dataclass(frozen=True)
class Fold:
    """Ids of the queries that are learnt from, and what the student is tested on."""

    train: Sequence[str]
    test: Collection


@dataclass(frozen=True, eq=False)
class Task:
    """A collection as this script sees it.

    Attributes:
        name: of the collection.
        corpus: the documents to mine from.
        judgements: of the training queries, all of them.
        teacher: who mines.
        dev: what learning rates are chosen on.
        tested: all queries that folds test.
        folds: of a seed.
    """

    name: str
    corpus: Corpus
    judgements: Judgements
    teacher: Teacher
    dev: Collection
    tested: Collection
    folds: Callable[[int], list[Fold]]


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


@dataclass(frozen=True, eq=False)
class Judged:
    """The rows of a way, by query id, and what the judge was asked and did."""

    rows: Dataset
    ids: list[str]
    counts: Mapping[str, float | None]


def load(name: str) -> Task:
    """A collection of the shared data."""
    from hf_posmine import Corpus, DenseTeacher
    from hf_posmine.evaluation import load_collection, load_judged

    corpus, judgements, _ = load_judged(DATA / name, "qrels", None, 0)
    queries = Corpus.from_texts(judgements.queries.values(), match="exact")
    teacher = DenseTeacher("embedded", corpus, queries=queries)
    return in_folds(name, corpus, judgements, teacher, load_collection(DATA / name))


def in_folds(name: str, corpus: Corpus, judgements: Judgements, teacher: Teacher, collection: Collection) -> Task:
    """A fifth of the queries for dev, drawn once; the others in folds that the seed draws."""
    order = np.random.default_rng(0).permutation(sorted(judgements.relevant))
    dev, rest = np.split(order, [len(order) // 5])

    def drawn(seed: int) -> list[Fold]:
        parts = np.array_split(np.random.default_rng([1, seed]).permutation(rest), FOLDS)
        return [Fold(sorted(set(rest) - set(part)), of_queries(collection, part)) for part in parts]

    return Task(name, corpus, judgements, teacher, of_queries(collection, dev), of_queries(collection, rest), drawn)


def of_queries(collection: Collection, ids: Sequence[str]) -> Collection:
    """A collection with some of its queries."""
    return replace(collection, queries={query: collection.queries[query] for query in sorted(map(str, ids))})


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

    def judged(self, way: Way) -> Judged:
        """The rows after a way's action, topped up."""
        from hf_posmine.evaluation import OracleJudge, apply_judgements, judge_negatives, top_up

        miner, rows = self.mined(way.filters)
        truth = OracleJudge.of(self.task.judgements, self.task.corpus)
        judge = Counted(replace(truth, sensitivity=way.sensitivity, specificity=way.specificity, seed=self.seed))
        if way.action != "keep":
            verdicts = judge_negatives(rows, judge, query_column="query", positive_column="positive")
            rows, verdicts = top_up(rows, verdicts, judge, miner, num_negatives=N, depth=DEPTH)
            rows = apply_judgements(rows, verdicts, action=way.action)
        return Judged(rows, self.ids, describe(rows, truth, judge.asked))


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


def trained(judged: Judged, queries: Sequence[str], student: Path, several: str, rate: float, seed: int, steps: int):
    """A student of the rows of some queries; rows with fewer negatives than wanted are left out."""
    from hf_posmine.training import recipe_from, run_stage

    wanted = set(queries)
    full = [len(row) == N for row in judged.rows["negatives"][:]]
    at = [row for row, query in enumerate(judged.ids) if query in wanted and full[row]]
    folder = Path(tempfile.mkdtemp(prefix="posmine-judge-curve-"))
    try:
        judged.rows.select(at).to_parquet(folder / "rows.parquet")
        data = {"name": "rows", "path": str(folder / "rows.parquet"), "task": "retrieval", "instruction": "",
                "in_batch_negatives": True, "columns": {"query": "query", "positive": "positive"}}  # fmt: skip
        stage = {
            "model": str(student), "temperature": 0.05, "learning_rate": rate, "max_steps": steps, "warmup_steps": 0.1,
            "per_device_train_batch_size": BATCH, "max_query_length": QUERY_TOKENS, "max_document_length": TOKENS,
            "num_negatives": N, "several_positives": several, "seed": seed, "datasets": [data], "output_dir": str(folder / "run"),
            "save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        }  # fmt: skip
        return run_stage(recipe_from(stage))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Cells:
    """Results by cell, each a file."""

    folder: Path
    student: Path
    steps: int = STEPS
    miners: dict[tuple[str, int], Miner] = field(default_factory=dict)

    def scores(self, task: Task, way: Way, seed: int, rate: float, *, dev: bool = False) -> dict[str, Any]:
        """NDCG@10 of each query of dev or of the test folds, and the counts of the judge."""
        from hf_posmine.evaluation import evaluate_retrieval
        from hf_posmine.utils import json_digest

        what = {
            "collection": task.name,
            "way": asdict(way),
            "seed": seed,
            "rate": rate,
            "steps": self.steps,
            "dev": dev,
        }
        path = self.folder / f"{json_digest(what)[:16]}.json"
        if path.is_file():
            return json.loads(path.read_text())
        start = time.perf_counter()
        if (task.name, seed) not in self.miners:
            self.miners = {(task.name, seed): Miner(task, seed)}
        judged = self.miners[task.name, seed].judged(way)
        found: dict[str, list[float]] = {}
        for fold in task.folds(seed):
            model = trained(judged, fold.train, self.student, way.several, rate, seed, self.steps)
            result = evaluate_retrieval(model, task.dev if dev else fold.test, measures=(MEASURE,))
            for query, value in zip(result.query_ids, result.scores[MEASURE].tolist(), strict=True):
                found.setdefault(query, []).append(round(value, 6))
        values = {query: float(np.mean(found[query])) for query in sorted(found)}
        record = what | {
            "scores": values,
            "counts": dict(judged.counts),
            "seconds": round(time.perf_counter() - start, 1),
        }
        save_json(path, record)
        return record


def chosen_rates(cells: Cells, task: Task, rates: Sequence[float]) -> dict[str, dict[str, float]]:
    """NDCG@10 on dev by action and learning rate, of negatives without a ceiling and a judge that does not err."""

    def value(action: str, rate: float) -> float:
        found = cells.scores(task, Way("naive", action), DEV_SEED, rate, dev=True)["scores"]
        return float(np.mean(list(found.values())))

    return {action: {f"{rate:g}": value(action, rate) for rate in rates} for action in ("keep", "drop", "relabel")}


def untrained(task: Task) -> float:
    """NDCG@10 of the student before it learns."""
    from hf_posmine.evaluation import evaluate_retrieval

    return float(evaluate_retrieval(bag_of_words(TOKENS), task.tested, measures=(MEASURE,)).scores[MEASURE].mean())


def measure(
    cells: Cells, task: Task, seeds: Sequence[int], rates: Sequence[float], wanted: Mapping[str, Sequence[Way]]
) -> Iterator[dict[str, Any]]:
    """The table of a collection as far as it is there, after each seed of each block of ways."""
    dev = chosen_rates(cells, task, rates)
    best = {action: float(max(found, key=found.__getitem__)) for action, found in dev.items()}
    start = {
        "queries": len(task.tested.queries),
        "untrained": untrained(task),
        "dev": dev,
        "learning_rates": best,
    }
    records: dict[Way, dict[int, dict[str, Any]]] = {}
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


def table(records: Mapping[Way, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Means and counts of each way, and differences with intervals over queries and the seeds that both ways have."""
    from hf_posmine.evaluation import compare_runs, corrected

    def scores(way: Way, seeds: Iterable[int]) -> np.ndarray:
        return np.array([list(records[way][seed]["scores"].values()) for seed in seeds])

    rows = [
        asdict(way)
        | {"mean": float(scores(way, found).mean()), "by_seed": scores(way, found).mean(axis=1).tolist()}
        | {name: mean_of(r["counts"][name] for r in found.values()) for name in next(iter(found.values()))["counts"]}
        for way, found in records.items()
    ]
    differences = []
    for question, pairs in questions(list(records)).items():
        shared = {(base, way): sorted({*records[base]} & {*records[way]}) for base, way in pairs}
        made = corrected(
            {
                (base, way): compare_runs(scores(base, seeds), scores(way, seeds))
                for (base, way), seeds in shared.items()
                if len(seeds) > 1
            }
        )
        differences += [
            {"question": question, **asdict(way), "baseline": label(base), "seeds": shared[base, way],
             "difference": one.difference, "low": one.low, "high": one.high, "p_holm": one.adjusted_p, "differs": one.differs()}
            for (base, way), one in made.items()
        ]  # fmt: skip
    return {"rows": rows, "differences": differences}


def mean_of(values: Iterator[float | None]) -> float | None:
    """The mean, None where nothing was counted."""
    found = np.array(list(values), np.float64)
    return None if np.isnan(found).all() else float(np.nanmean(found))


def tables(collection: Mapping[str, Any]) -> str:
    """Markdown: the ways, then a grid of each question."""

    def number(value: float | None, spelled: str) -> str:
        return "" if value is None else format(value, spelled)

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


def spelled(d: Mapping[str, Any]) -> str:
    """A difference with its interval; bold where it may be claimed."""
    text = f"{d['difference']:+.3f}"
    return f"{f'**{text}**' if d['differs'] else text} ({d['low']:+.3f} to {d['high']:+.3f})"


def kept(output: Path, settings: Mapping[str, Any], cells: Path) -> dict[str, Any]:
    """What the output has of other collections; cells of other settings are refused."""
    file = cells / "settings.json"
    if file.is_file() and json.loads(file.read_text()) != settings:
        raise SystemExit(f"{str(cells)!r} holds cells of other settings; name another folder with --cells")
    save_json(file, settings)
    written = json.loads(output.read_text()) if output.is_file() else {}
    return written["collections"] if written.get("settings") == settings else {}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cells", type=Path, default=Path("out/judge_curve"), help="where each cell is kept")
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, choices=COLLECTIONS)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(given)
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars

    from hf_posmine.utils import build_once

    disable_progress_bars()
    student = build_once(
        args.cells / "student", lambda folder: bag_of_words(TOKENS).save(str(folder), create_model_card=False)
    )
    cells = Cells(args.cells, student)
    seeds = range(1, args.seeds + 1)
    settings = {"measure": MEASURE, "negatives": N, "depth": DEPTH, "folds": FOLDS, "steps": STEPS, "batch": BATCH,
                "tokens": TOKENS, "rates": list(RATES), "ceiling": CEILING}  # fmt: skip
    found = {name: one for name, one in kept(args.output, settings, args.cells).items() if name not in args.collections}
    for name in args.collections:
        for so_far in measure(cells, load(name), seeds, RATES, blocks()):
            found[name] = so_far
            save_json(args.output, {"settings": settings, "machine": machine(), "collections": found})
        print(f"\n## {name}\n\n{tables(found[name])}\n", flush=True)


if __name__ == "__main__":
    main()
