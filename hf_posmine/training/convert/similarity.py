"""STS: pairs that people scored as similar (NV-Embed, arXiv 2405.17428, section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.texts import text_keys
from hf_posmine.training.convert.shared import converted, first_of_each, not_blank, read_texts, read_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.training.convert.shared import Converted

WHY_WHOLE = "negatives are mined from the texts of all rows"


def sts_to_pairs(
    dataset: Dataset,
    text1: str = "sentence1",
    text2: str = "sentence2",
    score: str = "score",
    *,
    min_score: float = 4.0,
) -> Converted:
    """Scored pairs -> (query, positive) in both directions, and the pool to mine negatives from.

    Pairs at or above ``min_score`` give (a, b) and (b, a), each once; pairs of equal texts
    (:func:`~hf_posmine.data.texts.normalize`) teach nothing and are dropped. The pool is every distinct text of all pairs.

    Args:
        dataset: a Dataset; not a stream.
        text1: column of one text.
        text2: column of the other.
        score: column of the similarity.
        min_score: the least score of a positive; 4 of 5 in NV-Embed.

    Raises:
        ColumnError: a column that is missing or holds something else.
        InputError: no pair scores that high.
    """
    read = read_whole(dataset, [text1, text2, score], WHY_WHOLE)
    first, second = read_texts(read, text1), read_texts(read, text2)
    scores = _scores(read[score], score)
    if scores.max() < min_score:
        raise InputError(
            f"no pair scores {min_score:g} or more: column {score!r} runs from {scores.min():g} to {scores.max():g}; "
            "give min_score on that scale"
        )
    keys = text_keys([*first, *second]).reshape(2, -1)
    has_text, high, same = not_blank(first) & not_blank(second), scores >= min_score, keys[0] == keys[1]
    counts = {
        "rows_in": len(first),
        "rows_out": 0,
        "dropped_low_score": int((~high).sum()),
        "dropped_blank_text": int((high & ~has_text).sum()),
        "dropped_same_text": int((high & has_text & same).sum()),
    }
    rows = np.flatnonzero(high & has_text & ~same)
    columns: dict[str, list[str]] = {"query": [], "positive": []}
    seen: set[tuple[bytes, bytes]] = set()
    for row in rows.tolist():
        sides = [(first[row], keys[0, row]), (second[row], keys[1, row])]
        for (query, key), (positive, other) in (sides, sides[::-1]):
            if (key, other) not in seen:
                seen.add((key, other))
                columns["query"].append(query)
                columns["positive"].append(positive)
    counts["dropped_duplicate_pair"] = 2 * len(rows) - len(seen)
    return converted(columns, counts, _pool(first, second, keys))


def _pool(first: Sequence[str], second: Sequence[str], keys: np.ndarray) -> list[str]:
    texts = [text for pair in zip(first, second, strict=True) for text in pair]
    return [texts[i] for i in first_of_each(keys.T.ravel()).tolist() if texts[i].strip()]


def _scores(values: Sequence[Any], column: str) -> np.ndarray:
    for row, value in enumerate(values):
        if not is_number(value):
            raise ColumnError(
                f"column {column!r}, row {row}: expected a score, got {value!r} ({type(value).__name__}); drop the row or "
                "fill it"
            )
    return np.array(values, np.float64)
