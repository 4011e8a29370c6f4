"""Find faults in training data that anybody mined or made, and count them.

DATA is a file (.parquet, .jsonl, .json, .csv, .tsv), a folder of them, a saved dataset or a Hub id, in the layout of
sentence-transformers (triplets, n-tuples, labelled pairs and lists, scores), FlagEmbedding, Tevatron, NeMo, PyLate,
MS MARCO's triples, or hf-posmine mine; or a BEIR folder with --run. Which layout it is, is found by the columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError
from hf_posmine.core.suggest import did_you_mean
from hf_posmine.utils.printable import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hf_posmine.audit import AuditSettings, TopUp
    from hf_posmine.audit.repair import Repair
    from hf_posmine.audit.result import AuditResult, FindingExample
    from hf_posmine.core.types import Filter
    from hf_posmine.data import Corpus
    from hf_posmine.data.training_data import TrainingData

HELP = "find faults in anybody's training data"
EXAMPLES = """examples:
  hf-posmine audit train.jsonl
  hf-posmine audit me/triplets --output audit.json

  # in a pipeline: exit with 1 at the first positive among negatives, or where more than 1 % of the rows lack negatives
  hf-posmine audit train.parquet --fail-on same_text near_copy few_negatives=0.01

  # a copy without positives among negatives, and a log of each change
  hf-posmine audit train.jsonl --repair mended.jsonl

  # the same, and new negatives for rows that have too few
  hf-posmine audit train.jsonl --repair mended.jsonl --corpus documents.parquet --top-up intfloat/e5-base-v2

  # with a teacher: negatives above 95 % of the positive's score
  hf-posmine audit train.jsonl --teacher intfloat/e5-base-v2 --filters "PercPos(0.95)"

  # are test queries among the training queries?
  hf-posmine audit train.parquet --collection scifact --collection-split test
"""
SHOWN = 60
"""Characters of a text in the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine audit``."""
    from hf_posmine.audit import AuditSettings

    default = AuditSettings()
    parser.add_argument("data", metavar="DATA", help="training rows (see above)")
    data = parser.add_argument_group("data")
    data.add_argument("--name", help="configuration of a Hub dataset")
    data.add_argument("--split", default="train", help="split of a Hub or BEIR dataset (default: %(default)s)")
    data.add_argument("--run", help="TREC run whose documents are the negatives, for a BEIR folder")
    data.add_argument("--corpus", help="documents of rows that hold ids, and for --top-up: a file or folder")
    data.add_argument("--query-column", help="column of the queries (default: found by its name)")
    data.add_argument("--positive-column", help="column of the positives (default: found by its name)")
    data.add_argument("--negatives-column", help="column of the negatives (default: found by its name)")
    _add_checks(parser, default)
    result = parser.add_argument_group("result")
    result.add_argument("--examples", type=int, default=default.examples, help="per kind (default: %(default)s)")
    result.add_argument("--output", metavar="JSON", help="write the result as JSON")
    result.add_argument(
        "--report", metavar="HTML", help="write a page with findings, numbers and rows, as hf-posmine report"
    )
    result.add_argument(
        "--repair",
        metavar="OUT",
        help="write a copy without what was found, in the same layout, with a log of each change",
    )
    result.add_argument(
        "--dry-run", action="store_true", help="check the first rows, show how long all would take, and stop"
    )
    result.add_argument("--price", type=float, help="of an hour of the machine, for --dry-run")
    result.add_argument(
        "--top-up", metavar="TEACHER", nargs="?", const="bm25",
        help="with --repair and --corpus: mine negatives for rows that have too few, by this teacher (default: bm25)",
    )  # fmt: skip
    result.add_argument(
        "--fail-on", nargs="+", metavar="KIND[=RATE]", default=[],
        help="exit with 1 if a greater share of the rows has such a finding (default RATE: 0); 'any' for every kind",
    )  # fmt: skip
    add_run_arguments(parser)


def _add_checks(parser: argparse.ArgumentParser, default: AuditSettings) -> None:
    checks = parser.add_argument_group("checks")
    checks.add_argument("--num-negatives", type=int, help="negatives per row (default: as many as most rows have)")
    checks.add_argument(
        "--shared", type=float, default=default.shared,
        help="share of the rows from which on a negative is in too many (default: %(default)s)",
    )  # fmt: skip
    checks.add_argument("--collection", help="judged collection whose test queries no row may have")
    checks.add_argument(
        "--collection-split", default="test", help="judgements of a BEIR collection (default: %(default)s)"
    )
    checks.add_argument(
        "--languages", action="store_true",
        help="find negatives in another language, and count them by pair of languages; takes 1 to 2 ms a row (extra 'language')",
    )  # fmt: skip
    teacher = parser.add_argument_group("teacher")
    teacher.add_argument(
        "--teacher", help="its scores find negatives above their positive, and scores that are not its own"
    )
    teacher.add_argument("--device", help="device to compute on, such as cpu or cuda:0")
    teacher.add_argument(
        "--filters", nargs="*", metavar="FILTER", default=[],
        help='such as "PercPos(0.95)": no negative may reach their ceiling, with --teacher',
    )  # fmt: skip
    teacher.add_argument(
        "--tolerance", type=float, default=default.tolerance,
        help="difference from the teacher's score from which on a score is stale (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Audit, print and write the result, and exit with 1 where ``--fail-on`` is met."""
    from hf_posmine.audit import AuditSettings, audit_data

    limits = fail_limits(args.fail_on)
    _check_outputs(args)
    corpus = _corpus(args)
    data = _open(args, corpus)
    show(f"Read as {data.layout.name}: {data.layout.describe()}")
    if args.dry_run:
        _dry_run(data, args.price)
        return
    names = (
        "num_negatives", "shared", "examples", "collection", "collection_split", "teacher", "tolerance", "device",
        "languages",
    )  # fmt: skip
    settings = AuditSettings(
        **{name: vars(args)[name] for name in names}, filters=_filters(args) if args.teacher else ()
    )
    result = audit_data(data, settings, repair=args.repair, top_up=_top_up(args, corpus))
    _print(result)
    if args.report:
        _report(data, result, args, corpus)
    if result.repair is not None:
        _print_repair(result.repair, args.repair)
    if args.output:
        _write(result, Path(args.output))
    _fail(result, limits)


