"""What a student learns from: pairs, the documents they are mined from, and what is known of their false negatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine import Corpus, Qrels
from hf_posmine.data import pick_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.evaluation import Judgements

WINDOWS = "windows/"
"""How paths start that are below the output folder, where windows are cut."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A set of pairs.

    Attributes:
        name: of the set.
        pairs: Dataset with ``query`` and ``positive``; with ``query_id`` where it was judged.
        corpus: the documents to mine from.
        judgements: all relevant documents of the queries, where they are known.
        task: what ``{task}`` in a teacher's prompts stands for.
    """

    name: str
    pairs: Any
    corpus: Corpus
    judgements: Judgements | None = None
    task: str = ""

    @cached_property
    def known(self) -> Qrels:
        """The labelled positives."""
        return Qrels.from_dataset(self.pairs, "query", "positive", None, match=self.corpus.match)

    def false_negatives(self, mined: Any) -> float | None:
        """Share of the negatives that are relevant by the judgements, None without any."""
        if self.judgements is None:
            return None
        false = total = 0
        for query, negatives in zip(mined["query_id"], mined["negatives"], strict=True):
            relevant = set(self.corpus.rows_of_ids(sorted(self.judgements.relevant[query])).tolist())
            rows = self.corpus.rows_of_texts(negatives).tolist()
            false, total = false + sum(row in relevant for row in rows), total + len(rows)
        return false / total if total else 0.0


def load_training_set(options: Mapping[str, Any], output: Path) -> TrainingSet:
    """A set of the configuration.

    Args:
        options: ``name`` and ``path``: a source of pairs (with ``query``, ``positive``, ``corpus``, ...), or, with
            ``visible``, a judged collection whose visible positives are learnt from.
        output: the output folder, below which windows are stored.
    """
    if "visible" in options:
        return _judged(options, output)
    from hf_posmine.data import is_beir, load_source

    if is_beir(place(options["path"], output)):
        return _whole_collection(options, output)
    rows = load_source(place(options["path"], output), options.get("split", "train"), options.get("config"))
    query, positive, _ = pick_columns(rows, options.get("query"), options.get("positive"), None)
    pairs = rows.select_columns([query, str(positive)]).rename_columns(_renamed(query, str(positive)))
    source = options.get("corpus")
    if source is None:
        corpus = Corpus.from_texts(pairs["positive"])
    else:
        source = place(source, output)
        corpus = Corpus.from_beir(source) if is_beir(source) else Corpus.from_dataset(load_source(source))
        corpus = corpus.union(list(pairs["positive"]), candidates=False)
    return TrainingSet(options["name"], pairs, corpus, task=options.get("task", ""))


def _whole_collection(options: Mapping[str, Any], output: Path) -> TrainingSet:
    """All judged pairs of a split of a collection, over its corpus."""
    from datasets import Dataset

    from hf_posmine.data import beir_pairs

    folder = place(options["path"], output)
    pairs, corpus = beir_pairs(folder, options.get("split", "train")), Corpus.from_beir(folder)
    texts = corpus.texts(corpus.required_rows(pairs["positive_id"][:], "corpus-id")).to_pylist()
    rows = Dataset.from_dict({"query": pairs["query"][:], "positive": texts})
    return TrainingSet(options["name"], rows, corpus, task=options.get("task", ""))


def _renamed(query: str, positive: str) -> dict[str, str]:
    return {old: new for old, new in ((query, "query"), (positive, "positive")) if old != new}


def _judged(options: Mapping[str, Any], output: Path) -> TrainingSet:
    from datasets import Dataset

    from hf_posmine.evaluation import load_judged

    folder = Path(place(options["path"], output))
    corpus, judgements, visible = load_judged(folder, options.get("qrels", "qrels"), options["visible"], 0)
    texts = corpus.texts(corpus.required_rows(list(visible.values()), "visible")).to_pylist()
    columns = {"query_id": list(visible), "query": [judgements.queries[q] for q in visible], "positive": texts}
    return TrainingSet(options["name"], Dataset.from_dict(columns), corpus, judgements, options.get("task", ""))


def place(path: str, output: Path) -> str:
    """A path of the configuration; those of windows are below the output folder."""
    return str(output / path) if str(path).startswith(WINDOWS) else str(path)


def scores_of(mined: Any) -> dict[str, np.ndarray]:
    """Scores of positives float64 ``[B]`` and of negatives float64 ``[B, n]``, NaN where a row is short or was filled."""
    rows = mined["negatives_scores"][:]
    width = max((len(row) for row in rows), default=0)
    negatives = np.full((len(rows), width), np.nan)
    for at, row in enumerate(rows):
        negatives[at, : len(row)] = row
    positives = np.array(mined["positive_score"][:], np.float64)
    return {"positives": positives, "negatives": np.where(np.isfinite(negatives), negatives, np.nan)}
