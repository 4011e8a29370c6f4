"""A mended copy has the layout of the data and none of the faults; the log describes each change."""

from __future__ import annotations

import json

import pytest

from hf_posmine.audit import KINDS as ALL_KINDS
from hf_posmine.audit import AuditSettings, audit_data
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import RankWindow
from hf_posmine.data import open_training_data
from tests.audit.planted import LAYOUTS, clean_rows, passage, plant, write_jsonl

MENDED = {name for name, kind in ALL_KINDS.items() if kind.mend != "none"}


def rows_of(path) -> list:
    return [row for table in open_training_data(path).tables for batch in table.batches() for row in batch]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mended_copy_has_the_layout_and_no_fault_that_is_mended(layout, tmp_path):
    planted = plant(clean_rows(300))
    path = LAYOUTS[layout](planted.rows, tmp_path)
    target = tmp_path / f"mended{path.suffix}"
    result = audit_data(open_training_data(path), repair=target)
    after = audit_data(open_training_data(target))
    assert after.layout == result.layout
    assert not MENDED & set(after.findings)
    before, mended = rows_of(path), rows_of(target)
    assert all(row.keys() == before[0].keys() for row in mended)
    assert len(mended) == result.repair.rows == len(before) - result.repair.rows_removed
    log = [json.loads(line) for line in (tmp_path / f"{target.name}.repairs.jsonl").read_text().splitlines()]
    removed = [entry for entry in log if entry["action"] == "negative removed"]
    assert len(removed) == result.repair.negatives_removed
    assert len(log) - len(removed) == result.repair.rows_removed
    assert {entry["row"] for entry in log} == set().union(*planted.where.values())
    untouched = [row for number, row in enumerate(before) if number not in {entry["row"] for entry in log}]
    assert [row for row in mended if row in untouched] == untouched


def test_lists_beside_the_negatives_shrink_with_them(tmp_path):
    row = {
        "query": "q", "pos": [passage(1)], "pos_scores": [0.9], "neg": [passage(2), passage(1), passage(3)],
        "neg_scores": [0.3, 0.2, 0.1], "source": "made",
    }  # fmt: skip
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    audit_data(open_training_data(path), repair=tmp_path / "mended.jsonl")
    assert rows_of(tmp_path / "mended.jsonl") == [row | {"neg": [passage(2), passage(3)], "neg_scores": [0.3, 0.1]}]


def test_one_document_rows_lose_the_row_that_contradicts(tmp_path):
    rows = [{"query": f"q{n}", "document": passage(n), "label": 1} for n in range(6)]
    rows += [{"query": f"q{n}", "document": passage(n + (n > 2)), "label": 0} for n in range(6)]
    rows.insert(3, {"query": "q2", "document": " ", "label": 1})
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    audit_data(open_training_data(path), repair=tmp_path / "mended.jsonl")
    gone = {3, 7, 8, 9}
    assert rows_of(tmp_path / "mended.jsonl") == [row for n, row in enumerate(rows) if n not in gone]


def test_saved_datasets_keep_their_splits(tmp_path):
    from datasets import Dataset, DatasetDict, load_from_disk

    def split(start):
        rows = [
            {"query": f"q{n}", "positive": passage(3 * n), "negatives": [passage(3 * n + 1), passage(3 * n + 2)]}
            for n in range(start, start + 5)
        ]
        rows[2]["negatives"][0] = rows[2]["positive"]
        return Dataset.from_list(rows)

    saved = DatasetDict({"train": split(0), "dev": split(50)})
    saved.save_to_disk(tmp_path / "saved")
    result = audit_data(open_training_data(tmp_path / "saved"), repair=tmp_path / "mended")
    mended = load_from_disk(str(tmp_path / "mended"))
    assert {name: len(rows) for name, rows in mended.items()} == {"train": 5, "dev": 5}
    assert mended["dev"].features == saved["dev"].features
    assert [len(n) for rows in mended.values() for n in rows["negatives"]] == [2, 2, 1, 2, 2] * 2
    assert result.repair.negatives_removed == 2


def test_nothing_is_written_over(tmp_path, capsys):
    path = LAYOUTS["FlagEmbedding"](clean_rows(3), tmp_path)
    assert main(["audit", str(path), "--repair", str(path)]) == 2
    assert main(["audit", str(path), "--repair", str(tmp_path / "mended.parquet")]) == 2
    errors = capsys.readouterr().err
    assert "exists" in errors and "the copy is a .jsonl file" in errors


def test_a_teacher_finds_what_it_scores_above(tmp_path):
    above = "Caffeine of green tea: green tea caffeine."
    rows = [
        {"query": "green tea caffeine", "pos": ["Green tea holds caffeine."], "neg": [above, "A wall."]},
        {"query": "red brick wall", "pos": ["A red brick wall."], "neg": ["Green leaves.", "Tall trees."]},
    ]
    rows[1] |= {"pos_scores": [17.0], "neg_scores": [0.0, 0.0]}
    rows[0] |= {"pos_scores": None, "neg_scores": None}
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    result = audit_data(open_training_data(path), AuditSettings(teacher="bm25"))
    assert [(e.row, e.index) for e in result.findings["teacher_above"].examples] == [(0, 0)]
    limits = AuditSettings(teacher="bm25", filters=(RankWindow(0, 5),))
    with pytest.raises(InputError, match=r"RankWindow\(0, 5\): none sets a ceiling.*add one"):
        audit_data(open_training_data(path), limits)
    assert [e.row for e in result.findings["stale_scores"].examples] == [1]
