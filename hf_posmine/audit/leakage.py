"""The test queries of a judged collection, to be looked for among training queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.layouts import query_columns
from hf_posmine.data.sources import beir_qrels, beir_queries, is_beir, load_source
from hf_posmine.data.texts import text_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hf_posmine.data.texts import Numbers


def hashes_of_queries(collection: str | Path, split: str = "test") -> Numbers:
    """Hashes uint64 of the normalised queries of a collection, unique.

    Args:
        collection: a BEIR folder, a folder with a ``queries`` file, or a file of queries.
        split: of the judgements of a BEIR folder.

    Raises:
        InputError: no queries there.
    """
    texts = list(_texts(Path(collection), split))
    if not texts:
        raise InputError(f"{str(collection)!r} has no queries; training rows cannot be compared with it")
    return np.unique(text_numbers(texts))


def _texts(path: Path, split: str) -> Iterable[str]:
    if is_beir(path):
        queries = beir_queries(path)
        return [queries[query] for query in dict.fromkeys(beir_qrels(path, split)["query-id"]) if query in queries]
    files = sorted(path.glob("queries.*")) if path.is_dir() else []
    rows = load_source(files[0] if files else path)
    names = rows.column_names
    text = names[0] if len(names) == 1 else query_columns(names)[1]
    return [value for value in rows[text] if isinstance(value, str)]
