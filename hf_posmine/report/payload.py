"""The data of the page's table: a sample of the rows in compressed columns, every text once.

Texts come in lines of JSON, so that the page reads only those it shows; base64 of zlib is what a browser can unpack.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.report.comparison import MiningComparison, flat_places
from hf_posmine.report.rows import as_texts
from hf_posmine.report.text_table import TextTable
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Rows
    from hf_posmine.report.numbers import Numbers
    from hf_posmine.report.rows import MinedRows
    from hf_posmine.report.sample import Sample, TableLimits

BLOCK_ROWS = 500
DIGITS = 4


@dataclass(frozen=True)
class Payload:
    """Rows of the table, int64 ``[m]`` ascending, their columns and texts in base64, how many texts were cut, and thumbnails."""

    rows: Rows
    columns: str
    texts: str
    cut: int
    images: Mapping[str, str] = field(default_factory=dict)


def pack(
    mined: MinedRows, numbers: Numbers, marks: Rows, sample: Sample, limits: TableLimits, other: MiningComparison | None
) -> Payload:
    """Pack a sample until the limit of size is met.

    Args:
        mined: the dataset.
        numbers: its numbers.
        marks: int64 ``[R]``, kinds of suspicion as bits.
        sample: rows by importance.
        limits: of texts and size.
        other: another mining, whose negatives are packed too.
    """
    table, found = TextTable(limits.characters), _Found()
    budget = limits.megabytes * 1e6 * 3 / 4  # base64
    with progress_bar(len(sample.order), "Packing rows", "row") as bar:
        for start in range(0, len(sample.order), BLOCK_ROWS):
            if start >= sample.least and table.size > budget:
                break
            block = np.sort(sample.order[start : start + BLOCK_ROWS])
            found.read(mined, block, table, other)
            bar.update(len(block))
    rows = np.sort(np.array(found.rows, np.int64))
    columns = _columns(mined, numbers, marks, rows, found.sorted(), other)
    columns |= {"images": table.images} if table.images else {}
    compressed = zlib.compress(json.dumps(columns, separators=(",", ":"), allow_nan=False).encode(), 6)
    return Payload(rows, base64.b64encode(compressed).decode(), table.finish(), table.cut, table.images)


@dataclass
class _Found:
    """The numbers of the texts of the packed rows, in the order they were read."""

    rows: list[int] = field(default_factory=list)
    texts: dict[str, list[list[int]]] = field(default_factory=dict)

    def read(self, mined: MinedRows, rows: Rows, table: TextTable, other: MiningComparison | None) -> None:
        columns = mined.columns
        wanted = [c for c in (columns.query, columns.positive, "negatives") if c is not None]
        batch = mined.take(rows, wanted)
        self.rows += rows.tolist()
        self._add("query", [[text or ""] for text in batch[columns.query]], table)
        if columns.positive:
            self._add("positives", [as_texts(value) for value in batch[columns.positive]], table)
        self._add("negatives", _lists(batch["negatives"]), table)
        if other is not None:
            partners = other.partners[rows]
            there = np.unique(partners[partners >= 0])
            lists = _lists(other.side.mined.take(there, ["negatives"])["negatives"]) if len(there) else []
            found = dict(zip(there.tolist(), lists, strict=True))
            self._add("other", [found.get(partner, []) for partner in partners.tolist()], table)

    def sorted(self) -> dict[str, list[list[int]]]:
        """By row number."""
        order = np.argsort(np.array(self.rows, np.int64)).tolist()
        return {name: [values[at] for at in order] for name, values in self.texts.items()}

    def _add(self, name: str, lists: list[list[str]], table: TextTable) -> None:
        numbers = iter(table.add([text for texts in lists for text in texts]))
        self.texts.setdefault(name, []).extend([next(numbers) for _ in texts] for texts in lists)


def _columns(
    mined: MinedRows,
    numbers: Numbers,
    marks: Rows,
    rows: Rows,
    texts: dict[str, list[list[int]]],
    other: MiningComparison | None,
) -> dict[str, Any]:
    """The columns of the table as JSON values; lists of lists are flat, with their lengths."""
    starts = np.append(0, np.cumsum([len(split) for split in mined.splits.values()]))
    split = mined.split_numbers()[rows]
    places = flat_places(numbers.counts, rows)
    columns: dict[str, Any] = {
        "row": (rows - starts[split]).tolist(),
        "flags": marks[rows].tolist(),
        "query": [numbers_[0] for numbers_ in texts["query"]],
        "negatives": _ragged(texts["negatives"]),
    }
    if len(mined.splits) > 1:
        columns |= {"split": split.tolist(), "at": rows.tolist()}
    if "positives" in texts:
        columns["positives"] = _ragged(texts["positives"])
    for name, values, at in (
        ("scores", numbers.scores, places), ("own", numbers.own, places), ("ranks", numbers.ranks, places),
        ("teachers", numbers.teachers, places), ("second", numbers.second, places),
        ("second_positive", numbers.second_positive, rows), ("positive_score", numbers.positive, rows),
        ("ceiling", numbers.ceiling, rows),
    ):  # fmt: skip
        if values is not None:
            columns[name] = _plain(values[at])
    if "negatives_ids" in mined.names:
        columns["ids"] = [str(i) for ids in mined.take(rows, ["negatives_ids"])["negatives_ids"] for i in ids or ()]
    if other is not None:
        columns |= _other(other, rows, texts["other"])
    return columns


def _other(other: MiningComparison, rows: Rows, texts: list[list[int]]) -> dict[str, Any]:
    partners = other.partners[rows]
    places = flat_places(other.side.numbers.counts, partners[partners >= 0])
    columns = {"jaccard": _plain(other.jaccard[rows]), "other": _ragged(texts)}
    for name, values in (("other_scores", other.side.numbers.scores), ("other_ranks", other.side.numbers.ranks)):
        if values is not None:
            columns[name] = _plain(values[places])
    return columns


def _ragged(lists: list[list[int]]) -> dict[str, list[int]]:
    return {"counts": [len(values) for values in lists], "values": [value for values in lists for value in values]}


def _lists(column: list[Any]) -> list[list[str]]:
    return [[text or "" for text in texts or ()] for texts in column]


def _plain(values: np.ndarray) -> list[Any]:
    """Numbers for JSON: scores rounded, None for NaN."""
    if values.dtype.kind != "f":
        return values.tolist()
    rounded = np.round(values.astype(np.float64), DIGITS)
    return [
        value if finite else None for value, finite in zip(rounded.tolist(), np.isfinite(rounded).tolist(), strict=True)
    ]
