"""Measure how many mined negatives are false, on a collection that was judged by people.

All known positives of a query but one are hidden; negatives are mined as if they did not exist, and the
hidden ones that come up are counted. Judgements with a score below 0 are unknown: never candidates.
COLLECTION is a BEIR folder, or a folder with corpus, queries and qrels as parquet, jsonl, csv or tsv files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.commands.shared import add_run_arguments, add_teacher_arguments, teacher_options
from hf_posmine.errors import InputError
from hf_posmine.sources import read_qrels

if TYPE_CHECKING:
    import argparse

HELP = "measure false negatives on a judged collection"
PAPER = ["naive", "SkipTop(10)", "MaxScore(0.7)", "MarginPos(0.05)", "PercPos(0.95)"]
EXAMPLES = """examples:
  # the paper's five methods on your own collection, one positive per query visible, drawn with a seed
  hf-posmine fn-rate my_collection --seed 0

  # a BEIR folder: what is labelled in train, judged by complete; two methods of your own
  hf-posmine fn-rate beir_folder --visible train --qrels complete --methods naive "SkipTop(3) + PercPos(0.98)"
"""
ALIASES = {
    "id": ("_id", "id", "doc_id", "query_id"),
    "text": ("text",),
    "query": ("query-id", "query_id", "qid"),
    "document": ("corpus-id", "doc_id", "document_id", "docid"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine fn-rate``."""
    parser.add_argument("collection", metavar="COLLECTION", help="folder of a judged collection (see above)")
    parser.add_argument(
        "--qrels", default="qrels", help="file or BEIR split with all judgements (default: %(default)s, or 'test')"
    )
    parser.add_argument(
        "--visible", help="file or BEIR split with the one positive per query that is known (default: drawn by --seed)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of samplers (default: %(default)s)")
    parser.add_argument(
        "--methods", nargs="+", default=PAPER, metavar="FILTERS",
        help="each one filter, several joined by ' + ', or 'naive' (default: the paper's five at their best values)",
    )  # fmt: skip
    parser.add_argument("--num-negatives", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--sampler", default="Top()", help="default: %(default)s")
    parser.add_argument("--output", help="write the figures as JSON")
    add_teacher_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Mine with each method and print the table."""
    from hf_posmine.analysis.false_negatives import false_negative_rate, hidden_queries, visible_qrels
    from hf_posmine.hub.provenance import versions
    from hf_posmine.paths import write_file
    from hf_posmine.teachers.dense import DenseTeacher

    corpus, judgements, visible = load_collection(Path(args.collection), args.qrels, args.visible, args.seed)
    known = visible_qrels(judgements, visible, hidden_queries(judgements, visible))
    teacher = DenseTeacher(args.teacher, corpus, queries=known.queries, **teacher_options(args))
    settings = {"num_negatives": args.num_negatives, "sampler": args.sampler, "seed": args.seed}
    rates = [
        false_negative_rate(corpus, judgements, visible, teacher, filters=_filters(method), **settings)
        for method in args.methods
    ]
    _print(rates, Path(args.collection).name, teacher.name)
    if args.output:
        record = {
            "command": args.command_line, "teacher": teacher.describe(), "corpus": corpus.fingerprint, "settings": settings,
            "rates": [asdict(rate) | {"rate": rate.rate} for rate in rates], "versions": versions(),
        }  # fmt: skip
        write_file(Path(args.output), lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))


def load_collection(folder: Path, qrels: str, visible: str | None, seed: int) -> tuple[Any, Any, dict[str, str]]:
    """Corpus, judgements, and the visible positive of each query."""
    from hf_posmine.analysis.false_negatives import Judgements
    from hf_posmine.corpus import Corpus

    documents, queries = _load(folder, "corpus"), _load(folder, "queries")
    title = "title" if "title" in documents.column_names else None
    corpus = Corpus.from_dataset(documents, _column(documents, "text"), _column(documents, "id"), title)
    texts = dict(zip(map(str, queries[_column(queries, "id")]), queries[_column(queries, "text")], strict=True))
    rows = _judged(folder, qrels)
    judgements = Judgements.of(texts, *rows)
    if visible is None:
        return corpus, judgements, judgements.draw_visible(seed)
    shown: dict[str, str] = {}
    for query, document, score in zip(*_judged(folder, visible), strict=True):
        if score > 0:
            shown.setdefault(str(query), str(document))
    return corpus, judgements, shown


def _judged(folder: Path, name: str) -> tuple[list[Any], list[Any], list[float]]:
    place = folder / "qrels" if (folder / "qrels").is_dir() else folder
    if (place / f"{name}.tsv").is_file():
        judged = read_qrels(place / f"{name}.tsv")
        return judged["query-id"], judged["corpus-id"], judged["score"]
    rows = _load(place, name)
    scores = rows["score"][:] if "score" in rows.column_names else [1.0] * len(rows)
    return rows[_column(rows, "query")][:], rows[_column(rows, "document")][:], scores


def _load(folder: Path, stem: str) -> Any:
    from hf_posmine.progress import quiet_bars
    from hf_posmine.sources import BUILDERS, load_files

    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; pass one with corpus, queries and qrels")
    with quiet_bars():
        for suffix in BUILDERS:
            if (folder / f"{stem}{suffix}").is_file():
                return load_files(folder / f"{stem}{suffix}")
    raise InputError(f"{str(folder)!r} has no {stem!r} file; there are {sorted(f.name for f in folder.iterdir())}")


def _column(rows: Any, what: str) -> str:
    found = next((name for name in ALIASES[what] if name in rows.column_names), None)
    if found is None:
        raise InputError(f"no {what} column among {rows.column_names}; name it one of {list(ALIASES[what])}")
    return found


def _filters(method: str) -> list[str]:
    return [] if method.strip() == "naive" else [part.strip() for part in method.split(" + ")]


def _print(rates: list[Any], collection: str, teacher: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"False negatives on {collection}, teacher {teacher}", title_justify="left")
    for name in ("method", "false negatives", "rate", "queries hit", "mean score"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for rate in rates:
        table.add_row(
            rate.method, f"{rate.false_negatives} of {rate.negatives}", f"{rate.rate:.2%}",
            f"{rate.hit_queries} of {rate.queries}", f"{rate.mean_score:.3f}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 100).print(table)
