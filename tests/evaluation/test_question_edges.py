"""Where questions and judges could pay for nothing, name other rows, or give a key to a stranger."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset, load_from_disk

from hf_posmine import Corpus
from hf_posmine.audit import AuditSettings, audit_data
from hf_posmine.cli.main import main
from hf_posmine.data import open_training_data
from hf_posmine.evaluation.judge.forms import last_object
from tests.support.chat import ChatService, says
from tests.support.pages import pages


class Asking(ChatService):
    def reply(self, body, asked):
        if "query" in asked:
            return json.dumps({"has_answer": True, "quote": asked["passage"][:10]})
        return json.dumps({"questions": [f"what of {asked['passage'][-6:]}"]})


def keys_of(service: ChatService) -> set:
    return {headers.get("Authorization") for _, headers, _ in service.requests}


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "docs.jsonl"
    texts = [f"a passage with the number {n * 7}" for n in range(6)]
    path.write_text("".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate([*texts, " "])))
    return path


def test_the_key_of_one_service_never_goes_to_another(documents, tmp_path, monkeypatch, fresh_home):
    monkeypatch.setenv("WRITER_KEY", "secret-of-the-writer")
    monkeypatch.setenv("JUDGE_KEY", "secret-of-the-judge")
    for number, (more, expected) in enumerate(
        [([], None), (["--judge-api-key-env", "JUDGE_KEY"], "secret-of-the-judge")]
    ):
        writer, judge = Asking(), Asking()
        asked = ["questions", str(documents), "--url", writer.url, "--model", "m", "--api-key-env", "WRITER_KEY"]
        judged = ["--judge-model", "j", "--judge-url", judge.url, "--gates", "answerable", "--quiet", *more]
        assert main([*asked, *judged, "--output", str(tmp_path / f"asked{number}.jsonl")]) == 0
        assert keys_of(writer) == {"Bearer secret-of-the-writer"}
        assert keys_of(judge) == {expected and f"Bearer {expected}"}
        bodies = [json.loads(body["messages"][1]["content"])["passage"] for _, _, body in writer.requests]
        assert all(passage.strip() for passage in bodies)  # nothing is asked about an empty document
        counts = json.loads((tmp_path / f"asked{number}.jsonl.questions.json").read_text())["attrition"]
        assert (counts["documents"], counts["asked"]) == (7, 6)


def test_the_key_of_a_judge_never_goes_to_a_cheap_one(tmp_path, monkeypatch, fresh_home, capsys):
    monkeypatch.setenv("DEAR_KEY", "secret-of-the-dear-one")
    rows = {"query": ["q"], "positive": ["a positive"], "negatives": [["relevant one", "another"]]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
    dear, cheap = ChatService(), ChatService()
    words = ["judge", str(tmp_path / "rows.parquet"), "--url", dear.url, "--model", "m", "--api-key-env", "DEAR_KEY"]
    out = ["--output", str(tmp_path / "out.jsonl"), "--quiet"]
    for alone in (["--cheap-url", cheap.url], ["--cheap-api-key-env", "DEAR_KEY"]):
        assert main([*words, *alone, *out]) == 2
        assert f"{alone[0]} needs --cheap-model" in capsys.readouterr().err
    assert main([*words, "--cheap-model", "c", "--cheap-url", cheap.url, *out]) == 0
    assert keys_of(dear) == {"Bearer secret-of-the-dear-one"} and keys_of(cheap) == {None}


def test_what_cannot_be_asked_about_is_refused_before_it_is_paid_for(documents, tmp_path, fresh_home, capsys):
    service = Asking()
    asked = ["--url", service.url, "--model", "m", "--gates", "near", "--quiet"]
    out = tmp_path / "out"
    inside = ["--output", str(out), "--dropped", str(out / "dropped.jsonl")]
    assert main(["questions", str(documents), *asked, *inside]) == 2
    assert "is inside --output" in capsys.readouterr().err
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"text": "one and the same"}\n' * 2 + '{"text": "another one"}\n')
    assert main(["questions", str(twice), *asked, "--output", str(out)]) == 2
    assert "the documents have no ids, and 1 duplicates were dropped" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    for number, image in enumerate(pages(["red", "blue"])):
        image.save(tmp_path / "images" / f"{number}.png")
    images = [{"image": str(file)} for file in sorted((tmp_path / "images").iterdir())]
    from datasets import Image

    Dataset.from_list(images).cast_column("image", Image()).to_parquet(str(tmp_path / "images.parquet"))
    assert main(["questions", str(tmp_path / "images.parquet"), *asked, "--output", str(out)]) == 2
    assert "documents are images" in capsys.readouterr().err and not service.requests


def test_an_answer_that_is_nested_without_end_is_unreadable():
    assert last_object('{"questions": ' + "[" * 5000, "questions") is None


def test_negatives_by_id_are_no_texts(documents, tmp_path, fresh_home, capsys):
    texts = [json.loads(line)["text"] for line in documents.read_text().splitlines()][:6]
    pairs = {"query": [text[-2:] for text in texts], "positive": texts}
    Dataset.from_dict(pairs).to_parquet(str(tmp_path / "pairs.parquet"))
    mining = ["mine", str(tmp_path / "pairs.parquet"), "--corpus", str(documents), "--teacher", "bm25", "--filters"]
    out = tmp_path / "mined"
    assert main([*mining, "--num-negatives", "2", "--negatives-as", "ids", "--output", str(out), "--quiet"]) == 0
    service = ChatService()
    service.answer = lambda query, reference, candidate: says(False)
    judging = ["judge", str(out), "--url", service.url, "--model", "m", "--output", str(tmp_path / "j"), "--quiet"]
    assert main(judging) == 2
    assert "names documents by id" in capsys.readouterr().err and not service.requests
    rows = load_from_disk(str(out)).to_list()
    rows[0]["negatives_ids"][0] = "d0"  # its own positive
    Dataset.from_list(rows).to_parquet(str(tmp_path / "faulty.parquet"))
    found = audit_data(
        open_training_data(tmp_path / "faulty.parquet", corpus=Corpus.of(documents)), AuditSettings()
    ).findings
    assert [example.row for example in found["same_text"].examples] == [0]
