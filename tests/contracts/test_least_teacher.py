"""A teacher with exactly the six members of ``Teacher`` passes everything that takes a teacher."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine import Corpus, PositiveAwareMiner, push_dataset, remine
from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, SearchRequest, Teacher
from hf_posmine.evaluation import calibrate, judgements_of_pairs, sweep, teacher_agreement
from hf_posmine.evaluation.negatives.false_negatives import false_negative_rate
from hf_posmine.evaluation.negatives.index_recall import measure_approximation
from hf_posmine.hub.inputs import Inputs
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.execution.encode_share import encode_share
from hf_posmine.mining.execution.local import mine
from hf_posmine.mining.execution.plan import plan_mining
from hf_posmine.mining.provenance import provenance
from hf_posmine.report import MinedRows, write_report
from hf_posmine.search.sharded import search_on
from hf_posmine.teachers import RandomTeacher, StoredRun, capabilities
from tests.hub.conftest import hub  # noqa: F401 - a fixture

MEMBERS = ("name", "score_kind", "fingerprint", "search", "score", "score_texts")
TEXTS = [f"{a} {b}" for a in ("red", "green", "blue", "grey") for b in ("cat", "dog", "fox", "owl", "elk")]


class Least:
    """The six members, in slots: no ``__dict__``, and nothing else that is public."""

    __slots__ = MEMBERS

    def __init__(self, corpus: Corpus) -> None:
        scorer = RandomTeacher(corpus, seed=5)
        self.name, self.score_kind, self.fingerprint = "least", "probability", "least of all"
        self.search, self.score, self.score_texts = scorer.search, scorer.score, scorer.score_texts


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    """Every query with two positives."""
    return Dataset.from_dict({"query": [f"q{i // 2}" for i in range(20)], "positive": TEXTS})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_texts(TEXTS, [f"d{i}" for i in range(20)])


@pytest.fixture
def teacher(corpus) -> Least:
    return Least(corpus)


@pytest.fixture
def miner(pairs, corpus, teacher) -> PositiveAwareMiner:
    options = {"filters": "MaxScore(0.9)", "num_negatives": 3, "keep": ("scores", "ids", "stats")}
    return PositiveAwareMiner.from_dataset(pairs, teacher, corpus=corpus, **{"filters": (), **options})


def test_it_has_nothing_beyond_the_protocol(teacher):
    assert isinstance(teacher, Teacher) and not hasattr(teacher, "__dict__")
    assert sorted(name for name in dir(teacher) if not name.startswith("_")) == sorted(MEMBERS)
    for capability in vars(capabilities).values():
        if getattr(capability, "_is_runtime_protocol", False) and capability not in (Teacher, capabilities.Renamable):
            assert not isinstance(teacher, capability), capability


def test_without_one_of_the_six_it_is_refused(corpus):
    for lost in MEMBERS:
        whole = {name: getattr(Least(corpus), name) for name in MEMBERS if name != lost}
        with pytest.raises(InputError, match="is not a Teacher"):
            PositiveAwareMiner(
                corpus=corpus, teachers=type("Part", (), whole)(), positive_column="positive", filters=()
            )


def test_it_mines_and_its_rows_are_recorded_reported_and_pickled(pairs, miner, tmp_path):
    mined = mine(pairs, miner.prepare(), work_dir=tmp_path / "work")
    assert all(len(row) == 3 for row in mined["negatives"])
    record = provenance(miner, source={}, mined=mined)
    assert record.teachers[0].name == "least" and record.teachers[0].recipe == {"kind": "other"}
    report = write_report(MinedRows.of(mined, record=record), tmp_path / "report.html")
    assert report.rows == 20 and "least" in (tmp_path / "report.html").read_text()
    again = pickle.loads(pickle.dumps(miner))
    assert again(pairs[:4]) == miner(pairs[:4])


def test_what_only_some_teachers_can_do_is_not_asked_of_it(pairs, corpus, teacher, miner):
    assert "What least takes is not estimated" in str(plan_mining(miner, 20))
    assert encode_share(miner.teachers) == (0, 0, 0)
    assert measure_approximation(miner, pairs) == []
    miner({**pairs[:2]}, [0, 1], 0)  # with_indices and with_rank
    with pytest.raises(InputError, match="'least' is not searched exactly by vectors"):
        search_on(teacher, ["cpu", "cpu"])
    with pytest.raises(InputError, match="near_duplicates needs a dense teacher"):
        PositiveAwareMiner.from_dataset(pairs, teacher, corpus=corpus, near_duplicates=0.9, filters=())
    wants = [SearchRequest(np.array([1]), 2, np.ones(1, np.float32)), SearchRequest(np.array([], int), 2, np.ones(0))]
    found = capabilities.search_many(teacher, ["q0", "q1"], wants, Exclusions.none(2))
    assert found[0].doc_ids.tolist() == teacher.search(["q1"], 2).doc_ids.tolist() and len(found[1].doc_ids) == 0


def test_it_is_swept_stored_and_compared(pairs, corpus, teacher, tmp_path):
    with pytest.raises(InputError, match="'least' does not know its corpus; pass corpus="):
        StoredRun.build(teacher, pairs)
    run = StoredRun.build(teacher, pairs, 4, path=tmp_path / "run", corpus=corpus)
    methods = {"filters": ["MaxScore(0.5)", "PercPos(0.9)"], "num_negatives": [2]}
    stored, plain = sweep(run, pairs, **methods), sweep(run.teacher, pairs, **methods)
    assert len(stored) == 2 and stored.remove_columns("overlap")[:] is not None and len(plain) == 2
    miner = PositiveAwareMiner.from_dataset(pairs, run, filters=())
    assert provenance(miner, source={}).teachers[0].recipe == {"kind": "other", "stored_depth": 4}
    miner(dict(pairs[:2]), 0)  # a stored run of it takes a rank, too
    agreement = teacher_agreement(pairs, [run, RandomTeacher(corpus, seed=6)], num_negatives=2)
    assert agreement["teacher"] == ["least", "random"]


def test_it_is_calibrated_and_its_false_negatives_are_counted(pairs, corpus, teacher):
    judgements = judgements_of_pairs(pairs, corpus)
    found = calibrate(corpus, judgements, teacher, families={"MaxScore": ["MaxScore(0.5)"]}, resamples=10)
    assert found.points[0].method == "MaxScore(0.5)"
    rate = false_negative_rate(corpus, judgements, judgements.draw_visible(0), teacher, num_negatives=2)
    assert rate.negatives == 20


def test_it_gives_a_second_opinion(pairs, corpus, teacher):
    opinion = SecondOpinion(teacher, "MaxScore(0.5)", depth=10)
    miner = PositiveAwareMiner.from_dataset(
        pairs, RandomTeacher(corpus), corpus=corpus, second_opinion=opinion, filters=()
    )
    assert miner.prepare()(dict(pairs[:4]))["negatives"]
    assert provenance(miner, source={}).second_opinion.teacher.name == "least"


def test_it_is_pushed_and_the_record_says_that_it_has_to_be_given(hub, pairs, corpus, miner, monkeypatch):  # noqa: F811
    monkeypatch.setattr("hf_posmine.hub.push.score_histogram", lambda _: None)
    mined = pairs.map(miner, batched=True)
    push_dataset(mined, "alice/least", miner, report=True)
    files = hub.repo("alice/least").files("main")
    assert json.loads(files["provenance.json"])["teachers"][0]["name"] == "least"
    with pytest.raises(InputError, match="does not say how to make the teacher 'least'"):
        remine("alice/least", inputs=Inputs(corpus=corpus))