def _dry_run(data: TrainingData, price: float | None) -> None:
    """Audit the first rows, count all, and tell what that makes."""
    from hf_posmine.audit.estimate import estimate_audit

    rows, seconds = estimate_audit(data)
    cost = "" if price is None else f", {price * seconds / 3600:,.2f} at {price:g} an hour"
    show(f"{rows:,} rows, about {seconds:,.0f} seconds of one core on this machine{cost}; a teacher adds its own time")


def _filters(args: argparse.Namespace) -> tuple[Filter, ...]:
    from hf_posmine.core.filters import as_filters

    if args.filters and args.teacher is None and args.top_up is None:
        raise InputError("--filters set ceilings on a teacher's scores; add --teacher")
    return as_filters(args.filters)


def _print_repair(repair: Repair, output: str) -> None:
    show(
        f"Repaired copy: {output}, {repair.rows:,} rows; removed {repair.rows_removed:,} rows and "
        f"{repair.negatives_removed:,} negatives, added {repair.negatives_added:,}; every change: {repair.log}"
    )


def fail_limits(words: Sequence[str]) -> dict[str, float]:
    """The highest rate of each kind.

    Raises:
        InputError: an unknown kind, or a rate that is not between 0 and 1.
    """
    from hf_posmine.audit import KINDS

    limits: dict[str, float] = {}
    for word in words:
        name, equals, rate = word.partition("=")
        if name not in (*KINDS, "any"):
            raise InputError(
                f"--fail-on {name}{did_you_mean(name, list(KINDS))}; the kinds are: any, {', '.join(KINDS)}"
            )
        value = _rate(word, rate) if equals else 0.0
        limits |= dict.fromkeys(KINDS if name == "any" else (name,), value)
    return limits


