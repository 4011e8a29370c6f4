"""Add hard negatives to a dataset, and write it with its provenance.

DATA is a Hub id, a parquet, jsonl, csv or arrow file, a folder saved with save_to_disk, or a BEIR folder
(corpus, queries, qrels). Rows, their order and all other columns stay; with --format only the training
columns are written, and n-tuples leave short rows out. An interrupted run continues where it stopped
when the same command is given again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.arguments import (
    add_push_arguments,
    add_run_arguments,
    add_teacher_arguments,
    print_usage,
    push_options,
    teacher_names,
    teacher_options,
)
from hf_posmine.cli.limits import add_plan_arguments, announce, make_plan, set_limits
from hf_posmine.cli.sharded import add_shard_arguments, run_sharded, shards_wanted
from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import Keep, MiningSettings, OnShort, WeakPositive
from hf_posmine.core.types import Anchor
from hf_posmine.mining.second_opinion import RankBy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord, Source
    from hf_posmine.mining.second_opinion import SecondOpinion
    from hf_posmine.mining.summary import MiningSummary

HELP = "add hard negatives to a dataset"
EXAMPLES = """examples:
  # 4 negatives per row, at most 95 % of their positive's score (the paper's best method)
  hf-posmine mine sentence-transformers/natural-questions --filters "PercPos(0.95)" --output mined

  # candidates from another corpus, positives by id, an instruction for the queries
  hf-posmine mine pairs.parquet --positive-id-column positive_id --corpus corpus.parquet --corpus-id-column id \\
      --query-prompt "query: " --filters "SkipTop(10)" "PercPos(0.95)" --output mined

  # a BEIR folder, two of the ten best drawn by score, written as triplets
  hf-posmine mine beir/fiqa --split train --sampler "SampledTopK(k=10)" --num-negatives 2 --format triplet --output fiqa.parquet

  # a cross-encoder turns down candidates that it scores too near to the positive
  hf-posmine mine pairs.parquet --filters "PercPos(0.98)" --output mined \\
      --second-opinion cross:BAAI/bge-reranker-base --second-filters "PercPos(0.9)"

  # millions of documents: search by a FAISS index, and say how many of exact search's negatives it finds
  hf-posmine mine pairs.parquet --corpus corpus.parquet --index "IVF4096,SQ8" --filters "PercPos(0.95)" --output mined

  # everything from a file, one option overridden
  hf-posmine mine --config mine.yaml --seed 1

  # push the rows with their record and a card, also as n-tuples
  hf-posmine mine pairs.parquet --filters "PercPos(0.95)" --output mined --push-to-hub me/mined --variants n-tuple

filters:  SkipTop(n)  RankWindow(first, last)  MaxScore(s)  MinScore(s)  MarginPos(margin)  PercPos(share); none is Naive Top-K
samplers: Top()  Uniform(k)  SampledTopK(k, temperature)  Top1Sampled(k, temperature)
          with several teachers: CrossSample()  IntraSample(dedup)
