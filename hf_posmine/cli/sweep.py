"""Try many methods on one dataset and print what each yields; encoding and search happen once.

DATA and the corpus are given as for mine. Every combination of --filters, --samplers, --num-negatives and
--seeds is tried. --choose writes the hardest setting within the limits, for hf-posmine mine --config; it needs judgements,
since the hardest setting of all is Naive Top-K, with the most false negatives.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.arguments import (
    add_data_arguments,
    add_run_arguments,
    add_teacher_arguments,
    teacher_names,
    teacher_options,
)
from hf_posmine.cli.early import methods_of
from hf_posmine.cli.output import TABLES, write_rows
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show, show_table
from hf_posmine.cli.work import COLUMNS, DataOptions, load_good_rows
from hf_posmine.core.errors import InputError
from hf_posmine.core.types import CeilingFrom

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pandas import DataFrame

    from hf_posmine.cli.work import MiningInput
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.teachers.stored_run import StoredRun

RECORD = ".record.json"
"""Ends the name of the record, which stands beside the table."""
HELP = "try many methods on a dataset, from one search"
SHARES = ["naive", *(f"PercPos({share})" for share in (0.8, 0.85, 0.9, 0.95, 0.98, 1.0))]
EXAMPLES = """examples:
  # how much does a share of the positive's score cost, and what is left
  hf-posmine sweep pairs.parquet --filters naive "PercPos(0.9)" "PercPos(0.95)" "SkipTop(10) + PercPos(0.95)"

  # samplers and seeds too; the table as a file, a figure, and the hardest setting that finds 95 % of the negatives
  hf-posmine sweep pairs.parquet --samplers "Top()" "SampledTopK(k=20)" --seeds 0 1 2 \\
      --output sweep.parquet --plot sweep.png --choose mine.yaml --min-yield 0.95
  hf-posmine mine pairs.parquet --config mine.yaml --output mined
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine sweep``."""
    add_data_arguments(parser)
    add_teacher_arguments(parser)
    group = parser.add_argument_group("settings to try")
    group.add_argument(
        "--filters", nargs="+", default=SHARES, metavar="FILTERS",
        help="each one filter, several joined by ' + ', or 'naive' (default: PercPos from 0.8 to 1.0)",
    )  # fmt: skip
    group.add_argument(
        "--samplers", nargs="+", default=["Top()"], metavar="SAMPLER", help="draws of the negatives (default: Top())"
    )
    group.add_argument("--num-negatives", nargs="+", type=int, default=[4], help="negatives per row (default: 4)")
    group.add_argument("--seeds", nargs="+", type=int, default=[0], help="random seeds (default: 0)")
    group.add_argument(
        "--ceiling-from",
        choices=get_args(CeilingFrom),
        default="min",
        help="which positive sets the ceiling (default: %(default)s)",
    )
    group.add_argument("--depth", type=int, default=200, help="documents stored per query (default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", help="the table, a .parquet, .csv or .jsonl file, with a record of the data and the teachers beside it",
    )  # fmt: skip
    output.add_argument("--plot", help="figure of the table, such as sweep.png (extra 'plots')")
    output.add_argument("--choose", metavar="YAML", help="write the hardest setting within the limits")
    limits = parser.add_argument_group("judgements and limits of --choose")
    limits.add_argument(
        "--judgements", metavar="SPLIT", help="complete judgements of a BEIR folder, such as complete or test"
    )
    limits.add_argument(
        "--max-false-negatives", type=float, metavar="RATE", help="highest false-negative rate, such as 0.05"
    )
    limits.add_argument(
        "--min-yield", type=float, default=0.95, help="least share of the requested negatives (default: %(default)s)"
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Build the runs, try everything, print the table."""
    filters = methods_of(args.filters, args.samplers)  # before anything is imported or loaded
    _check_choice(args)
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.evaluation.negatives.choice import choose, mine_config
    from hf_posmine.evaluation.negatives.sweep import sweep
    from hf_posmine.evaluation.plots.settings import plot_sweep
    from hf_posmine.evaluation.plots.style import check_image
    from hf_posmine.utils.files import write_file

    _check_table(args.output)
    if args.plot:
        check_image(args.plot)
    work = load_good_rows(DataOptions.of(args))
    judgements = Qrels.from_beir(args.data, args.judgements) if args.judgements else None
    runs, columns, reader = _runs(work, args)
    table = sweep(
        runs, work.rows, filters=filters, samplers=args.samplers, num_negatives=args.num_negatives, seeds=args.seeds,
        ceiling_from=args.ceiling_from, judgements=judgements, **columns,
    )  # fmt: skip
    _print(table)
    if args.output:
        output = Path(args.output)
        write_file(output, lambda path: write_rows(table, path, output.suffix))
        _write_record(output, runs, reader, args)
    if args.plot:
        plot_sweep(table, args.plot)
    if args.choose:
        chosen = choose(table, max_false_negatives=args.max_false_negatives, min_yield=args.min_yield)
        write_file(Path(args.choose), lambda path: path.write_text(mine_config(chosen)))
        show(
            f"\n{chosen['filters']}, {chosen['sampler']}, {chosen['num_negatives']} negatives written to {args.choose}"
        )


