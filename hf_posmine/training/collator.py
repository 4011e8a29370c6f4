"""From rows of a data set to a batch: instructions beside their texts, and which texts of the batch are the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.images import NamedImage, side_by_side
from hf_posmine.data.texts import text_numbers
from hf_posmine.training.convert.images import with_images
from hf_posmine.training.row_labels import UNSET, row_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from hf_posmine.core.types import Floats
    from hf_posmine.data.corpus import Corpus

IN_BATCH = "in_batch_negatives"
INSTRUCTION = "_instruction"
DATASET_NAME = "dataset_name"
SCORES = "scores"
_MORE_POSITIVES = re.compile(r"positive_\d+")


def text_columns(columns: Sequence[str]) -> list[str]:
    """The columns that hold the texts to embed, in order: the query first, then its positives, then its negatives.

    >>> text_columns(["query", "positive", "query_instruction", "in_batch_negatives", "scores"])
    ['query', 'positive']
    """
    return [c for c in columns if c not in (IN_BATCH, DATASET_NAME, SCORES) and not c.endswith(INSTRUCTION)]


def positive_columns(columns: Sequence[str]) -> list[str]:
    """The columns of the positives: the second text, and ``positive_2``, ``positive_3``, ... behind it.

    >>> positive_columns(["query", "positive", "positive_2", "negative_1", "in_batch_negatives"])
    ['positive', 'positive_2']
    """
    first, *rest = text_columns(columns)[1:] or [""]
    return [first, *takewhile(_MORE_POSITIVES.fullmatch, rest)] if first else []


def has_negatives(columns: Sequence[str]) -> bool:
    """Whether any text column is neither the query nor a positive."""
    return len(text_columns(columns)) > 1 + len(positive_columns(columns))


class RowVectors(Protocol):
    """Vectors of the texts of rows, as :class:`~hf_posmine.training.guide.Guide` has them."""

    def vectors(self, rows: Sequence[Sequence[str]]) -> Floats:
        """Unit vectors float32 ``[B, 1 + n, d]``, the query first."""


class RowNegatives(Protocol):
    """Negatives that take the place of those of the rows, as :class:`~hf_posmine.training.remine.CurrentNegatives` has them."""

    def applied(self, features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows with these negatives."""


