"""What does a student make of a bad teacher? Its NDCG@10 against noise added to the teacher's scores, below several ceilings.

    python -m benchmarks.teacher_students --output docs/benchmarks/teacher_students.json [--collections cranfield] [--seeds 5]
    python -m benchmarks.teacher_students --output docs/benchmarks/teacher_students-own.json --own

Teachers as in benchmarks/teacher_noise.py, from an oracle to one that knows nothing; students, queries and seeds as in
benchmarks/folds.py. One positive of each training query is known; four negatives a query, the best below the ceiling by the
teacher at hand. The learning rate is chosen on dev, with the teacher without noise and no ceiling. Every cell is a file in
``--cells``, and one that is there is not repeated; the output has what is done after each seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.folds import (
    MEASURE,
    RATES,
    Cells,
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
from benchmarks.judged_scores import JudgedScores, mined
from benchmarks.measure import markdown
from benchmarks.teacher_noise import EQUAL, ceilings_of, described, ndcg, teacher_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CEILING = "PercPos(0.95)"
CEILINGS = ("naive", CEILING, EQUAL)
TEACHERS = ("oracle", "an oracle's ranking", 0.0, 0.5, 1.0, 2.0, "useless")
"""Those of :data:`~benchmarks.teacher_noise.LEVELS` that a student learns from."""


@dataclass(frozen=True)
class Way:
    """Who mines, below which ceiling.

    Attributes:
        level: the teacher, one of :data:`TEACHERS`; a number is noise.
        ceiling: one of :data:`CEILINGS`.
    """

    level: float | str = 0.0
    ceiling: str = "naive"

    @property
    def teacher(self) -> str:
        """Its name in tables."""
        if isinstance(self.level, str):
            return "knows nothing" if self.level == "useless" else self.level
        return f"noise {self.level:g}" if self.level else "MiniLM"


@lru_cache(maxsize=1)
def scores_of(collection: str) -> JudgedScores:
    """The scores of MiniLM; tasks of one collection follow one another."""
    return JudgedScores.load(collection)


def taught(task: Task, way: Way, seed: int) -> Rows:
    """The rows of a way; its noise and the known positives follow from the seed."""
    return rows_of(task, scores_of(task.name), way, seed)


def rows_of(task: Task, data: JudgedScores, way: Way, seed: int) -> Rows:
    """The same, with the scores that noise is added to; their queries are those of the task, sorted by id."""
    from datasets import Dataset

    visible = task.judgements.draw_visible(seed)
    positives = task.corpus.required_rows(list(visible.values()), "visible")
    scores = teacher_scores(data.scores, data.relevant, way.level, np.random.default_rng([2, seed]))
    every, first = np.arange(len(positives)), first_of_text(task.corpus.texts(np.arange(len(task.corpus))).to_pylist())
    left_out = data.unknown | (first != np.arange(len(first))) | (first == first[positives][:, None])
    negatives = mined(scores, left_out, ceilings_of(scores, scores[every, positives], left_out)[way.ceiling])
    lists = [task.corpus.texts(row[row >= 0]).to_pylist() for row in negatives]
    rows = {
        "query": [task.judgements.queries[query] for query in visible],
        "positive": task.corpus.texts(positives).to_pylist(),
        "negatives": lists,
    }
    counts = described(data.scores, data.relevant, negatives) | {"teacher": ndcg(scores, data.relevant)}
    return Rows(Dataset.from_dict(rows), list(visible), counts)


def first_of_text(texts: Sequence[str]) -> np.ndarray:
    """The first document with the text of each, int64 ``[D]``; -1 of blank ones."""
    seen: dict[str, int] = {}
    words = [" ".join(text.split()) for text in texts]
    return np.array([seen.setdefault(text, row) if text else -1 for row, text in enumerate(words)], np.int64)


def questions(wanted: Sequence[Way]) -> dict[str, list[tuple[Way, Way]]]:
    """Pairs of a baseline and another way, by question."""
    asked: dict[str, list[tuple[Way, Way]]] = {}
    for way in wanted:
        if way.ceiling != "naive":
            asked.setdefault(f"{way.ceiling} against no ceiling", []).append((Way(way.level), way))
        if way.ceiling == CEILING:
            asked.setdefault("the relative ceiling against the constant", []).append((Way(way.level, EQUAL), way))
        if way.level != 0.0:
            asked.setdefault(f"against MiniLM, {way.ceiling}", []).append((Way(0.0, way.ceiling), way))
    return {name: [pair for pair in pairs if set(pair) <= set(wanted)] for name, pairs in asked.items()}


def label(way: Way) -> str:
    return f"{way.teacher}, {way.ceiling}"


def measure(cells: Cells[Way], task: Task, seeds: Sequence[int], rates: Sequence[float]) -> Iterator[dict[str, Any]]:
    """The table of a collection as far as it is there, after each seed."""
    dev = cells.by_rate(task, Way(), rates)
    start = {
        "queries": len(task.tested.queries),
        "untrained": untrained(task),
        "dev": dev,
        "learning_rate": best_rate(dev),
    }
    records: Records[Way] = {}
    for seed in seeds:
        for way in (Way(level, ceiling) for level in TEACHERS for ceiling in CEILINGS):
            record = records.setdefault(way, {})[seed] = cells.scores(task, way, seed, best_rate(dev))
            value = np.mean(list(record["scores"].values()))
            print(f"{task.name}, seed {seed}, {label(way)}: {value:.4f}", flush=True)
        yield start | {"rows": means(records), "differences": differences(records, questions(list(records)), label)}


def tables(collection: Mapping[str, Any]) -> str:
    """Markdown: students by teacher and ceiling, then each question."""
    rows = {Way(r["level"], r["ceiling"]): r for r in collection["rows"]}
    levels = list(dict.fromkeys(way.level for way in rows))
    lines = [
        (
            Way(level).teacher,
            f"{rows[Way(level)]['teacher']:.3f}",
            *(_cell(rows[Way(level, ceiling)]) for ceiling in CEILINGS),
        )
        for level in levels
    ]
    parts = [markdown(("teacher", f"its {MEASURE}", *CEILINGS), lines)]
    for question in dict.fromkeys(d["question"] for d in collection["differences"]):
        found = [d for d in collection["differences"] if d["question"] == question]
        cells = [(Way(d["level"], d["ceiling"]).teacher, spelled(d)) for d in found]
        parts.append(f"{question}\n\n{markdown(('teacher', MEASURE), cells)}")
    return "\n\n".join(parts)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.4f} ({row['rate']:.1%}, {number(row['hardness'], '.2f')})"


def main(given: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__, "teacher_students")
    parser.add_argument("--own", action="store_true", help="no in-batch negatives")
    args = parser.parse_args(given)
    cells_at = args.cells / ("own" if args.own else "in_batch")
    seeds = range(1, args.seeds + 1)

    def measured(student: Path, task: Task) -> Iterator[dict[str, Any]]:
        return measure(Cells(cells_at, student, taught, in_batch=not args.own), task, seeds, RATES)

    settings = {"ceilings": list(CEILINGS), "levels": list(map(str, TEACHERS)), "in_batch": not args.own}
    for name, found in studied(args.output, cells_at, args.collections, settings, measured):
        print(f"\n## {name}\n\n{tables(found)}\n", flush=True)


if __name__ == "__main__":
    main()
