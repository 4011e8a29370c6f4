"""Measure how many mined negatives are false, on a collection that was judged by people.

All known positives of a query but one are hidden; negatives are mined as if they did not exist, and the
hidden ones that come up are counted. Judgements with a score below 0 are unknown: never candidates. Intervals
resample queries. A low rate may only mean easy negatives: --curve and --plot try every method over its thresholds,
and compare them where their negatives are equally hard.
COLLECTION is a BEIR folder, or a folder with corpus, queries and qrels as parquet, jsonl, csv or tsv files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_run_arguments, add_teacher_arguments, teacher_names, teacher_options
from hf_posmine.cli.early import methods_of
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

HELP = "measure false negatives on a judged collection"
BEST, MARGIN = "PercPos(0.95)", "MarginPos(0.05)"
PAPER = ["naive", "SkipTop(10)", "MaxScore(0.7)", MARGIN, BEST]

EXAMPLES = """examples:
  # the paper's five methods on your own collection, one positive per query visible, drawn with a seed
  hf-posmine fn-rate my_collection --seed 0

  # a BEIR folder: what is labelled in train, judged by complete; two methods of your own
  hf-posmine fn-rate beir_folder --visible train --qrels complete --methods naive "SkipTop(3) + PercPos(0.98)"

  # false negatives against hardness, every method over its thresholds
  hf-posmine fn-rate my_collection --curve curve.csv --plot curve.png
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
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument(
        "--methods", nargs="+", default=PAPER, metavar="FILTERS",
        help="each one filter, several joined by ' + ', or 'naive' (default: the paper's five at their best values)",
    )  # fmt: skip
    parser.add_argument("--num-negatives", type=int, default=4, help="negatives per row (default: %(default)s)")
    parser.add_argument("--sampler", default="Top()", help="draw of the negatives (default: %(default)s)")
    parser.add_argument("--output", help="write the figures as JSON")
    curve = parser.add_argument_group("false negatives against hardness")
    curve.add_argument("--curve", metavar="FILE", help="write the sweep over thresholds as .csv or .json")
    curve.add_argument("--plot", metavar="FILE", help="draw the sweep, such as curve.png (extra 'plots')")
    curve.add_argument(
        "--at", metavar="METHOD",
        help=f"compare all methods at the hardness of this one (default: {BEST}, or {MARGIN} where shares mean nothing)",
    )  # fmt: skip
    add_teacher_arguments(parser, several=False)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Mine with each method and print the table; with --curve or --plot over all thresholds, too."""
    methods = methods_of(args.methods, [args.sampler])  # before anything is imported or loaded
    methods_of([args.at or BEST])
    from hf_posmine.evaluation.negatives.false_negatives import Experiment, load_judged
    from hf_posmine.evaluation.negatives.trade_off import TradeOff
    from hf_posmine.evaluation.plots.style import check_image
    from hf_posmine.mining.provenance import versions
    from hf_posmine.teachers.capabilities import describe
    from hf_posmine.teachers.factory import make_teacher

    write_curve = curve_writer(args.curve)
    if args.plot:
        check_image(args.plot)
    corpus, judgements, visible = load_judged(Path(args.collection), args.qrels, args.visible, args.seed)
    taken = judgements.taken(corpus)
    show(taken)
    experiment = Experiment.of(corpus, judgements, visible)
    if len(teacher_names(args)) > 1:
        raise InputError(f"--teacher {args.teacher}: fn-rate takes one teacher at a time")
    teacher = make_teacher(args.teacher, corpus, queries=experiment.known.queries, **teacher_options(args))
    settings = {"num_negatives": args.num_negatives, "seed": args.seed, "sampler": args.sampler}
    rates = [experiment.rate(teacher, filters=method, **settings) for method in methods]
    table = TradeOff(tuple(args.methods), tuple(rates), args.seed).rows()
    name = Path(args.collection).resolve().name
    _print(table, name, teacher.name)
    record = {
        "command": args.command_line, "teacher": describe(teacher), "corpus": corpus.fingerprint, "settings": settings,
        "data": taken, "rates": table, "versions": versions(),
    }  # fmt: skip
    if args.curve or args.plot:
        record |= _sweep(args, teacher, corpus, judgements, visible)
        write_curve(record)
    if args.output:
        save_record(record, Path(args.output))


def _sweep(
    args: argparse.Namespace, teacher: Teacher, corpus: Corpus, judgements: Judgements, visible: Mapping[str, str]
) -> dict[str, Any]:
    """Every method over its thresholds: drawn, read off at equal hardness, and as what a record says of it."""
    from hf_posmine.core.samplers import Top, as_sampler
    from hf_posmine.evaluation.negatives.trade_off import TradeOff, swept_methods
    from hf_posmine.evaluation.plots.trade_off import plot_trade_off

    at = args.at or (MARGIN if teacher.score_kind in ("logit", "distance") else BEST)
    sampler: Any = as_sampler(args.sampler)
    methods = swept_methods(
        corpus, judgements, visible, teacher,
        more=[as_filters(method) for method in [*args.methods, at]], sampler=None if sampler == Top() else sampler,
    )  # fmt: skip
    curve = TradeOff.of(corpus, judgements, visible, teacher, methods, num_negatives=args.num_negatives, seed=args.seed)
    point = _point(at, sampler)
    equal = [*curve.equal_hardness(point, "score"), *curve.equal_hardness(point, "rank")]
    _print_equal(equal, at)
    if args.plot:
        title = f"{Path(args.collection).resolve().name}, {teacher.name}"
        plot_trade_off(curve, args.plot, title=title, marked=[_point(method, sampler) for method in args.methods])
    return {"at": at, "equal_hardness": equal, "curve": curve.rows()}


def curve_writer(path: str | None) -> Callable[[dict[str, Any]], None]:
    """Writes the curve of a record to a file, whose name is checked before anything is mined.

    Raises:
        InputError: a file that is neither .csv nor .json.
    """
    if path is None:
        return lambda record: None
    if Path(path).suffix not in (".csv", ".json"):
        raise InputError(f"--curve {path}: write a .csv or .json file")
    return lambda record: (_write_csv if path.endswith(".csv") else save_record)(record, Path(path))


def _write_csv(record: dict[str, Any], path: Path) -> None:
    """The points of the curve alone."""
    import csv
    import io

    from hf_posmine.utils.files import write_file

    text = io.StringIO()
    writer = csv.DictWriter(text, list(record["curve"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["curve"])
    write_file(path, lambda file: file.write_text(text.getvalue()))


def _point(method: str, sampler: Any) -> str:
    """The name of a method's point on a curve; Naive is where SkipTop begins."""
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.evaluation.negatives.false_negatives import spelled

    return spelled(MiningSettings.from_options({"filters": as_filters(method) or "SkipTop(0)", "sampler": sampler}))