"""
FILES = (".parquet", ".jsonl")
FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine mine``."""
    add_data_arguments(parser)
    add_teacher_arguments(parser)
    add_mining_arguments(parser)
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
    output.add_argument("--work-dir", help="where finished shards are kept, to continue an interrupted run")
    output.add_argument(
        "--push-to-hub", metavar="REPO_ID", help="push the mined rows with their record and a card, too"
    )
    add_shard_arguments(parser)
    add_plan_arguments(parser)
    add_push_arguments(parser)
    add_run_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What to mine, and from which documents."""
    parser.add_argument("data", metavar="DATA", nargs=None if required else "?", help="what to mine (see above)")
    data = parser.add_argument_group("data")
    data.add_argument("--name", help="configuration of a Hub dataset")
    data.add_argument("--split", default="train", help="split of a Hub, saved or BEIR dataset (default: %(default)s)")
    data.add_argument("--query-column", help="default: query, anchor or question, else the first column of texts")
    data.add_argument("--positive-column", help="texts or lists of texts; default: positive, answer, ...")
    data.add_argument("--positive-id-column", help="ids of --corpus, instead of texts")
    data.add_argument("--corpus", help="candidates: a file, folder or Hub id (default: the positives)")
    data.add_argument("--corpus-split", default="train", help="default: %(default)s")
    data.add_argument("--corpus-text-column", default="text", help="default: %(default)s")
    data.add_argument("--corpus-id-column", help="default: row numbers are the ids")
    data.add_argument("--corpus-title-column", help="put before the text, with a space")


def add_mining_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that become :class:`~hf_posmine.core.settings.MiningSettings`."""
    default = MiningSettings()
    group = parser.add_argument_group("mining")
    group.add_argument("--filters", nargs="*", default=[], metavar="FILTER", help='such as "PercPos(0.95)"; see below')
    group.add_argument("--sampler", default=repr(default.sampler), help="default: %(default)s")
    group.add_argument("--num-negatives", type=int, default=default.num_negatives, help="default: %(default)s")
    group.add_argument(
        "--anchor", choices=get_args(Anchor), default=default.anchor,
        help="which of several positives sets the ceiling (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--on-short", choices=get_args(OnShort), default=default.on_short,
        help="rows with too few negatives (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weak-positive", choices=get_args(WeakPositive), default=default.weak_positive,
        help="rows whose positive is outranked by --weak-rank documents (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--weak-rank", type=int, default=default.weak_rank, help="default: %(default)s")
    group.add_argument("--near-duplicates", type=float, metavar="COSINE", help="exclude documents that near a positive")
    group.add_argument(
        "--exclude-other-positives", action="store_true", help="exclude every document that is a positive of any row"
    )
    group.add_argument("--seed", type=int, default=default.seed, help="of the samplers (default: %(default)s)")
    second = parser.add_argument_group(
        "second opinion", "another teacher, asked only about candidates where it matters"
    )
    second.add_argument("--second-opinion", metavar="TEACHER", help="such as cross:BAAI/bge-reranker-base")
    second.add_argument("--second-filters", nargs="*", default=[], metavar="FILTER", help="on its scores")
    second.add_argument(
        "--second-rank-by", choices=get_args(RankBy), default="teacher", help="who ranks (default: %(default)s)"
    )
    second.add_argument(
        "--second-depth", type=int, default=50, help="candidates of a row it may be asked about (default: %(default)s)"
    )
    second.add_argument("--second-band", type=float, help="do not ask about those so far below the positive")


def run(args: argparse.Namespace) -> None:
    """Mine, write, and print the summary."""
    from hf_posmine.evaluation.negatives.index_recall import measure_approximation
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.hub.repository import Destination, check_login
    from hf_posmine.mining.execution.local import mine
    from hf_posmine.mining.execution.plan import suited_batch
    from hf_posmine.mining.training_formats import to_training

    set_limits(args)
    args.batch_size = args.batch_size or suited_batch()
    if args.plan:
        work = load_work(args)
        print(make_plan(make_miner(work, args), work.rows, args.batch_size))
        return
    push = push_options(args)
    if args.push_to_hub:  # hours of mining should not end at a missing login
        Destination(args.push_to_hub, "dataset", create_pr=args.create_pr, revision=args.push_revision)
        check_login()
    if shards_wanted(args):
        run_sharded(args, push)
        return
    _check_output(Path(args.output), [args.data, args.corpus])
    work = load_work(args)
    miner = make_miner(work, args)
    announce(miner, work.rows, args.batch_size)
    mined = mine(work.rows, miner, work_dir=args.work_dir, batch_size=args.batch_size, num_proc=args.num_proc)
    reports = measure_approximation(miner, work.rows)
    summary, record = account_of(work, miner, mined, args)
    rows, rows_record = mined, record
    if args.format:
        positive = args.positive_column or (
            work.positive_column if work.positive_column in mined.column_names else None
        )
        mined = to_training(
            mined, args.format, miner.settings.num_negatives, query_column=miner.query_column, positive_column=positive,
            on_short="drop", scores="scores" in args.keep,
        )  # fmt: skip
        record = dataclasses.replace(record, format=args.format)
    output = write_output(mined, Path(args.output), record)
    print("\n\n".join(map(str, [summary, *reports])))
    print_usage(miner.teachers)
    if args.format == "n-tuple" and len(mined) < summary.rows:
        print(f"\n{summary.rows - len(mined):,} rows have too few negatives for n-tuples and were left out")
    print(f"\n{len(mined):,} rows written to {args.output}, their provenance to {output}")
    if args.push_to_hub:
        print(f"Pushed to {push_dataset(rows, args.push_to_hub, rows_record, **push).url}")


