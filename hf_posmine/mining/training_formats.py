"""From mined rows to what SentenceTransformerTrainer takes. Never train on the raw list column.

sentence-transformers reads a list of two texts as a sentence *pair*: training on ``negatives`` then runs without an
error and learns something else. These are the safe views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.data.columns import column_names, has_numbered_rows, require_column
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.columns import without_outputs, written_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

Format: TypeAlias = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
Short: TypeAlias = Literal["raise", "drop", "repeat"]


@dataclass(frozen=True)
class TrainingRows:
    """A batch of mined rows -> a batch in a training format; a callable for ``datasets.map``.

    Attributes:
        format: ``triplet`` (one row per negative), ``n-tuple`` (``negative_1`` to ``negative_n``), ``labeled-pair`` (one
            row per document, label 1 or 0) or ``labeled-list`` (all documents and labels in lists).
        query: column of the queries.
        positive: column of the positives; of a list, the first is taken.
        num_negatives: n.
        on_short: rows with fewer than n: ``raise``, ``drop``, or ``repeat`` their negatives in turn. Only n-tuples need
            all n; the other formats take what there is.
        scores: add the teacher's scores for distillation: ``scores`` with n-tuple and labeled-list (positive first),
            ``score`` with labeled-pair, and ``scores`` [positive, negative] with triplet.
    """

    format: Format
    query: str
    positive: str
    num_negatives: int
    on_short: Short = "raise"
    scores: bool = False

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Convert a batch of columns."""
        out: dict[str, list[Any]] = {name: [] for name in self.columns}
        scored = zip(batch["positive_score"], batch["negatives_scores"], strict=True) if self.scores else None
        for row, (query, positive, negatives) in enumerate(
            zip(batch[self.query], batch[self.positive], batch["negatives"], strict=True)
        ):
            scores = next(scored) if scored is not None else (None, [None] * len(negatives))
            pairs = self._pairs(row, query, list(zip(negatives, scores[1], strict=True)))
            if pairs is not None:
                self._add(out, query, positive if isinstance(positive, str) else positive[0], scores[0], pairs)
        return out

    @property
    def columns(self) -> list[str]:
        """The columns of the format, in the order the trainer relies on."""
        negatives = [f"negative_{i + 1}" for i in range(self.num_negatives)]
        columns = {
            "triplet": [self.query, self.positive, "negative", *(["scores"] if self.scores else [])],
            "n-tuple": [self.query, self.positive, *negatives, *(["scores"] if self.scores else [])],
            "labeled-pair": [self.query, "document", "label", *(["score"] if self.scores else [])],
            "labeled-list": [self.query, "documents", "labels", *(["scores"] if self.scores else [])],
        }
        return columns[self.format]

    def _pairs(self, row: int, query: str, pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]] | None:
        n = self.num_negatives
        if self.format != "n-tuple" or len(pairs) >= n:
            return pairs[:n]
        if self.on_short == "drop" or (self.on_short == "repeat" and not pairs):
            return None
        if self.on_short == "repeat":
            return [pairs[i % len(pairs)] for i in range(n)]
        raise ShortRowError(
            f"row {row} of the batch ({query[:60]!r}) has {len(pairs)} of {n} negatives; use on_short='drop' or 'repeat', ask "
            "for fewer, or take the format 'triplet'"
        )

    def _add(
        self, out: dict[str, list[Any]], query: str, positive: str, score: Any, pairs: list[tuple[str, Any]]
    ) -> None:
        documents, scores = [positive, *(d for d, _ in pairs)], [score, *(s for _, s in pairs)]
        rows: list[list[Any]]
        if self.format == "triplet":
            rows = [[query, positive, d, [score, s]] for d, s in pairs]
        elif self.format == "n-tuple":
            rows = [[query, *documents, scores]]
        elif self.format == "labeled-pair":
            rows = [[query, d, int(i == 0), s] for i, (d, s) in enumerate(zip(documents, scores, strict=True))]
        else:
            rows = [[query, documents, [1] + [0] * len(pairs), scores]]
        for values in rows:
            for name, value in zip(self.columns, values, strict=False):
                out[name].append(value)


