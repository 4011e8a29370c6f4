"""Rows with several positives and parallel documents of real collections, against sorted scores of all documents."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk

from hf_posmine import Corpus
from hf_posmine.cli.main import main
from hf_posmine.teachers import BM25Teacher
from tests.conftest import real_data


def judged(name: str) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """Documents, queries and positives by id."""
    folder = real_data(name)
    read = {part: pq.read_table(folder / f"{part}.parquet").to_pydict() for part in ("corpus", "queries", "qrels")}
    documents, queries = (
        dict(zip(read[part]["id"], read[part]["text"], strict=True)) for part in ("corpus", "queries")
    )
    relevant: dict[str, list[str]] = {}
    for query, document in zip(read["qrels"]["query_id"], read["qrels"]["doc_id"], strict=True):
        relevant.setdefault(query, []).append(document)
    return documents, queries, relevant


@pytest.mark.parametrize(("ceiling_from", "reduce"), [("min", np.min), ("max", np.max), ("mean", np.mean)])
def test_positives_that_answer_together_set_one_ceiling_and_are_all_left_out(tmp_path, ceiling_from, reduce):
    documents, queries, relevant = judged("hotpotqa_100")
    rows = Dataset.from_list([{"query": text, "positive_ids": relevant[name]} for name, text in queries.items()])
    rows.to_json(str(tmp_path / "rows.jsonl"))
    Dataset.from_dict({"id": list(documents), "text": list(documents.values())}).to_parquet(tmp_path / "corpus.parquet")
    config = tmp_path / "mine.yaml"
    config.write_text(json.dumps({"filters": ["PercPos(0.8)"], "teacher": "bm25", "ceiling_from": ceiling_from}))
    main(
        ["mine", str(tmp_path / "rows.jsonl"), "--corpus", str(tmp_path / "corpus.parquet"), "--positive-id-column",
         "positive_ids", "--output", str(tmp_path / "mined"), "--config", str(config), "--quiet"]
    )  # fmt: skip
    corpus = Corpus.from_texts(documents.values(), documents)
    ids = np.array(list(documents))
    scores = BM25Teacher(corpus).score(list(queries.values()), np.tile(corpus.rows_of_ids(ids), (len(queries), 1)))
    for row, own in zip(load_from_disk(str(tmp_path / "mined")), scores, strict=True):
        positive = np.isin(ids, row["positive_ids"])
        ceiling = np.float32(np.float32(reduce(own[positive].astype(np.float64))) * 0.8)
        allowed = np.flatnonzero(~positive & (own < ceiling))
        best = allowed[np.argsort(-own[allowed], kind="stable")][:4]
        assert row["negatives_ids"] == ids[best].tolist()
        assert row["negatives_stats"]["excluded_positive"] == positive.sum() == 2
        assert row["negatives_stats"]["ceiling"] == pytest.approx(ceiling, rel=1e-6)
    assert json.loads((tmp_path / "mined" / "provenance.json").read_text())["settings"]["ceiling_from"] == ceiling_from
