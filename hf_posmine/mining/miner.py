"""``PositiveAwareMiner``: the callable for ``datasets.map`` that adds hard negatives to every row."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_posmine.core.errors import ColumnError, CutTextWarning, InputError, OutsideCorpusWarning, PromptedTextWarning
from hf_posmine.core.filters import common_window
from hf_posmine.core.quotas import quotas_of
from hf_posmine.core.settings import MiningSettings
from hf_posmine.core.types import Teacher
from hf_posmine.data.columns import ArrayLike, ColumnTable, as_dataset
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.images import holds_images, is_image, named_cells, named_images
from hf_posmine.data.kept import check_same, texts_of_value
from hf_posmine.data.layouts import pick_columns
from hf_posmine.data.lookalikes import Lookalikes
from hf_posmine.data.qrels import KnownPositives, Qrels
from hf_posmine.mining.batch import RowReader
from hf_posmine.mining.columns import (
    OUTPUT_COLUMNS,
    as_table,
    column_types,
    kept_rows,
    merge,
    nulls,
    output_columns,
    taken,
    to_columns,
)
from hf_posmine.mining.geometry import require_vectors
from hf_posmine.mining.languages import check_languages
from hf_posmine.mining.mined_data import MinedData
from hf_posmine.mining.near import NearLookalikes
from hf_posmine.mining.prompted import prompted_texts
from hf_posmine.mining.select import select
from hf_posmine.teachers.capabilities import (
    Lexical,
    NearDuplicates,
    ReadsWindow,
    corpus_of,
    near_duplicates_of,
    prepare,
    require_teacher,
    use_rank,
)
from hf_posmine.teachers.random import RandomTeacher
from hf_posmine.teachers.unloaded import UnloadedTeacher
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.upstream import encoded_column, is_lazy_row

if TYPE_CHECKING:
    from datasets import Features

    from hf_posmine.core.types import Exclusions, Rows
    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.kept import DocumentValues
    from hf_posmine.mining.batch import Batch
    from hf_posmine.mining.second_opinion import SecondOpinion
    from hf_posmine.teachers.factory import TeacherLike

CACHED = ("_reader", "_near_lookalikes", "excluded_everywhere")
ALGO_VERSION = 3
"""Part of the fingerprint: raised when the same recipe would give other rows, so that old caches miss."""


def _hash_by_fingerprint(cls: type) -> None:
    """Let ``datasets`` hash miners by their content fingerprint instead of by pickle (paths, live models).

    The registration is private API of ``datasets``; without it, ``__getstate__`` decides, which is right but misses the
    cache when a store moves. Dispatch is by exact type, so subclasses register too.
    """
    try:
        from datasets.utils._dill import pklregister
    except ImportError:
        return

    @pklregister(cls)  # type: ignore[untyped-decorator]
    def reduce(pickler: Any, miner: PositiveAwareMiner) -> None:
        name = f"{type(miner).__module__}.{type(miner).__qualname__}"
        pickler.save_reduce(_only_for_hashing, (name, miner.fingerprint), obj=miner)


def _only_for_hashing(*args: str) -> None:
    raise TypeError("this form of a miner only serves to hash it")


class PositiveAwareMiner:
    """Adds hard negatives that score below their positive (NV-Retriever, arXiv 2407.15831).

    Use it with ``dataset.map(miner, batched=True)``: rows, their order and all other columns stay, and a column
    ``negatives`` (a list of texts; of images ``negatives_ids``, see ``negatives_as``) comes in. A row gets fewer only if the
    corpus has no more below its ceiling. Columns that an earlier mining wrote and this one does not become null;
    :func:`~hf_posmine.mine` leaves them out.

    Args:
        corpus: the documents to choose from.
        teachers: who scores; several, the best first, with an ensemble as the ``sampler``.
        known_positives: all known positives of all queries: they are never negatives.
        query_column: column of the queries.
        positive_column: column of the positives, texts or lists of texts.
        positive_id_column: column of the positives' ids in the corpus, or lists of them. With neither column, every
            known positive of the query is the row's positive.
        second_opinion: a second scorer of the candidates, such as a cross-encoder.
        options: see :class:`~hf_posmine.core.settings.MiningSettings`: ``filters``, ``sampler``, ``num_negatives``, ...

    Raises:
        InputError: settings that contradict each other or the teacher's scores.

    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({
    ...     "query": ["capital of France", "capital of Italy"],
    ...     "answer": ["Paris is the capital of France.", "Rome is the capital of Italy."]})
    >>> miner = PositiveAwareMiner.from_dataset(pairs, teacher="embedded", num_negatives=1)
    >>> pairs.map(miner, batched=True)["negatives"][:]
    [['Rome is the capital of Italy.'], ['Paris is the capital of France.']]
    """

    def __init__(
        self,
        *,
        corpus: Corpus,
        teachers: Sequence[Teacher] | Teacher,
        known_positives: Qrels | None = None,
        query_column: str = "query",
        positive_column: str | None = None,
        positive_id_column: str | None = None,
        second_opinion: SecondOpinion | None = None,
        **options: Any,
    ) -> None:
        self.settings = MiningSettings.from_options(options)
        _require_corpus(corpus)
        self.corpus, self.known_positives = corpus, known_positives
        self.second_opinion = None if second_opinion is None else second_opinion.over(corpus)
        self.teachers: list[Teacher] = list(teachers) if isinstance(teachers, (list, tuple)) else [teachers]  # type: ignore[list-item]
        self.query_column, self.positive_column, self.positive_id_column = (
            query_column,
            positive_column,
            positive_id_column,
        )
        self._check_teachers()
        self.settings = self._with_corpus(self._with_filters()).for_documents(len(corpus), corpus.num_images)
        self._check()
        if not all(isinstance(teacher, UnloadedTeacher) for teacher in self.teachers):  # a plan needs no datasets
            _hash_by_fingerprint(type(self))

    @property
    def inputs(self) -> dict[str, Any]:
        """Corpus, known positives and columns, as arguments of another miner of the same rows."""
        return {
            "corpus": self.corpus,
            "known_positives": self.known_positives,
            "query_column": self.query_column,
            "positive_column": self.positive_column,
            "positive_id_column": self.positive_id_column,
        }

    def _with_filters(self) -> MiningSettings:
        """The settings with filters; random scores say nothing, and get none by default."""
        if self.settings.filters is None and all(isinstance(teacher, RandomTeacher) for teacher in self.teachers):
            return replace(self.settings, filters=())
        return self.settings.for_scores([teacher.score_kind for teacher in self.teachers])

    def _with_corpus(self, settings: MiningSettings) -> MiningSettings:
        """The settings with what follows from the corpus: how texts match, and an evident column of source documents."""
        if settings.match not in (None, self.corpus.match):
            raise InputError(
                f"match={settings.match!r}, and the corpus matches texts {self.corpus.match!r}; make it so"
            )
        same = self.corpus.source_column or () if settings.exclude_same is None else settings.exclude_same
        return replace(settings, match=self.corpus.match, exclude_same=same)

    @property
    def _same(self) -> dict[str, DocumentValues]:
        """The columns that documents may not share with a positive."""
        return {name: self.corpus.values_of(name, "exclude_same") for name in self.settings.exclude_same or ()}

    @property
    def _quotas(self) -> dict[str, DocumentValues]:
        """The columns that quotas count by."""
        names = [quota.column for quota in quotas_of(self.settings.all_filters)]
        return {name: self.corpus.values_of(name, "PerGroup column") for name in names}

    @property
    def _language(self) -> list[DocumentValues]:
        """The languages of the documents, where they are written."""
        name = self.settings.language_column
        return [] if name is None else [self.corpus.values_of(name, "language_column")]

    def __repr__(self) -> str:
        settings = self.settings
        filters = " + ".join(map(repr, settings.all_filters)) or "no filter"
        return (
            f"PositiveAwareMiner({', '.join(self.teacher_names)}; {filters}; {settings.sampler!r}; "
            f"{settings.num_negatives} negatives from {self.corpus.num_candidates:,} documents)"
        )

    def _check(self) -> None:
        if self.known_positives is not None and not isinstance(self.known_positives, Qrels):
            raise InputError(f"known_positives={type(self.known_positives).__name__}; pass a Qrels")
        if self.positive_column and self.positive_id_column:
            raise ColumnError(
                f"give positive_column={self.positive_column!r} or positive_id_column={self.positive_id_column!r}, not both"
            )
        if not self.positive_column and not self.positive_id_column and self.known_positives is None:
            raise InputError("no positives: give positive_column=, positive_id_column= or known_positives=")
        if self.second_opinion is not None:
            self._check_second_opinion(self.second_opinion)
        settings = self.settings
        for teacher in self.teachers:
            require_vectors(settings.all_filters, teacher)
            for filter_ in settings.all_filters:
                filter_.check(teacher.score_kind)
        if settings.near_duplicates is not None and self._near_teacher is None:
            raise InputError("near_duplicates needs a dense teacher, which can compare documents with each other")
        self._check_columns()
        if settings.exclude_other_positives and self.known_positives is None:
            raise InputError("exclude_other_positives needs known_positives=")
        ceilings = [f.ceiling(np.ones(1, np.float32))[0] for f in settings.all_filters]
        if settings.weak_positive != "keep" and not np.isfinite(ceilings).any():
            raise InputError(
                f"weak_positive={settings.weak_positive!r} counts the documents at or above the ceiling, and no filter sets "
                "one; add a filter such as PercPos(0.95)"
            )
        first, documents = common_window(settings.all_filters)[0], self.corpus.num_candidates
        if first >= documents:
            raise InputError(
                f"the filters {list(settings.all_filters)} begin at rank {first:,}, and the corpus has {documents:,} "
                "documents; skip fewer, or give a larger corpus"
            )

    def _check_columns(self) -> None:
        """Refuse columns that the corpus does not keep, or that do not tell documents apart."""
        for name, values in self._same.items():
            check_same(name, values, self.corpus.num_candidates)
        for values in self._language:
            texts = (text for block in values.values.iter_texts() for text in block)
            check_languages((("a document", text) for text in texts), str(self.settings.language_column))
        if self._quotas and self.second_opinion is not None:
            raise InputError("PerGroup counts before a second opinion rejects; mine with one of them")

    def _check_teachers(self) -> None:
        if not self.teachers:
            raise InputError("0 teachers; pass at least one, such as a DenseTeacher")
        for teacher in self.teachers:
            cure = "pass a DenseTeacher, or use PositiveAwareMiner.from_dataset"
            self._check_corpus_of(require_teacher(teacher, "teacher", cure))
        if len(self.teachers) > 1 and not self.settings.ensemble:
            raise InputError(
                f"{len(self.teachers)} teachers and the sampler {self.settings.sampler!r}, which takes one; use "
                "sampler='CrossSample()' or 'IntraSample(dedup=False)'"
            )
        if len(self.teachers) == 1 and self.settings.ensemble:
            raise InputError(f"{self.settings.sampler!r} has no effect on one teacher; pass several, or use Top()")

    def _check_second_opinion(self, opinion: SecondOpinion) -> None:
        for scorer in opinion.scorers:
            self._check_corpus_of(scorer)
        settings = self.settings
        wanted = settings.one_sampler.pool(settings.num_negatives)
        if opinion.depth < wanted:
            raise InputError(
                f"the second opinion scores at most {opinion.depth} candidates of a row, {settings.sampler!r} wants "
                f"{wanted}; raise depth="
            )
        if settings.on_short == "random":
            raise InputError("on_short='random' fills rows without a second opinion; use 'keep', 'drop' or 'raise'")

    def with_teachers(self, teachers: Sequence[Teacher]) -> PositiveAwareMiner:
        """The same miner with stand-ins for its teachers, which give the same scores."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, teachers=list(teachers))
        return other

    @property
    def teacher_names(self) -> list[str]:
        """The teachers' names in the output, numbered where they share one."""
        names = [teacher.name for teacher in self.teachers]
        return [f"{name} #{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]

    @property
    def _near_teacher(self) -> NearDuplicates | None:
        """The first teacher that can compare documents with each other."""
        return next((near for near in map(near_duplicates_of, self.teachers) if near is not None), None)

    def _check_corpus_of(self, teacher: Teacher) -> None:
        theirs = corpus_of(teacher)
        if theirs is not None and theirs.fingerprint != self.corpus.fingerprint:
            raise InputError(
                f"the teacher scores a corpus of {len(theirs):,} documents ({theirs.fingerprint[:8]}), the miner has one of "
                f"{len(self.corpus):,} ({self.corpus.fingerprint[:8]}); make both with the same corpus"
            )

    @classmethod
    def from_dataset(
        cls,
        dataset: AnyDataset,
        teacher: TeacherLike | Sequence[TeacherLike] | None = None,
        *,
        query_column: str | None = None,
        positive_column: str | None = None,
        positive_id_column: str | None = None,
        corpus: Corpus | Iterable[str] | None = None,
        teacher_options: dict[str, Any] | None = None,
        second_opinion: SecondOpinion | None = None,
        **options: Any,
    ) -> PositiveAwareMiner:
        """A miner for one dataset: its positives are known, and are the corpus unless one is given.

        Args:
            dataset: Dataset, DatasetDict or IterableDataset with queries and positives; a DataFrame or a list of dicts.
            teacher: a Hub id, a folder, ``"embedded"``, ``"bm25"`` or another name of
                :func:`~hf_posmine.teachers.factory.make_teacher`, a SentenceTransformer or a Teacher; by default
                all-MiniLM-L6-v2. A list of them, the best first, for an ensemble.
            query_column: by default that of a known layout, else found by name (query, anchor, question).
            positive_column: likewise (positive, answer, passage, ...); see :func:`~hf_posmine.data.layouts.pick_columns`.
            positive_id_column: instead of ``positive_column``, ids of the corpus.
            corpus: the candidates: a Corpus, texts (a list or a column), a dataset or DataFrame with a column of texts, or
                a file, folder or Hub id. Known positives it lacks are scored, and are not candidates.
            teacher_options: for teachers that are not ready: prompts, store, device, ...
            second_opinion: a second scorer of the candidates, such as
                ``SecondOpinion("cross:BAAI/bge-reranker-base", "PercPos(0.9)")``.
            options: see :class:`~hf_posmine.core.settings.MiningSettings`.

        Raises:
            ColumnError: columns that are missing or ambiguous; rows with an empty query or without a positive, with their
                numbers, unless ``skip_bad_rows=True``.
            InputError: settings that contradict each other or the teacher's scores.
        """
        from hf_posmine.encoding.defaults import DEFAULT_MODEL
        from hf_posmine.teachers.factory import make_teachers

        settings = MiningSettings.from_options(options)
        kept = settings.kept_columns
        corpus = None if corpus is None else Corpus.of(corpus, keep=kept, match=settings.match)
        given: list[Any] = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher or DEFAULT_MODEL]
        ready = [t for t in given if isinstance(t, Teacher)]
        if ready and len(ready) == len(given) and teacher_options:
            raise InputError(
                f"teacher_options {sorted(teacher_options)} have no effect on a ready teacher; set them there"
            )
        corpus = corpus_of(ready[0]) if ready and corpus is None else corpus
        dataset = as_dataset(dataset)
        query, positive, positive_id = pick_columns(dataset, query_column, positive_column, positive_id_column)
        match = corpus.match if corpus is not None else settings.match or "normalized"
        known = Qrels.from_dataset(
            dataset, query, positive, positive_id, match=match, skip_bad_rows=settings.skip_bad_rows
        )
        if corpus is None:
            if known.documents is None:
                raise InputError(f"column {positive_id!r} holds ids; pass corpus= with the documents they name")
            corpus = known.documents.with_columns_of(dataset, str(positive), kept) if kept else known.documents
        elif known.documents is not None and not ready:
            corpus = corpus.union(known.documents, candidates=False)
        return cls(
            corpus=corpus,
            teachers=make_teachers(given, corpus, queries=known.queries, **(teacher_options or {})),
            known_positives=known,
            query_column=query,
            positive_column=positive,
            positive_id_column=positive_id,
            second_opinion=second_opinion,
            **options,
        )

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the rows, by content: equal in any process and wherever files lie."""
        recipe = {
            "algo": ALGO_VERSION,
            "corpus": self.corpus.fingerprint,
            "teachers": [t.fingerprint for t in self.teachers],
            "known_positives": self.known_positives.fingerprint if self.known_positives is not None else None,
            "columns": [self.query_column, self.positive_column, self.positive_id_column],
            "settings": self.settings.to_dict(),
            "same": [values.digest for values in [*self._same.values(), *self._quotas.values(), *self._language]],
        }
        opinion = self.second_opinion
        if opinion is not None:
            recipe["second_opinion"] = opinion.identity()
        return json_digest(recipe)

    def features(self, features: Features | None) -> Any:
        """The features of the mapped dataset: needed for an IterableDataset, ``map(..., features=...)``."""
        from datasets import Features, Image, List
        from datasets.features.features import generate_from_arrow_type

        if features is None:
            raise InputError("the dataset does not know its features; pass datasets.Features with every column")
        types = column_types(self.settings, second=self.second_opinion is not None)
        outdated = {name: OUTPUT_COLUMNS[name] for name in output_columns(features) if name not in types}
        new = {name: generate_from_arrow_type(type_) for name, type_ in {**outdated, **types}.items()}
        if self.settings.negatives_as == "images":
            new["negatives"] = List(Image())
        return Features({**features, **new})

    def prepare(self) -> PositiveAwareMiner:
        """Encode whatever is not stored yet, before the first row; returns the miner."""
        opinion = self.second_opinion
        for teacher in [*self.teachers, *([] if opinion is None else opinion.scorers)]:
            prepare(teacher)
        if self._near_lookalikes is not None:
            self._near_lookalikes.prepare()
        notice = self.data.notice
        if notice is not None:
            warnings.warn(notice, OutsideCorpusWarning, stacklevel=2)
        self._warn_of_unmatched()
        opinion_scorers = [] if opinion is None else opinion.scorers
        for teacher in [*self.teachers, *opinion_scorers]:
            if isinstance(teacher, ReadsWindow) and (cut := teacher.cut_texts()) is not None and cut.cut:
                warnings.warn(cut.line(teacher.name), CutTextWarning, stacklevel=2)
        for teacher in self.teachers:
            for line in prompted_texts(teacher, self.corpus, self.known_positives):
                warnings.warn(line, PromptedTextWarning, stacklevel=2)
        return self

    def _warn_of_unmatched(self) -> None:
        """Let lexical teachers warn, each once, of the queries of the whole run, also where nobody called ``prepare``."""
        queries = None if self.known_positives is None else self.known_positives.queries
        for teacher in self.teachers:
            if isinstance(teacher, Lexical) and queries is not None:
                teacher.warn_of_unmatched(queries)

    @cached_property
    def _reader(self) -> RowReader:
        known = None if self.known_positives is None else self.known_positives.resolve(self.corpus)
        return RowReader(
            self.corpus, self.known_positives, known, self._text_lookalikes(known), self.query_column, self.positive_column,
            self.positive_id_column, self._same,
        )  # fmt: skip

    def _text_lookalikes(self, known: KnownPositives | None) -> Lookalikes | None:
        qrels = self.known_positives
        if known is None or qrels is None or qrels.by_id or not self.settings.exclude_lookalikes:
            return None
        return Lookalikes.find(self.corpus, qrels, known)

    @property
    def lookalikes(self) -> Lookalikes | None:
        """Candidates that hold known positives which the corpus lacks; None where they may be negatives."""
        return self._reader.lookalikes

    @cached_property
    def _near_lookalikes(self) -> NearLookalikes | None:
        """The candidates near such positives; None where they may be negatives, or no teacher can tell."""
        if self.lookalikes is None or self.settings.near_duplicates is not None:
            return None
        found = (NearLookalikes.of(teacher, self.corpus, self.lookalikes.codes) for teacher in self.teachers)
        return next((near for near in found if near is not None), None)

    @property
    def data(self) -> MinedData:
        """What is read and searched: the columns, the documents, and the positives among them."""
        return MinedData.of(self._reader, self._near_lookalikes)

    def data_compared(self, *, near: bool) -> MinedData:
        """:attr:`data` with near forms of the positives counted, or left uncounted, whatever is stored by now."""
        found = self._near_lookalikes if near else None
        if found is not None:
            found.prepare()
        return MinedData.of(self._reader, found)

    @property
    def num_bad_rows(self) -> int | None:
        """Rows of the dataset without a query or a positive that ``skip_bad_rows`` leaves out; None where they are an error."""
        known = self.known_positives
        return len(known.bad_rows) if self.settings.skip_bad_rows and known is not None and known.bad_rows else None

    @cached_property
    def excluded_everywhere(self) -> Rows:
        """Rows no query may get: the empty document, and other rows' positives if asked."""
        empty = self.corpus.rows_of_texts([""])
        known = self._reader.known
        others = known.all_positive_rows if known is not None and self.settings.exclude_other_positives else empty[:0]
        return np.union1d(empty[empty >= 0], others).astype(np.int64)

    def __call__(self, batch: Any, *extra: Any) -> Any:
        """Mine a batch (or, with ``batched=False``, a row) as ``datasets.map`` passes it.

        Args:
            batch: dict of lists, ``LazyBatch``, Arrow table, DataFrame, or a single row.
            extra: indices and rank, if ``with_indices`` or ``with_rank`` is set; the rank chooses the GPU.
        """
        names = self._column_names(batch)
        for column in self._reader.columns:
            if column not in names:
                raise ColumnError(f"the batch has no column {column!r}; its columns are {names}")
        single = is_lazy_row(batch) or (
            encoded_column(batch, names[0]) is None and isinstance(batch, Mapping) and _is_row(batch[self.query_column])
        )
        self._use_rank(extra, single)
        columns = {name: _column_of(batch, name, single=single) for name in self._reader.columns}
        if single or not self.settings.skip_bad_rows:
            return self._finish(batch, self._mine(columns), single)
        return self._mine_good(batch, columns)

    def _mine_good(self, batch: Any, columns: dict[str, list[Any]]) -> Any:
        """The batch without its bad rows, mined."""
        good = self._reader.good(columns)
        if all(good):
            return self._finish(batch, self._mine(columns), single=False)
        batch = taken(as_table(batch), good)
        if any(good):
            found = self._finish(batch, self._mine(taken(columns, good)), single=False)
        else:
            types = column_types(self.settings, second=self.second_opinion is not None)
            empty = {name: pa.array([], type_) for name, type_ in types.items()}
            found = merge(batch, empty | nulls(self._column_names(batch), empty, 0), np.ones(0, bool))
        return found if isinstance(found, pa.Table) else {**batch, **found}

    @property
    def columns(self) -> list[str]:
        """The columns of the dataset that decide the negatives."""
        return self._reader.columns

    def read(self, columns: Mapping[str, Sequence[Any]]) -> tuple[Batch, Exclusions, dict[str, Rows]]:
        """A batch of rows, what may not be a negative of each, and how many documents that are for each reason."""
        batch = self._reader.read(columns)
        near = self._near_teacher
        if self.settings.near_duplicates is not None and near is not None:
            batch = batch.with_near(_near_positives(near, batch.positives()[0], self.settings.near_duplicates))
        elif self._near_lookalikes is not None:
            batch = batch.with_near(self._near_lookalikes.of_rows(batch.positives()[0]))
        batch.quotas = self._quotas
        return (batch, *batch.exclusions(self.corpus.num_candidates, self.excluded_everywhere))

    def _mine(self, columns: dict[str, list[Any]]) -> Any:
        self._warn_of_unmatched()
        batch, exclude, counts = self.read(columns)
        rngs = batch.generators(self.corpus, self.settings.seed)
        candidates = self.corpus.num_candidates
        mined = select(batch, self.teachers, self.settings, candidates, exclude, rngs, self.second_opinion)
        mined.excluded = counts
        return mined

    def _finish(self, batch: Any, mined: Any, single: bool) -> Any:
        language, values = self.settings.language_column, None
        if language is not None and language in self._column_names(batch):
            values = [_plain(batch[language])] if single else _plain_list(batch[language])
        languages = self._languages(values, len(mined.rows))
        columns = to_columns(mined, self.corpus, self.settings, self.teacher_names, languages)
        columns |= nulls(self._column_names(batch), columns, len(mined.rows))
        keep = kept_rows(mined, self.settings)
        if not single:
            return merge(batch, columns, keep)
        if not keep.all():
            raise InputError("rows can only be dropped with batched=True; map with it, or use on_short='keep'")
        return {name: values[0].as_py() for name, values in columns.items()}

    def _languages(self, values: Sequence[object] | None, rows: int) -> pa.Array:
        """The languages of the queries, null where the rows do not have them."""
        name = str(self.settings.language_column)
        found = [texts_of_value(value, name, row) for row, value in enumerate(values or [None] * rows)]
        check_languages(((f"row {row} of a batch", texts[0]) for row, texts in enumerate(found) if texts), name)
        return pa.array([texts[0] if texts else None for texts in found], pa.string())

    def _column_names(self, batch: Any) -> list[str]:
        if isinstance(batch, pa.Table):
            return list(batch.column_names)
        if isinstance(batch, (Mapping, ColumnTable)):
            return [str(name) for name in batch]
        raise ColumnError(
            f"the miner got a {type(batch).__name__} instead of a batch of columns; map without input_columns="
        )

    def _use_rank(self, extra: tuple[Any, ...], single: bool) -> None:
        """With ``with_rank=True`` and several GPUs, take the one of this rank, which comes after any indices."""
        rank = extra[-1] if extra else None
        if isinstance(rank, int) and not (single and len(extra) == 1):
            for teacher in self.teachers:
                use_rank(teacher, rank)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in CACHED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _hash_by_fingerprint(type(self))


