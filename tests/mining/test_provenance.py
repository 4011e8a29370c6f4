"""The provenance record: complete enough to mine the same rows again."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, DenseTeacher, MiningSummary, PercPos, PositiveAwareMiner, Qrels
from hf_posmine.core.errors import InputError
from hf_posmine.mining.provenance import provenance, versions, write_provenance
from hf_posmine.mining.record import MiningRecord
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.utils.redact import redact, redacted
from tests.conftest import ToyModel

FEATURES = Features({"query": Value("string"), "negatives": List(Value("string"))})
OPTIONS = {
    "filters": ["SkipTop(1)", PercPos(0.9)],
    "sampler": "SampledTopK(k=6, temperature=0.2)",
    "num_negatives": 3,
    "keep": ("scores", "ids"),
    "on_short": "random",
    "ceiling_from": "mean",
    "weak_positive": "flag",
    "weak_rank": 20,
    "near_duplicates": 0.97,
    "exclude_lookalikes": True,
    "exclude_same": [],
    "match": "normalized",
    "language_column": None,
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
        **{"filters": (), **OPTIONS},
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
        **{"filters": (), **record["settings"]},
    )
    assert again.fingerprint == record["miner_fingerprint"] == miner.fingerprint
    assert again.settings == miner.settings
    assert sample_pairs.map(again, batched=True)[:] == sample_pairs.map(miner, batched=True)[:]


def test_the_record_names_everything_the_rows_depend_on(record, miner, sample_corpus):
    assert record["schema"] == 1 and record["tool"] == "hf_posmine" and record["algo_version"] == 3
    assert record["source"] == {"path": "sample", "split": "train"} and record["command"] is None
    assert record["corpus"] == {
        "source": {},  # nobody said where the given corpus came from
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
    assert record["settings"] == OPTIONS | {
        "filters": ["SkipTop(1)", "PercPos(0.9)"], "keep": ["scores", "ids"], "skip_bad_rows": False,
    }  # fmt: skip


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

        score = score_texts = search

    pairs = Dataset.from_dict({"query": ["q"], "positive": ["p"]})
    miner = PositiveAwareMiner(
        corpus=Corpus.from_texts(["p", "a"]), teachers=Words(), positive_column="positive", filters=()
    )
    summary = MiningSummary.from_dataset(pairs.add_column("negatives", [["a"]]))
    record = provenance(miner, source={}, summary=summary, command="hf-posmine mine").to_dict()
    assert record["teachers"] == [{"name": "words", "score_kind": "bm25", "fingerprint": "w1", "kind": "other"}]
    assert record["summary"] == summary.to_dict() and record["command"] == "hf-posmine mine"
    assert record["known_positives"] is None


def test_another_model_of_the_same_name_is_another_record():
    corpus = Corpus.from_texts(["p", "a"])
    teachers = [DenseTeacher(ToyModel(), corpus, fingerprint=name) for name in ("one", "two")]
    one, two = (
        provenance(
            PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="positive", filters=()), source={}
        )
        for teacher in teachers
    )
    assert one.teachers[0].name == two.teachers[0].name
    assert one.teachers[0].recipe["model_digest"] != two.teachers[0].recipe["model_digest"]
    assert one.miner_fingerprint != two.miner_fingerprint


def test_the_record_comes_back_from_its_text_and_ignores_what_it_does_not_know(record, miner, sample_pairs):
    mined = sample_pairs.select(range(4)).map(miner, batched=True)
    made = provenance(
        miner, source={"path": "sample", "split": "train"}, corpus_source={"path": "c", "id": "_id"}, mined=mined
    )
    assert MiningRecord.from_json(made.to_json()) == made
    assert MiningRecord.from_json(made.to_json()).to_json() == made.to_json()
    assert made.rows["train"].rows == 4 and made.corpus.source.id == "_id"
    later = record | {"invented": 1, "source": {"path": "x", "more": 2}}
    assert MiningRecord.from_dict(later).source.path == "x"


def test_the_positives_as_corpus_are_told_from_a_corpus_that_nobody_named(sample_pairs, sample_corpus):
    pairs = sample_pairs.select(range(5))
    own = PositiveAwareMiner.from_dataset(pairs, "embedded", positive_column="positive", filters=())
    given = PositiveAwareMiner.from_dataset(
        pairs, "embedded", positive_column="positive", corpus=sample_corpus, filters=()
    )
    assert provenance(own, source={}).to_dict()["corpus"]["source"] is None
    assert provenance(given, source={}).to_dict()["corpus"]["source"] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "provenance.json is not JSON that can be read"),
        ('{"tool": "other", "miner_fingerprint": "x"}', "not a record of a mining run"),
        (
            '{"tool": "hf_posmine", "miner_fingerprint": "x", "schema": 9}',
            "schema 9, this version reads up to 1; upgrade",
        ),
        ('{"tool": "hf_posmine", "miner_fingerprint": "x", "schema": 1}', "incomplete or damaged"),
    ],
)
def test_a_text_that_is_not_a_record_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        MiningRecord.from_json(text)


def test_a_source_with_a_wrong_key_is_refused(miner):
    with pytest.raises(InputError, match="a source has no 'url'; it has path, name, split"):
        provenance(miner, source={"url": "x"})


ROWS = st.lists(st.tuples(st.text(max_size=3), st.lists(st.text(max_size=2), max_size=3)), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(ROWS, ROWS)
def test_digests_are_equal_exactly_for_equal_rows(one, two):
    def make(rows):
        return Dataset.from_dict({"query": [q for q, _ in rows], "negatives": [n for _, n in rows]}, features=FEATURES)

    assert (rows_digest(make(one)) == rows_digest(make(two))) == (one == two)
    twice = make([*two, *one]).select(range(len(two), len(two) + len(one)))
    assert rows_digest(twice) == rows_digest(make(one))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mine x --token hf_secret --rows 3", "mine x --token *** --rows 3"),
        ("HF_TOKEN=abc hf-posmine mine", "HF_TOKEN=*** hf-posmine mine"),
        ("load user/hf_dataset_small", "load user/hf_dataset_small"),
        ("https://me:pass@hub/x", "https://***@hub/x"),
        ("Authorization: Bearer hf_x", "Authorization: Bearer ***"),
        ("key hf_AbCdEfGhIjKlMnOpQrStUvWx.", "key hf_***."),
        (f"{Path.home()}/data/x {Path.home()}2/y", f"~/data/x {Path.home()}2/y"),
    ],
)
def test_tokens_and_the_home_folder_are_blotted_out(text, clean):
    assert redact(text) == clean
    assert redacted({"a": [text], "hub_token": "abc", "pad_tokens": 3}) == {"a": [clean], "pad_tokens": 3}
