"""``--max-fn-rate``: the hardest filter with a guaranteed false-negative rate, chosen before mining."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.arguments import teacher_names
from hf_posmine.cli.chats import chat_of, show_costs
from hf_posmine.cli.early import settings_of
from hf_posmine.cli.show import show
from hf_posmine.cli.work import COLUMNS
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import MaxFNRate
from hf_posmine.evaluation.negatives.hold_out import Hide
from hf_posmine.evaluation.negatives.promise import Promise

if TYPE_CHECKING:
    from hf_posmine.evaluation.judge.measured import MeasuredJudge

OF_ITS_OWN = ("judged", "judge_model", "judge_url", "judge_api_key_env", "judge_confusion", "families")
"""Options that do nothing without a rate."""


def add_guarantee_arguments(parser: argparse.ArgumentParser) -> None:
    """The rate, and where the evidence is."""
    group = parser.add_argument_group(
        "guaranteed rate",
        "the hardest filter whose false-negative rate is bounded by evidence; it joins those of --filters",
    )
    group.add_argument(
        "--max-fn-rate", type=float, metavar="RATE", help='such as 0.05; the same as the filter "MaxFNRate(0.05)"'
    )
    group.add_argument("--confidence", type=float, help="that the rate holds (default: 0.95)")
    group.add_argument(
        "--judged", metavar="COLLECTION",
        help="judged collection, or pairs with several positives, as for calibrate (default: DATA itself)",
    )  # fmt: skip
    group.add_argument("--qrels", help="judgements of a collection (default: qrels, or 'test'; of DATA: --split)")
    group.add_argument(
        "--hide", choices=get_args(Hide), default="rest",
        help="all positives but one, or only one, each in turn (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--families", nargs="+", metavar="NAME", help="families to try, such as PercPos MarginPos SkipTop"
    )
    group.add_argument(
        "--judge-model", metavar="NAME", help="let a language model judge instead (see hf-posmine judge)"
    )
    group.add_argument(
        "--judge-url", metavar="URL", help="OpenAI-compatible server of --judge-model (default: the Hub's)"
    )
    group.add_argument("--judge-api-key-env", metavar="NAME", help="environment variable with the key of --judge-url")
    group.add_argument(
        "--judge-confusion", type=int, nargs=4, metavar=("NN", "NY", "YN", "YY"),
        help="counts of the judge, as hf-posmine judge --collection prints them: passages that are not relevant, judged no and "
        "yes, and relevant ones, judged no and yes; at most one of each kind per query",
    )  # fmt: skip
    group.add_argument(
        "--judge-queries",
        type=int,
        default=200,
        metavar="N",
        help="queries whose negatives are judged (default: %(default)s)",
    )


def add_rate(args: argparse.Namespace) -> None:
    """Put the rate of ``--max-fn-rate`` among the filters, and check the options that go with it.

    Raises:
        InputError: options that have no effect, or no guarantee, together.
    """
    if args.max_fn_rate is not None:
        confidence = 0.95 if args.confidence is None else args.confidence
        args.filters = [*(args.filters or ()), repr(MaxFNRate(args.max_fn_rate, confidence))]
    elif args.confidence is not None:
        raise InputError(f"--confidence {args.confidence:g} has no effect without --max-fn-rate")
    if Promise.of(settings_of(args)) is None:
        unused = [name for name in OF_ITS_OWN if vars(args)[name] is not None]
        if unused:
            raise InputError(f"--{unused[0].replace('_', '-')} has no effect without --max-fn-rate")
        return
    if len(teacher_names(args)) > 1 or args.second_opinion is not None:
        raise InputError(f"--teacher {args.teacher}: a guaranteed rate is for one teacher without a second opinion")
    if (args.judge_model is None) != (args.judge_confusion is None):
        raise InputError("--judge-model and --judge-confusion belong together: a judge counts only with its errors")
    if args.streaming and args.judged is None:
        raise InputError("--streaming reads DATA once; give the evidence for --max-fn-rate as --judged COLLECTION")


def choose_filters(args: argparse.Namespace) -> dict[str, Any] | None:
    """Put the filters with the wanted rate in the place of it, print them, and give what the record says of them."""
    settings = settings_of(args)
    if Promise.of(settings) is None:
        return None
    from hf_posmine.cli.judged import load_evidence
    from hf_posmine.evaluation.negatives.certify import certify, certify_by_judge

    corpus, judgements, teacher, taken = load_evidence(_source(args))
    show(f"evidence: {taken}")
    if settings.exclude_same is None:  # rows are mined as the evidence is
        settings = replace(settings, exclude_same=corpus.source_column or ())
    args.exclude_same = list(settings.exclude_same or ())
    judge = _judge(args)
    if judge is None:
        found = certify(corpus, judgements, teacher, settings, families=args.families, hide=args.hide)
    else:
        found = certify_by_judge(corpus, judgements, teacher, settings, judge, families=args.families)
        show_costs(judge.judge.costs())
    show(found)
    args.filters = [repr(f) for f in found.filters]
    return found.to_dict()


def _source(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of the evidence; the columns of DATA are not those of another place."""
    if args.judged is None:
        return argparse.Namespace(**vars(args) | {"qrels": args.qrels or args.split})
    other = {"data": args.judged, "qrels": args.qrels or "qrels", "corpus": None, **dict.fromkeys(COLUMNS)}
    return argparse.Namespace(**vars(args) | other)


def _judge(args: argparse.Namespace) -> MeasuredJudge | None:
    if args.judge_model is None:
        return None
    from hf_posmine.evaluation.judge.judge import Judge
    from hf_posmine.evaluation.judge.measured import MeasuredJudge

    no_no, no_yes, yes_no, yes_yes = args.judge_confusion
    return MeasuredJudge(Judge(chat_of(args, "judge")), ((no_no, no_yes), (yes_no, yes_yes)), args.judge_queries)
