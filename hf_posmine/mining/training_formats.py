"""From mined rows to what SentenceTransformerTrainer takes. Never train on the raw list column.

sentence-transformers reads a list of two texts as a sentence *pair*: training on ``negatives`` then runs without an
error and learns something else. These are the safe views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import pyarrow.compute as pc

from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.data.aliases import names_an_id
from hf_posmine.data.columns import check_ids, column_names, has_numbered_rows, image_columns, require_column, splits_of
from hf_posmine.data.images import AT_ONCE
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.columns import JUDGED_POSITIVES, list_column, without_outputs, written_columns
from hf_posmine.mining.provenance import recorded_beside
from hf_posmine.mining.training_documents import document_feature, documents_of, documents_of_ids, member_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    import torch
    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.data.corpus import Corpus

Format: TypeAlias = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
Short: TypeAlias = Literal["raise", "drop", "repeat"]
Scores: TypeAlias = Literal["teacher", "second"]
Positives: TypeAlias = Literal["all", "first"]
Scored: TypeAlias = "tuple[str, float | None]"
SCORE_COLUMNS: dict[Scores, tuple[str, str]] = {
    "teacher": ("positive_score", "negatives_scores"),
    "second": ("positive_second_score", "negatives_second_scores"),
}
"""The columns of the positive's score and of the negatives'."""


@dataclass(frozen=True)
class TrainingRows:
    """A batch of mined rows -> a batch in a training format; a callable for ``datasets.map``.

    Attributes:
        format: ``triplet`` (one row per positive and negative), ``n-tuple`` (``negative_1`` to ``negative_n``, one row per
            positive), ``labeled-pair`` (one row per document, label 1 or 0) or ``labeled-list`` (all documents and labels
            in lists).
        query: column of the queries.
        positive: column of the positives: texts, images, ids of ``corpus``, or lists of them.
        num_negatives: at most so many of a row; n of an n-tuple. None: all there are.
        on_short: n-tuples with fewer than n: ``raise``, ``drop``, or ``repeat`` their negatives in turn.
        scores: whose scores are added for distillation, ``teacher`` or ``second``: ``scores`` with n-tuple and triplet (the
            positive first), and in the place of the labels ``score`` with labeled-pair and ``scores`` with labeled-list.
        positives: ``all`` of a row, or its ``first``.
        corpus: the documents that ``positive`` or ``negatives_ids`` name by id; None where there are no ids.
        judged: column of negatives that a judge relabelled as positives, which are among ``all``; None without it.
        positive_by_id: whether ``positive`` names documents of ``corpus``.
        negatives: column of the negatives, ``negatives`` or ``negatives_ids``.
        encoded: give images as ``datasets.Image()`` stores them, instead of opened ones.
    """

    format: Format
    query: str
    positive: str
    num_negatives: int | None
    on_short: Short = "raise"
    scores: Scores | None = None
    positives: Positives = "all"
    corpus: Corpus | None = None
    judged: str | None = None
    positive_by_id: bool = False
    negatives: str = "negatives"
    encoded: bool = False

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Convert a batch of columns."""
        out: dict[str, list[Any]] = {name: [] for name in self.columns}
        for row, query in enumerate(batch[self.query]):
            own, scored = self._scored(batch, row)
            negatives = self._chosen(row, query, scored)
            if negatives is None:
                continue
            for values in self._rows(query, [(text, own) for text in self._positives(batch, row)], negatives):
                for name, value in zip(self.columns, values, strict=False):
                    out[name].append(value)
        return out

    @property
    def columns(self) -> list[str]:
        """The columns of the format, in the order the trainer relies on."""
        if self.format == "labeled-pair":
            return [self.query, "document", "score" if self.scores else "label"]
        if self.format == "labeled-list":
            return [self.query, "documents", "scores" if self.scores else "labels"]
        numbered = [f"negative_{i + 1}" for i in range(self.num_negatives or 0)]
        negatives = ["negative"] if self.format == "triplet" else numbered
        return [self.query, self.positive, *negatives, *(["scores"] if self.scores else [])]

    def _positives(self, batch: dict[str, list[Any]], row: int) -> list[Any]:
        """The documents that are a row's positives."""
        values = batch[self.positive][row : row + 1]
        if self.positive_by_id:
            texts = self._documents(check_ids(values, self.positive, row)[0], self.positive)
        else:
            texts = documents_of(values[0], self.positive, row)
        if self.judged is not None and self.positives == "all":
            texts = list(dict.fromkeys([*texts, *(batch[self.judged][row] or [])]))
        if self.scores and len(texts) > 1:
            raise InputError(
                f"row {row} of the batch has {len(texts)} positives and one score, that of the lowest; mine rows of one "
                "positive each, or leave scores out"
            )
        return texts[:1] if self.positives == "first" else texts

    def _scored(self, batch: dict[str, list[Any]], row: int) -> tuple[float | None, list[Scored]]:
        """The score of the positive, and the negatives with theirs."""
        texts = batch[self.negatives][row]
        if self.negatives != "negatives":
            texts = self._documents(texts, self.negatives)
        if self.scores is None:
            return None, [(text, None) for text in texts]
        own, theirs = (batch[column][row] for column in SCORE_COLUMNS[self.scores])
        if own is None or None in theirs:
            raise InputError(
                f"row {row} of the batch has documents without a score; "
                + ("mine without band=" if self.scores == "second" else "a run that holds all of them, or scores=False")
            )
        return own, list(zip(texts, theirs, strict=True))

    def _documents(self, ids: Sequence[str], column: str) -> list[Any]:
        """The documents of some ids: texts, images, or dicts of both."""
        if self.corpus is None:
            raise ColumnError(f"column {column!r} holds ids; pass corpus= with the documents they name")
        return documents_of_ids(self.corpus, ids, column, encoded=self.encoded)

    def _chosen(self, row: int, query: object, scored: list[Scored]) -> list[Scored] | None:
        n = self.num_negatives
        if self.format != "n-tuple" or n is None or len(scored) >= n:
            return scored[:n]
        if self.on_short == "drop" or (self.on_short == "repeat" and not scored):
            return None
        if self.on_short == "repeat":
            return [scored[i % len(scored)] for i in range(n)]
        raise ShortRowError(
            f"row {row} of the batch ({str(query)[:60]!r}) has {len(scored)} of {n} negatives; use on_short='drop' or 'repeat', "
            "ask for fewer, or take the format 'triplet'"
        )

    def _rows(self, query: object, positives: list[Scored], negatives: list[Scored]) -> list[list[Any]]:
        """The rows of the format that a mined row becomes."""
        if self.format == "triplet":
            return [[query, p, d, [own, score]] for p, own in positives for d, score in negatives]
        if self.format == "n-tuple":
            texts, scores = [d for d, _ in negatives], [score for _, score in negatives]
            return [[query, p, *texts, [own, *scores]] for p, own in positives]
        both = positives + negatives
        labels: list[Any] = [score for _, score in both] if self.scores else [1] * len(positives) + [0] * len(negatives)
        if self.format == "labeled-pair":
            return [[query, d, label] for (d, _), label in zip(both, labels, strict=True)]
        return [[query, [d for d, _ in both], labels]]


