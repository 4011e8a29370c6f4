"""Add hard negatives to a dataset, and write it with its provenance.

DATA is a Hub id, a parquet, jsonl, csv or arrow file, a folder saved with save_to_disk, or a BEIR folder
(corpus, queries, qrels). Rows, their order and all other columns stay; with --format only the training
columns are written, and n-tuples leave short rows out. An interrupted run continues where it stopped
when the same command is given again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.arguments import (
    add_data_arguments,
    add_mining_arguments,
    add_push_arguments,
    add_run_arguments,
    add_teacher_arguments,
    print_usage,
    push_options,
)
from hf_posmine.cli.guarantee import add_guarantee_arguments, add_rate, choose_filters
from hf_posmine.cli.limits import add_plan_arguments, announce, make_plan, may_stay_unloaded, set_limits
from hf_posmine.cli.output import account_of, check_output, update_line, write_output
from hf_posmine.cli.sharded import add_shard_arguments, run_sharded, shards_wanted
from hf_posmine.cli.show import show
from hf_posmine.cli.work import DataOptions, load_work, make_miner
from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import Keep

if TYPE_CHECKING:
    import argparse

    from hf_posmine.cli.work import MiningInput


HELP = "add hard negatives to a dataset"
EXAMPLES = """examples:
  # 4 negatives per row, at most 95 % of their positive's score (the paper's best method)
  hf-posmine mine sentence-transformers/natural-questions --filters "PercPos(0.95)" --output mined

  # candidates from another corpus, positives by id, an instruction for the queries
  hf-posmine mine pairs.parquet --positive-id-column positive_id --corpus corpus.parquet --corpus-id-column id \\
      --query-prompt "query: " --filters "SkipTop(10)" "PercPos(0.95)" --output mined

  # a BEIR folder, two of the ten best drawn by score, written as triplets
  hf-posmine mine beir/fiqa --split train --sampler "SampledTopK(k=10)" --num-negatives 2 --format triplet --output fiqa.parquet

  # a cross-encoder rejects candidates that it scores too close to the positive
  hf-posmine mine pairs.parquet --filters "PercPos(0.98)" --output mined \\
      --second-opinion cross:BAAI/bge-reranker-base --second-filters "PercPos(0.9)"

  # millions of documents: search by a FAISS index, and say how many of exact search's negatives it finds
  hf-posmine mine pairs.parquet --corpus corpus.parquet --index "IVF4096,SQ8" --filters "PercPos(0.95)" --output mined

  # documents were added, removed or changed: search again only where a list can change
  hf-posmine mine pairs.parquet --corpus corpus.parquet --filters "PercPos(0.95)" --update mined --output mined

  # everything from a file, one option overridden
  hf-posmine mine --config mine.yaml --seed 1

  # the hardest filter with at most 5 % false negatives, with 95 % confidence, by a judged collection
  hf-posmine mine pairs.parquet --max-fn-rate 0.05 --judged my_collection --output mined

  # push the rows with their record and a card, also as n-tuples
  hf-posmine mine pairs.parquet --filters "PercPos(0.95)" --output mined --push-to-hub me/mined --variants n-tuple

filters:  SkipTop(n)  RankWindow(first, last)  MaxScore(s)  MinScore(s)  MarginPos(margin)  PercPos(share)
          PerGroup(column, most)
          FartherFromPositive(margin)  NearerToPositive(margin)  Consistency(k)
          MaxFNRate(rate, confidence)
          default: PercPos(0.95); none: Naive Top-K
samplers: Top()  Uniform(k)  SampledTopK(k, temperature)  Top1Sampled(k, temperature)
          SimANS(k, a, b)  Stratified(bins, k)
          with several teachers: CrossSample()  IntraSample(dedup)
