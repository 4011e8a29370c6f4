"""Check a mined SQuAD against nothing but its own columns and the stored vectors, in float64.

    hf-posmine mine train_pairs.parquet --positive-id-column positive_id --corpus train_corpus.parquet \\
        --corpus-id-column id --teacher embedded --filters "PercPos(0.95)" --output mined
    python -m benchmarks.verify_squad mined train_pairs.parquet train_corpus.parquet

The package is used only to find the stored vectors; scores, ceilings and known positives are computed here.
"""

from __future__ import annotations

import argparse
import sys
import unicodedata
from collections import defaultdict

import datasets
import numpy as np
import pyarrow.parquet as pq


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mined")
    parser.add_argument("pairs")
    parser.add_argument("corpus")
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--fresh", type=int, default=500, help="rows encoded again with model.encode")
    args = parser.parse_args()
    mined = datasets.load_from_disk(args.mined).with_format(None)
    source, corpus = pq.read_table(args.pairs), pq.read_table(args.corpus).to_pydict()
    texts = dict(zip(map(str, corpus["id"]), corpus["text"], strict=True))

    failures = defaultdict(list)
    for column in source.column_names:
        if source[column].to_pylist() != mined[column][:]:
            failures[f"column {column} changed"].append(0)
    if len(mined) != source.num_rows:
        failures["rows lost"].append(0)

    known = defaultdict(set)
    for query, positive in zip(mined["query"], mined["positive_id"], strict=True):
        known[normal(query)].add(normal(texts[str(positive)]))
    query_vectors, document_vectors = stored_vectors(mined, texts)
    ceilings = {}
    for query, positives in known.items():
        scores = [query_vectors[query] @ document_vectors[p] for p in positives]
        ceilings[query] = min(scores) - abs(min(scores)) * (1 - args.share)
    margin = np.inf
    for row, (query, negatives) in enumerate(zip(mined["query"], mined["negatives"], strict=True)):
        key = normal(query)
        if len(negatives) != 4 or len(set(map(normal, negatives))) != 4:
            failures["short or repeated"].append(row)
        if {normal(n) for n in negatives} & (known[key] | {key}):
            failures["known positive among the negatives"].append(row)
        below = ceilings[key] - np.array([query_vectors[key] @ document_vectors[normal(n)] for n in negatives])
        margin = min(margin, below.min())
        if (below <= 0).any():
            failures["at or above the ceiling"].append(row)
    fresh = fresh_difference(mined, args.fresh)
    for what, rows in failures.items():
        print(f"FAILED {what}: {len(rows)} rows, first {rows[:5]}")
    print(f"{len(mined):,} rows, {sum(map(len, mined['negatives'])):,} negatives checked in float64")
    print(f"smallest distance of a negative below its ceiling: {margin:.3g}")
    print(f"largest difference of a written score from model.encode and float64, {args.fresh} rows: {fresh:.3g}")
    return 1 if failures or fresh > 1e-6 else 0


def stored_vectors(mined: datasets.Dataset, texts: dict[str, str]) -> tuple[dict, dict]:
    """Unit vectors in float64 by normalised text, from the store the run used."""
    from hf_posmine import Corpus, DenseTeacher, Qrels

    documents = Corpus.from_texts(texts.values(), texts.keys())
    queries = Qrels.from_dataset(mined, "query", positive_id="positive_id").queries
    teacher = DenseTeacher("embedded", documents, queries=queries)
    found = []
    for part, vectors in ((queries, teacher.embeddings.of_queries), (documents, teacher.embeddings.of_documents)):
        by_text = {}
        for block in range(0, len(part), 8192):
            rows = np.arange(block, min(len(part), block + 8192))
            for text, vector in zip(part.texts(rows).to_pylist(), vectors[rows].astype(np.float64), strict=True):
                by_text.setdefault(normal(text), vector / np.linalg.norm(vector))
        found.append(by_text)
    return found[0], found[1]


def fresh_difference(mined: datasets.Dataset, rows: int) -> float:
    """Written scores against sentence-transformers' own encode with its default batches."""
    from hf_posmine.encoding import load_model

    model = load_model("embedded")
    picked = mined.select(np.random.default_rng(0).choice(len(mined), min(rows, len(mined)), replace=False))
    queries = model.encode_query(picked["query"][:]).astype(np.float64)
    flat = [text for negatives in picked["negatives"] for text in negatives]
    documents = model.encode_document(flat).astype(np.float64)
    per_query = np.repeat(queries, [len(n) for n in picked["negatives"]], axis=0)
    cosines = (per_query * documents).sum(1) / np.linalg.norm(per_query, axis=1) / np.linalg.norm(documents, axis=1)
    return float(np.abs(cosines - np.concatenate([np.array(s) for s in picked["negatives_scores"]])).max())


if __name__ == "__main__":
    sys.exit(main())
