"""Planted faults are found in every layout, and clean rows are left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from hf_posmine.audit import KINDS as ALL_KINDS
from hf_posmine.audit import AuditSettings, audit_data
from hf_posmine.cli.main import main
from hf_posmine.data import open_training_data
from tests.audit.planted import (
    KINDS,
    LAYOUTS,
    MadeRow,
    clean_rows,
    passage,
    plant,
    real_rows,
    write_jsonl,
    write_parquet,
)

NEAR_RECALL, FALSE_ALARMS = 0.95, 0.01
EVERY = AuditSettings(examples=10**6)


def rows_found(result, kind: str) -> set[int]:
    return {example.row for example in result.findings[kind].examples} if kind in result.findings else set()


def audited(path, **options):
    return audit_data(open_training_data(path, **options), EVERY)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_planted_faults_are_found_in_every_layout(layout, tmp_path):
    rows = clean_rows(1000)
    planted = plant(rows)
    result = audited(LAYOUTS[layout](planted.rows, tmp_path))
    assert result.layout.startswith(layout)
    assert result.rows == len(planted.rows)
    for kind in set(KINDS) - {"near_copy"}:
        assert rows_found(result, kind) == planted.where[kind], kind
    near = rows_found(result, "near_copy") & planted.where["near_copy"]
    assert len(near) >= NEAR_RECALL * len(planted.where["near_copy"])
    clean = set(range(len(rows))) - set().union(*planted.where.values())
    alarmed = set().union(*(rows_found(result, kind) for kind in ALL_KINDS)) & clean
    assert len(alarmed) <= FALSE_ALARMS * len(clean)


def test_labelled_pairs_are_checked_by_query(tmp_path):
    rows = clean_rows(400)
    planted = plant(rows)
    pairs, first = [], {}
    for number, row in enumerate(planted.rows):
        first[number] = len(pairs)
        pairs.append({"sentence1": row.query, "sentence2": row.positive, "label": 1})
        pairs += [{"sentence1": row.query, "sentence2": text, "label": 0} for text in row.negatives]
    result = audited(write_parquet(tmp_path / "pairs.parquet", pairs))
    assert result.layout.startswith("labelled pairs")
    contradicted = {n for kind in ("same_text", "same_normalized", "labelled_elsewhere") for n in planted.where[kind]}
    found = rows_found(result, "contradicting_labels")
    assert len(found) == len(contradicted)
    assert all(pairs[row]["label"] == 0 for row in found)
    assert {row - 2 for row in rows_found(result, "near_copy")} == {first[n] for n in planted.where["near_copy"]}
    assert {row - 1 for row in rows_found(result, "empty_text")} <= {first[n] for n in planted.where["empty_text"]}


def test_scattered_pairs_with_two_labels_are_a_contradiction(tmp_path):
    rows = [{"query": f"q{n}", "document": passage(n), "label": 1} for n in range(20)]
    rows += [{"query": f"q{n}", "document": passage(n + (n % 10 > 0)), "label": 0} for n in range(20)]
    result = audited(write_jsonl(tmp_path / "pairs.jsonl", rows))
    assert rows_found(result, "contradicting_labels") == {20, 30}


@pytest.mark.parametrize(
    ("negative", "kind"),
    [
        ("Honey keeps for thousands of years. The oldest jars came from a tomb in Georgia.", "contained"),
        ("how long does honey keep", "query_text"),
        ("Мёд хранится тысячи лет, если сосуд закрыт.", "other_script"),
        ("Honey is made by bees and ...", "truncated_text"),
    ],
)
def test_faults_of_one_negative(negative, kind, tmp_path):
    row = {
        "question": "How long does honey keep",
        "positive": "Honey keeps for thousands of years.",
        "negatives": ["Salt keeps too.", negative],
    }
    result = audited(write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert [(e.row, e.index, e.negative) for e in result.findings[kind].examples] == [(0, 1, negative)]
    assert set(result.findings) == {kind}


def test_texts_that_all_end_at_one_length_are_cut(tmp_path):
    long = [" ".join(passage(n * 7 + i) for i in range(3)) for n in range(40)]
    ends = [400 if n % 2 else 300 + n for n in range(40)]
    rows = [
        {"query": f"q {n}", "positive": text[:end], "negative": passage(n + 999)}
        for n, (text, end) in enumerate(zip(long, ends, strict=True))
    ]
    result = audited(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert rows_found(result, "truncated_text") == set(range(1, 40, 2))


def test_shared_short_and_missing_negatives(tmp_path):
    rows = [
        {"query": f"q{n}", "pos": [passage(2 * n)], "neg": [passage(2 * n + 1), passage(50_000 + n)]}
        for n in range(200)
    ]
    for n in range(0, 60, 5):
        rows[n]["neg"][0] = "Sign in to read this page."
    rows[7]["neg"], rows[8]["neg"], rows[9]["pos"] = [passage(77)], [], []
    result = audited(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert rows_found(result, "shared_negative") == set(range(0, 60, 5))
    assert rows_found(result, "few_negatives") == {7}
    assert rows_found(result, "no_negatives") == {8}
    assert rows_found(result, "no_positive") == {9}


def test_scores_of_the_data(tmp_path):
    def row(n, positive, negatives):
        texts = [passage(10 * n + i) for i in range(3)]
        return {"query": f"q{n}", "pos": texts[:1], "neg": texts[1:], "pos_scores": positive, "neg_scores": negatives}

    rows = [
        row(0, [0.9], [0.8, 0.1]),
        row(1, [0.9], [0.9, 0.1]),
        row(2, [0.9], [0.5]),
        row(3, [0.9], [float("nan"), 0.1]),
    ]
    result = audited(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert [(e.row, e.index) for e in result.findings["above_positive"].examples] == [(1, 0)]
    assert rows_found(result, "bad_scores") == {2, 3}


def test_test_queries_among_training_queries(tmp_path):
    (tmp_path / "qrels").mkdir()
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "d", "title": "", "text": "A text."}])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": f"{n}", "text": f"Question {n} About bee"} for n in range(4)])
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n0\td\t1\n2\td\t1\n")
    train = LAYOUTS["mined rows"](
        [MadeRow(f"question {n} about  bee", passage(2 * n), (passage(2 * n + 1),)) for n in range(8)], tmp_path
    )
    result = audit_data(open_training_data(train), replace(EVERY, collection=tmp_path))
    assert rows_found(result, "leaked_query") == {0, 2}


def test_the_command_prints_writes_and_fails(tmp_path, capsys):
    path = LAYOUTS["FlagEmbedding"](plant(clean_rows(200)).rows, tmp_path)
    output = tmp_path / "audit.json"
    assert main(["audit", str(path), "--output", str(output), "--fail-on", "near_copy=0.2"]) == 0
    shown = capsys.readouterr().out
    assert "Read as FlagEmbedding" in shown and "near_copy" in shown
    written = json.loads(output.read_text())
    assert written["findings"]["same_text"]["rows"] == 1
    assert written["findings"]["near_copy"]["rate"] == pytest.approx(0.05, abs=0.01)
    with pytest.raises(SystemExit) as failed:
        main(["audit", str(path), "--fail-on", "near_copy=0.01"])
    assert failed.value.code == 1
    assert "near_copy in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fail-on", "same_tex"], "did you mean 'same_text'"),
        (["--fail-on", "same_text=many"], "not a number between 0 and 1"),
        (["--output", "audit.txt"], "write a .json file"),
    ],
)
def test_wrong_options_are_one_line(words, message, tmp_path, capsys):
    path = LAYOUTS["FlagEmbedding"](clean_rows(2), tmp_path)
    assert main(["audit", str(path), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_audit_imports_neither_torch_nor_sentence_transformers(tmp_path):
    path = LAYOUTS["n-tuples"](plant(clean_rows(200)).rows, tmp_path)
    code = (
        "import sys; from hf_posmine.cli.main import main; main(['audit', sys.argv[1]]);"
        "print('heavy:', [m for m in ('torch', 'sentence_transformers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout


@pytest.mark.real_data
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", ["squad_v1.1", "scifact"])
def test_faults_planted_in_real_rows(source, layout, tmp_path):
    rows = real_rows(source)
    planted = plant(rows)
    result = audited(LAYOUTS[layout](planted.rows, tmp_path))
    for kind in set(KINDS) - {"near_copy"}:
        assert planted.where[kind] <= rows_found(result, kind), kind
    near = rows_found(result, "near_copy") & planted.where["near_copy"]
    assert len(near) >= NEAR_RECALL * len(planted.where["near_copy"])
    clean = set(range(len(rows))) - set().union(*planted.where.values())
    for kind in (
        "same_text",
        "same_normalized",
        "near_copy",
        "contained",
        "duplicate_negative",
        "empty_text",
        "other_script",
    ):
        assert len(rows_found(result, kind) & clean) <= FALSE_ALARMS * len(clean), kind


def test_the_collector_is_as_it_was_and_a_scan_leaves_it_nothing(tmp_path):
    import gc

    path = LAYOUTS["FlagEmbedding"](clean_rows(3000, negatives=1), tmp_path)
    data = open_training_data(path)
    audit_data(data)  # what is made once
    gc.collect()
    gc.disable()
    try:
        audit_data(data)
        assert not gc.isenabled()
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 3000  # no cycle in a row or its facts
    audit_data(data)
    assert gc.isenabled()
