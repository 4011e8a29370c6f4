"""Digests of rows, by content: equal wherever and however they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from hf_posmine.data.columns import iter_columns

if TYPE_CHECKING:
    from hf_posmine.data.columns import AnyDataset


def rows_digest(dataset: AnyDataset) -> str:
    """sha256 of the values of a Dataset, columns by name and rows in order; whatever its format or its files.

    Images count by their pixels.

    >>> from datasets import Dataset
    >>> one = Dataset.from_dict({"query": ["q", "r"], "negatives": [["a"], []]})
    >>> rows_digest(one) == rows_digest(one.select_columns(["negatives", "query"]).with_format("numpy"))
    True
    """
    columns, digest = sorted(dataset.column_names), hashlib.sha256()
    for _, batch in iter_columns(dataset, columns):
        for row in zip(*(batch[column] for column in columns), strict=True):
            digest.update(json.dumps(row, default=str, ensure_ascii=False).encode("utf8", "surrogatepass") + b"\n")
    digest.update(json.dumps(columns).encode())
    return digest.hexdigest()