def _require_corpus(corpus: object) -> None:
    if not isinstance(corpus, Corpus):
        raise InputError(f"corpus={type(corpus).__name__}; pass a Corpus, such as Corpus.from_texts(texts)")


def _near_positives(teacher: NearDuplicates, positives: Rows, bound: float) -> list[Rows]:
    """Documents near a positive of each row; a positive outside the corpus has no stored vector and is skipped."""
    unique = np.unique(positives[positives >= 0])
    near = dict(zip(unique.tolist(), teacher.near_documents(unique, bound) if len(unique) else [], strict=True))
    return [np.concatenate([unique[:0], *(near[code] for code in row if code >= 0)]) for row in positives.tolist()]


def _is_row(value: object) -> bool:
    """Whether a value of the query column is a row's own value and no column of them."""
    return value is None or isinstance(value, (str, bytes, int, float)) or is_image(value)


def _column_of(batch: Mapping[str, Any] | pa.Table, name: str, *, single: bool) -> list[Any]:
    """The values of a column; images that are still encoded are not opened for it."""
    stored = encoded_column(batch, name)
    if stored is not None and holds_images(stored.type):
        return named_cells(stored)
    return named_images([_plain(batch[name])]) if single else _plain_list(batch[name])


def _plain(value: object) -> Any:
    if isinstance(value, (str, list)) or is_image(value):  # nearly always; a Protocol takes 100 times as long to check
        return value
    return value.tolist() if isinstance(value, ArrayLike) else value


def _plain_list(values: Any) -> list[Any]:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return named_cells(values)
    return named_images(_plain(value) for value in values)
