"""The provenance record: complete enough to mine the same rows again."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
from datasets import Dataset

from hf_posmine import Corpus, DenseTeacher, MiningSummary, PercPos, PositiveAwareMiner, Qrels
from hf_posmine.hub.provenance import provenance, versions, write_provenance
from tests.conftest import ToyModel

OPTIONS = {
    "filters": ["SkipTop(1)", PercPos(0.9)],
    "sampler": "SampledTopK(k=6, temperature=0.2)",
    "num_negatives": 3,
    "keep": ("scores", "ids"),
    "on_short": "random",
    "anchor": "mean",
    "weak_positive": "flag",
    "weak_rank": 20,
    "near_duplicates": 0.97,
    "exclude_other_positives": True,
    "seed": 5,
}


@pytest.fixture(scope="module")
def miner(sample_pairs, sample_corpus):
    prompts = {"query_prompt": "question: ", "document_prompt": "passage: "}
    return PositiveAwareMiner.from_dataset(
        sample_pairs,
        "embedded",
        corpus=sample_corpus,
        positive_id_column="positive_id",
        teacher_options=prompts,
        **OPTIONS,
    )


@pytest.fixture(scope="module")
def record(miner, tmp_path_factory):
    """As it is read back from the file."""
    path = tmp_path_factory.mktemp("provenance") / "deep" / "provenance.json"
    write_provenance(path, provenance(miner, source={"path": "sample", "split": "train"}))
    assert [file.name for file in path.parent.iterdir()] == ["provenance.json"]
    return json.loads(path.read_text())


def test_the_record_alone_rebuilds_the_miner_and_its_rows(record, miner, sample_pairs, sample_corpus):
    (teacher,), columns = record["teachers"], record["columns"]
    known = Qrels.from_dataset(sample_pairs, columns["query"], columns["positive"], columns["positive_id"])
    dense = DenseTeacher(
        teacher["name"],
        sample_corpus,
        queries=known.queries,
        similarity=teacher["similarity"],
        dtype=teacher["dtype"],
        **{f"{role}_prompt": prompt for role, prompt in teacher["prompts"].items()},
    )
    again = PositiveAwareMiner(
        corpus=sample_corpus,
        teachers=dense,
        known_positives=known,
        query_column=columns["query"],
        positive_column=columns["positive"],
        positive_id_column=columns["positive_id"],
        **record["settings"],
    )
    assert again.fingerprint == record["miner_fingerprint"] == miner.fingerprint
    assert again.settings == miner.settings
    assert sample_pairs.map(again, batched=True)[:] == sample_pairs.map(miner, batched=True)[:]


def test_the_record_names_everything_the_rows_depend_on(record, miner, sample_corpus):
    assert record["schema"] == 1 and record["tool"] == "hf_posmine" and record["algo_version"] == 1
    assert record["source"] == {"path": "sample", "split": "train"} and record["command"] is None
    assert record["corpus"] == {
        "source": None,
        "fingerprint": sample_corpus.fingerprint,
        "documents": len(sample_corpus),
        "candidates": len(sample_corpus),
        "duplicates_dropped": 0,
        "match": "normalized",
        "excluded_everywhere": len(miner.excluded_everywhere),
    }
    known = miner.known_positives
    assert record["known_positives"] == {"fingerprint": known.fingerprint, "queries": 171, "judgements": 171}
    (teacher,) = record["teachers"]
    assert teacher["prompts"] == {"query": "question: ", "document": "passage: "}
    assert (teacher["kind"], teacher["score_kind"], teacher["similarity"]) == ("dense", "cosine", "cosine")
    assert teacher["model_digest"] and teacher["fingerprint"] == miner.teachers[0].fingerprint


def test_the_settings_are_recorded_in_their_spelling(record):
    assert record["settings"] == OPTIONS | {"filters": ["SkipTop(1)", "PercPos(0.9)"], "keep": ["scores", "ids"]}


def test_the_versions_are_those_installed():
    found = versions()
    for package in ("hf-posmine", "datasets", "numpy"):
        assert found[package] == importlib.metadata.version(package)
    assert found["python"].startswith("3.")


def test_the_summary_and_a_teacher_of_another_kind_are_recorded():
    class Words:
        """A teacher that says nothing of itself beyond the Protocol."""

        name, score_kind, fingerprint = "words", "bm25", "w1"

        def search(self, queries, k, *, below=None, exclude=None):
            raise NotImplementedError

    pairs = Dataset.from_dict({"query": ["q"], "positive": ["p"]})
    miner = PositiveAwareMiner(corpus=Corpus.from_texts(["p", "a"]), teachers=Words(), positive_column="positive")
    summary = MiningSummary.from_dataset(pairs.add_column("negatives", [["a"]]))
    record = json.loads(json.dumps(provenance(miner, source={}, summary=summary, command="hf-posmine mine")))
    assert record["teachers"] == [{"name": "words", "score_kind": "bm25", "fingerprint": "w1"}]
    assert record["summary"] == summary.to_dict() and record["command"] == "hf-posmine mine"
    assert record["known_positives"] is None


def test_another_model_of_the_same_name_is_another_record():
    corpus = Corpus.from_texts(["p", "a"])
    teachers = [DenseTeacher(ToyModel(), corpus, fingerprint=name) for name in ("one", "two")]
    one, two = (
        provenance(PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="positive"), source={})
        for teacher in teachers
    )
    assert one["teachers"][0]["name"] == two["teachers"][0]["name"]
    assert one["teachers"][0]["model_digest"] != two["teachers"][0]["model_digest"]
    assert one["miner_fingerprint"] != two["miner_fingerprint"]
