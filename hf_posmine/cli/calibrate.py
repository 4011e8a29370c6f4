"""Choose the threshold: false-negative rate and hardness of every threshold, from queries with several positives.

Known positives are hidden from the miner, each in turn; a hidden one that it mines is a false negative. DATA is
a judged collection (as for fn-rate), or a dataset of pairs in which some queries have several positives.
Intervals are of resampled queries.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.arguments import add_data_arguments, add_run_arguments, add_teacher_arguments, teacher_names
from hf_posmine.cli.early import methods_of
from hf_posmine.cli.judged import load_evidence
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.negatives.hold_out import Hide

if TYPE_CHECKING:
    import argparse

    from hf_posmine.core.types import Filter, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.calibration import Calibration, Point
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

HELP = "choose the threshold for a wanted false-negative rate"
EXAMPLES = """examples:
  # the paper's four families on a judged collection; at most 5 % false negatives, with 95 % confidence
  hf-posmine calibrate my_collection --rate 0.05

  # the same with a figure: false negatives against hardness, a band for every family
  hf-posmine calibrate my_collection --plot calibration.png

  # a training set; shares of the positive's score only, the setting written for hf-posmine mine --config
  hf-posmine calibrate pairs.parquet --families PercPos --rate 0.1 --choose mine.yaml

  # settings of your own
  hf-posmine calibrate pairs.parquet --filters "PercPos(0.9)" "SkipTop(5) + PercPos(0.98)" --rate 0.05
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine calibrate``."""
    add_data_arguments(parser)
    parser.add_argument("--qrels", default="qrels", help="judgements of a collection (default: %(default)s, or 'test')")
    add_teacher_arguments(parser, several=False)
    group = parser.add_argument_group("calibration")
    group.add_argument("--rate", type=float, default=0.05, help="wanted false-negative rate (default: %(default)s)")
    group.add_argument("--families", nargs="+", metavar="NAME", help="such as PercPos, MarginPos, MaxScore, SkipTop")
    group.add_argument("--filters", nargs="+", metavar="FILTERS", help="settings of your own, instead of families")
    group.add_argument(
        "--hide", choices=get_args(Hide), default="rest",
        help="all positives but one, or only one, each in turn (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--estimate", action="store_true", help="compare estimates with --rate instead of upper bounds")
    group.add_argument("--num-negatives", type=int, default=4, help="negatives per row (default: %(default)s)")
    group.add_argument("--sampler", default="Top()", help="draw of the negatives (default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("--output", help="write the figures as JSON")
    output.add_argument("--plot", help="draw the figures, such as calibration.png (extra 'plots')")
    output.add_argument("--choose", metavar="YAML", help="write the proposed setting")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Calibrate, print the curves and what they propose."""
    _methods(args)  # before anything is imported or loaded
    from hf_posmine.evaluation.negatives.calibrate import calibrate
    from hf_posmine.evaluation.negatives.choice import mine_config
    from hf_posmine.evaluation.plots.calibration import plot_calibration
    from hf_posmine.evaluation.plots.style import check_image
    from hf_posmine.mining.provenance import versions
    from hf_posmine.teachers.capabilities import describe
    from hf_posmine.utils.files import write_file

    if args.plot:
        check_image(args.plot)
    if len(teacher_names(args)) > 1:
        raise InputError(f"--teacher {args.teacher}: calibrate takes one teacher at a time")
    corpus, judgements, teacher, taken = load_evidence(args)
    show(taken)
    found = calibrate(
        corpus, judgements, teacher, families=_families(args, teacher, corpus, judgements), hide=args.hide,
        num_negatives=args.num_negatives, sampler=args.sampler, seed=args.seed,
    )  # fmt: skip
    _print(found, teacher.name)
    if args.output:
        record = {
            "command": args.command_line, "teacher": describe(teacher), "corpus": corpus.fingerprint, "hide": args.hide,
            "data": taken, "queries": found.queries, "settings": [asdict(point) for point in found.points], "versions": versions(),
        }  # fmt: skip
        save_record(record, Path(args.output))
    chosen = None
    try:
        chosen = found.propose(args.rate, confident=not args.estimate)
    finally:  # the figure is wanted most where no setting reaches the rate
        if args.plot:
            title = f"{Path(args.data).name}, {teacher.name}"
            plot_calibration(found, args.plot, chosen=chosen, wanted=args.rate, title=title)
    show(f"\n{_sentence(found, chosen, confident=not args.estimate)}")
    for other in found.at_hardness_of(chosen):
        if other.family != chosen.family:
            show(
                f"  {other.family} at the same hardness: {other.rate:.2%}, that is {other.difference:+.2%} "
                f"({other.difference_low:+.2%} to {other.difference_high:+.2%})"
            )
    if args.choose:
        row = {
            "filters": chosen.method, "sampler": args.sampler, "num_negatives": args.num_negatives, "seed": args.seed,
        }  # fmt: skip
        write_file(Path(args.choose), lambda path: path.write_text(mine_config(row)))
        show(f"written to {args.choose}")


def _sentence(found: Calibration, chosen: Point, *, confident: bool) -> str:
    """The chosen setting, and how much its rate may be trusted."""
    name = f"{chosen.method}: {chosen.rate:.2%} false negatives"
    if not confident:
        return f"{name}, an estimate that is the lowest of {len(found.points)} settings: expect more"
    bound = found.bounds[found.points.index(chosen)]
    return f"{name}, at most {bound:.2%} with {found.level:.0%} confidence over the choice among {len(found.points)} settings"


def _methods(args: argparse.Namespace) -> list[tuple[Filter, ...]]:
    """The settings of --filters, each a list of filters."""
    return methods_of(args.filters or (), [args.sampler])


def _families(
    args: argparse.Namespace, teacher: Teacher, corpus: Corpus, judgements: Judgements
) -> dict[str, list[Any]] | None:
    """What to try: own settings, some of the default families, or None for all of them."""
    from hf_posmine.evaluation.negatives.calibrate import families_for

    if args.filters:
        return {"given": _methods(args)}
    if args.families is None:
        return None
    made = families_for(corpus, judgements, teacher)
    unknown = [name for name in args.families if name not in made]
    if unknown:
        raise InputError(f"--families {unknown[0]}: for {teacher.score_kind} scores there are {', '.join(made)}")
    return {name: made[name] for name in args.families}


def _print(found: Calibration, teacher: str) -> None:
    columns = ("method", "false negatives", "interval", "of hidden ones", "hardness", "yield")
    rows = [
        (
            point.method, f"{point.rate:.2%}", f"{point.low:.2%} to {point.high:.2%}", f"{point.risk:.2%}",
            f"{point.hardness:.3f}", f"{point.found:.1%}",
        )
        for point in found.points
    ]  # fmt: skip
    families = [point.family for point in found.points]
    sections = [at for at in range(1, len(families)) if families[at] != families[at - 1]]
    title = f"{found.queries:,} queries, {found.num_negatives} negatives, teacher {teacher}"
    show_table(title, columns, rows, left=("method",), width=110, sections=sections)
