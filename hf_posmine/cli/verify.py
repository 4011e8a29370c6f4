"""Mine a pushed dataset again from its record alone, and compare it row by row with what is in the repository.

Exits with status 0 if every row came out the same and every input that decides rows is as recorded, else with 1 after
printing which rows differ and which input is not as recorded: the weights of the teacher, the corpus, the known positives,
the source, the record itself, or the rows in the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show

if TYPE_CHECKING:
    import argparse

HELP = "mine a pushed dataset again and compare"
EXAMPLES = """examples:
  # everything, or a sample
  hf-posmine verify me/nq-mined
  hf-posmine verify me/nq-mined --rows 500

  # the corpus was a local file when it was mined; what another teacher would change
  hf-posmine verify me/nq-mined --corpus corpus.parquet
  hf-posmine verify me/nq-mined --rows 500 --teacher intfloat/e5-base-v2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine verify``."""
    parser.add_argument("repo_id", metavar="REPO_ID", help="a dataset pushed with its record")
    parser.add_argument("--rows", type=int, help="compare a random sample of this many rows (default: all)")
    parser.add_argument("--config-name", default="default", help="configuration of the rows (default: %(default)s)")
    parser.add_argument("--revision", help="branch, tag or commit (default: main)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the sample (default: %(default)s)")
    parser.add_argument("--output", help="write the result as JSON")
    inputs = parser.add_argument_group("inputs that were local, or to try others")
    inputs.add_argument("--dataset", help="the source rows: a file, folder or Hub id")
    inputs.add_argument("--corpus", help="the documents: a file, folder or Hub id")
    inputs.add_argument("--teacher", help="a Hub id, folder or spelling; several with commas")
    inputs.add_argument("--device", help="device to compute on, such as cpu or cuda:0")
    inputs.add_argument(
        "--allow-local",
        action="store_true",
        help="also read local paths that the record names; it is written by whoever pushed it, so only for your own",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Verify, print the result, and exit with 1 if the dataset is not verified."""
    from hf_posmine.core.spec import split_list
    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.hub.verify import verify

    teachers = None if args.teacher is None else split_list(args.teacher)
    inputs = Inputs(args.dataset, args.corpus, teachers, args.device, args.allow_local)
    found = verify(
        args.repo_id, args.rows, config=args.config_name, revision=args.revision, inputs=inputs, seed=args.seed
    )
    show(found)
    if args.output:
        save_record(found.to_dict(), Path(args.output))
    if not found.verified:
        raise SystemExit(1)
