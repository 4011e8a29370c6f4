"""Split pairs into train, dev and test, as a judged collection, so that a model can be measured on what it never saw.

DATA is whatever 'mine' takes: a parquet, jsonl or csv file, a saved dataset, a Hub id, or a BEIR folder. Pairs with the
same document, the same value of --by or nearly the same query stay together, so no passage and no nearly same query is in
two splits; a document is also the same under another title, as in 'mine'. The output is a BEIR folder (corpus, queries,
qrels/train, dev and test) for 'evaluate', 'fn-rate', 'calibrate' and recipes/custom_domain, with the training pairs in
train/pairs.jsonl and the documents that they may take negatives from, all but those of dev and test, in train/corpus.jsonl.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_data_arguments, add_run_arguments
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.cli.work import MiningInput
    from hf_posmine.data.judged_pairs import JudgedPairs
    from hf_posmine.data.split import GroupedSplit

HELP = "make train, dev and test by group"
EXAMPLES = """examples:
  # questions about one article stay in one split; 10 % dev and 20 % test
  hf-posmine split my.csv --by title --output my-split

  # by document alone, with the documents that belong to no query
  hf-posmine split pairs.jsonl --corpus docs.jsonl --positive-id-column doc_id --output my-split

  # then: configuration files, negatives, a model, and did it help?
  hf-posmine init my-split
  hf-posmine mine --config mine.yaml
  hf-posmine train --config stage1.yaml
  hf-posmine evaluate stage1 --on my-split --output results/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine split``."""
    add_data_arguments(parser)
    group = parser.add_argument_group("split")
    group.add_argument("--output", required=True, help="the folder to write")
    group.add_argument(
        "--by", metavar="COLUMN", help="pairs with the same value stay together: a column of DATA or of --corpus "
        "(default: only pairs with the same document do)",
    )  # fmt: skip
    group.add_argument("--dev", type=float, default=0.1, help="share of the pairs (default: %(default)s; 0 for no dev)")
    group.add_argument("--test", type=float, default=0.2, help="share of the pairs (default: %(default)s)")
    group.add_argument(
        "--near", type=float, default=0.8, help="queries stay together whose sets of letter trigrams are at least this "
        "similar, by Jaccard (default: %(default)s; 1 for the same wording)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Split, write, and print the counts."""
    from hf_posmine.cli.work import DataOptions, load_good_rows
    from hf_posmine.data.images import NamedImage
    from hf_posmine.data.split import GroupedSplit, SplitSettings
    from hf_posmine.mining.provenance import versions
    from hf_posmine.utils.files import replace_folder
    from hf_posmine.utils.redact import redacted

    settings = SplitSettings(args.dev, args.test, args.near, args.seed)
    output = Path(args.output)
    _check_place(output)
    work = load_good_rows(DataOptions.of(args), args.by)
    pairs, line = _pairs_of(work, args)
    if pairs.corpus.num_images or any(isinstance(query, NamedImage) for query in pairs.queries):
        raise InputError(f"{args.data}: a split is written as texts, and these pairs have images; split them by rows")
    show(line)
    split = GroupedSplit.of(pairs, settings)
    counts = split.counts()
    record: dict[str, Any] = {
        "command": args.command_line, "data": line, "by": args.by, "dev": settings.dev, "test": settings.test,
        "near": settings.near, "seed": settings.seed, "splits": counts, "corpus": pairs.corpus.fingerprint,
        "versions": versions(),
    }  # fmt: skip
    replace_folder(output, lambda folder: split.write(folder, redacted(record)))
    _print(split, output)


def _check_place(output: Path) -> None:
    """Refuse to replace what is not an earlier split."""
    from hf_posmine.data.split import RECORD

    if output.exists() and not (output / RECORD).is_file():
        raise InputError(f"--output {output} exists and is not a split; choose another name or remove it")


def _pairs_of(work: MiningInput, args: argparse.Namespace) -> tuple[JudgedPairs, str]:
    """The pairs with their groups, and the line about what was read."""
    from hf_posmine.data.judged_pairs import JudgedPairs

    columns = work.columns
    in_rows = args.by is None or args.by in work.rows.column_names
    pairs = JudgedPairs.of(work.rows, *columns, corpus=work.corpus, by=args.by if in_rows else None)
    if not in_rows:
        pairs = _by_corpus(pairs, work, args)
    if args.by and not any(pairs.groups):
        raise InputError(f"--by {args.by}: the column has no value in any row")
    by = f" · by: {args.by}" if args.by else " · by: document"
    without = pairs.groups.count("") if args.by else 0
    empty = f" ({without:,} pairs without a value, by document)" if without else ""
    found = f" · positives in corpus: {pairs.in_corpus:,} of {len(pairs.queries):,}" if work.corpus else ""
    added = (
        ", the others were added; give ids with --positive-id-column" if pairs.in_corpus < len(pairs.queries) else ""
    )
    return pairs, (
        f"query: {columns[0]} · positive: {columns[1] or columns[2]} · corpus: {len(pairs.corpus):,} documents"
        f"{found}{added}{by}{empty}"
    )


def _by_corpus(pairs: JudgedPairs, work: MiningInput, args: argparse.Namespace) -> JudgedPairs:
    """The groups from the documents' own columns."""
    from hf_posmine.data.sources import beir_corpus, is_beir, load_source

    names = work.rows.column_names
    if work.corpus is None or work.corpus.columns is None or work.corpus.columns.id is None:
        raise InputError(
            f"--by {args.by}: not a column of {args.data}, which has {names}, and no corpus has one with ids"
        )
    source = args.corpus or args.data
    documents = beir_corpus(source) if is_beir(source) else load_source(source, args.corpus_split)
    if args.by not in documents.column_names:
        raise InputError(
            f"--by {args.by}: not a column of {args.data} ({names}) or {source} ({documents.column_names})"
        )
    return pairs.with_groups_of(documents, work.corpus.columns.id, args.by)


def _print(split: GroupedSplit, output: Path) -> None:
    from hf_posmine.data.split import CANDIDATES, PAIRS

    heads = ("split", "pairs", "queries", "documents", "groups")
    cells = [(name, *(f"{value:,}" for value in counts.values())) for name, counts in split.counts().items()]
    show_table(str(output), heads, cells, left=("split",))
    show(f"training pairs: {output / PAIRS} · their candidates: {output / CANDIDATES}")
    show(f"next: hf-posmine init {output}")