"""
FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine mine``."""
    add_data_arguments(parser)
    add_teacher_arguments(parser)
    add_mining_arguments(parser)
    add_guarantee_arguments(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--output", required=True, help="a folder (save_to_disk), or a .parquet or .jsonl file")
    output.add_argument("--format", choices=FORMATS, help="a training format instead of the column 'negatives'")
    output.add_argument(
        "--keep", nargs="*", choices=get_args(Keep), default=["scores", "ids", "ranks", "stats"],
        help="columns besides 'negatives' (default: %(default)s)",
    )  # fmt: skip
    output.add_argument("--num-proc", type=int, help="worker processes; does not change the result")
    output.add_argument(
        "--batch-size", type=int, help="rows per step; does not change the result (default: by the machine)"
    )
    output.add_argument(
        "--update", metavar="MINED",
        help="the output of an earlier mining with the same settings and teacher, before documents or pairs changed: only what "
        "can have changed is searched again; the rows are those of a full mining",
    )  # fmt: skip
    output.add_argument("--work-dir", help="where finished shards are kept, to continue an interrupted run")
    output.add_argument(
        "--push-to-hub", metavar="REPO_ID", help="push the mined rows with their record and a card, too"
    )
    add_shard_arguments(parser)
    add_plan_arguments(parser)
    add_push_arguments(parser)
    add_run_arguments(parser)


def _check(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Refuse what would fail after hours of mining; gives the options of a push, and whether shards are wanted."""
    from hf_posmine.hub.repository import Destination, check_login

    push = push_options(args)
    if args.push_to_hub:
        Destination(args.push_to_hub, "dataset", create_pr=args.create_pr, revision=args.push_revision)
        check_login()
    sharded = shards_wanted(args)
    if not sharded:
        check_output(Path(args.output), [args.data, args.corpus])
    return push, sharded


def run(args: argparse.Namespace) -> None:
    """Mine, write, and print the summary."""
    add_rate(args)  # before anything is imported or loaded, like what settings_of refuses
    if args.plan:
        show_plan(args)
        return
    from datasets import Image, Value

    from hf_posmine.evaluation.negatives.index_recall import measure_approximation
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.mining.execution.keeper import keep_searches
    from hf_posmine.mining.execution.local import UPDATE_BATCH, mine
    from hf_posmine.mining.execution.plan import suited_batch
    from hf_posmine.mining.training_formats import to_training

    set_limits(args)
    args.batch_size = args.batch_size or (UPDATE_BATCH if args.update else suited_batch())
    push, sharded = _check(args)
    guarantee = choose_filters(args)
    if sharded:
        run_sharded(args, push, guarantee)
        return
    work = load_work(DataOptions.of(args))
    _refuse_images_in_json(work, args)
    miner = make_miner(work, args)
    announce(miner, work.rows, args.batch_size)
    show(str(miner.data))
    how = {"work_dir": args.work_dir, "batch_size": args.batch_size, "num_proc": args.num_proc, "since": args.update}
    mined = mine(work.rows, miner, **how)
    reports = measure_approximation(miner, work.rows)
    summary, record = account_of(work, miner, mined, args.command_line, guarantee)
    rows, rows_record = mined, record
    if args.format:
        positive = miner.positive_column or (
            work.positive_column if work.positive_column in mined.column_names else None
        )
        scores = "scores" in args.keep and not args.format.startswith("labeled")
        if scores and positive and not isinstance(mined.features[positive], (Image, Value)):
            scores = False
            show("scores left out of the rows: several positives of a row have one score, that of the lowest")
        mined = to_training(
            mined, args.format, miner.settings.num_negatives, query_column=miner.query_column, positive_column=positive,
            on_short="drop", scores=scores, corpus=miner.corpus if miner.settings.negatives_as == "ids" else None,
        )  # fmt: skip
        record = dataclasses.replace(record, format=args.format)
    output = write_output(mined, Path(args.output), record)
    keep_searches(rows, Path(args.output))
    if record.update is not None:
        show(update_line(record.update) + "\n")
    show("\n\n".join(map(str, [summary, *reports])))
    print_usage(miner.teachers)
    if args.format == "n-tuple" and len(mined) < summary.rows:
        show(f"\n{summary.rows - len(mined):,} rows have too few negatives for n-tuples and were left out")
    show(f"\n{len(mined):,} rows written to {args.output}, their provenance to {output}")
    if args.push_to_hub:
        show(f"Pushed to {push_dataset(rows, args.push_to_hub, rows_record, **push).url}")


def show_plan(args: argparse.Namespace) -> None:
    """Print what the job takes; weights are loaded where its teachers have to be tried."""
    set_limits(args)
    push_options(args)  # refuses what a push would
    choose_filters(args)
    work = load_work(dataclasses.replace(DataOptions.of(args), counted=True))
    miner = make_miner(work, args, **({"weights": False} if may_stay_unloaded(args) else {}))
    known = miner.known_positives
    if known is not None and known.by_id:
        known.resolve(miner.corpus)  # refuses ids that the corpus lacks
    show(make_plan(miner, work.rows, args.batch_size))


def _refuse_images_in_json(work: MiningInput, args: argparse.Namespace) -> None:
    """Before anything is mined.

    Raises:
        InputError: rows with images, to be written as JSON.
    """
    from hf_posmine.data.columns import image_columns, splits_of

    if Path(args.output).suffix == ".jsonl" and any(image_columns(s.features or {}) for s in splits_of(work.rows)):
        raise InputError(f"--output {args.output}: JSON holds no images; write a folder or a .parquet file")