def to_training(  # noqa: PLR0913 - each option is a choice of its own
    mined: AnyDataset,
    format: Format = "n-tuple",
    num_negatives: int | None = None,
    *,
    query_column: str | None = None,
    positive_column: str | None = None,
    corpus: Corpus | None = None,
    positives: Positives = "all",
    on_short: Short = "raise",
    scores: Scores | bool = False,
    lazy: bool = False,
) -> Any:
    """A mined dataset in a training format, with only the columns that SentenceTransformerTrainer should see.

    Args:
        mined: Dataset, DatasetDict or IterableDataset with ``negatives`` or ``negatives_ids``.
        format: see :class:`TrainingRows`.
        num_negatives: by default all there are; for n-tuples as many as the provenance beside the rows has, else as many
            as the longest row. A stream needs the number.
        query_column: by default found by name.
        positive_column: texts, images, or ids of the ``corpus``; by default found by name.
        corpus: where the positives or the negatives are given by id.
        positives: ``all`` of a row, those in ``judged_positives`` included, or its ``first``.
        on_short: what becomes of n-tuples with fewer than n.
        scores: add the scores of the ``teacher`` (or True) or of the ``second`` opinion (``keep=("scores",)`` when mining).
        lazy: convert when rows are read (``with_transform``) instead of now; n-tuple and labeled-list of a Dataset. Of images,
            no copy is made then.

    Raises:
        ColumnError: a column that is missing, or ids without ``corpus``.
        InputError: options that contradict each other or the rows.

    >>> from datasets import Dataset
    >>> mined = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [["a", "b"]]})
    >>> to_training(mined, "n-tuple")[0]
    {'query': 'q', 'positive': 'p', 'negative_1': 'a', 'negative_2': 'b'}
    """
    for name, value, known in (
        ("format", format, Format),
        ("on_short", on_short, Short),
        ("positives", positives, Positives),
    ):
        if value not in get_args(known):
            raise InputError(f"{name}={value!r}; choose one of {list(get_args(known))}")
    if not isinstance(scores, bool) and scores not in get_args(Scores):
        raise InputError(f"scores={scores!r}; choose one of {list(get_args(Scores))}, or False")
    for split in splits_of(mined):
        if list_column(column_names(split)) is None:
            require_column(column_names(split), "negatives", "mined")
    if format == "n-tuple" and num_negatives is None:
        num_negatives = _number_of(mined)
    if num_negatives is not None and num_negatives < 1:
        raise InputError(f"num_negatives={num_negatives}; expected at least 1")
    whose: Scores | None = "teacher" if scores is True else scores or None
    if isinstance(mined, dict):
        options: dict[str, Any] = {
            "query_column": query_column, "positive_column": positive_column, "corpus": corpus, "positives": positives,
            "on_short": on_short, "scores": scores, "lazy": lazy,
        }  # fmt: skip
        return type(mined)(
            {name: to_training(split, format, num_negatives, **options) for name, split in mined.items()}
        )
    if whose is not None:
        _check_scores(mined, whose)
    negatives = list_column(written_columns(mined)) or "negatives"
    query, positive, ids = _columns(mined, query_column, positive_column, corpus, negatives)
    judged = JUDGED_POSITIVES if JUDGED_POSITIVES in column_names(mined) else None
    rows = TrainingRows(
        format, query, positive, num_negatives, on_short, whose, positives, corpus, judged, ids, negatives, not lazy
    )
    if lazy:
        _check_lazy(mined, rows)
        return mined.with_transform(rows)
    names, features = column_names(mined), _features(mined, rows)
    if not image_columns(features):
        return mined.map(rows, batched=True, remove_columns=names, features=features)
    few: dict[str, Any] = {"batched": True, "batch_size": AT_ONCE, "remove_columns": names, "features": features}
    if has_numbered_rows(mined):
        return mined.with_format("arrow").map(_OfTables(rows), writer_batch_size=AT_ONCE, **few).with_format(None)
    return mined.decode(False).map(rows, **few).decode(True)


