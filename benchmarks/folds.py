"""Students of a judged collection, each tested on queries that it did not learn from: what studies of negatives share.

A fifth of the queries is dev, on which learning rates are chosen, with a seed of their own. The others are tested in two halves,
each by a student of the other half. The halves follow from the seed. Every cell is a file, and one that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from benchmarks.judged_scores import DATA
from benchmarks.measure import machine
from benchmarks.students import bag_of_words
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine import Corpus
    from hf_posmine.core import Teacher
    from hf_posmine.evaluation import Collection, Judgements

COLLECTIONS = ("cranfield", "vaswani")
MEASURE, N, FOLDS = "ndcg@10", 4, 2
DEV_SEED, RATES = 100, (1e-3, 2e-3, 5e-3, 1e-2)
STEPS, BATCH, QUERY_TOKENS, TOKENS = 16, 32, 48, 64

WayT = TypeVar("WayT")
"""How negatives are made: a frozen dataclass."""


@dataclass(frozen=True)
class Fold:
    """Ids of the queries that are learnt from, and what the student is tested on."""

    train: Sequence[str]
    test: Collection


@dataclass(frozen=True, eq=False)
class Task:
    """A collection as these studies see it.

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


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows (query, positive, negatives), their query ids, and what is counted about them."""

    rows: Dataset
    ids: list[str]
    counts: Mapping[str, float | None]


class Made(Protocol[WayT]):
    """Makes the rows of a way."""

    def __call__(self, task: Task, way: WayT, seed: int) -> Rows: ...


def load(name: str) -> Task:
    """A collection of the shared data, by the embedded all-MiniLM-L6-v2."""
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


def trained(
    made: Rows, queries: Sequence[str], student: Path, several: str, rate: float, seed: int, steps: int, in_batch: bool
):
    """A student of the rows of some queries; rows with fewer negatives than wanted are left out."""
    from hf_posmine.training import recipe_from, run_stage

    wanted = set(queries)
    full = [len(row) == N for row in made.rows["negatives"][:]]
    at = [row for row, query in enumerate(made.ids) if query in wanted and full[row]]
    folder = Path(tempfile.mkdtemp(prefix="posmine-folds-"))
    try:
        made.rows.select(at).to_parquet(folder / "rows.parquet")
        data = {"name": "rows", "path": str(folder / "rows.parquet"), "task": "retrieval", "instruction": "",
                "in_batch_negatives": in_batch, "columns": {"query": "query", "positive": "positive"}}  # fmt: skip
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
class Cells(Generic[WayT]):
    """Results by cell, each a file.

    Attributes:
        folder: of the files.
        student: what is trained.
        made: the rows of a way, for a task and a seed.
        several: the loss of several positives of a way.
        steps: of training.
        in_batch: whether documents of other rows are negatives.
    """

    folder: Path
    student: Path
    made: Made[WayT]
    several: Callable[[WayT], str] = lambda way: "log_sum_exp"
    steps: int = STEPS
    in_batch: bool = True

    def scores(self, task: Task, way: WayT, seed: int, rate: float, *, dev: bool = False) -> dict[str, Any]:
        """NDCG@10 of each query of dev or of the test folds, and the counts of the rows."""
        from hf_posmine.evaluation import evaluate_retrieval
        from hf_posmine.utils import json_digest

        what = {
            "collection": task.name,
            "way": asdict(way),  # type: ignore[call-overload]
            "seed": seed,
            "rate": rate,
            "steps": self.steps,
            "dev": dev,
        } | ({} if self.in_batch else {"in_batch": False})
        path = self.folder / f"{json_digest(what)[:16]}.json"
        if path.is_file():
            return json.loads(path.read_text())
        start = time.perf_counter()
        made = self.made(task, way, seed)
        found: dict[str, list[float]] = {}
        for fold in task.folds(seed):
            model = trained(made, fold.train, self.student, self.several(way), rate, seed, self.steps, self.in_batch)
            result = evaluate_retrieval(model, task.dev if dev else fold.test, measures=(MEASURE,))
            for query, value in zip(result.query_ids, result.scores[MEASURE].tolist(), strict=True):
                found.setdefault(query, []).append(round(value, 6))
        values = {query: float(np.mean(found[query])) for query in sorted(found)}
        record = what | {
            "scores": values,
            "counts": dict(made.counts),
            "seconds": round(time.perf_counter() - start, 1),
        }
        save_json(path, record)
        return record

    def by_rate(self, task: Task, way: WayT, rates: Sequence[float]) -> dict[str, float]:
        """NDCG@10 on dev by learning rate."""

        def value(rate: float) -> float:
            return float(np.mean(list(self.scores(task, way, DEV_SEED, rate, dev=True)["scores"].values())))

        return {f"{rate:g}": value(rate) for rate in rates}


def best_rate(by_rate: Mapping[str, float]) -> float:
    """The learning rate with the highest value."""
    return float(max(by_rate, key=by_rate.__getitem__))


def untrained(task: Task) -> float:
    """NDCG@10 of the student before it learns."""
    from hf_posmine.evaluation import evaluate_retrieval

    return float(evaluate_retrieval(bag_of_words(TOKENS), task.tested, measures=(MEASURE,)).scores[MEASURE].mean())


Records = dict[WayT, dict[int, dict[str, Any]]]
"""Cells by way and seed."""


def means(records: Records[WayT]) -> list[dict[str, Any]]:
    """A row for each way: its mean, those of its seeds, and its counts."""
    return [
        asdict(way)  # type: ignore[call-overload]
        | {"mean": float(_scores(found, found).mean()), "by_seed": _scores(found, found).mean(axis=1).tolist()}
        | {name: mean_of(r["counts"][name] for r in found.values()) for name in next(iter(found.values()))["counts"]}
        for way, found in records.items()
    ]


def differences(
    records: Records[WayT], asked: Mapping[str, Sequence[tuple[WayT, WayT]]], label: Callable[[WayT], str]
) -> list[dict[str, Any]]:
    """Differences of pairs of a baseline and another way, with intervals over queries and the seeds that both have.

    Holm's correction is over the pairs of a question.
    """
    from hf_posmine.evaluation import compare_runs, corrected

    rows = []
    for question, pairs in asked.items():
        shared = {(base, way): sorted({*records[base]} & {*records[way]}) for base, way in pairs}
        made = corrected(
            {
                (base, way): compare_runs(_scores(records[base], seeds), _scores(records[way], seeds))
                for (base, way), seeds in shared.items()
                if len(seeds) > 1
            }
        )
        rows += [
            {"question": question, **asdict(way), "baseline": label(base), "seeds": shared[base, way],  # type: ignore[call-overload]
             "difference": one.difference, "low": one.low, "high": one.high, "p_holm": one.adjusted_p, "differs": one.differs()}
            for (base, way), one in made.items()
        ]  # fmt: skip
    return rows


def _scores(found: Mapping[int, Mapping[str, Any]], seeds: Iterable[int]) -> np.ndarray:
    return np.array([list(found[seed]["scores"].values()) for seed in seeds])


def mean_of(values: Iterator[float | None]) -> float | None:
    """The mean, None where nothing was counted."""
    found = np.array(list(values), np.float64)
    return None if np.isnan(found).all() else float(np.nanmean(found))


def number(value: float | None, spelled: str) -> str:
    """A count of a table, empty where nothing was counted."""
    return "" if value is None else format(value, spelled)


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


def parser_of(doc: str | None, cells: str) -> argparse.ArgumentParser:
    """The arguments of a study of collections."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cells", type=Path, default=Path("out") / cells, help="where each cell is kept")
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, choices=COLLECTIONS)
    parser.add_argument("--seeds", type=int, default=5)
    return parser


def studied(
    output: Path,
    cells: Path,
    names: Sequence[str],
    settings: Mapping[str, Any],
    measured: Callable[[Path, Task], Iterator[dict[str, Any]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a study on collections, and write what is there to ``output`` again and again.

    Args:
        output: JSON, of all collections.
        cells: folder of the cells.
        names: of the collections.
        settings: what a table depends on besides.
        measured: the tables of a task so far, given the student.

    Yields:
        The name of a collection and its last table.
    """
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars

    from hf_posmine.utils import build_once

    disable_progress_bars()
    student = build_once(
        cells / "student", lambda folder: bag_of_words(TOKENS).save(str(folder), create_model_card=False)
    )
    settings = {"measure": MEASURE, "negatives": N, "folds": FOLDS, "steps": STEPS, "batch": BATCH, "tokens": TOKENS,
                "rates": list(RATES)} | dict(settings)  # fmt: skip
    found = {name: one for name, one in kept(output, settings, cells).items() if name not in names}
    for name in names:
        for so_far in measured(student, load(name)):
            found[name] = so_far
            save_json(output, {"settings": settings, "machine": machine(), "collections": found})
        yield name, found[name]