@dataclass
class Work:
    """What to mine: rows, documents, known positives, and where they came from."""

    rows: Any
    query_column: str | None
    positive_column: str | None
    positive_id_column: str | None
    corpus: Corpus | None
    known: Qrels | None
    source: Source
    corpus_source: Source | None


def load_work(args: argparse.Namespace) -> Work:
    """Load what the arguments name."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import beir_pairs, is_beir, load_source
    from hf_posmine.mining.execution.shard_jobs import with_features
    from hf_posmine.mining.provenance import source_of_path

    streaming = getattr(args, "streaming", False)
    source = source_of_path(args.data, args.split, args.name)
    if is_beir(args.data):
        corpus = Corpus.from_beir(args.data)
        rows = _with_texts(beir_pairs(args.data, args.split), "positive_id", corpus)
        rows = rows.to_iterable_dataset() if streaming else rows
        known = Qrels.from_beir(args.data, args.split)
        return Work(rows, "query", "positive", "positive_id", corpus, known, source, source)
    rows = with_features(load_source(args.data, args.split, args.name, streaming=streaming))
    if args.corpus is None:
        return Work(rows, args.query_column, args.positive_column, args.positive_id_column, None, None, source, None)
    corpus, corpus_source = load_corpus(args)
    if args.positive_id_column:
        rows = _with_texts(rows, args.positive_id_column, corpus)
    return Work(
        rows, args.query_column, args.positive_column, args.positive_id_column, corpus, None, source, corpus_source
    )


def load_corpus(args: argparse.Namespace) -> tuple[Corpus, Source]:
    """The corpus that ``--corpus`` names."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.sources import is_beir, load_source
    from hf_posmine.mining.provenance import source_of_path

    columns = {"text": args.corpus_text_column, "id": args.corpus_id_column, "title": args.corpus_title_column}
    source = source_of_path(args.corpus, args.corpus_split, **columns)
    if is_beir(args.corpus):
        return Corpus.from_beir(args.corpus), source
    documents = load_source(args.corpus, args.corpus_split, streaming=getattr(args, "streaming", False))
    return Corpus.from_dataset(documents, **columns), source


def make_miner(work: Work, args: argparse.Namespace) -> PositiveAwareMiner:
    """The miner that the arguments describe."""
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.teachers.factory import make_teachers

    names = MiningSettings.__dataclass_fields__
    settings: dict[str, Any] = {name: getattr(args, name) for name in names}
    settings["second_opinion"] = second_opinion(args)
    if work.known is None or work.corpus is None:
        return PositiveAwareMiner.from_dataset(
            work.rows, teacher_names(args), query_column=work.query_column, positive_column=work.positive_column,
            positive_id_column=work.positive_id_column, corpus=work.corpus, teacher_options=teacher_options(args), **settings,
        )  # fmt: skip
    how = {"queries": work.known.queries, **teacher_options(args)}
    teachers = make_teachers(teacher_names(args), work.corpus, **how)
    return PositiveAwareMiner(
        corpus=work.corpus, teachers=teachers, known_positives=work.known, query_column="query",
        positive_id_column=work.positive_id_column, **settings,
    )  # fmt: skip


def second_opinion(args: argparse.Namespace) -> SecondOpinion | None:
    """The second opinion that the arguments describe."""
    from hf_posmine.mining.second_opinion import SecondOpinion

    if args.second_opinion is None:
        given = [name for name in ("second_filters", "second_band") if getattr(args, name)]
        if given or args.second_rank_by != "teacher":
            raise InputError("--second-filters, --second-rank-by and --second-band need --second-opinion TEACHER")
        return None
    return SecondOpinion(
        args.second_opinion, args.second_filters, args.second_rank_by, args.second_depth, args.second_band
    )


