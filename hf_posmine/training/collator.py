"""From rows of a data set to a batch: instructions beside their texts, and which texts of the batch are the same."""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.texts import text_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

IN_BATCH = "in_batch_negatives"
INSTRUCTION = "_instruction"
DATASET_NAME = "dataset_name"
UNSET = -1


def text_columns(columns: Sequence[str]) -> list[str]:
    """The columns that hold the texts to embed, in order: the query first, then its positive, then its negatives.

    >>> text_columns(["query", "positive", "query_instruction", "in_batch_negatives"])
    ['query', 'positive']
    """
    return [c for c in columns if c not in (IN_BATCH, DATASET_NAME) and not c.endswith(INSTRUCTION)]


@dataclass(frozen=True)
class RowIdentity:
    """Which texts of a batch are the same, and which rows take in-batch negatives.

    Attributes:
        in_batch: bool ``[B]``, whether the other rows' documents are negatives of the row.
        query: int64 ``[B]``, equal where the queries count as the same text (semantics 1: normalised).
        documents: int64 ``[B, n]``, likewise for the documents, the positive first; comparable with ``query``.
    """

    in_batch: Tensor
    query: Tensor
    documents: Tensor

    @classmethod
    def from_labels(cls, labels: Tensor, documents: int, in_batch_negatives: bool) -> RowIdentity:
        """Read the labels that :class:`RowCollator` makes.

        Args:
            labels: int64 ``[B, 2 + n]``: 1, 0 or -1 (not given) for in-batch negatives, then the keys.
            documents: n, the document columns that were embedded.
            in_batch_negatives: the rule for rows without that column.

        Raises:
            InputError: labels of another kind or of other columns.
        """
        if labels.ndim != 2 or labels.size(1) != 2 + documents or labels.is_floating_point():  # noqa: PLR2004
            raise InputError(
                f"labels {labels.dtype} {list(labels.shape)} do not identify a query and {documents} documents per "
                "row; train with RecipeTrainer or pass RowCollator as the data collator, and drop label columns"
            )
        choice = labels[:, 0]
        in_batch = torch.where(choice == UNSET, int(in_batch_negatives), choice).bool()
        return cls(in_batch, labels[:, 1], labels[:, 2:])

    @classmethod
    def distinct(cls, rows: int, documents: int, in_batch_negatives: bool, device: torch.device) -> RowIdentity:
        """No two texts are the same: what is assumed of a batch without labels."""
        keys = torch.arange(rows * (1 + documents), device=device).reshape(rows, 1 + documents)
        return cls(torch.full((rows,), in_batch_negatives, device=device), keys[:, 0], keys[:, 1:])


@dataclass
class RowCollator(SentenceTransformerDataCollator):
    """The stock collator, for rows ``query, positive, negative_1..n`` with instructions and in-batch flags.

    A text with a non-empty ``<column>_instruction`` reaches the model as ``(instruction, text)``, which the models of
    :mod:`hf_posmine.models` embed with the instruction outside the pooling. The batch gets labels int64 ``[B, 2 + n]``
    for :class:`RowIdentity`: 1 or 0 from the column ``in_batch_negatives`` (-1 without it), then 63-bit keys of the
    row's texts. The keys ignore the instructions.

    Raises:
        ColumnError: a text that is none, an instruction without its column, a label column.
        InputError: instructions for a model that would pool them with the text.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Tokenise one batch of rows."""
        if not features:
            return {}
        columns = text_columns(list(features[0]))
        self._check_columns(features[0], columns)
        labels = _labels(features, columns)
        rows = [{c: self._item(f, c) for c in columns} for f in features]
        for feature, row, label in zip(features, rows, labels, strict=True):
            if DATASET_NAME in feature:
                row[DATASET_NAME] = feature[DATASET_NAME]
            row[self.valid_label_columns[0]] = label
        return super().__call__(rows)

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


def _labels(features: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Tensor:
    """The in-batch flag and the text keys of each row, int64 ``[B, 1 + C]``."""
    for column in columns:
        for number, feature in enumerate(features):
            if not isinstance(feature[column], str):
                raise ColumnError(
                    f"column {column!r} holds {type(feature[column]).__name__} in row {number} of a batch, and training "
                    "takes one text per column; hf_posmine.to_training(dataset, 'n-tuple') spreads lists over columns"
                )
    keys = text_numbers(feature[column] for feature in features for column in columns)
    texts = torch.from_numpy((keys >> 1).astype("int64")).reshape(len(features), len(columns))
    choices = [UNSET if feature.get(IN_BATCH) is None else int(feature[IN_BATCH]) for feature in features]
    return torch.cat([torch.tensor(choices).unsqueeze(1), texts], dim=1)
