"""Columns by which documents belong together: kept only where they can be, part of what a miner is, and held together."""

from __future__ import annotations

import json
import random
from datetime import date

import pytest
from datasets import Dataset, DatasetDict

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.evaluation import certify, load_judged
from hf_posmine.evaluation.judge.top_up import _DeepMiner
from hf_posmine.teachers.bm25 import BM25Teacher

TEXTS = ["red cat", "red dog", "red bird", "red sky"]


@pytest.fixture(scope="module")
def chunks(tmp_path_factory):
    """60 queries, each with five relevant chunks of one document."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("chunks")
    words, documents, queries, judged = [f"w{n}" for n in range(2000)], [], [], []
    for q in range(60):
        topic = [f"topic{q}x{n}" for n in range(5)]
        for c in range(5):
            text = " ".join([*draw.sample(topic, 3), *draw.sample(words, 8)])
            documents.append({"_id": f"d{q}_{c}", "text": text, "doc_id": f"doc{q}"})
            judged.append(f"q{q}\td{q}_{c}\t1")
        queries.append({"_id": f"q{q}", "text": " ".join([*topic, *draw.sample(words, 30)]), "lang": "en"})
    (folder / "qrels").mkdir()
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    return folder


def test_evidence_of_a_rate_is_mined_with_the_same_exclusions_as_the_rows(chunks, fresh_home):
    """Without exclusions the sibling chunks, all relevant, are the best candidates: no easy setting may be certified."""
    corpus, judgements, _ = load_judged(chunks, "test", None, 0)
    settings = MiningSettings(filters="MaxFNRate(0.1)", exclude_same=())
    try:
        filters = certify(corpus, judgements, BM25Teacher(corpus), settings).filters
    except InputError:
        return
    relevant = {judgements.queries[q]: set(range(5 * n, 5 * n + 5)) for n, q in enumerate(judgements.queries)}
    texts = corpus.texts([*range(len(corpus))]).to_pylist()
    rows = Dataset.from_dict({"query": list(relevant), "positive": [texts[min(r)] for r in relevant.values()]})
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, "bm25", corpus=corpus, filters=filters, exclude_same=()))
    shares = [sum(texts.index(n) in relevant[row["query"]] for n in row["negatives"]) / len(row["negatives"])
              for row in mined if row["negatives"]]  # fmt: skip
    assert sum(shares) / len(shares) <= 0.2


def test_evidence_without_a_column_of_the_rows_is_refused(chunks, tmp_path, fresh_home, capsys):
    documents = [json.loads(line) for line in (chunks / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (chunks / "queries.jsonl").read_text().splitlines()]
    Dataset.from_list([{"id": d["_id"], "text": d["text"]} for d in documents]).to_parquet(str(tmp_path / "c.parquet"))
    pairs = {"query": queries, "positive": [d["text"] for d in documents[::5]]}
    Dataset.from_dict(pairs).to_parquet(str(tmp_path / "p.parquet"))
    words = ["mine", str(tmp_path / "p.parquet"), "--corpus", str(tmp_path / "c.parquet"), "--judged", str(chunks)]
    more = [
        "--qrels",
        "test",
        "--teacher",
        "bm25",
        "--max-fn-rate",
        "0.3",
        "--output",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert main([*words, *more]) == 2
    assert "doc_id" in capsys.readouterr().err


def test_a_rate_is_of_the_texts_as_they_are_matched(tmp_path, fresh_home):
    texts = [f"Topic {n} part {part}" for n in range(60) for part in (1, 2)]
    rows = [{"query": f"topic {n}", "positive": text} for n in range(60) for text in texts[2 * n : 2 * n + 2]]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "p.parquet"))
    Dataset.from_list([{"text": text} for text in [*texts, *map(str.upper, texts)]]).to_parquet(
        str(tmp_path / "c.parquet")
    )
    words = ["mine", str(tmp_path / "p.parquet"), "--corpus", str(tmp_path / "c.parquet"), "--teacher", "bm25"]
    more = ["--max-fn-rate", "0.9", "--match", "exact", "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*words, *more]) == 0
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["corpus"]["candidates"] == 240


def test_other_languages_of_the_same_documents_are_another_mining(fresh_home):
    rows = Dataset.from_dict({"query": ["red"], "positive": [TEXTS[0]]})
    found = []
    for language in ("en", "de"):
        corpus = Corpus.from_dataset(Dataset.from_dict({"text": TEXTS, "lang": [language] * 4}), keep=["lang"])
        options = {"corpus": corpus, "filters": (), "num_negatives": 2, "language_column": "lang"}
        found.append(PositiveAwareMiner.from_dataset(rows.add_column("lang", ["en"]), "bm25", **options).fingerprint)
    assert found[0] != found[1]


def test_a_column_of_the_users_own_stays(fresh_home):
    rows = Dataset.from_dict({"query": ["red"], "positive": [TEXTS[0]], "query_language": ["fr"]})
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, "bm25", corpus=TEXTS, filters=(), num_negatives=1))
    assert mined["query_language"][:] == ["fr"]


@pytest.mark.parametrize(
    "values", [[{"a": 1}] * 4, [b"1", b"1", b"2", b"3"], [date(2020, 1, 1)] * 4], ids=["structs", "bytes", "dates"]
)
def test_a_column_that_cannot_group_is_left_alone_where_nobody_asked(values, fresh_home):
    documents = Dataset.from_dict({"_id": list("abcd"), "text": TEXTS, "doc_id": values})
    assert not Corpus.from_dataset(documents).kept


def test_a_column_of_one_split_is_left_alone_where_nobody_asked(fresh_home):
    one = Dataset.from_dict({"_id": ["a", "b"], "text": TEXTS[:2], "doc_id": ["x", "x"]})
    two = Dataset.from_dict({"_id": ["c", "d"], "text": TEXTS[2:]})
    assert not Corpus.from_dataset(DatasetDict(train=one, test=two)).kept


@pytest.mark.parametrize("order", [("g", "h"), ("h", "g")])
def test_two_quotas_hold_together_in_either_order(order, fresh_home):
    documents = [
        ("q q q q q pos", "gp", "hp"),
        ("q q q q a", "g1", "h1"),
        ("q q q b", "g2", "h1"),
        ("q q c", "g2", "h2"),
    ]
    corpus = [dict(zip(("text", "g", "h"), document, strict=True)) for document in documents]
    rows = Dataset.from_dict({"query": ["q"], "positive": ["q q q q q pos"]})
    quotas = [f"PerGroup('{name}', 1)" for name in order]
    miner = PositiveAwareMiner.from_dataset(rows, "bm25", corpus=corpus, filters=quotas, num_negatives=3)
    assert mine(rows, miner)["negatives"][:] == [["q q q q a", "q q c"]]


def test_a_quota_searches_no_deeper_than_its_groups_allow(fresh_home, monkeypatch):
    depths, search = [], BM25Teacher.search
    monkeypatch.setattr(
        BM25Teacher, "search", lambda self, q, k, **more: depths.append(k) or search(self, q, k, **more)
    )
    texts = [f"word{n % 7} and {n}" for n in range(2000)]
    corpus = [{"text": text, "lang": ("en", "de")[n % 2]} for n, text in enumerate(texts)]
    rows = Dataset.from_dict({"query": [f"word{n}" for n in range(7)], "positive": texts[:7]})
    options = {"corpus": corpus, "filters": "PerGroup('lang', 1)", "num_negatives": 3}
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, "bm25", **options))
    assert {len(negatives) for negatives in mined["negatives"]} == {2} and max(depths) < 2000


def test_the_miner_of_a_top_up_keeps_every_row(fresh_home):
    rows = Dataset.from_dict({"query": ["red", "sky"], "positive": TEXTS[:2]})
    miner = PositiveAwareMiner.from_dataset(rows, "bm25", corpus=TEXTS, filters=["Consistency(1)"], num_negatives=1)
    assert not _DeepMiner.of(mine(rows, miner), miner, 2).miner.settings.dropping


def test_queries_of_a_beir_folder_keep_their_language(chunks, tmp_path, fresh_home):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name in ("queries.jsonl", "qrels/test.tsv"):
        (folder / name).write_bytes((chunks / name).read_bytes())
    documents = [json.loads(line) | {"lang": "de"} for line in (chunks / "corpus.jsonl").read_text().splitlines()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    words = ["mine", str(folder), "--split", "test", "--teacher", "bm25", "--filters", "--num-negatives", "2"]
    assert main([*words, "--language-column", "lang", "--output", str(tmp_path / "m.jsonl"), "--quiet"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert {(row["query_language"], *row["negatives_languages"]) for row in rows} == {("en", "de", "de")}
