"""A set of questions on the loopback Hub: it loads and mines from there, the card has every count, and nothing is pushed twice."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset, load_from_disk

from hf_posmine.cli.main import main
from hf_posmine.evaluation.questions.record import FILE, QuestionsRecord
from tests.support.questions import QuestionService, scripted

REPO = "alice/questions"
ANIMALS = ("cats", "dogs", "foxes", "bees", "whales", "storks")
PASSAGES = [f"All {animal} rest after noon, and number {n} of them wakes first." for n, animal in enumerate(ANIMALS)]
REAL = {
    passage: [f"When do {animal} rest, {n}?"] for n, (animal, passage) in enumerate(zip(ANIMALS, PASSAGES, strict=True))
}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_HOME", str(tmp_path / "home"))
    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(PASSAGES)))
    service = QuestionService(scripted(REAL, PASSAGES))
    words = ["--url", service.url, "--model", "toy|x", "--teacher", "bm25", "--top-k", "3", "--quiet"]
    assert main(["questions", str(docs), *words, "--output", str(tmp_path / "asked")]) == 0
    return tmp_path / "asked"


def test_questions_are_pushed_with_their_record_and_a_card(hub, asked, tmp_path):
    assert main(["push", str(asked), REPO, "--license", "cc-by-4.0", "--language", "en"]) == 0
    rows, back = load_from_disk(str(asked)), load_dataset(REPO, split="train")
    assert back.to_dict() == rows.to_dict() and len(back) >= 5
    files = hub.repo(REPO).files("main")
    record, card = QuestionsRecord.from_json(files[FILE].decode()), files["README.md"].decode()
    assert record.rows == len(rows)
    for name in (
        "license: cc-by-4.0",
        "- synthetic",
        "toy\\|x",
        "| dropped: copied | 1 |",
        f"| documents | {len(PASSAGES)} |",
    ):
        assert name in card, name
    assert all(prompt in card for prompt in record.prompts.values())
    assert "hard-negatives" not in card
    commits = hub.repo(REPO).log()
    assert main(["push", str(asked), REPO]) == 0
    assert hub.repo(REPO).log() == commits
    more = ["--teacher", "bm25", "--num-negatives", "1", "--quiet", "--output", str(tmp_path / "mined")]
    assert main(["mine", REPO, *more]) == 0


def test_other_rows_or_layouts_are_refused(hub, asked, capsys):
    assert main(["push", str(asked), REPO, "--report"]) == 2
    assert "is a set of questions; --variants, --report and --config-name are for mined" in capsys.readouterr().err
    text = (asked / FILE).read_text()
    (asked / FILE).write_text(json.dumps(json.loads(text) | {"digest": "0" * 8}))
    assert main(["push", str(asked), REPO]) == 2
    assert "other rows; push the questions as they were written" in capsys.readouterr().err
    assert not hub.snapshot()
