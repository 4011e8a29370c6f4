"""A mended copy gets new negatives where a corpus is given, in the layout of its rows, and keeps what it need not change."""

from __future__ import annotations

import json

import pytest

from hf_posmine.audit import TopUp, audit_data
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data import Corpus, open_training_data
from tests.audit.planted import (
    clean_rows,
    flag_embedding,
    labelled_lists,
    n_tuples,
    passage,
    plant,
    tevatron,
    write_jsonl,
)

ROWS = 30
CORPUS = {f"d{n}": passage(n) for n in range(1000, 1080)}


def corpus() -> Corpus:
    return Corpus.from_texts(CORPUS.values(), CORPUS.keys(), match="exact")


@pytest.mark.parametrize(
    "write", [flag_embedding, tevatron, n_tuples, labelled_lists], ids=lambda write: write.__name__
)
def test_rows_are_full_again_in_their_layout(write, tmp_path):
    planted = plant(clean_rows(ROWS))
    path = write(planted.rows[:ROWS], tmp_path)
    mended = tmp_path / f"mended{path.suffix}"
    result = audit_data(open_training_data(path), repair=mended, top_up=TopUp(corpus(), "random"))
    assert result.repair is not None and result.repair.negatives_added == result.repair.negatives_removed > 0
    data = open_training_data(mended)
    assert data.layout == open_training_data(path).layout
    assert not {"same_text", "near_copy", "few_negatives", "duplicate_negative"} & set(audit_data(data).findings)
    before, after = (
        {view.query: view for views in open_training_data(one).batches() for view in views} for one in (path, mended)
    )
    assert after.keys() == before.keys()
    changed = [query for query in after if after[query] != before[query]]
    new = {text for query in changed for text in set(after[query].negatives) - set(before[query].negatives)}
    assert len(changed) == len(set.union(*planted.where.values()) - planted.where["labelled_elsewhere"])
    assert new <= set(CORPUS.values())
    log = [json.loads(line) for line in (tmp_path / f"{mended.name}.repairs.jsonl").read_text().splitlines()]
    assert sum(entry["action"] == "negative added" for entry in log) == result.repair.negatives_added


@pytest.mark.parametrize("positives", ["ids", "texts"])
def test_ids_and_records_keep_their_form(tmp_path, positives):
    rows = [{"query": f"q{n}", "positive_ids": [f"d{1000 + n}"], "negative_ids": [f"d{1040 + n}"]} for n in range(6)]
    rows[2]["negative_ids"] = rows[2]["positive_ids"]
    if positives == "texts":  # as mining writes them with negatives_as="ids"
        rows = [
            {"query": row["query"], "positive": CORPUS[row["positive_ids"][0]], "negative_ids": row["negative_ids"]}
            for row in rows
        ]
    path = write_jsonl(tmp_path / "ids.jsonl", rows)
    given = corpus()
    audit_data(open_training_data(path, corpus=given), repair=tmp_path / "mended.jsonl", top_up=TopUp(given, "random"))
    mended = [json.loads(line) for line in (tmp_path / "mended.jsonl").read_text().splitlines()]
    assert [row for n, row in enumerate(mended) if n != 2] == [row for n, row in enumerate(rows) if n != 2]
    (new,) = mended[2]["negative_ids"]
    assert new in CORPUS and new != "d1002"


def test_rows_with_scores_and_pairs_are_refused(tmp_path):
    scored = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1.0], "neg_scores": [0.5]}
    pair = {"query": "q", "document": "p", "label": 1}
    for row, message in ((scored, "scores of another teacher"), (pair, "one document each")):
        path = write_jsonl(tmp_path / "rows.jsonl", [row])
        with pytest.raises(InputError, match=message):
            audit_data(open_training_data(path), repair=tmp_path / "out.jsonl", top_up=TopUp(corpus()))


def test_the_command_tops_up_and_writes_a_page(tmp_path, capsys):
    path = flag_embedding(plant(clean_rows(ROWS)).rows, tmp_path)
    documents = write_jsonl(tmp_path / "documents.jsonl", [{"id": k, "text": text} for k, text in CORPUS.items()])
    assert main(["audit", str(path), "--top-up", "--repair", str(tmp_path / "out.jsonl")]) == 2
    assert "--corpus" in capsys.readouterr().err
    page = tmp_path / "audit.html"
    command = [
        "audit",
        str(path),
        "--repair",
        str(tmp_path / "out.jsonl"),
        "--corpus",
        str(documents),
        "--top-up",
        "random",
        "--report",
    ]
    assert main([*command, str(page)]) == 0
    assert "added 10;" in capsys.readouterr().out
    assert "A negative shares nearly all words" in page.read_text()


def test_documents_of_the_test_queries_are_counted_and_kept(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = [passage(n) for n in range(6)]
    write_jsonl(
        folder / "corpus.jsonl", [{"_id": str(n), "title": f"T{n}", "text": text} for n, text in enumerate(texts)]
    )
    write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "a test query"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t1\nq\t4\t0\n")
    positives = [texts[0], texts[1].upper(), f"T2 {texts[2]}", texts[4]]
    rows = [{"query": f"q{n}", "pos": [one], "neg": [texts[5]]} for n, one in enumerate(positives)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    from hf_posmine.audit import AuditSettings

    result = audit_data(open_training_data(path), AuditSettings(collection=folder), repair=tmp_path / "out.jsonl")
    assert [example.row for example in result.findings["leaked_positive"].examples] == [1, 2]
    assert result.repair is not None and result.repair.rows == 4
