"""Presets, and labels for distillation."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from hf_posmine import Corpus, IntraSample, PositiveAwareMiner, RankWindow, Uniform
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.mining.labels import to_margin_mse
from hf_posmine.mining.presets import RAGATOUILLE_MODELS, ragatouille
from hf_posmine.teachers import RandomTeacher

disable_progress_bars()


@pytest.mark.parametrize(
    ("language", "size", "model"),
    [
        ("en", "small", "BAAI/bge-small-en-v1.5"),
        ("zh", "base", "thenlper/gte-base-zh"),
        ("fr", "small", "OrdalieTech/Solon-embeddings-base-0.1"),
        ("fr", "large", "OrdalieTech/Solon-embeddings-large-0.1"),
        ("de", "large", "intfloat/multilingual-e5-large"),
    ],
)
def test_the_teacher_follows_language_and_size(language, size, model):
    recipe = ragatouille(language, 100_000, size=size)
    assert recipe["teacher"] == model
    assert ("query_prompt" in recipe["teacher_options"]) == ("e5" in model)


@pytest.mark.parametrize(
    ("documents", "window"),
    [(10**6, RankWindow(10, 110)), (1100, RankWindow(10, 110)), (1099, RankWindow(10, 109)), (200, RankWindow(10, 20))],
)
def test_the_window_shrinks_with_the_corpus(documents, window):
    recipe = ragatouille("en", documents)
    assert recipe["filters"] == [window]
    assert recipe["sampler"] == Uniform(window.last - window.first)


@pytest.mark.parametrize(
    ("documents", "n", "random"), [(199, 10, True), (200, 10, False), (110, 1, False), (109, 1, True)]
)
def test_a_tiny_collection_gets_random_negatives(documents, n, random):
    assert (ragatouille("en", documents, num_negatives=n)["teacher"] == "random") == random


def test_the_preset_mines_inside_its_window(sample_corpus, sample_pairs):
    recipe = ragatouille("en", len(sample_corpus), num_negatives=3) | {"teacher": "bm25", "keep": "ranks"}
    miner = PositiveAwareMiner.from_dataset(
        sample_pairs, corpus=sample_corpus, positive_id_column="positive_id", **{"filters": (), **recipe}
    )
    ranks = np.array(sample_pairs.map(miner, batched=True)["negatives_ranks"][:])
    assert ranks.shape == (len(sample_pairs), 3)
    assert ranks.min() == 10 and ranks.max() == min(110, len(sample_corpus) // 10) - 1


def test_an_unknown_size_is_refused():
    assert {len(models) for models in RAGATOUILLE_MODELS.values()} == {3}
    with pytest.raises(InputError, match="size='huge'"):
        ragatouille("en", 1000, size="huge")


def test_margins_are_those_of_the_teacher_of_each_negative():
    corpus = Corpus.from_texts([f"d{i}" for i in range(30)])
    rows = Dataset.from_dict({"query": ["q", "r"], "positive": ["d3", "d4"]})
    teachers = [RandomTeacher(corpus, seed=seed) for seed in (0, 1)]
    options = {"corpus": corpus, "positive_column": "positive", "num_negatives": 2, "keep": "scores"}
    one = rows.map(PositiveAwareMiner(teachers=teachers[0], **{"filters": (), **options}), batched=True)
    both = rows.map(
        PositiveAwareMiner(teachers=teachers, sampler=IntraSample(), **{"filters": (), **options}), batched=True
    )
    for mined, by in ((one, [0, 0]), (both, [0, 1])):
        ready = to_margin_mse(DatasetDict(train=mined))["train"]
        assert ready.column_names == ["query", "positive", "negative_1", "negative_2", "label"]
        for row in ready:
            for i, teacher in enumerate(by):
                pair = teachers[teacher].score_texts([row["query"]] * 2, [row["positive"], row[f"negative_{i + 1}"]])
                assert row["label"][i] == pytest.approx(float(pair[0]) - float(pair[1]), abs=1e-6)
    with pytest.raises(ColumnError, match="keep=\\('scores',\\)"):
        to_margin_mse(rows.add_column("negatives", [["a"], ["b"]]))
