"""Write one HTML page about mined rows, to look at before training on them.

PATH is what hf-posmine mine --output wrote, or training data in a layout that hf-posmine audit reads. The page shows
what was mined and removed, the scores, suspicious rows, and a table of the rows that can be searched, filtered and
sorted. It is a single file and makes no network requests. With --against, it is compared with another mining of the
same rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

HELP = "write a page about mined rows"
EXAMPLES = """examples:
  hf-posmine report mined --output report.html

  # what another threshold changed, row by row
  hf-posmine report mined --against mined_naive --output changes.html

  # rows that name their negatives by id, such as pages: with their pictures
  hf-posmine report mined --corpus pages.parquet

  # a smaller file of a large dataset
  hf-posmine report mined.parquet --rows 2000 --megabytes 3 --output report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine report``."""
    from hf_posmine.report.sample import TableLimits

    limits = TableLimits()
    parser.add_argument(
        "path", metavar="PATH", help="mined rows: a folder (also of shards) or a file; or training data of other tools"
    )
    parser.add_argument("--against", metavar="PATH", help="another mining of the same rows, to compare with")
    parser.add_argument(
        "--corpus", metavar="DATA", help="documents that rows name by id, to show their texts or images (default: ids)"
    )
    parser.add_argument("--output", default="report.html", help="file of the page (default: %(default)s)")
    columns = parser.add_argument_group("columns")
    columns.add_argument("--query-column", help="column of the queries (default: the one that was mined, else by name)")
    columns.add_argument(
        "--positive-column", help="column of the positives (default: the one that was mined, else by name)"
    )
    columns.add_argument("--answer-column", help="short answers to look for in negatives (default: answers or answer)")
    table = parser.add_argument_group("table")
    table.add_argument("--rows", type=int, default=limits.rows, help="rows of the table at most (default: %(default)s)")
    table.add_argument(
        "--characters",
        type=int,
        default=limits.characters,
        help="characters of one text at most (default: %(default)s)",
    )
    table.add_argument(
        "--megabytes", type=float, default=limits.megabytes,
        help="size of the table in the file, about; the table then holds fewer rows (default: %(default)s)",
    )  # fmt: skip
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write the page, and print what it found."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.report import MinedRows, TableLimits, write_report

    output = Path(args.output)
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise InputError(f"--output {output}: write a .html file")
    columns = {name: vars(args)[name] for name in ("query_column", "positive_column", "answer_column")}
    corpus = None if args.corpus is None else Corpus.of(args.corpus)
    mined = MinedRows.load(args.path, corpus, **columns)
    against = None if args.against is None else MinedRows.load(args.against, corpus, **columns)
    report = write_report(mined, output, against, TableLimits(args.rows, args.characters, args.megabytes))
    if corpus is None and mined.by_id:
        show("documents are shown by their ids; --corpus shows their texts or images")
    show(f"{report.rows:,} rows, of which the table holds {report.shown:,}")
    for title, number in report.suspects.items():
        show(f"  {title.lower()}: {number:,}")
    if report.changed is not None:
        show(f"  other negatives than {against.name if against else ''}: {report.changed:,}")
    show(f"Written to {output} ({output.stat().st_size / 1e6:.1f} MB); open it in a browser")
