"""From arguments to work: the dataset, the corpus, the known positives, and the miner."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import teacher_names, teacher_options
from hf_posmine.cli.early import settings_of
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import MiningSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from datasets import Features

    from hf_posmine.core.types import Match
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import Source
    from hf_posmine.mining.second_opinion import SecondOpinion

COLUMNS = ("query_column", "positive_column", "positive_id_column")


@dataclass(frozen=True)
class DataOptions:
    """The dataset, its columns and the corpus, as the command line names them.

    Attributes:
        data: a Hub id, files, a saved dataset or a BEIR folder.
        split: split of a Hub, saved or BEIR dataset.
        name: configuration of a Hub dataset.
        query_column: None to find it by name.
        positive_column: None to find it by name.
        positive_id_column: ids of the corpus, instead of texts.
        corpus: a file, folder or Hub id; None takes the positives.
        corpus_split: split of the corpus.
        corpus_text_column: its texts; None to find it by name, like the other two.
        corpus_id_column: its ids; "" takes row numbers.
        corpus_title_column: put before the text; "" for none.
        corpus_image_column: its images, which are documents alone or together with the texts.
        streaming: read both as streams.
        skip_bad_rows: leave out rows without a query or a positive, which else are an error.
        keep_columns: further columns that the corpus keeps.
        match: which texts count as the same.
        counted: parquet files are read for their counts and texts alone, without ``datasets``.
    """

    data: str | None
    split: str = "train"
    name: str | None = None
    query_column: str | None = None
    positive_column: str | None = None
    positive_id_column: str | None = None
    corpus: str | None = None
    corpus_split: str = "train"
    corpus_text_column: str | None = None
    corpus_id_column: str | None = None
    corpus_title_column: str | None = None
    corpus_image_column: str | None = None
    streaming: bool = False
    skip_bad_rows: bool = False
    keep_columns: Sequence[str] = ()
    match: Match = "normalized"
    counted: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> DataOptions:
        """From the parsed command line."""
        given = vars(args)
        columns = settings_of(args).kept_columns if "exclude_same" in given else ()
        return cls(
            **{field.name: given[field.name] for field in fields(cls) if field.name in given}, keep_columns=columns
        )

    @property
    def reading(self) -> dict[str, Any]:
        """How the corpus is read, as arguments of :meth:`~hf_posmine.data.corpus.Corpus.from_dataset`."""
        return {"keep": self.keep_columns, "match": self.match}

    def load(self, source: str, split: str, name: str | None = None) -> Any:
        """The rows of a source, as ``streaming`` and ``counted`` want them."""
        from hf_posmine.data.plain_table import PlainTable
        from hf_posmine.data.sources import load_source

        plain = self.counted and not self.streaming and not self.corpus_image_column
        table = PlainTable.open(source) if plain else None
        return load_source(source, split, name, streaming=self.streaming) if table is None else table


@dataclass
class MiningInput:
    """What to mine: rows, documents, known positives, and where they came from."""

    rows: Any
    query_column: str | None
    positive_column: str | None
    positive_id_column: str | None
    corpus: Corpus | None
    known: Qrels | None
    source: Source
    corpus_source: Source | None

    @property
    def columns(self) -> tuple[str, str | None, str | None]:
        """The columns of queries, and of positives as texts or ids, as :func:`load_good_rows` found them."""
        return str(self.query_column), self.positive_column, self.positive_id_column


def load_work(options: DataOptions) -> MiningInput:
    """Load the dataset, the corpus and the known positives."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import beir_pairs, is_beir
    from hf_posmine.mining.provenance import source_of_path
    from hf_posmine.utils.upstream import with_features

    if options.data is None:
        raise InputError("nothing to mine: give DATA")
    source = source_of_path(options.data, options.split, options.name)
    if is_beir(options.data):
        corpus = Corpus.from_beir(options.data, **options.reading)
        rows = _with_texts(beir_pairs(options.data, options.split, options.keep_columns), "positive_id", corpus)
        rows = rows.to_iterable_dataset() if options.streaming else rows
        known = Qrels.from_beir(options.data, options.split, match=options.match)
        return MiningInput(rows, "query", "positive", "positive_id", corpus, known, source, source)
    rows = options.load(options.data, options.split, options.name)
    rows = _without_outputs(rows if options.counted else with_features(rows))
    if options.corpus is None:
        return MiningInput(
            rows, options.query_column, options.positive_column, options.positive_id_column, None, None, source, None
        )
    corpus, corpus_source = load_corpus(options)
    if options.positive_id_column and not options.counted:
        rows = _with_texts(rows, options.positive_id_column, corpus)
    return MiningInput(
        rows,
        options.query_column,
        options.positive_column,
        options.positive_id_column,
        corpus,
        None,
        source,
        corpus_source,
    )


def load_good_rows(options: DataOptions, other: str | None = None) -> MiningInput:
    """As :func:`load_work`, for commands that read all rows beforehand: without bad rows, which else are an error.

    Args:
        options: the data.
        other: a column that is neither the query nor the positive.
    """
    from hf_posmine.data.bad_rows import without_bad_rows
    from hf_posmine.data.layouts import pick_columns

    work = load_work(options)
    columns: tuple[str, str | None, str | None] = ("query", None, "positive_id")
    if work.known is None:
        rest = work.rows.remove_columns([name for name in work.rows.column_names if name == other])
        columns = pick_columns(rest, work.query_column, work.positive_column, work.positive_id_column)
    rows, bad = without_bad_rows(work.rows, columns, skip=options.skip_bad_rows)
    if bad:
        show(f"rows left out: {bad}")
    query, positive, positive_id = columns
    return replace(work, rows=rows, query_column=query, positive_column=positive, positive_id_column=positive_id)


