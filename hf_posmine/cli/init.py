"""Look at a dataset, and write configuration files that mine it and train on it.

DATA is whatever 'mine' takes, or a folder that 'split' made, of which only the training pairs are used. The two files,
mine.yaml and stage1.yaml, hold the columns that were found, with comments; both run as they stand. Where several
columns could be meant, an error names them, and --query-column or --positive-column chooses.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_data_arguments, add_run_arguments
from hf_posmine.cli.show import show
from hf_posmine.cli.starter import MINE, STAGE, FoundData
from hf_posmine.core.errors import InputError
from hf_posmine.encoding.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    import argparse

    from hf_posmine.cli.work import DataOptions, MiningInput

HELP = "write mine.yaml and stage1.yaml for a dataset"
EXAMPLES = """examples:
  # columns are found by layout and name, and written down
  hf-posmine init my.csv
  hf-posmine mine --config mine.yaml
  hf-posmine train --config stage1.yaml

  # negatives from more documents than the positives
  hf-posmine init my.csv --corpus docs.jsonl

  # the whole way to "did it help?": hold out first, then measure
  hf-posmine split my.csv --by title --output my-split
  hf-posmine init my-split --folder run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine init``."""
    add_data_arguments(parser)
    group = parser.add_argument_group("files")
    group.add_argument("--folder", default=".", help="where the files, the mined rows and the model go (default: here)")
    group.add_argument("--teacher", default=DEFAULT_MODEL, help="teacher of mine.yaml (default: %(default)s)")
    group.add_argument("--model", default=DEFAULT_MODEL, help="the student of stage1.yaml (default: %(default)s)")
    group.add_argument("--force", action="store_true", help="replace the files if they are there")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Look, write both files, and print what was found."""
    from hf_posmine.cli.work import DataOptions
    from hf_posmine.utils.files import write_file

    folder = Path(args.folder)
    files = [folder / MINE, folder / STAGE]
    there = [str(file) for file in files if file.exists()]
    if there and not args.force:
        raise InputError(f"{' and '.join(there)} exist; --force replaces them, --folder writes elsewhere")
    found, line = look(DataOptions.of(args))
    name = Path(args.data).stem or "data"
    texts = [found.mine_yaml(folder, args.teacher), found.stage_yaml(folder, args.model, name)]
    for file, text in zip(files, texts, strict=True):
        write_file(file, lambda temporary, text=text: temporary.write_text(text, "utf8"))  # type: ignore[misc]
    show(line)
    show(f"next: hf-posmine mine --config {files[0]}, then hf-posmine train --config {files[1]}")


def look(options: DataOptions) -> tuple[FoundData, str]:
    """The data as it will be read, and the line about it."""
    from hf_posmine.cli.work import load_good_rows
    from hf_posmine.data.split import CANDIDATES, PAIRS, RECORD

    folder, dev = Path(str(options.data)), None
    if (folder / RECORD).is_file():
        dev = str(folder) if (folder / "qrels" / "dev.tsv").is_file() else None
        options = replace(options, data=str(folder / PAIRS), corpus=str(folder / CANDIDATES))
    work = load_good_rows(options)
    found = replace(
        _collection(work, options) if work.known is not None else _pairs(work, options),
        dev=dev,
        skip_bad_rows=options.skip_bad_rows,
    )
    corpus = "the positives" if work.corpus is None else str(work.corpus.columns or "")
    return found, " · ".join(
        [
            f"{found.data}: {found.rows:,} rows",
            f"query: {found.query or 'query'}",
            f"positive: {found.positive_id or found.positive or 'by judgements'}",
            f"corpus: {found.documents:,} documents, {corpus}",
            f"dev: {dev}/qrels/dev.tsv" if dev else "no dev: hf-posmine split makes one",
        ]
    )


def _collection(work: MiningInput, options: DataOptions) -> FoundData:
    """A judged collection, read without naming columns."""
    documents = 0 if work.corpus is None else len(work.corpus)
    return FoundData(
        str(options.data), len(work.rows), None, None, None, None, "", "", "", documents, split=options.split
    )


def _pairs(work: MiningInput, options: DataOptions) -> FoundData:
    """Rows, and a corpus or their own positives."""
    from hf_posmine.data.judged_pairs import JudgedPairs

    query, positive, positive_id = work.columns
    pairs = JudgedPairs.of(work.rows, query, positive, positive_id, corpus=work.corpus)
    columns = None if work.corpus is None else work.corpus.columns
    return FoundData(
        str(options.data), len(work.rows), query, positive, positive_id, options.corpus,
        corpus_text=columns.text if columns else "", corpus_id=(columns.id if columns else None) or "",
        corpus_title=(columns.title if columns else None) or "",
        documents=len(pairs.corpus if work.corpus is None else work.corpus),
    )  # fmt: skip
