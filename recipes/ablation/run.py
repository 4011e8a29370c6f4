"""The paper's ablation, or a small one: mine in many ways, train a student on each, test the differences.

    python recipes/ablation/run.py --config recipes/ablation/mini.yaml --output out/ablation
    python recipes/ablation/run.py --config recipes/ablation/mini.yaml --output out/ablation --dry-run

Every cell (one student) is kept as one JSON file in OUTPUT/cells. A run that was killed resumes when the
same command is given again; cells that two studies share are trained once. Tables and figures go to OUTPUT/report/NAME, and
are written anew at any time from the cells that are there (--report-only).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ablation.cell import Cells
from ablation.config import read_config
from ablation.report import estimate, write_report
from ablation.windows import write_windows
from hf_posmine.core import PosmineError
from hf_posmine.utils import progress_bar


def main(given: list[str] | None = None) -> int:
    """All steps, in order."""
    args = arguments(given)
    try:
        # 1. The grid: every cell is known by a digest of all that decides its result.
        cells = Cells(read_config(args.config), args.output)
        show(cells, every=args.dry_run)
        if args.dry_run:
            return 0
        if not args.report_only:
            train(cells, args)
        # Then: tables with intervals and Holm's correction, the paper's order beside ours, figures.
        written = write_report(
            cells, args.output / "report" / cells.config.name, command=command(args), figures=not args.no_figures
        )
        print(f"tables and figures in {written.parent}, as {written.name}")
    except PosmineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="mini.yaml (2 CPU cores), paper.yaml (GPUs), or your own")
    parser.add_argument("--output", required=True, type=Path, help="folder of mined rows, cells and the report")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the cells, which are done, and how long the rest takes"
    )
    parser.add_argument("--report-only", action="store_true", help="tables and figures of the cells that are done")
    parser.add_argument("--no-figures", action="store_true", help="tables only (figures need the extra 'plots')")
    parser.add_argument("--only", nargs="+", metavar="STUDY", help="train the cells of these studies only")
    parser.add_argument(
        "--jobs", type=int, default=1, help="cells at a time, each in its own process (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a cell (default: %(default)s)")
    return parser.parse_args(given)


def train(cells: Cells, args: argparse.Namespace) -> None:
    """Whatever is missing: the corpus, the negatives, the students."""
    # 2. The corpus, where one is cut from SQuAD.
    config = cells.config
    if config.windows is not None:
        write_windows(config.windows, config.sources, args.output / "windows")

    # 3. Negatives: a teacher searches once; every filter, sampler and number of negatives is read off its stored run.
    cells.mined.mine_all()

    # 4. What is left to train.
    wanted = {
        config.digest(cell)
        for study in config.studies
        for cell in study.cells
        if study.name in (args.only or [study.name])
    }
    unknown = set(args.only or []) - {study.name for study in config.studies}
    if unknown:
        raise PosmineError(f"--only {sorted(unknown)[0]}: the studies are {[study.name for study in config.studies]}")
    missing = [digest for digest in cells.missing if digest in wanted]

    # 5. One student after the other, or --jobs at a time; an interruption loses the unfinished ones only.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    work = [(str(args.config), str(args.output), digest, args.threads) for digest in missing]
    with progress_bar(len(work), "Training", "cell") as bar:
        for _ in finished(work, args.jobs):
            bar.update(1)


def finished(work: list[tuple[str, str, str, int]], jobs: int) -> object:
    """The digests of the cells as they are finished."""
    if jobs == 1:
        yield from map(train_cell, work)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(train_cell, work)


KEPT: dict[tuple[str, str], Cells] = {}
"""Collections and models that cells of one process share."""


def train_cell(task: tuple[str, str, str, int]) -> str:
    """One cell."""
    import torch

    config, output, digest, threads = task
    torch.set_num_threads(threads)
    if (config, output) not in KEPT:
        KEPT[config, output] = Cells(read_config(config), Path(output))
    KEPT[config, output].run(digest)
    return digest


def show(cells: Cells, *, every: bool) -> None:
    """What there is to do: a line per study, and every cell if asked."""
    records = cells.done
    for study in cells.config.studies:
        digests = [cells.config.digest(cell) for cell in study.cells]
        print(f"{study.name}: {sum(d in records for d in digests)} of {len(digests)} cells are done ({study.title})")
        for row in study.rows if every else ():
            marks = " ".join(f"{c.seed}{'' if cells.config.digest(c) in records else '-'}" for c in row.cells)
            print(f"  {row.label:<40} seeds {marks}")
    rest = estimate(cells, records)
    minings = len(cells.mined.missing)
    left = "unknown until a cell is done" if rest is None else time.strftime("%-H h %-M min", time.gmtime(rest + 30))
    print(
        f"{len(cells.missing)} of {len(cells.config.cells)} different cells and {minings} minings are left: {left}, one at a time"
    )
    if every:
        print("A seed with a dash is not done.")


def command(args: argparse.Namespace) -> str:
    """What gives the same report."""
    return f"python recipes/ablation/run.py --config {args.config} --output {args.output}"


if __name__ == "__main__":
    sys.exit(main())
