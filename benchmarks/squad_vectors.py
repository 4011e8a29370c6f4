"""The vectors of SQuAD's questions and passages by the embedded model, as a task for ``benchmarks.mining --task``.

    python -m benchmarks.squad_vectors train_pairs.parquet train_corpus.parquet --output out/squad

The pairs have the columns ``query`` and ``positive_id``, the corpus ``id``, ``title`` and ``text``. Vectors come from the store of
``hf-posmine encode`` with the same data, or are encoded now, which takes half an hour of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq

from benchmarks.synthetic import Task
from hf_posmine import Corpus, DenseTeacher, Qrels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs")
    parser.add_argument("corpus")
    parser.add_argument("--store", help="of the embeddings, by default the user's")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    pairs, corpus = pq.read_table(args.pairs), pq.read_table(args.corpus)
    ids = list(map(str, corpus["id"].to_pylist()))
    documents = Corpus.from_dataset(datasets.Dataset(corpus), "text", "id", "title")  # as hf-posmine encode reads it
    rows_of_pairs = datasets.Dataset(pairs.select(["query", "positive_id"]))
    queries = Qrels.from_dataset(rows_of_pairs, "query", positive_id="positive_id").queries
    embeddings = DenseTeacher("embedded", documents, queries=queries, store=args.store).embeddings
    found, known = embeddings.of_documents, embeddings.of_queries
    assert known is not None
    rows = {name: row for row, name in enumerate(ids)}
    positives = np.array([rows[str(name)] for name in pairs["positive_id"].to_pylist()])
    at = queries.rows_of_texts(pairs["query"].to_pylist())
    task = Task(unit(known[at]), unit(found[np.arange(len(ids))]), positives, np.zeros(len(at), bool))
    task.save(args.output)
    print(f"{len(at):,} queries, {len(ids):,} documents, {found.dim} dimensions in {args.output}")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors float32 ``[m, d]`` of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
