"""A mining run that takes milliseconds: colours and animals, scored by the tiny model of conftest.py on the loopback Hub."""

from __future__ import annotations

import itertools
from typing import Any

from datasets import Dataset, DatasetDict

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, Qrels

WORDS = ["red", "green", "blue", "cat", "dog", "fox", "sun", "moon"]
KEEP = ("scores", "ids", "ranks", "stats")


def make_pairs(number: int = 24) -> Dataset:
    texts = [" ".join(words) for words in itertools.permutations(WORDS, 3)]
    rows = {"query": texts[:number], "positive": texts[100 : 100 + number], "note": list(range(number))}
    return Dataset.from_dict(rows)


def make_splits() -> DatasetDict:
    pairs = make_pairs()
    return DatasetDict(train=pairs.select(range(16)), test=pairs.select(range(16, 24)))


def make_miner(rows: Any, teacher: Any, **options: Any) -> PositiveAwareMiner:
    options = {"filters": ["PercPos(0.99)"], "num_negatives": 2, "keep": KEEP} | options
    return PositiveAwareMiner.from_dataset(rows, teacher, **{"filters": (), **options})


def miner_over(rows: Dataset, corpus: Corpus, teacher: Any, **options: Any) -> PositiveAwareMiner:
    """As ``from_dataset`` would not make it: the corpus alone, without the positives."""
    known = Qrels.from_dataset(rows, "query", "positive")
    dense = DenseTeacher(teacher, corpus, queries=known.queries)
    return PositiveAwareMiner(
        corpus=corpus,
        teachers=dense,
        known_positives=known,
        positive_column="positive",
        num_negatives=2,
        keep=KEEP,
        **{"filters": (), **options},
    )