def write_output(mined: Any, output: Path, record: MiningRecord) -> Path:
    """Write the dataset where the user asked, and its provenance in it or beside it; returns the path of the latter."""
    from hf_posmine.mining.provenance import write_provenance
    from hf_posmine.utils.files import replace_folder, write_file

    if output.suffix in FILES:
        write = mined.to_parquet if output.suffix == ".parquet" else mined.to_json
        beside = _provenance_of(output)
        write_provenance(beside, record)
        write_file(output, lambda temporary: write(str(temporary)))
        return beside

    def write_folder(temporary: Path) -> None:
        mined.save_to_disk(str(temporary))
        write_provenance(temporary / "provenance.json", record)

    replace_folder(output, write_folder)
    return output / "provenance.json"


def _provenance_of(file: Path) -> Path:
    return file.with_suffix(file.suffix + ".provenance.json")


def account_of(
    work: Work, miner: PositiveAwareMiner, mined: Any, args: argparse.Namespace
) -> tuple[MiningSummary, MiningRecord]:
    """What came out of a mining, and the record of how it was made."""
    from hf_posmine.mining.provenance import provenance
    from hf_posmine.mining.summary import MiningSummary

    summary = MiningSummary.from_dataset(mined, miner.settings.num_negatives)
    told = {"source": work.source, "corpus_source": work.corpus_source, "command": args.command_line}
    return summary, provenance(miner, summary=summary, mined=mined, **told)


def check_no_input(output: Path, inputs: Sequence[str | None]) -> None:
    """Refuse to write over what is read."""
    for source in inputs:
        if source is not None and Path(source).exists() and Path(source).resolve() == output.resolve():
            raise InputError(f"--output {output} is also an input; choose another place")


def _check_output(output: Path, inputs: Sequence[str | None] = ()) -> None:
    """Refuse to replace what is no earlier output, before any work is done."""
    check_no_input(output, inputs)
    if output.suffix in FILES:
        if output.exists() and not _provenance_of(output).is_file():
            raise InputError(f"--output {output} exists and is no mined dataset; choose another name or remove it")
        return
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file; write a folder, a .parquet or a .jsonl file")
    if output.suffix and not output.is_dir():
        raise InputError(f"--output {output}: write a folder, a .parquet or a .jsonl file")
    if output.is_dir() and any(output.iterdir()) and not (output / "provenance.json").is_file():
        raise InputError(f"--output {output} exists and is no mined dataset; choose another folder or remove it")


@dataclass(frozen=True)
class _PositiveTexts:
    """Adds the texts of positives that are given by id; a callable for ``datasets.map``."""

    corpus: Corpus
    column: str

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        from hf_posmine.data.columns import check_ids

        lists = check_ids(batch[self.column], self.column)
        rows = self.corpus.required_rows([member for members in lists for member in members], self.column)
        texts = iter(self.corpus.texts(rows).to_pylist())
        several = isinstance(batch[self.column][0], list)
        found = [[next(texts) for _ in members] for members in lists]
        return {"positive": found if several else [members[0] for members in found]}

    def features(self, features: Any) -> Any:
        """The features of the mapped rows, which a stream cannot find out."""
        from datasets import Features, List, Value

        several = not isinstance(features[self.column], Value)
        return Features({**features, "positive": List(Value("string")) if several else Value("string")})


def _with_texts(rows: Any, column: str, corpus: Corpus) -> Any:
    from hf_posmine.data.columns import require_column
    from hf_posmine.utils.progress import quiet_bars

    require_column(rows.column_names, column, "positive id")
    if "positive" in rows.column_names or (hasattr(rows, "select") and not len(rows)):
        return rows
    make = _PositiveTexts(corpus, column)
    with quiet_bars():
        return rows.map(make, batched=True, features=make.features(rows.features))
