"""Judgements of a BEIR folder as positives, and the documents of a TREC run as negatives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import batched
from hf_posmine.data.row_layouts import AddedDocument, RowView
from hf_posmine.data.row_tables import BATCH_ROWS, RowFile
from hf_posmine.data.sources import beir_qrels, beir_queries
from hf_posmine.data.training_data import IdTexts, TrainingData
from hf_posmine.data.trec_lines import RunLine, run_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from hf_posmine.data.row_tables import Row


class RunRows(RowFile):
    """A TREC run: a row per query, whose lines stand together."""

    def batches(self) -> Iterator[list[Row]]:
        """All queries, some at a time."""
        groups = itertools.groupby(run_lines(self.file), key=lambda line: line.query)
        return batched(({"query_id": query, "lines": list(group)} for query, group in groups), BATCH_ROWS)

    def write(self, target: Path, rows: Iterable[Row]) -> None:
        """A run; ranks are counted anew."""
        with target.open("w", encoding="utf-8") as file:
            for row in rows:
                for rank, line in enumerate(row["lines"], 1):
                    file.write(" ".join(line._replace(rank=str(rank))) + "\n")


@dataclass(frozen=True)
class JudgedRun:
    """Ids of a run as negatives beside the judged positives of their query."""

    positives: dict[str, list[str]]
    queries: dict[str, str]
    name: str = "BEIR and a run"
    one_document: bool = False
    by_id: bool = True
    negatives_by_id: bool = False

    def read(self, row: Row) -> RowView:
        """The view of a query; documents are ids."""
        query, lines = str(row["query_id"]), row["lines"]
        if query not in self.queries:
            raise InputError(f"the run has the query {query!r}, which queries.jsonl lacks")
        documents, scores = [line.document for line in lines], [line.value for line in lines]
        return RowView(self.queries[query], self.positives.get(query, []), documents, None, scores)

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """The query with other lines; new ones stand below the others."""
        lines = [line for place, line in enumerate(row["lines"]) if place not in gone]
        below = min((line.value for line in row["lines"]), default=0.0)
        query = str(row["query_id"])
        added = [RunLine(query, "Q0", one.id, "0", f"{below - n:g}", "top-up") for n, one in enumerate(new, 1)]
        return dict(row) | {"lines": lines + added}

    def describe(self) -> str:
        """Where everything is from."""
        return "positives from the judgements, negatives from the run"


def beir_run(folder: Path, split: str, run: str | Path | None) -> TrainingData:
    """The training data of a BEIR folder and a run.

    Raises:
        InputError: no run.
    """
    from hf_posmine.data.corpus import Corpus

    if run is None:
        raise InputError(f"{str(folder)!r} holds judgements, without negatives; add --run with a TREC run of negatives")
    qrels = beir_qrels(folder, split)
    positives: dict[str, list[str]] = {}
    for query, document, score in zip(*qrels.values(), strict=True):
        if score > 0:
            positives.setdefault(query, []).append(document)
    layout = JudgedRun(positives, beir_queries(folder))
    texts = IdTexts(Corpus.from_beir(folder, match="exact"))
    return TrainingData(folder.name, (RunRows(Path(run)),), layout, texts, Path(run))
