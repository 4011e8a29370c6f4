"""Quotas per group, mined as deep as they need: as a plain walk through all documents takes them."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.quotas import PerGroup
from hf_posmine.evaluation import sweep
from hf_posmine.teachers import RandomTeacher, StoredRun
from tests.conftest import ToyModel
from tests.core.test_quotas import walk

WORDS = "red green blue cat dog bird sky sea tree stone house river".split()


@settings(max_examples=15)
@given(
    st.lists(st.sampled_from([None, "de", "en", "zh"]), min_size=60, max_size=60), st.integers(1, 2), st.integers(1, 7)
)
def test_the_negatives_are_those_of_a_walk_through_all_documents(languages, most, n):
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, 4)) + f" {at}" for at in range(60)]
    rows = [{"query": " ".join(rng.choice(WORDS, 3)), "positive": texts[at]} for at in range(4)]
    corpus = [{"text": text, "lang": language} for text, language in zip(texts, languages, strict=True)]
    how = {
        "filters": ["PercPos(0.99)", PerGroup("lang", most)],
        "num_negatives": n,
        "teacher_options": {"fingerprint": "toy"},
    }
    miner = PositiveAwareMiner.from_dataset(
        Dataset.from_list(rows), ToyModel(), corpus=corpus, keep=("ids", "ranks"), **how
    )
    mined = mine(Dataset.from_list(rows), miner)
    every = np.arange(60)
    for row, negatives, ranks in zip(rows, mined["negatives"], mined["negatives_ranks"], strict=True):
        scores = miner.teachers[0].score([row["query"]], every[None])[0]
        own = texts.index(row["positive"])
        order = sorted((at for at in every.tolist() if at != own), key=lambda at: (-scores[at], at))
        below = scores[order] < scores[own] - abs(scores[own]) * np.float32(0.01)
        kept = walk([languages[at] for at in order], below, most)
        assert negatives == [texts[at] for at, fine in zip(order, kept, strict=True) if fine][:n]
        assert ranks == [rank for rank, fine in enumerate(kept) if fine][:n]


def test_documents_of_a_rare_language_are_found_behind_thousands_of_others(toy_model):
    texts = [f"red cat {at}" for at in range(3000)] + ["stone river", "a red stone"]
    corpus = [{"text": text, "lang": "en" if text.startswith("red") else "sw"} for text in texts]
    rows = Dataset.from_list([{"query": "red cat", "positive": texts[0]}])
    how = {"filters": 'PerGroup("lang", 1)', "num_negatives": 2, "teacher_options": {"fingerprint": "toy"}}
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, toy_model, corpus=corpus, **how))
    assert [text.startswith("red") for text in mined["negatives"][0]] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": "PerGroup('lang', 1)"}, "PerGroup column='lang': the corpus keeps no such column"),
        ({"filters": "PerGroup('lang', 1)", "on_short": "random"}, "on_short='random' fills rows wherever"),
        ({"filters": "PerGroup('lang', 1)", "sampler": "IntraSample()"}, "counts the candidates of one teacher"),
    ],
)
def test_a_quota_that_cannot_hold_is_refused(options, message):
    rows = Dataset.from_dict({"query": ["q"], "positive": ["a"]})
    with pytest.raises(InputError, match=message):
        PositiveAwareMiner.from_dataset(rows, "random", corpus=Corpus.from_texts(["a", "b"]), **options)


def test_what_keeps_no_columns_of_the_corpus_refuses_quotas():
    rows = Dataset.from_dict({"query": ["red cat", "sea"], "positive": ["a red cat", "the sea"]})
    with pytest.raises(SpecError, match="a sweep keeps none; mine with it"):
        sweep(
            StoredRun.build(RandomTeacher(Corpus.from_texts(rows["positive"])), rows, 2),
            rows,
            filters=["PerGroup('lang', 1)"],
        )
