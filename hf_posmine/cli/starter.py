"""The configuration files that ``init`` writes: the data as it was read, and the settings to begin with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MINE, STAGE = "mine.yaml", "stage1.yaml"
NEGATIVES, BATCH, LARGE = 4, 32, 1000


@dataclass(frozen=True)
class FoundData:
    """What ``init`` found in the data.

    Attributes:
        data: as it was given, or the training pairs of a split.
        rows: how many.
        query: column of the queries; None for a judged collection, whose tables have known columns.
        positive: column of the positives' texts.
        positive_id: column of their ids.
        corpus: where the documents are; None for the positives themselves.
        corpus_text: column of their texts.
        corpus_id: column of their ids, "" for row numbers.
        corpus_title: column put before the text, "" for none.
        documents: how many candidates.
        split: of a judged collection, the judgements to mine.
        dev: a split's folder, whose dev judgements measure the training.
        skip_bad_rows: whether rows without a query or a positive are left out.
    """

    data: str
    rows: int
    query: str | None
    positive: str | None
    positive_id: str | None
    corpus: str | None
    corpus_text: str
    corpus_id: str
    corpus_title: str
    documents: int
    split: str | None = None
    dev: str | None = None
    skip_bad_rows: bool = False

    @property
    def num_negatives(self) -> int:
        """The paper's four, or as many as a small corpus has."""
        return max(1, min(NEGATIVES, self.documents - 1))

    @property
    def batch_size(self) -> int:
        """At most half of the rows, so that an epoch has steps."""
        return max(2, min(BATCH, self.rows // 2))

    def mine_yaml(self, folder: Path, teacher: str) -> str:
        """The text of ``mine.yaml``."""
        data = f"{self.rows:,} rows"
        lines = [
            "# Hard negatives for every row: hf-posmine mine --config " + str(folder / MINE),
            "# Any option of `hf-posmine mine --help` can stand here; the command line overrides the file.",
            _line("data", self.data, data),
            *([_line("split", self.split, "the judgements to mine")] if self.split else []),
            *self._columns(),
            *([_line("skip_bad_rows", True, "rows without a query or a positive")] if self.skip_bad_rows else []),
            *self._corpus(),
            _line("teacher", teacher, "scores queries and documents; a larger one than the student is fine"),
            _line("filters", ["PercPos(0.95)"], "none at or above 95 % of its positive's score: the paper's best"),
            _line("num_negatives", self.num_negatives, "per row"),
            _line("on_short", "drop", "leave out rows that have fewer; training needs them all"),
            _line("output", str(folder / "mined"), "rows, negatives and how they were made"),
        ]
        return "\n".join(lines) + "\n"

    def _columns(self) -> list[str]:
        if self.query is None:
            return []
        if self.positive_id is not None:
            positive = _line("positive_id_column", self.positive_id, "ids of documents that answer it")
        else:
            positive = _line("positive_column", self.positive, "what answers it")
        return [_line("query_column", self.query, ""), positive]

    def _corpus(self) -> list[str]:
        if self.corpus is None:
            own = (
                "the documents of the collection" if self.split else "the positives of all rows; corpus: FILE for more"
            )
            return [f"# candidates: {self.documents:,}, {own}"]
        return [
            _line("corpus", self.corpus, f"{self.documents:,} documents to take negatives from"),
            _line("corpus_text_column", self.corpus_text, ""),
            _line("corpus_id_column", self.corpus_id, "" if self.corpus_id else "none: row numbers"),
            _line("corpus_title_column", self.corpus_title, "put before the text" if self.corpus_title else "none"),
        ]

    def stage_yaml(self, folder: Path, model: str, name: str) -> str:
        """The text of ``stage1.yaml``."""
        dev = self.dev and [{"name": "dev", "path": self.dev, "qrels": "dev"}]
        measured = [_line("evals", dev, "measured after every epoch"), _line("eval_strategy", "epoch", "")]
        unmeasured = ["# evals: [{path: my-split, qrels: dev}]   # a judged collection; `hf-posmine split` makes one"]
        epochs = 3 if self.rows < LARGE else 1
        lines = [
            "# Training on the mined rows: hf-posmine train --config "
            + str(folder / STAGE)
            + "   (--dry-run shows the plan)",
            "# Any argument of SentenceTransformerTrainingArguments can stand here; the command line overrides the file.",
            _line("model", model, "the student"),
            _line("num_negatives", self.num_negatives, "per query, of the mined ones"),
            _line("temperature", 0.05, "of the contrastive loss"),
            _line("false_negatives", "PercPos(0.95)", "other rows' documents above this ceiling are left out"),
            "datasets:",
            "  - " + _line("name", name, ""),
            "    " + _line("path", str(folder / "mined"), f"made by {MINE}"),
            "    " + _line("task", "retrieval", ""),
            "    " + _line("columns", {"query": self.query or "query", "positive": self.positive or "positive"}, ""),
            "    " + _line("instruction", "", "what the task is, put before queries; empty for plain models"),
            *(measured if dev else unmeasured),
            _line("output_dir", str(folder / "stage1"), ""),
            _line("num_train_epochs", epochs, "small sets need some"),
            _line("per_device_train_batch_size", self.batch_size, "larger is better where memory allows"),
            _line("learning_rate", 2e-05, ""),
            _line("warmup_steps", 0.1, ""),
            _line("logging_steps", 10, ""),
            _line("save_strategy", "epoch", ""),
            _line("save_total_limit", 1, ""),
            _line("report_to", "none", ""),
            _line("seed", 1, ""),
        ]
        return "\n".join(lines) + "\n"


def _line(name: str, value: object, why: str) -> str:
    """An option and its comment; JSON is YAML."""
    text = f"{name}: {json.dumps(value, ensure_ascii=False)}"
    return f"{text:<45} # {why}" if why else text