def _runs(work: MiningInput, args: argparse.Namespace) -> tuple[list[StoredRun], dict[str, Any], PositiveAwareMiner]:
    """A stored run of each teacher, the columns to read, and what reads them."""
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.teachers.factory import make_teacher
    from hf_posmine.teachers.stored_run import StoredRun

    names = teacher_names(args)
    columns: dict[str, Any] = dict(zip(COLUMNS, work.columns, strict=True))
    reader = PositiveAwareMiner.from_dataset(
        work.rows, names[0], corpus=work.corpus, teacher_options=teacher_options(args), filters=(), **columns
    )
    show(str(reader.data))
    queries = None if reader.known_positives is None else reader.known_positives.queries
    others = [make_teacher(name, reader.corpus, queries=queries, **teacher_options(args)) for name in names[1:]]
    runs = [
        StoredRun.build(t, work.rows, args.depth, corpus=reader.corpus, **columns) for t in [*reader.teachers, *others]
    ]
    return runs, columns, reader


def _write_record(
    output: Path, runs: Sequence[StoredRun], reader: PositiveAwareMiner, args: argparse.Namespace
) -> None:
    """Beside the table: what was searched, by whom, and with which settings."""
    from hf_posmine.mining.provenance import versions
    from hf_posmine.teachers.capabilities import describe

    settings = {name: vars(args)[name] for name in ("depth", "ceiling_from", "judgements")}
    record = {
        "command": args.command_line, "teachers": [describe(run) for run in runs],
        "corpus": reader.corpus.fingerprint, "data": str(reader.data), "settings": settings, "versions": versions(),
    }  # fmt: skip
    save_record(record, output.with_name(f"{output.name}{RECORD}"))


def _check_choice(args: argparse.Namespace) -> None:
    """Refuse a choice without a bound, before anything is searched."""
    from hf_posmine.evaluation.negatives.choice import NO_BOUND

    if args.choose and (args.judgements is None or args.max_false_negatives is None):
        raise InputError(f"--choose: {NO_BOUND}")


def _check_table(output: str | None) -> None:
    if output is not None and Path(output).suffix not in TABLES:
        raise InputError(f"--output {output}: write a {', '.join(TABLES)} file")


def _print(table: DataFrame) -> None:
    columns = (
        "teacher",
        "filters",
        "sampler",
        "n",
        "seed",
        "yield",
        "short rows",
        "removed",
        "hardness",
        "false negatives",
    )
    rows = [
        (
            row["teacher"], row["filters"], row["sampler"], str(row["num_negatives"]), str(row["seed"]), f"{row['yield']:.1%}",
            f"{row['short_rows']:,}", f"{row['removed']:.1%}", f"{row['hardness']:.3f}",
            "" if row["false_negative_rate"] is None else f"{row['false_negative_rate']:.2%}",
        )
        for row in table
    ]  # fmt: skip
    show_table("Settings", columns, rows, left=("teacher", "filters", "sampler"), width=140)
