"""``hf-posmine mine`` into a folder of parquet shards: from a stream, or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.miner import PositiveAwareMiner


def add_shard_arguments(parser: argparse.ArgumentParser) -> None:
    """How to mine what is larger than a disk cache, or on many machines."""
    group = parser.add_argument_group(
        "streams and many machines", "these write parquet shards to the folder --output, for load_dataset(FOLDER)"
    )
    group.add_argument(
        "--streaming", action="store_true", help="read DATA as a stream; nothing of it is kept in a cache"
    )
    group.add_argument(
        "--ray", metavar="ADDRESS", help="mine on a Ray cluster: auto (the one here), local (a new one), ..."
    )
    group.add_argument(
        "--ray-workers",
        type=int,
        metavar="N",
        help="number of workers at most (default: as many as fit on the cluster)",
    )
    group.add_argument(
        "--ray-cpus", type=float, default=1, metavar="N", help="CPUs of each worker (default: %(default)s)"
    )
    group.add_argument(
        "--ray-gpus", type=float, default=0, metavar="N", help="GPUs of each worker (default: %(default)s)"
    )
    group.add_argument(
        "--ray-search", type=int, metavar="N", help="search the corpus in N parts, each held by one worker"
    )
    group.add_argument(
        "--shard-rows",
        type=int,
        metavar="N",
        help="rows per shard; at most this much work is lost if the job is killed (default: 50000)",
    )


def shards_wanted(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for shards.

    Raises:
        InputError: options that have no effect together.
    """
    if not args.streaming and args.ray is None:
        unused = [name for name in ("shard_rows", "ray_workers", "ray_search") if vars(args)[name] is not None]
        if unused or args.ray_gpus or args.ray_cpus != 1:
            name = (unused or ["ray_gpus" if args.ray_gpus else "ray_cpus"])[0].replace("_", "-")
            raise InputError(f"--{name} has no effect without --ray{' or --streaming' if name == 'shard-rows' else ''}")
        return False
    if args.streaming and args.ray is not None:
        raise InputError("--streaming reads by one process and --ray by many; leave one of them out")
    for name in ("format", "num_proc", "work_dir", "variants", "update"):
        if vars(args)[name]:
            option = name.replace("_", "-")
            raise InputError(f"--{option} has no effect on shards; leave it out, or mine without --streaming and --ray")
    return True


def run_sharded(args: argparse.Namespace, push: dict[str, Any], guarantee: dict[str, Any] | None) -> None:
    """Mine into shards, write the provenance beside them, print the summary and push."""
    from hf_posmine.cli.arguments import print_usage
    from hf_posmine.cli.limits import announce
    from hf_posmine.cli.output import account_of, check_no_input
    from hf_posmine.cli.work import DataOptions, load_work, make_miner
    from hf_posmine.evaluation.negatives.index_recall import measure_approximation
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.mining.execution.shards import check_folder, read_shards
    from hf_posmine.mining.provenance import write_provenance

    root = Path(args.output)
    check_no_input(root, [args.data, args.corpus])
    check_folder(root)
    if args.ray is not None:
        from hf_posmine.mining.execution.ray_pool import require_ray

        require_ray()
    work = load_work(DataOptions.of(args))
    miner = make_miner(work, args)
    if args.ray is None:
        announce(miner, work.rows, args.batch_size)
    show(str(miner.data))
    _mine(work.rows, miner, root, args)
    mined = read_shards(root)
    reports = measure_approximation(miner, work.rows)
    summary, record = account_of(work, miner, mined, args.command_line, guarantee)
    write_provenance(root / "provenance.json", record)
    show("\n\n".join(map(str, [summary, *reports])))
    print_usage(miner.teachers)
    files = sum(len(shards.files) for shards in mined.values())
    show(
        f"\n{summary.rows:,} rows written to {files:,} shards in {root}, their provenance to {root / 'provenance.json'}"
    )
    if args.push_to_hub:
        show(f"Pushed to {push_dataset(mined, args.push_to_hub, record, **push).url}")


def _mine(rows: AnyDataset, miner: PositiveAwareMiner, root: Path, args: argparse.Namespace) -> None:
    from hf_posmine.mining.execution.local import mine

    if args.ray is None:
        mine(rows, miner, output=root, batch_size=args.batch_size, shard_rows=args.shard_rows)
        return
    from hf_posmine.mining.execution.ray import mine_on_ray
    from hf_posmine.mining.execution.ray_pool import Workers, connected

    workers = Workers(args.ray_workers, args.ray_cpus, args.ray_gpus)
    search = None if args.ray_search is None else Workers(args.ray_search, args.ray_cpus, args.ray_gpus)
    select = workers if search is None else Workers(args.ray_workers, args.ray_cpus)
    with connected(args.ray):
        mine_on_ray(
            rows, miner, root, encode=workers, search=search, mine=select, shard_rows=args.shard_rows, batch_size=args.batch_size
        )  # fmt: skip
