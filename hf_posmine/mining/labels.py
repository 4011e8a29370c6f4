"""Labels for distillation from the scores of the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.columns import splits_of
from hf_posmine.mining.columns import written_columns
from hf_posmine.mining.training_formats import Short, to_training

if TYPE_CHECKING:
    from datasets import Dataset


def to_margin_mse(
    mined: Dataset,
    num_negatives: int | None = None,
    *,
    query_column: str | None = None,
    positive_column: str | None = None,
    on_short: Short = "raise",
) -> Any:
    """N-tuples whose ``label`` holds, for each negative, the teacher's positive score minus its score.

    That is what ``MarginMSELoss`` of sentence-transformers takes (Hofstaetter et al., arXiv 2010.02666). Each margin is by
    the teacher that gave the negative, so ensembles may be used.

    Args:
        mined: Dataset or DatasetDict, mined with ``keep=("scores",)``.
        num_negatives: n; by default as :func:`~hf_posmine.to_training` finds it.
        query_column: by default found by name.
        positive_column: by default found by name.
        on_short: what becomes of rows with fewer than n.

    >>> from datasets import Dataset, disable_progress_bars
    >>> disable_progress_bars()
    >>> mined = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [["a", "b"]],
    ...     "positive_score": [0.75], "negatives_scores": [[0.5, 0.25]]})
    >>> to_margin_mse(mined)[0]
    {'query': 'q', 'positive': 'p', 'negative_1': 'a', 'negative_2': 'b', 'label': [0.25, 0.5]}
    """
    for split in splits_of(mined):
        if not {"positive_score", "negatives_scores"} <= set(written_columns(split)):
            raise ColumnError("margins need the teacher's scores; mine with keep=('scores',)")
    options: dict[str, Any] = {"query_column": query_column, "positive_column": positive_column, "on_short": on_short}
    ready = to_training(mined.map(_with_margins, batched=True), "n-tuple", num_negatives, scores=True, **options)
    return ready.map(_labels, batched=True, remove_columns=["scores"])


def _with_margins(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Margins in the place of scores."""
    several = batch.get("negatives_positive_scores")
    margins = []
    for row, scores in enumerate(batch["negatives_scores"]):
        own = several[row] if several is not None else [batch["positive_score"][row]] * len(scores)
        margins.append([positive - score for positive, score in zip(own, scores, strict=True)])
    return {"negatives_scores": margins, "positive_score": [0.0] * len(margins)}


def _labels(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"label": [scores[1:] for scores in batch["scores"]]}
