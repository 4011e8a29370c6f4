"""A mended copy of training data in the layout it came in, and a log of every change."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.audit.findings import ENTRY
from hf_posmine.audit.kinds import KINDS, ROW
from hf_posmine.core.errors import InputError
from hf_posmine.data.row_tables import DatasetRows
from hf_posmine.utils.files import replace_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from hf_posmine.audit.findings import FindingFiles
    from hf_posmine.audit.top_up import ToppingUp
    from hf_posmine.data.row_layouts import AddedDocument, Row, RowView
    from hf_posmine.data.row_tables import RowTable
    from hf_posmine.data.training_data import TrainingData

LOG = ".repairs.jsonl"
"""Ends the name of the log, which stands beside the copy."""


@dataclass
class Repair:
    """Counts of a repair.

    Attributes:
        log: where each change is described.
        rows: rows of the copy.
        rows_removed: rows that it lacks.
        negatives_removed: negatives that rows of it lack.
        negatives_added: that were mined for rows with too few.
    """

    log: str
    rows: int = 0
    rows_removed: int = 0
    negatives_removed: int = 0
    negatives_added: int = 0


@dataclass(frozen=True)
class Removals:
    """What is to go.

    Attributes:
        places: of the findings, sorted by row, ``[n]`` with ``row`` and ``index``.
        kinds: the kind of each, int8 ``[n]``, as numbers of ``names``.
        names: of kinds.
    """

    places: np.ndarray
    kinds: np.ndarray
    names: tuple[str, ...] = field(default_factory=lambda: tuple(KINDS))

    @classmethod
    def of(cls, found: FindingFiles) -> Removals:
        """The findings of kinds that a repair removes."""
        names = tuple(KINDS)
        parts = [(number, found.of(name)) for number, name in enumerate(names) if KINDS[name].mend != "none"]
        places = np.concatenate([np.empty(0, ENTRY), *(part for _, part in parts)])
        kinds = np.concatenate([np.empty(0, np.int8), *(np.full(len(part), number, np.int8) for number, part in parts)])
        order = np.lexsort((kinds, places["index"], places["row"]))
        return cls(places[order], kinds[order], names)

    def by_row(self) -> Iterator[tuple[int, dict[int, str]]]:
        """Each row that has something to go, in order, and the kind of each place; the first kind of several."""
        rows, starts = np.unique(self.places["row"], return_index=True)
        stops = np.append(starts[1:], len(self.places))[: len(rows)]  # none without findings
        for row, start, stop in zip(rows.tolist(), starts, stops, strict=True):
            entries = zip(self.places["index"][start:stop].tolist(), self.kinds[start:stop].tolist(), strict=True)
            yield row, {index: self.names[kind] for index, kind in reversed(list(entries))}


class Mender:
    """Passes rows on without what is to go, and logs what went."""

    def __init__(
        self, data: TrainingData, removals: Removals, log: TextIO, result: Repair, top_up: ToppingUp | None = None
    ) -> None:
        self.data, self.log, self.result, self.top_up = data, log, result, top_up
        self._removals = removals.by_row()
        self._next = next(self._removals, None)
        self._number = 0

    def rows(self, table: RowTable) -> Iterator[Row]:
        """The rows of the next table."""
        for batch in table.batches():
            gone = [self._gone(self._number + place) for place in range(len(batch))]
            for row, kinds, new in zip(batch, gone, self._added(batch, gone), strict=True):
                mended = self._mend(row, kinds, new) if kinds or new else row
                self._number += 1
                if mended is not None:
                    self.result.rows += 1
                    yield mended

    def _gone(self, number: int) -> dict[int, str]:
        """What a row loses: the kind of finding by place."""
        if self._next is None or self._next[0] != number:
            return {}
        gone, self._next = self._next[1], next(self._removals, None)
        return gone

    def _added(self, batch: Sequence[Row], gone: Sequence[dict[int, str]]) -> list[list[AddedDocument]]:
        """New negatives of each row that has too few of its own left."""
        added: list[list[AddedDocument]] = [[] for _ in batch]
        if self.top_up is None:
            return added
        views = self.data.views(batch)
        wanted = [
            self.top_up.num_negatives - len(view.negatives) + len(kinds)
            for view, kinds in zip(views, gone, strict=True)
        ]
        short = [n for n, kinds in enumerate(gone) if wanted[n] > 0 and ROW not in kinds]
        if short:
            new = self.top_up.new_negatives([views[n] for n in short], [wanted[n] for n in short])
            for n, documents in zip(short, new, strict=True):
                added[n] = documents
        return added

    def _mend(self, row: Row, gone: dict[int, str], new: Sequence[AddedDocument]) -> Row | None:
        view = self.data.views([row])[0]
        if ROW in gone:
            self._remove_row(view, gone[ROW], "")
            return None
        left = self.data.layout.exchange(row, gone.keys(), new)
        if left is None or (gone and not new and len(gone) == len(view.negatives)):
            because = "the rest would not be a row" if left is None else "no negative would be left"
            self._remove_row(view, next(iter(gone.values())), because)
            return None
        for index, kind in sorted(gone.items()):
            self._note("negative removed", kind, view, index=index, negative=view.negatives[index])
        for one in new:
            self._note("negative added", "few_negatives", view, negative=one.text)
        self.result.negatives_removed += len(gone)
        self.result.negatives_added += len(new)
        return left

    def _remove_row(self, view: RowView, kind: str, because: str) -> None:
        self._note("row removed", kind, view, **({"because": because} if because else {}))
        self.result.rows_removed += 1

    def _note(self, action: str, kind: str, view: RowView, **more: Any) -> None:
        entry = {"row": self._number, "action": action, "kind": kind, "query": view.query} | more
        self.log.write(json.dumps(entry, ensure_ascii=False) + "\n")


def repair_data(data: TrainingData, found: FindingFiles, output: Path, top_up: ToppingUp | None = None) -> Repair:
    """Write a mended copy of ``data`` to ``output``, which must not exist, and the log beside it.

    Raises:
        InputError: an output that exists, or of another kind than the data.
    """
    check_target(data, output)
    log_at = output.with_name(output.name + LOG)
    result = Repair(str(log_at))

    def write_all(log_file: Path) -> None:
        with log_file.open("w", encoding="utf-8", errors="surrogatepass") as log:
            _write_copy(data, Mender(data, Removals.of(found), log, result, top_up), output)

    write_file(log_at, write_all)
    return result


def check_target(data: TrainingData, output: Path) -> None:
    """Refuse a place where no copy can be written.

    Raises:
        InputError: it exists, or its suffix is not that of the data.
    """
    if output.exists():
        raise InputError(f"--repair {output} exists; choose another place, nothing is written over")
    wanted = data.source.suffix if data.source is not None and data.source.is_file() else ""
    if output.suffix.lower() != wanted.lower():
        kind = f"a {wanted} file" if wanted else "a folder"
        raise InputError(f"--repair {output}: the copy is {kind}, as the data")


def _write_copy(data: TrainingData, mender: Mender, output: Path) -> None:
    if data.source is not None and data.source.is_file():
        table = data.tables[0]
        write_file(output, lambda file: table.write(file, mender.rows(table)))
        return

    def write_folder(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for table in data.tables:
            _write_table(table, mender, folder, alone=len(data.tables) == 1)
        for file in data.copied:
            shutil.copyfile(file, folder / file.name)
        _name_splits(data.tables, folder)

    replace_folder(output, write_folder)


def _write_table(table: RowTable, mender: Mender, folder: Path, *, alone: bool) -> None:
    whole = isinstance(table, DatasetRows) and (alone and not table.is_split)
    table.write(folder if whole else folder / table.place, mender.rows(table))


def _name_splits(tables: Sequence[RowTable], folder: Path) -> None:
    """The list of splits of a saved DatasetDict."""
    splits = [table.place for table in tables if isinstance(table, DatasetRows) and table.is_split]
    if splits:
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}) + "\n")
