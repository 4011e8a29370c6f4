"""The teacher of one's own in docs/teachers.md: at most 30 lines, and it does what every teacher does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_posmine import Corpus, PercPos, PositiveAwareMiner
from hf_posmine.core.types import Exclusions, Teacher
from hf_posmine.evaluation import sweep
from hf_posmine.mining.provenance import provenance
from hf_posmine.teachers import StoredRun
from tests.contracts.test_index import assert_same, oracle_search

PAGE = Path(__file__).parents[2] / "docs" / "teachers.md"
TEXTS = ["red cat", "blue cat sky", "a red red fox", "sky", "the cat and the fox", "blue"]
QUERIES = ["red cat", "blue sky", "fox"]


@pytest.fixture(scope="module")
def code() -> str:
    return re.search(r"## A teacher of your own\n.*?```python\n(.*?)```", PAGE.read_text(), re.S)[1]


@pytest.fixture(scope="module")
def teacher(code) -> Teacher:
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["WordOverlap"](Corpus.from_texts(TEXTS))


def test_it_has_at_most_30_lines(code):
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


def test_its_search_is_a_sort_of_its_scores_below_a_ceiling(teacher):
    assert isinstance(teacher, Teacher)
    scores = teacher.score(QUERIES, np.tile(np.arange(len(TEXTS)), (3, 1)))
    below, exclude = scores.max(axis=1), Exclusions.of([[3], [], [2]])
    for options in ({}, {"below": below}, {"below": below, "exclude": exclude}):
        assert_same(teacher.search(QUERIES, 4, **options), oracle_search(scores, 4, *options.values()))
    assert np.array_equal(teacher.score_texts(QUERIES, TEXTS[:3]), np.diagonal(scores[:, :3]))
    assert teacher.score(["fox"], np.array([[-1]])).tolist() == [[-np.inf]]


def test_it_mines_and_is_swept_and_stored(teacher, tmp_path):
    pairs = Dataset.from_dict({"query": QUERIES, "positive": TEXTS[:3]})
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, filters=PercPos(0.95), num_negatives=2)
    mined = pairs.map(miner, batched=True)
    assert all(
        positive not in negatives for positive, negatives in zip(pairs["positive"], mined["negatives"], strict=True)
    )
    assert provenance(miner, source={}).teachers[0].name == "word overlap"
    run = StoredRun.build(teacher, pairs, 3, path=tmp_path / "run")
    assert sweep(run, pairs, filters=["PercPos(0.9)"])["yield"][0] > 0
