"""Mine the embedded sample with the embedded teacher, and show why the ceiling matters.

The sample has planted false negatives: second documents that answer a question but are not labelled.
Naive Top-K takes them as negatives; PercPos(0.95) leaves most of them out.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.output import check_output, write_output
from hf_posmine.cli.show import show
from hf_posmine.cli.work import DataOptions, load_work
from hf_posmine.data.bundled import SAMPLE

if TYPE_CHECKING:
    import argparse

    from datasets import Dataset

HELP = "mine the embedded sample, offline"
EXAMPLES = "example:\n  hf-posmine demo --output out/demo\n"

METHODS = {"Naive Top-K": [], "PercPos(0.95)": ["PercPos(0.95)"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine demo``."""
    parser.add_argument("--output", default="out/demo", help="where the mined dataset goes (default: %(default)s)")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Mine with both methods, compare them on the planted documents, and write the better one."""
    from hf_posmine.mining.execution.local import mine
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.provenance import provenance
    from hf_posmine.mining.summary import MiningSummary
    from hf_posmine.teachers.factory import make_teachers

    check_output(Path(args.output))
    work = load_work(DataOptions(str(SAMPLE)))
    assert work.corpus is not None and work.known is not None  # the sample is a BEIR folder
    teachers = make_teachers(["embedded"], work.corpus, queries=work.known.queries)
    made = {}
    for name, filters in METHODS.items():
        miner = PositiveAwareMiner(
            corpus=work.corpus, teachers=teachers, known_positives=work.known, query_column="query",
            positive_id_column=work.positive_id_column, filters=filters, keep=("scores", "ids", "ranks", "stats"),
        )  # fmt: skip
        made[name] = (mine(work.rows, miner), miner)
    mined, miner = made["PercPos(0.95)"]
    summary = MiningSummary.from_dataset(mined, miner.settings.num_negatives)
    record = provenance(
        miner, source=work.source, corpus_source=work.corpus_source, summary=summary, command=args.command_line
    )
    output = write_output(mined, Path(args.output), record)
    planted = planted_documents()
    show(f"\n{summary}\n")
    _print_examples(mined, made["Naive Top-K"][0], planted)
    _print_comparison({name: rows for name, (rows, _) in made.items()}, planted)
    show(f"\n{len(mined)} rows written to {args.output}, their provenance to {output}")
    show(f'load them with: datasets.load_from_disk("{args.output}")')


def planted_documents() -> dict[str, set[str]]:
    """Query id -> ids of documents that answer it but are not labelled."""
    from hf_posmine.data.sources import beir_qrels

    complete, labelled = beir_qrels(SAMPLE, "complete"), beir_qrels(SAMPLE, "train")
    known = set(zip(labelled["query-id"], labelled["corpus-id"], strict=True))
    planted: dict[str, set[str]] = {}
    for query, document in zip(complete["query-id"], complete["corpus-id"], strict=True):
        if (query, document) not in known:
            planted.setdefault(query, set()).add(document)
    return planted


def _print_examples(mined: Dataset, naive: Dataset, planted: dict[str, set[str]]) -> None:
    """Three rows in which Naive Top-K took a planted document and the ceiling did not."""
    shown = 0
    for row, other in zip(mined, naive, strict=True):
        wrong = planted.get(row["query_id"], set()) & set(other["negatives_ids"])
        if not wrong or wrong & set(row["negatives_ids"]):
            continue
        taken = other["negatives_ids"].index(min(wrong))
        show(f"query     {row['query']}")
        _print_document("positive", row["positive_score"], row["positive"])
        _print_document("naive ✗", other["negatives_scores"][taken], other["negatives"][taken])
        for score, text in zip(row["negatives_scores"], row["negatives"], strict=True):
            _print_document("negative", score, text)
        show()
        shown += 1
        if shown == 3:  # noqa: PLR2004 - three examples make the point
            return


def _print_document(label: str, score: float, text: str) -> None:
    show(f"{label:<9} {score:.3f}  {textwrap.shorten(text, 90, placeholder=' ...')}")


def _print_comparison(made: dict[str, Any], planted: dict[str, set[str]]) -> None:
    total = sum(map(len, planted.values()))
    show("planted false negatives taken as negatives:")
    for name, rows in made.items():
        taken = sum(
            len(planted.get(query, set()) & set(ids))
            for query, ids in zip(rows["query_id"], rows["negatives_ids"], strict=True)
        )
        show(f"  {name:<14} {taken:>3} of {total}")
