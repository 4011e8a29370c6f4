"""The pairs and candidates of a set of mine.yaml, and small parts of sets for a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, load_dataset

from hf_posmine import Corpus
from hf_posmine.evaluation import Collection
from hf_posmine.training.convert import sts_to_pairs

TRIAL_DOCUMENTS = 10
"""A trial has so many candidates for each of its rows."""
WINDOW = 4
"""A stream is read for so many times the rows that are drawn."""


@dataclass(frozen=True)
class MiningSet:
    """What is mined of a set.

    Attributes:
        drawn: columns query and positive: the rows to mine.
        known: the same of all pairs; their positives are never negatives of their queries.
        corpus: the candidates; None for the positives of ``known``.
    """

    drawn: Dataset
    known: Dataset
    corpus: Corpus | None


def load_set(options: Mapping[str, Any], samples: int, seed: int, trial: int | None = None) -> MiningSet:
    """A set of mine.yaml.

    Args:
        options: its entry there.
        samples: at most so many rows are drawn.
        seed: of the draws.
        trial: at most so many rows, and few candidates.
    """
    most = samples if trial is None else min(samples, trial)
    if options["layout"] == "beir":
        return load_beir(options["path"], most, seed, trial)
    if options["layout"] == "sts":
        rows = load_dataset(options["path"], options.get("config"), split="train")
        converted = sts_to_pairs(rows, min_score=4.0)  # NV-Embed, section 4.2
        return MiningSet(draw(converted.dataset, most, seed), converted.dataset, Corpus.from_texts(converted.pool))
    known = load_pairs(options, options.get("rows") if trial is None else TRIAL_DOCUMENTS * trial, seed)
    return MiningSet(draw(known, most, seed), known, None)


def load_pairs(options: Mapping[str, Any], rows: int | None, seed: int) -> Dataset:
    """Columns query and positive; at most ``rows`` of them, from a stream where the set is one."""
    files = {"data_files": options["data_files"]} if "data_files" in options else {}
    columns = {options["query"]: "query", options["positive"]: "positive"}
    stream = options.get("stream", False) and rows is not None
    found = load_dataset(options["path"], options.get("config"), split="train", streaming=stream, **files)
    found = found.select_columns(list(columns))
    found = from_every_file(found, rows, seed) if stream else draw(found, rows, seed)
    return Dataset.from_dict({new: found[old][:] for old, new in columns.items()})


def from_every_file(stream: IterableDataset, rows: int, seed: int) -> Dataset:
    """As many rows from every file of a stream, drawn from the first :data:`WINDOW` times as many of each."""
    files = stream.num_shards
    share = -(-rows // files)
    read = [list(stream.shard(files, number).take(WINDOW * share)) for number in range(files)]
    return Dataset.from_list([row for part in read for row in draw(Dataset.from_list(part), share, seed)][:rows])


def load_beir(path: str, most: int, seed: int, trial: int | None = None) -> MiningSet:
    """One row for each judged positive of the training split; title and text of a document are joined."""
    documents, queries = (load_dataset(path, name, split=name) for name in ("corpus", "queries"))
    judged = load_dataset(path, "default", split="train").filter(lambda row: row["score"] > 0)
    asked, found = np.array(judged["query-id"][:]), np.array(judged["corpus-id"][:])
    drawn = drawn_rows(len(judged), most, seed)
    kept = np.arange(len(judged)) if trial is None else np.flatnonzero(np.isin(asked, asked[drawn]))
    if trial is not None:  # the positives of the drawn queries, and some other documents
        positives = np.flatnonzero(np.isin(documents["_id"][:], found[kept]))
        documents = documents.select(np.union1d(positives, drawn_rows(len(documents), TRIAL_DOCUMENTS * trial, seed)))
    corpus = Corpus.from_dataset(documents, "text", "_id", "title")
    text_of = dict(zip(queries["_id"], queries["text"], strict=True))
    positives = corpus.texts(corpus.required_rows(found[kept].tolist(), "corpus-id")).to_pylist()
    known = Dataset.from_dict({"query": [text_of[query] for query in asked[kept].tolist()], "positive": positives})
    return MiningSet(known.select(np.flatnonzero(np.isin(kept, drawn))), known, corpus)


def draw(rows: Dataset, most: int | None, seed: int) -> Dataset:
    """At most so many rows, in order."""
    return rows if most is None or len(rows) <= most else rows.select(drawn_rows(len(rows), most, seed))


def drawn_rows(total: int, most: int, seed: int) -> np.ndarray:
    """Numbers of at most so many rows of ``total``, in order."""
    return np.sort(np.random.default_rng([seed, 1]).choice(total, min(total, most), replace=False))


def part_of(collection: Collection, queries: int, seed: int = 0) -> Collection:
    """Some judged queries of a collection, the documents judged for them, and some others."""
    scored = collection.scored_queries
    asked = [scored[number] for number in drawn_rows(len(scored), queries, seed)]
    judged = [(query, document, score) for query in asked for document, score in collection.qrels[query].items()]
    corpus = collection.corpus
    rows = corpus.rows_of_ids([document for _, document, _ in judged])
    rows = np.union1d(rows[rows >= 0], drawn_rows(len(corpus), TRIAL_DOCUMENTS * queries, seed))
    documents = Dataset.from_dict({"_id": corpus.ids(rows).to_pylist(), "text": corpus.texts(rows).to_pylist()})
    texts = {query: collection.queries[query] for query in asked}
    return Collection.of(collection.name, documents, texts, judged)