def to_training(
    mined: Any,
    format: Format = "n-tuple",
    num_negatives: int | None = None,
    *,
    query_column: str | None = None,
    positive_column: str | None = None,
    on_short: Short = "raise",
    scores: bool = False,
    lazy: bool = False,
) -> Any:
    """A mined dataset in a training format, with only the columns that SentenceTransformerTrainer should see.

    Args:
        mined: Dataset, DatasetDict or IterableDataset with ``negatives``.
        format: see :class:`TrainingRows`.
        num_negatives: n; by default as many as the first row has.
        query_column: by default found by name.
        positive_column: by default found by name.
        on_short: what becomes of rows with fewer than n.
        scores: add the teacher's scores (``keep=("scores",)`` when mining).
        lazy: convert when rows are read (``with_transform``) instead of now; n-tuple and labeled-list of a Dataset.

    >>> from datasets import Dataset
    >>> mined = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [["a", "b"]]})
    >>> to_training(mined, "n-tuple")[0]
    {'query': 'q', 'positive': 'p', 'negative_1': 'a', 'negative_2': 'b'}
    """
    if isinstance(mined, dict):
        if num_negatives is None:
            num_negatives = next((len(next(iter(s))["negatives"]) for s in mined.values() if _has_rows(s)), None)
        options: dict[str, Any] = {
            "query_column": query_column,
            "positive_column": positive_column,
            "on_short": on_short,
            "scores": scores,
            "lazy": lazy,
        }
        return type(mined)(
            {name: to_training(split, format, num_negatives, **options) for name, split in mined.items()}
        )
    rows = _training_rows(mined, format, num_negatives, query_column, positive_column, on_short, scores)
    if lazy:
        if format not in ("n-tuple", "labeled-list") or on_short == "drop" or not has_numbered_rows(mined):
            raise InputError(
                "lazy=True needs a Dataset, and a format with one row per row: n-tuple (not 'drop') or labeled-list"
            )
        return mined.with_transform(rows)
    names = column_names(mined)
    return mined.map(rows, batched=True, remove_columns=names, features=_features(mined, rows))


def _has_rows(split: Any) -> bool:
    return next(iter(split), None) is not None


def _training_rows(
    mined: Any,
    format: Format,
    num_negatives: int | None,
    query: str | None,
    positive: str | None,
    on_short: Short,
    scores: bool,
) -> TrainingRows:
    if format not in get_args(Format):
        raise InputError(f"format={format!r}; choose one of {list(get_args(Format))}")
    if on_short not in get_args(Short):
        raise InputError(f"on_short={on_short!r}; choose one of {list(get_args(Short))}")
    names = column_names(mined)
    require_column(names, "negatives", "mined")
    written = written_columns(mined) if scores else []
    for column in ("positive_score", "negatives_scores") if scores else ():
        if column not in written:
            raise ColumnError(f"scores=True needs the column {column!r}; mine with keep=('scores',)")
    query, positive, _ = pick_columns(without_outputs(mined), query, positive, None)
    if positive is None:
        raise ColumnError(f"no column with positive texts among {names}; say which with positive_column=...")
    if num_negatives is None:
        first = next(iter(mined.with_format(None)), None)
        num_negatives = len(first["negatives"]) if first else 1
    if num_negatives < 1:
        raise InputError(f"num_negatives={num_negatives}; the first row has none, so say how many")
    return TrainingRows(format, query, positive, num_negatives, on_short, scores)


def _features(mined: Any, rows: TrainingRows) -> Any:
    from datasets import Features, List, Value

    text, number = Value("string"), Value("float32")
    special = {
        "label": Value("int64"),
        "labels": List(Value("int64")),
        "documents": List(text),
        "score": number,
        "scores": List(number),
    }
    return Features(
        {name: text if name in (rows.query, rows.positive) else special.get(name, text) for name in rows.columns}
    )


@dataclass
class NegativesCollator:
    """A ``data_collator`` for SentenceTransformerTrainer over mined rows as they are: no copy of the dataset.

    It passes on the query, the positive and n negatives, in this order, and nothing else.

    Attributes:
        collator: the trainer's own collator, ``SentenceTransformerDataCollator(model.preprocess)``.
        query: column of the queries.
        positive: column of the positives.
        num_negatives: n.
    """

    collator: Any
    query: str = "query"
    positive: str = "positive"
    num_negatives: int = 4

    @property
    def valid_label_columns(self) -> Sequence[str]:
        """As the trainer asks of its collator."""
        return self.collator.valid_label_columns

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate mined rows.

        Raises:
            ShortRowError: a row with fewer than n negatives.
        """
        return self.collator([self._flat(row) for row in rows])

    def _flat(self, row: dict[str, Any]) -> dict[str, Any]:
        negatives = row["negatives"]
        if len(negatives) < self.num_negatives:
            raise ShortRowError(
                f"the row {row[self.query][:60]!r} has {len(negatives)} of {self.num_negatives} negatives; mine with "
                "on_short='drop' or 'random', or ask for fewer"
            )
        positive = row[self.positive]
        texts = {self.query: row[self.query], self.positive: positive if isinstance(positive, str) else positive[0]}
        texts |= {f"negative_{i + 1}": negatives[i] for i in range(self.num_negatives)}
        return texts | ({"dataset_name": row["dataset_name"]} if "dataset_name" in row else {})
