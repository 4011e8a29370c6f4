"""A second opinion while mining, against a walk down each row's list that asks about one pair at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, IntraSample, MiningSummary, PercPos, PositiveAwareMiner, SkipTop, mine
from hf_posmine.core.errors import InputError, SpecError, StoreError
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.rebuild import rebuild
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import MiningRecord
from hf_posmine.teachers import CrossEncoderTeacher, RandomTeacher, cross_encoder  # fmt: skip
from hf_posmine.teachers.cross_encoder import score_pairs
from tests.conftest import ToyModel
from tests.support import tiny
from tests.support.tiny import WORDS
from tests.support.vector_models import HashedPairs

disable_progress_bars()
N = 3


def sentence(rng, most=24) -> str:
    return " ".join(rng.choice(WORDS, size=rng.integers(1, most)))


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    rng = np.random.default_rng(2)
    return Dataset.from_dict(
        {"query": [sentence(rng) for _ in range(30)], "positive": [sentence(rng) for _ in range(30)]}
    )


@pytest.fixture(scope="module")
def corpus(pairs) -> Corpus:
    rng = np.random.default_rng(3)
    return Corpus.from_texts([sentence(rng) for _ in range(80)]).union(pairs["positive"])


@pytest.fixture(scope="module")
def cross(corpus, tmp_path_factory) -> CrossEncoderTeacher:
    return CrossEncoderTeacher(str(tiny.cross(tmp_path_factory.mktemp("cross") / "model")), corpus)


@pytest.fixture(scope="module")
def dense(corpus, tmp_path_factory) -> DenseTeacher:
    return DenseTeacher(ToyModel(), corpus, similarity="cosine", fingerprint="toy", store=tmp_path_factory.mktemp("s"))


def miner_of(pairs, teacher, opinion=None, **options):
    options = {"num_negatives": N, "filters": ["MaxScore(0.8)"], "keep": ("scores", "ids", "ranks", "stats")} | options
    return PositiveAwareMiner.from_dataset(pairs, teacher=teacher, second_opinion=opinion, **{"filters": (), **options})


def one_pair(model, query, text) -> float:
    return float(model.predict([(query, text)], show_progress_bar=False)[0])


def walk(row, model, ceiling, depth):
    """The negatives of a row whose teacher ranked ``row``: asked one after the other until there are N."""
    taken = []
    for text in row["negatives"][:depth]:
        score = one_pair(model, row["query"], text)
        if len(taken) < N and score < ceiling:
            taken.append((text, score))
    return taken


def test_it_turns_down_what_a_walk_down_the_list_would(pairs, dense, cross):
    opinion = SecondOpinion(cross, PercPos(0.9), depth=12)
    mined = pairs.map(miner_of(pairs, dense, opinion), batched=True, batch_size=7)
    deep = pairs.map(miner_of(pairs, dense, num_negatives=12), batched=True)
    turned_down = 0
    for row, all_ in zip(mined, deep, strict=True):
        positive = one_pair(cross.model, row["query"], row["positive"])
        assert row["positive_second_score"] == pytest.approx(positive, abs=1e-5)
        expected = walk(all_, cross.model, positive * 0.9 if positive > 0 else positive * 1.1, 12)
        assert row["negatives"] == [text for text, _ in expected]
        np.testing.assert_allclose(row["negatives_second_scores"], [score for _, score in expected], atol=1e-5)
        last = all_["negatives"].index(row["negatives"][-1]) if row["negatives"] else 11
        if len(row["negatives"]) == N:
            assert row["second_rejected"] >= last + 1 - N
        turned_down += row["second_rejected"]
    assert turned_down > 20
    assert MiningSummary.from_dataset(mined).rejected == turned_down
    assert "candidates rejected by the second opinion" in str(MiningSummary.from_dataset(mined))


def test_ranked_by_the_second_the_best_of_all_asked_come_first(pairs, dense, cross):
    mined = pairs.map(miner_of(pairs, dense, SecondOpinion(cross, rank_by="second", depth=9)), batched=True)
    deep = pairs.map(miner_of(pairs, dense, num_negatives=9), batched=True)
    assert [row["negatives"] for row in mined] != [row["negatives"][:N] for row in deep]
    for row, all_ in zip(mined, deep, strict=True):
        scores = [one_pair(cross.model, row["query"], text) for text in all_["negatives"]]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:N]
        np.testing.assert_allclose(row["negatives_second_scores"], [scores[i] for i in order], atol=1e-5)
        assert row["negatives_ranks"] == [all_["negatives_ranks"][i] for i in order]
        assert row["negatives_scores"] == [all_["negatives_scores"][i] for i in order]


def test_a_sampler_draws_from_those_that_passed(pairs, dense, cross):
    opinion = SecondOpinion(cross, PercPos(0.9), depth=20)
    mined = pairs.map(miner_of(pairs, dense, opinion, sampler="Uniform(k=6)", seed=3), batched=True)
    passed = pairs.map(miner_of(pairs, dense, opinion, num_negatives=6), batched=True)
    top = pairs.map(miner_of(pairs, dense, opinion), batched=True)
    assert mined["negatives"][:] != top["negatives"][:]
    for row, pool in zip(mined, passed, strict=True):
        assert set(row["negatives"]) <= set(pool["negatives"])
        assert len(row["negatives"]) == min(N, len(pool["negatives"]))


def test_in_an_ensemble_every_teachers_candidates_are_scored_by_the_second_opinion(pairs, corpus, dense, cross):
    opinion = SecondOpinion(cross, PercPos(0.9), depth=15)
    options = {"filters": [], "num_negatives": 4}
    both = miner_of(pairs, [dense, RandomTeacher(corpus)], opinion, sampler=IntraSample(dedup=False), **options)
    alone = [
        pairs.map(miner_of(pairs, teacher, opinion, **options), batched=True)
        for teacher in (dense, RandomTeacher(corpus))
    ]
    drawn = pairs.map(
        miner_of(pairs, [dense, RandomTeacher(corpus)], opinion, sampler="CrossSample()", **options), batched=True
    )
    assert len({name for names in drawn["negatives_teachers"] for name in names}) == 2
    for number, row in enumerate(pairs.map(both, batched=True)):
        ours, theirs = (mined[number]["negatives"] for mined in alone)
        expected = [text for turn in zip(ours, theirs, strict=False) for text in turn][:4]
        assert row["negatives"][: len(expected)] == expected
        assert drawn[number]["negatives"] in (ours, theirs)


def test_scores_do_not_depend_on_the_batch_or_the_threads(pairs, dense, cross):
    import torch

    miner = miner_of(pairs, dense, SecondOpinion(cross, PercPos(0.9), depth=12))
    before, results = torch.get_num_threads(), []
    try:
        for threads, size in ((1, 30), (2, 4), (1, 1)):
            torch.set_num_threads(threads)
            results.append(pairs.map(miner, batched=True, batch_size=size, load_from_cache_file=False)[:])
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_pairs_of_nearly_one_length_share_a_pass(cross, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = list(dict.fromkeys((sentence(rng), sentence(rng)) for _ in range(200)))
    shapes, forward = [], cross_encoder._forward
    monkeypatch.setattr(
        cross_encoder, "_forward", lambda m, read: shapes.append(tuple(read["input_ids"].shape)) or forward(m, read)
    )
    scores = score_pairs(cross.model, *zip(*pairs, strict=True))
    assert sum(rows for rows, _ in shapes) == len(pairs) > 4 * len(shapes)
    assert {width for _, width in shapes} == {16, 32, 48, 64}
    alone = [one_pair(cross.model, *pair) for pair in pairs]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert np.std(alone) > 0.01


def test_far_candidates_pass_without_a_question_under_a_band(pairs, dense, cross):
    near = pairs.map(miner_of(pairs, dense), batched=True)
    margins = [row["positive_score"] - score for row in near for score in row["negatives_scores"]]
    band = max(0.0, float(np.median(margins)))
    options = {"depth": 12, "band": band}
    mined = pairs.map(miner_of(pairs, dense, SecondOpinion(cross, PercPos(0.9), **options)), batched=True)
    asked = 0
    for row in mined:
        for score, second in zip(row["negatives_scores"], row["negatives_second_scores"], strict=True):
            assert (second is None) == (score <= np.float64(row["positive_score"]) - band)
            asked += second is not None
    assert 0 < asked < sum(map(len, mined["negatives"]))


def test_it_resumes_travels_to_workers_and_changes_the_fingerprint(pairs, dense, cross, tmp_path):
    def make(opinion):
        return miner_of(pairs, dense, opinion)

    strict, loose, none = make(SecondOpinion(cross, PercPos(0.8))), make(SecondOpinion(cross, PercPos(0.9))), make(None)
    assert len({strict.fingerprint, loose.fingerprint, none.fingerprint}) == 3
    dense.prepare()
    here = pairs.map(strict, batched=True)
    assert "negatives_second_scores" in here.column_names
    assert mine(pairs, strict, work_dir=tmp_path, shard_rows=10)[:] == here[:]
    stream = pairs.to_iterable_dataset().map(strict, batched=True, features=strict.features(pairs.features))
    assert list(stream) == list(here)


def test_the_record_says_it_and_mines_again_from_it(pairs, tmp_path, embedded_model):
    name = f"cross:{tiny.cross(tmp_path / 'model')}"
    opinion = SecondOpinion(name, "PercPos(0.9)", depth=8)
    miner = PositiveAwareMiner.from_dataset(
        pairs, teacher="embedded", second_opinion=opinion, num_negatives=2, keep=("scores", "stats"), filters=()
    )
    mined = pairs.map(miner, batched=True)
    record = provenance(miner, source={"path": "nowhere"}, mined=mined, summary=MiningSummary.from_dataset(mined))
    again = MiningRecord.from_json(record.to_json())
    assert again == record
    said = json.loads(record.to_json())["second_opinion"]
    assert said["filters"] == ["PercPos(0.9)"] and said["depth"] == 8 and said["teacher"]["kind"] == "cross-encoder"
    with pytest.raises(InputError, match="without a commit of the Hub; pass it as Inputs"):
        rebuild({"train": mined}, again, Inputs())
    rebuilt = rebuild({"train": mined}, again, Inputs(teacher=name))
    assert rebuilt.miner.fingerprint == miner.fingerprint
    assert [change for change in rebuilt.changes if change.decisive] == []
    assert pairs.map(rebuilt.miner, batched=True, load_from_cache_file=False)[:] == mined[:]


def test_what_cannot_take_effect_is_refused(pairs, corpus, dense, cross):
    with pytest.raises(InputError, match="neither ranks nor filters has no effect"):
        SecondOpinion(cross)
    with pytest.raises(InputError, match="limits ranks, which are the teacher's; give it to the miner"):
        SecondOpinion(cross, SkipTop(3))
    with pytest.raises(InputError, match="band= has no effect"):
        SecondOpinion(cross, rank_by="second", band=0.1)
    with pytest.raises(InputError, match="rank_by='first'"):
        SecondOpinion(cross, "PercPos(0.9)", rank_by="first")
    with pytest.raises(InputError, match="band=-1"):
        SecondOpinion(cross, "PercPos(0.9)", band=-1)
    with pytest.raises(InputError, match="depth=0; expected a whole number"):
        SecondOpinion(cross, "PercPos(0.9)", depth=0)
    with pytest.raises(InputError, match=r"is not a Teacher, it lacks .*score_texts; pass a CrossEncoderTeacher"):
        SecondOpinion(object(), "PercPos(0.9)")
    with pytest.raises(InputError, match=r"scores at most 2 candidates of a row, Top\(\) wants 3; raise depth="):
        miner_of(pairs, dense, SecondOpinion(cross, "PercPos(0.9)", depth=2))
    with pytest.raises(InputError, match="on_short='random' fills rows without a second opinion"):
        miner_of(pairs, dense, SecondOpinion(cross, "PercPos(0.9)"), on_short="random")
    other = CrossEncoderTeacher(cross.name, Corpus.from_texts(["a", "b"]))
    with pytest.raises(InputError, match="the teacher scores a corpus of 2 documents"):
        miner_of(pairs, dense, SecondOpinion(other, "PercPos(0.9)"))
    with pytest.raises(InputError, match="names no model; write cross:<Hub id or folder>"):
        miner_of(pairs, dense, SecondOpinion("cross:", "PercPos(0.9)"))


def test_percentages_of_logits_are_refused(corpus, tmp_path):
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny.cross(tmp_path / "model")), device="cpu", activation_fn=torch.nn.Identity())
    logits = CrossEncoderTeacher(model, corpus)
    assert logits.score_kind == "logit"
    with pytest.raises(SpecError, match="logit"):
        SecondOpinion(logits, "PercPos(0.9)")
    SecondOpinion(logits, "MarginPos(0.5)")


def test_a_live_model_does_not_travel_and_a_changed_one_is_noticed(corpus, tmp_path):
    import pickle

    from sentence_transformers import CrossEncoder

    live = CrossEncoderTeacher(CrossEncoder(str(tiny.cross(tmp_path / "model")), device="cpu"), corpus)
    with pytest.raises(StoreError, match="was passed as a live model"):
        pickle.loads(pickle.dumps(live)).score_texts(["a"], ["b"])
    named = CrossEncoderTeacher(str(tmp_path / "model"), corpus)
    assert named.model_digest == live.model_digest
    changed = CrossEncoder(str(tmp_path / "model"), device="cpu")
    next(changed.parameters()).data.add_(1)
    changed.save_pretrained(str(tmp_path / "model"))
    with pytest.raises(StoreError, match="changed since this teacher was made"):
        pickle.loads(pickle.dumps(named)).score_texts(["a"], ["b"])


class Salted(HashedPairs):
    """The same pairs with other scores."""

    def predict(self, pairs, **options):
        return super().predict([(f"salt {query}", text) for query, text in pairs], **options)


@pytest.mark.parametrize("rank_by", ["teacher", "second"])
def test_a_small_scorer_turns_down_before_a_large_one_is_asked(rank_by, pairs, dense, corpus):
    small, large = HashedPairs(), Salted()
    first = SecondOpinion(CrossEncoderTeacher(small, corpus, fingerprint="small"), "MaxScore(0.2)")
    teacher = CrossEncoderTeacher(large, corpus, fingerprint="large")
    opinion = SecondOpinion(teacher, "MaxScore(0.4)", rank_by=rank_by, depth=12, first=first)
    miner = miner_of(pairs, dense, opinion)
    mined = pairs.map(miner, batched=True, batch_size=7)
    asked, large.asked = large.asked, 0
    deep = pairs.map(miner_of(pairs, dense, num_negatives=12), batched=True)
    for row, all_ in zip(mined, deep, strict=True):
        query, texts = row["query"], all_["negatives"]
        left = [text for text in texts if float(small.predict([(query, text)])[0]) < 0.2]
        scores = {text: float(large.predict([(query, text)])[0]) for text in left}
        left = [text for text in left if scores[text] < 0.4]
        left = sorted(left, key=lambda text: -scores[text]) if rank_by == "second" else left
        assert row["negatives"] == left[:N]
        assert row["negatives_second_scores"] == [np.float32(scores[text]) for text in left[:N]]
        if rank_by == "second":
            assert row["second_rejected"] == len(texts) - len(left)
    alone = Salted()
    teacher = CrossEncoderTeacher(alone, corpus, fingerprint="large")
    without = miner_of(pairs, dense, SecondOpinion(teacher, "MaxScore(0.4)", rank_by=rank_by, depth=12))
    pairs.map(without, batched=True, batch_size=7)
    assert asked < alone.asked if rank_by == "second" else asked <= small.asked
    assert miner.fingerprint != without.fingerprint


def test_a_first_opinion_is_recorded_and_rebuilt(pairs, dense, corpus, cross):
    first = SecondOpinion(cross, "MarginPos(0.1)")
    miner = miner_of(pairs, dense, SecondOpinion(cross, "MarginPos(0.2)", depth=9, first=first))
    record = MiningRecord.from_json(provenance(miner, source={"path": "pairs"}).to_json())
    assert record.second_opinion is not None and record.second_opinion.first is not None
    assert record.second_opinion.first.filters == ("MarginPos(0.1)",)
    inputs = Inputs(dataset=pairs, corpus=corpus, teacher=[dense, cross, cross])
    again = rebuild({"train": pairs}, record, inputs).miner
    assert again.fingerprint == miner.fingerprint and again.second_opinion.first.scorer is cross


def test_a_first_opinion_only_filters(cross):
    with pytest.raises(InputError, match="first= only turns candidates down"):
        SecondOpinion(cross, "MarginPos(0.2)", first=SecondOpinion(cross, rank_by="second"))