@dataclass
class RowCollator(SentenceTransformerDataCollator):
    """The stock collator, for rows ``query, positive, negative_1..n`` with instructions and in-batch flags.

    Rows with several positives have ``positive_2`` and so on behind ``positive``; a row with fewer repeats its own.

    A text with a non-empty ``<column>_instruction`` reaches the model as ``(instruction, text)``, which the models of
    :mod:`hf_posmine.models` embed with the instruction outside the pooling. The batch gets labels for
    :class:`~hf_posmine.training.row_labels.RowIdentity`: 1 or 0 from the column ``in_batch_negatives`` (-1 without it),
    63-bit keys of the row's texts, which ignore the instructions, the row's ``scores`` and the vectors of the ``guide``.

    Attributes:
        guide: whose vectors of the texts decide which documents of the batch are false negatives; by default the student's.
        negatives: what was mined within the run; by default the rows keep theirs.
        images: what the names of images in the rows open; by default there are none.
        one_positive: draw one of a row's positives, and leave the others out of the batch; which one follows from the
            row's texts, ``seed`` and ``epoch`` alone, so that a resumed run draws the same.
        seed: of these draws.
        epoch: from 0; :class:`~hf_posmine.training.trainer.RecipeTrainer` moves it.

    Raises:
        ColumnError: a text that is none, an instruction without its column, a label column.
        InputError: instructions for a model that would pool them with the text.
    """

    guide: RowVectors | None = None
    negatives: RowNegatives | None = None
    images: Corpus | None = None
    one_positive: bool = False
    seed: int = 0
    epoch: int = 0

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Tokenise one batch of rows."""
        if not features:
            return {}
        if self.negatives is not None:
            features = self.negatives.applied(features)
        given = text_columns(list(features[0]))
        self._check_columns(features[0], given)
        columns, several, others = self.embedded(given), positive_columns(given), None
        if columns != given:
            features, others = self._drawn(features, columns[0], several)
        labels = _labels(features, columns, self.guide, max(1, len(positive_columns(columns))), others)
        rows = [{c: self._item(f, c) for c in columns} for f in self._opened(features, columns)]
        for feature, row, label in zip(features, rows, labels, strict=True):
            if DATASET_NAME in feature:
                row[DATASET_NAME] = feature[DATASET_NAME]
            row[self.valid_label_columns[0]] = label
        return super().__call__(rows)

    def _opened(self, features: list[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows with their images as models read them."""
        if self.images is None:
            return features
        named = with_images([feature[column] for feature in features for column in columns], self.images)
        found = iter(side_by_side(lambda item: item.item() if isinstance(item, NamedImage) else item, named))
        return [{**feature, **{column: next(found) for column in columns}} for feature in features]

    def embedded(self, columns: Sequence[str]) -> list[str]:
        """The columns whose texts reach the model."""
        several = positive_columns(columns)[1:] if self.one_positive else []
        return [column for column in text_columns(columns) if column not in several]

    def _drawn(
        self, features: Sequence[Mapping[str, Any]], query: str, several: Sequence[str]
    ) -> tuple[list[dict[str, Any]], np.ndarray]:
        """The rows with one of their positives in the first column of them, and the keys int64 ``[B, P]`` of all."""
        _check_texts(features, [query, *several])
        keys = _keys(features, [query, *several])
        drawn = []
        for feature, (of_query, *own) in zip(features, keys.tolist(), strict=True):
            distinct = list(dict.fromkeys(own))
            rng = np.random.default_rng([self.seed, self.epoch, of_query, *distinct])
            chosen = several[own.index(distinct[rng.integers(len(distinct))])]
            first = {several[0]: feature[chosen]}
            if chosen + INSTRUCTION in feature:
                first[several[0] + INSTRUCTION] = feature[chosen + INSTRUCTION]
            drawn.append({**feature, **first})
        return drawn, keys[:, 1:]

    def _check_columns(self, feature: Mapping[str, Any], columns: Sequence[str]) -> None:
        labels = [c for c in self.valid_label_columns if c in columns]
        if labels:
            raise ColumnError(
                f"column {labels[0]!r} would be taken for labels, which contrastive rows have not; remove or rename it"
            )
        stray = [c for c in feature if c.endswith(INSTRUCTION) and c.removesuffix(INSTRUCTION) not in columns]
        if stray:
            raise ColumnError(
                f"column {stray[0]!r} instructs a column {stray[0].removesuffix(INSTRUCTION)!r} that is not there; "
                f"the text columns are {list(columns)}"
            )

    def _item(self, feature: Mapping[str, Any], column: str) -> str | tuple[str, str]:
        instruction = feature.get(column + INSTRUCTION)
        if not instruction:
            return feature[column]
        model = self.preprocess_fn.__self__ if isinstance(self.preprocess_fn, MethodType) else None
        if isinstance(model, SentenceTransformer) and type(model[0]).__module__.startswith("sentence_transformers."):
            raise InputError(
                f"column {column + INSTRUCTION!r} holds instructions, and the stock {type(model[0]).__name__} would "
                "embed them as a second text; load the model as an InstructSentenceTransformer of hf_posmine.models, or "
                "remove the column"
            )
        return (instruction, feature[column])


def _labels(
    features: Sequence[Mapping[str, Any]], columns: Sequence[str], guide: RowVectors | None, positives: int,
    others: np.ndarray | None,
) -> Tensor:  # fmt: skip
    """The labels of the rows, int64 ``[B, ...]``; see :func:`~hf_posmine.training.row_labels.row_labels`."""
    _check_texts(features, columns)
    choices = [UNSET if feature.get(IN_BATCH) is None else int(feature[IN_BATCH]) for feature in features]
    return row_labels(
        choices,
        _keys(features, columns),
        _scores(features, len(columns) - 1) if SCORES in features[0] else None,
        None if guide is None else guide.vectors([[feature[column] for column in columns] for feature in features]),
        positives=positives,
        others=others,
    )


def _check_texts(features: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    for column in columns:
        for number, feature in enumerate(features):
            if not isinstance(feature[column], str):
                raise ColumnError(
                    f"column {column!r} holds {type(feature[column]).__name__} in row {number} of a batch, and training "
                    "takes one text per column; hf_posmine.to_training(dataset, 'n-tuple') spreads lists over columns"
                )


def _keys(features: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> np.ndarray:
    """63-bit keys int64 ``[B, C]`` of the texts."""
    keys = text_numbers(feature[column] for feature in features for column in columns)
    return (keys >> 1).astype(np.int64).reshape(len(features), len(columns))


def _scores(features: Sequence[Mapping[str, Any]], documents: int) -> np.ndarray:
    """The scores float64 ``[B, documents]``, NaN in rows without."""
    scores = np.full((len(features), documents), np.nan)
    for number, feature in enumerate(features):
        given = feature[SCORES]
        if given is None:
            continue
        if len(given) != documents:
            raise ColumnError(
                f"column {SCORES!r} holds {len(given)} scores in row {number} of a batch with {documents} documents a row; "
                "give one for the positive and one for each negative, in their order"
            )
        scores[number] = given
    return scores