def _rate(word: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise InputError(f"--fail-on {word}: the rate {text!r} is not a number between 0 and 1")
    return rate


def _check_outputs(args: argparse.Namespace) -> None:
    for name, suffix in (("output", ".json"), ("report", ".html")):
        given = vars(args)[name]
        if given is not None and Path(given).suffix != suffix:
            raise InputError(f"--{name} {given}: write a {suffix} file")
    if args.top_up is not None and (args.repair is None or args.corpus is None):
        raise InputError(
            "--top-up writes new negatives into the copy of --repair, from the documents of --corpus; add both"
        )


def _corpus(args: argparse.Namespace) -> Corpus | None:
    from hf_posmine.data import Corpus, load_source

    return None if args.corpus is None else Corpus.from_dataset(load_source(args.corpus), match="exact")


def _open(args: argparse.Namespace, corpus: Corpus | None) -> TrainingData:
    from hf_posmine.data.row_layouts import NamedColumns
    from hf_posmine.data.training_sources import open_training_data

    columns = NamedColumns(args.query_column, args.positive_column, args.negatives_column)
    return open_training_data(args.data, split=args.split, name=args.name, run=args.run, corpus=corpus, columns=columns)


def _top_up(args: argparse.Namespace, corpus: Corpus | None) -> TopUp | None:
    from hf_posmine.audit import TopUp

    if args.top_up is None or corpus is None:
        return None
    return TopUp(corpus, args.top_up, _filters(args), args.device)


def _report(data: TrainingData, result: AuditResult, args: argparse.Namespace, corpus: Corpus | None) -> None:
    from hf_posmine.audit.grouping import as_mined
    from hf_posmine.data.training_sources import is_mined
    from hf_posmine.mining.provenance import recorded_at
    from hf_posmine.report import MinedRows, write_report

    place = Path(args.data)
    recorded = recorded_at(place) is not None and is_mined(place)  # not training rows with a record beside them
    if recorded and args.negatives_column is None:
        mined = MinedRows.load(place, corpus, query_column=args.query_column, positive_column=args.positive_column)
    else:
        mined = MinedRows.of(as_mined(data), name=data.name, query_column="query", positive_column="positive")
    rows = {one.title: f"{one.rows:,} rows ({result.rate(one.name):.2%})" for one in result.findings.values()}
    write_report(mined, args.report, audit=rows)
    show(f"Page written to {args.report}; open it in a browser")


def _print(result: AuditResult) -> None:
    from hf_posmine.mining.summary import language_shares

    for language, shares in language_shares(result.languages).items():
        show(f"languages of the negatives of positives in {language}: {shares}")
    for line in result.assumptions:
        show(f"Assumed: {line}")
    show(f"{result.rows:,} rows with {result.negatives:,} negatives")
    if not result.findings:
        show("Nothing was found")
        return
    cells = [
        (one.name, f"{one.rows:,}", f"{result.rate(one.name):.2%}", f"{one.found:,}", one.title)
        for one in result.findings.values()
    ]
    show_table(f"Findings in {result.name}", ("kind", "rows", "share", "findings", ""), cells, left=("kind", ""))
    shown = [
        (one.name if number == 0 else "", str(example.row), *_texts(example))
        for one in result.findings.values()
        for number, example in enumerate(one.examples)
    ]
    if shown:
        heads = ("kind", "row", "query", "positive", "negative")
        show_table("Examples; rows from 0", heads, shown, left=heads)


def _texts(example: FindingExample) -> tuple[str, str, str]:
    return _short(example.query), _short(example.positive), _short(example.negative)


def _short(text: str | None) -> str:
    line = one_line(text or "")
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _write(result: AuditResult, output: Path) -> None:
    from hf_posmine.utils.files import write_file

    text = json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n"
    write_file(output, lambda file: file.write_text(text, "utf-8", "surrogatepass"))
    show(f"Written to {output}")


def _fail(result: AuditResult, limits: dict[str, float]) -> None:
    over = [name for name, limit in limits.items() if result.rate(name) > limit]
    if over:
        shares = ", ".join(
            f"{name} in {result.rate(name):.2%} of the rows (at most {limits[name]:.2%})" for name in over
        )
        show(f"Failed: {shares}", error=True)
        raise SystemExit(1)