@dataclass(frozen=True)
class _OfTables:
    """Training rows of Arrow tables, in which images are still encoded; a callable for ``datasets.map``."""

    rows: TrainingRows

    def __call__(self, table: pa.Table) -> dict[str, list[Any]]:
        return self.rows(table.to_pydict())


def _check_lazy(mined: AnyDataset, rows: TrainingRows) -> None:
    from datasets import Image, Value

    if rows.format not in ("n-tuple", "labeled-list") or rows.on_short == "drop" or not has_numbered_rows(mined):
        raise InputError(
            "lazy=True needs a Dataset, and a format with one row per row: n-tuple (not 'drop') or labeled-list"
        )
    one = isinstance(mined.features[rows.positive], (Image, Value)) and rows.judged is None
    if rows.format == "n-tuple" and rows.positives == "all" and not one:
        raise InputError(f"lazy=True and several positives in {rows.positive!r}: use positives='first'")


def _check_scores(mined: AnyDataset, whose: Scores) -> None:
    written = written_columns(mined)
    for column in SCORE_COLUMNS[whose]:
        if column not in written:
            cure = "mine with keep=('scores',)" + " and a second opinion" * (whose == "second")
            raise ColumnError(f"scores={whose!r} needs the column {column!r}; {cure}")


def _columns(
    mined: AnyDataset, query: str | None, positive: str | None, corpus: Corpus | None, negatives: str
) -> tuple[str, str, bool]:
    """The query and positive columns, and whether the latter holds ids."""
    inputs = without_outputs(mined)
    query, text, by_id = pick_columns(inputs, query, positive, None)
    ids = text is None or (positive is not None and names_an_id(positive))
    if ids and corpus is None:
        raise ColumnError(
            f"column {text or by_id!r} holds ids of the positives; pass corpus= with the documents they name, or the column "
            "of their texts as positive_column="
        )
    if negatives != "negatives" and corpus is None:
        raise ColumnError(f"column {negatives!r} holds ids; pass corpus= with the documents they name")
    if corpus is not None and not ids and negatives == "negatives":
        raise ColumnError(
            f"corpus= has no effect on the texts in column {text!r}; name a column of ids, or leave it out"
        )
    return query, str(text or by_id), ids


