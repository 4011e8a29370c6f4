"""Encode a corpus, and the queries of a dataset, before mining: one process, or an equal share in each of several.

What mine with the same DATA, --corpus and teacher would encode is encoded here, into the same store, and mine
then finds it there. Under accelerate launch or torchrun, or with RANK and WORLD_SIZE set, each process encodes
its share. Finished shards are not encoded again, so a stopped run continues, and a failed process is simply started again.
A damaged shard is encoded again, with a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import (
    add_data_arguments,
    add_run_arguments,
    add_teacher_arguments,
    teacher_names,
    teacher_options,
)
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

HELP = "encode a corpus before mining, also by several processes"
EXAMPLES = """examples:
  # the documents and queries of a dataset, on the GPU or CPU there is
  hf-posmine encode pairs.parquet --corpus corpus.parquet --teacher intfloat/e5-large-v2 --store stores/e5

  # a corpus alone, on eight GPUs of one machine
  accelerate launch --num_processes 8 -m hf_posmine.cli encode --corpus corpus.parquet --store stores/minilm

  # on two machines that share a disk, without any launcher
  RANK=0 WORLD_SIZE=2 hf-posmine encode --corpus corpus.parquet --store /shared/stores
  RANK=1 WORLD_SIZE=2 hf-posmine encode --corpus corpus.parquet --store /shared/stores
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine encode``."""
    add_data_arguments(parser, required=False)
    add_teacher_arguments(parser)
    store = parser.add_argument_group("store")
    store.add_argument(
        "--shard-rows",
        type=int,
        help="texts per shard of a new store; at most this much work is lost if the job is killed (default: 2048)",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Encode this process's share for each teacher, and say what was done."""
    from hf_posmine.mining.execution.encode_share import Rank, encode_share

    if args.data is None and args.corpus is None:
        raise InputError("nothing to encode: give DATA, --corpus or both")
    rank = Rank.from_environment()
    rank.use_gpu()
    encoded, share, total = encode_share(load_teachers(args), rank)
    who = "" if rank.world == 1 else f"rank {rank.number} of {rank.world}: "
    there = share - encoded
    show(f"{who}{encoded:,} shards encoded, {there:,} were there; {share:,} of {total:,} are this process's share")


def load_teachers(args: argparse.Namespace) -> list[Any]:
    """The teachers over what the arguments name, as mine would make them."""
    from hf_posmine.cli.work import DataOptions, load_corpus, load_work
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.teachers.factory import make_teachers

    names, options = teacher_names(args), teacher_options(args)
    if args.shard_rows is not None:
        options["shard_rows"] = args.shard_rows
    if args.data is None:
        return make_teachers(names, load_corpus(DataOptions.of(args))[0], **options)
    work = load_work(DataOptions.of(args))
    if work.known is not None and work.corpus is not None:
        return make_teachers(names, work.corpus, queries=work.known.queries, **options)
    miner = PositiveAwareMiner.from_dataset(
        work.rows, names, query_column=work.query_column, positive_column=work.positive_column,
        positive_id_column=work.positive_id_column, corpus=work.corpus, teacher_options=options,
        filters=(), sampler="Top()" if len(names) == 1 else "CrossSample()", skip_bad_rows=args.skip_bad_rows,
    )  # fmt: skip
    return miner.teachers