def _print(rows: list[dict[str, Any]], collection: str, teacher: str) -> None:
    columns = ("method", "false negatives", "rate", "95 % interval", "queries hit", "mean score", "mean rank")
    cells = [
        (
            row["method"], f"{row['false_negatives']} of {row['negatives']}", f"{row['rate']:.2%}",
            f"{row['low']:.2%} to {row['high']:.2%}", f"{row['hit_queries']} of {row['queries']}",
            f"{row['mean_score']:.3f}", f"{row['mean_rank'] + 1:.1f}",
        )
        for row in rows
    ]  # fmt: skip
    show_table(f"False negatives on {collection}, teacher {teacher}; ranks from 1", columns, cells, left=("method",))


def _print_equal(rows: list[dict[str, Any]], at: str) -> None:
    columns = ("hardness by mean", "method", "rate", "95 % interval", f"minus {at}", "95 % interval")
    cells = [
        (
            row["by"], row["family"], f"{row['rate']:.2%}", f"{row['low']:.2%} to {row['high']:.2%}",
            f"{row['difference']:+.2%}", f"{row['difference_low']:+.2%} to {row['difference_high']:+.2%}",
        )
        for row in rows
    ]  # fmt: skip
    show_table(f"Where the negatives are as hard as those of {at}", columns, cells, left=("hardness by mean", "method"))