def _number_of(mined: AnyDataset) -> int:
    """The n of n-tuples: of the provenance beside the rows, else the most that a row has."""
    splits = splits_of(mined)
    if not all(has_numbered_rows(split) for split in splits):
        raise InputError("n-tuples of a stream need num_negatives=")
    recorded = recorded_beside(splits[0])
    if recorded is not None:
        return int(recorded.settings["num_negatives"])
    column = list_column(written_columns(mined)) or "negatives"
    lists = (split.select_columns([column]).with_format("arrow")[:][column] for split in splits)
    most = max((pc.max(pc.list_value_length(values)).as_py() or 0 for values in lists), default=0)
    if most < 1 and any(len(split) for split in splits):
        raise InputError("num_negatives=0: no row has a negative")
    return max(1, most)


def _features(mined: Dataset, rows: TrainingRows) -> Any:
    from datasets import Features, List, Value

    document, number = document_feature(mined.features, rows.corpus, _document_columns(rows)), Value("float32")
    special = {
        "label": Value("int64"),
        "labels": List(Value("int64")),
        "documents": List(document),
        "score": number,
        "scores": List(number),
        rows.query: member_type(mined.features[rows.query]) if mined.features is not None else Value("string"),
    }
    return Features({name: special.get(name, document) for name in rows.columns})


def _document_columns(rows: TrainingRows) -> list[str]:
    """The columns that hold documents themselves."""
    return [*([] if rows.positive_by_id else [rows.positive]), *(["negatives"] * (rows.negatives == "negatives"))]


@dataclass
class NegativesCollator:
    """A ``data_collator`` for SentenceTransformerTrainer over mined rows as they are: no copy of the dataset.

    It passes on the query, the positive and n negatives, in this order, and nothing else.

    Attributes:
        collator: the trainer's own collator, ``SentenceTransformerDataCollator(model.preprocess)``.
        query: column of the queries.
        positive: column of the positives.
        num_negatives: n.
        corpus: the documents that ``negatives_ids`` names, in rows without ``negatives``.
        positives: of rows with several positives (``judged_positives`` included), their ``first``, or ``all``, a row of the
            batch each; other rows' positives are negatives for in-batch losses, so ``all`` needs a loss without them. None
            refuses such rows.
    """

    collator: Any
    query: str = "query"
    positive: str = "positive"
    num_negatives: int = 4
    positives: Positives | None = None
    corpus: Corpus | None = None

    @property
    def valid_label_columns(self) -> Sequence[str]:
        """As the trainer asks of its collator."""
        return self.collator.valid_label_columns

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate mined rows.

        Raises:
            ShortRowError: a row with fewer than n negatives.
            InputError: a row with several positives, unless ``positives`` chooses.
        """
        return self.collator([flat for row in rows for flat in self._flat(row)])

    def _flat(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        negatives = row.get("negatives")
        if negatives is None and self.corpus is not None:
            negatives = documents_of_ids(self.corpus, row["negatives_ids"], "negatives_ids")
        if negatives is None:
            raise ColumnError("the rows name their negatives by id; give NegativesCollator(corpus=...)")
        if len(negatives) < self.num_negatives:
            raise ShortRowError(
                f"the row {str(row[self.query])[:60]!r} has {len(negatives)} of {self.num_negatives} negatives; mine with "
                "on_short='drop' or 'random', or ask for fewer"
            )
        positives = documents_of(row[self.positive], self.positive, 0) + (row.get(JUDGED_POSITIVES) or [])
        if self.positives is None and len(positives) > 1:
            raise InputError(
                f"the row {str(row[self.query])[:60]!r} has {len(positives)} positives; choose "
                "NegativesCollator(positives='first') or positives='all'"
            )
        rest = {f"negative_{i + 1}": negatives[i] for i in range(self.num_negatives)}
        rest |= {"dataset_name": row["dataset_name"]} if "dataset_name" in row else {}
        chosen = positives if self.positives == "all" else positives[:1]
        return [{self.query: row[self.query], self.positive: text, **rest} for text in chosen]
