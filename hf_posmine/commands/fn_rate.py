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

from hf_posmine.commands.shared import add_run_arguments, add_teacher_arguments, teacher_names, teacher_options
from hf_posmine.errors import InputError

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
    from hf_posmine.teachers.named import make_teacher

    corpus, judgements, visible = load_collection(Path(args.collection), args.qrels, args.visible, args.seed)
    known = visible_qrels(judgements, visible, hidden_queries(judgements, visible))
    if len(teacher_names(args)) > 1:
        raise InputError(f"--teacher {args.teacher}: fn-rate takes one teacher at a time")
    teacher: Any = make_teacher(args.teacher, corpus, queries=known.queries, **teacher_options(args))
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
    from hf_posmine.evaluation.collection import find_column, query_texts, read_judgements, read_table

    documents, queries = read_table(folder, "corpus"), read_table(folder, "queries")
    title = "title" if "title" in documents.column_names else None
    corpus = Corpus.from_dataset(documents, find_column(documents, "text"), find_column(documents, "id"), title)
    judgements = Judgements.of(query_texts(queries), *read_judgements(folder, qrels))
    if visible is None:
        return corpus, judgements, judgements.draw_visible(seed)
    shown: dict[str, str] = {}
    for query, document, score in zip(*read_judgements(folder, visible), strict=True):
        if score > 0:
            shown.setdefault(str(query), str(document))
    return corpus, judgements, shown


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