def _without_outputs(rows: AnyDataset) -> Any:
    """The rows without what an earlier mining wrote."""
    from hf_posmine.mining.columns import output_columns, without_outputs

    outdated = output_columns(rows.column_names)
    if outdated:
        show(f"columns of an earlier mining, left out: {', '.join(outdated)}")
    return without_outputs(rows)


def load_corpus(options: DataOptions) -> tuple[Corpus, Source]:
    """The corpus that ``--corpus`` names."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.sources import is_beir
    from hf_posmine.mining.provenance import source_of_path

    if options.corpus is None:
        raise InputError("no corpus: give --corpus")
    source = source_of_path(options.corpus, options.corpus_split)
    if is_beir(options.corpus):
        return Corpus.from_beir(options.corpus, **options.reading), source
    documents = options.load(options.corpus, options.corpus_split)
    corpus = Corpus.from_dataset(
        documents, options.corpus_text_column, options.corpus_id_column, options.corpus_title_column,
        options.corpus_image_column, **options.reading,
    )  # fmt: skip
    return corpus, replace(source, **asdict(corpus.columns))  # type: ignore[arg-type]


def make_miner(work: MiningInput, args: argparse.Namespace, **more: bool) -> PositiveAwareMiner:
    """The miner that the arguments, and more options of teachers, describe.

    A default filter is printed, since it depends on the teacher.
    """
    miner = _miner_of(work, args, teacher_options(args) | more)
    if args.filters is None:
        kinds = " and ".join(dict.fromkeys(teacher.score_kind for teacher in miner.teachers))
        filters = " + ".join(map(repr, miner.settings.all_filters)) or "none"
        show(f"filters: {filters}, the default for {kinds} scores")
    return miner


def _miner_of(work: MiningInput, args: argparse.Namespace, of_teachers: dict[str, Any]) -> PositiveAwareMiner:
    """The miner, its teachers opened over the corpus."""
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.teachers.factory import make_teachers

    names = MiningSettings.__dataclass_fields__
    settings: dict[str, Any] = {name: vars(args)[name] for name in names}
    settings["second_opinion"] = second_opinion(args)
    if work.known is None or work.corpus is None:
        return PositiveAwareMiner.from_dataset(
            work.rows, teacher_names(args), query_column=work.query_column, positive_column=work.positive_column,
            positive_id_column=work.positive_id_column, corpus=work.corpus, teacher_options=of_teachers, **settings,
        )  # fmt: skip
    how = {"queries": work.known.queries, **of_teachers}
    teachers = make_teachers(teacher_names(args), work.corpus, **how)
    return PositiveAwareMiner(
        corpus=work.corpus, teachers=teachers, known_positives=work.known, query_column="query",
        positive_id_column=work.positive_id_column, **settings,
    )  # fmt: skip


def second_opinion(args: argparse.Namespace) -> SecondOpinion | None:
    """The second opinion that the arguments describe."""
    from hf_posmine.mining.second_opinion import SecondOpinion

    if args.second_opinion is None:
        given = [
            name
            for name in ("second_filters", "second_band", "second_first", "second_first_filters")
            if vars(args)[name]
        ]
        if given or args.second_rank_by != "teacher":
            raise InputError(
                "--second-filters, --second-rank-by, --second-band and --second-first need --second-opinion TEACHER"
            )
        return None
    if args.second_first_filters and args.second_first is None:
        raise InputError("--second-first-filters needs --second-first TEACHER")
    first = None if args.second_first is None else SecondOpinion(args.second_first, args.second_first_filters)
    return SecondOpinion(
        args.second_opinion, args.second_filters, args.second_rank_by, args.second_depth, args.second_band, first
    )


@dataclass(frozen=True)
class _PositiveTexts:
    """Adds the texts of positives that are given by id; a callable for ``datasets.map``."""

    corpus: Corpus
    column: str

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        lists = self._ids(batch[self.column])
        rows = self.corpus.required_rows([member for members in lists for member in members], self.column)
        texts = iter(self.corpus.texts(rows).to_pylist())
        several = any(isinstance(value, list) for value in batch[self.column])
        found = [[next(texts) for _ in members] for members in lists]
        return {"positive": found if several else [members[0] if members else None for members in found]}

    def _ids(self, values: list[Any]) -> list[list[str]]:
        """The ids of each row, none where there are none, which whoever reads the rows reports."""
        from hf_posmine.data.bad_rows import faults_of
        from hf_posmine.data.columns import check_ids

        good = [fault is None for fault in faults_of(["q"] * len(values), values)]
        checked = check_ids([value if fine else "" for value, fine in zip(values, good, strict=True)], self.column)
        return [ids if fine else [] for ids, fine in zip(checked, good, strict=True)]

    def features(self, features: Features) -> Any:
        """The features of the mapped rows, which a stream cannot find out."""
        from datasets import Features, List, Value

        several = not isinstance(features[self.column], Value)
        return Features({**features, "positive": List(Value("string")) if several else Value("string")})


def _with_texts(rows: AnyDataset, column: str, corpus: Corpus) -> Any:
    from hf_posmine.data.columns import require_column
    from hf_posmine.utils.progress import quiet_bars

    require_column(rows.column_names, column, "positive id")
    if "positive" in rows.column_names or (isinstance(rows, Sized) and not len(rows)):
        return rows
    make = _PositiveTexts(corpus, column)
    with quiet_bars():
        return rows.map(make, batched=True, features=make.features(rows.features))
