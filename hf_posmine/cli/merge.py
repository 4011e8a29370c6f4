"""Merge models of one architecture into one: the mean of their weights, or an interpolation of two.

With --validate the shares are chosen by a judged collection: with the mean, models are added as long as the score does not
fall (a greedy soup); with slerp, shares are tried in steps of a tenth. Validate on development judgements, never on those of
the final test. What was merged, tried and chosen is written to merge.json beside the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.training.merge import Merge, Score

HELP = "merge models of one architecture into one"
EXAMPLES = """examples:
  # three seeds of one recipe
  hf-posmine merge runs/seed1 runs/seed2 runs/seed3 --output merged

  # 70 % of the trained model, 30 % of the one it started from
  hf-posmine merge trained intfloat/e5-base-v2 --shares 0.7 0.3 --output merged

  # the share that is best on a development split
  hf-posmine merge trained intfloat/e5-base-v2 --method slerp --validate my_collection --qrels dev --output merged
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine merge``."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="Hub ids or folders; the first gives all but the weights"
    )
    parser.add_argument("--output", required=True, help="folder of the merged model; it must not exist")
    parser.add_argument(
        "--method",
        choices=["mean", "slerp"],
        default="mean",
        help="how the weights are combined (default: %(default)s)",
    )
    parser.add_argument("--shares", nargs="+", type=float, metavar="SHARE", help="share of each model (default: equal)")
    parser.add_argument("--validate", metavar="COLLECTION", help="choose the shares by this judged collection")
    parser.add_argument("--qrels", help="its judgements, such as dev (default: 'test', 'qrels', or the only ones)")
    parser.add_argument("--measure", default="ndcg@10", help="measure of the validation (default: %(default)s)")
    parser.add_argument("--query-instruction", metavar="TEXT", help="description of the task, put before the queries")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Merge, save, and print what was tried."""
    from hf_posmine.training.merge import merge_by_validation, merge_models

    output = Path(args.output)
    if output.exists():
        raise InputError(f"--output {args.output!r} exists; name a new folder")
    if args.validate and args.shares:
        raise InputError("--validate chooses the shares; leave --shares out")
    if args.validate:
        merged = merge_by_validation(args.models, _score(args), args.method)
    else:
        merged = merge_models(args.models, args.method, args.shares)
    merged.model.save_pretrained(str(output))
    save_record(_record(args, merged), output / "merge.json")
    _print(args, merged)


def _score(args: argparse.Namespace) -> Score:
    from hf_posmine.evaluation.loading import load_collection
    from hf_posmine.evaluation.retrieval import RetrievalSettings, evaluate_retrieval

    settings = {"measures": (args.measure,), "query_instruction": args.query_instruction}
    RetrievalSettings(**settings)  # before anything is loaded
    collection = load_collection(args.validate, args.qrels)
    return lambda model: float(evaluate_retrieval(model, collection, **settings).means[args.measure])


def _record(args: argparse.Namespace, merged: Merge) -> dict[str, object]:
    from hf_posmine.encoding.model_digest import model_digest
    from hf_posmine.mining.provenance import versions

    return {
        "command": args.command_line, "models": args.models, "method": merged.method, "shares": list(merged.shares),
        "validated_on": args.validate, "qrels": args.qrels, "measure": args.measure if args.validate else None,
        "tried": [{"shares": list(shares), "score": score} for shares, score in merged.tried],
        "model_digest": model_digest(merged.model), "versions": versions(),
    }  # fmt: skip


def _print(args: argparse.Namespace, merged: Merge) -> None:
    if merged.tried:
        rows = [[*(f"{share:.2f}" for share in shares), f"{score:.4f}"] for shares, score in merged.tried]
        show_table(f"{args.measure} on {args.validate}", [*map(str, args.models), args.measure], rows)
    kept = ", ".join(f"{share:.2f} {name}" for name, share in zip(args.models, merged.shares, strict=True))
    show(f"saved {args.output}: {merged.method} of {kept}")
