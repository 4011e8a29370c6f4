"""The methods of NV-Retriever (arXiv 2407.15831, section 3) on one query, worked by hand.

The positive scores 0.5, and every score is a multiple of 1/32, which float32 holds exactly:

=====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====
a      b      c      d      e      f      g      h      i      j      k      l
0.75   0.625  0.5    0.469  0.438  0.406  0.375  0.344  0.313  0.25   0.188  -0.25
=====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====
"""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner

SCORES = {"positive": 16, "a": 24, "b": 20, "c": 16, "d": 15, "e": 14, "f": 13, "g": 12, "h": 11, "i": 10, "j": 8}
SCORES = {name: count / 32 for name, count in {**SCORES, "k": 6, "l": -8}.items()}
BATCH = {"query": ["query"], "positive": ["positive"]}


class OneDimension:
    """The query is the number 1, a document its score."""

    similarity_fn_name = "dot"

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return np.ones((len(texts), 1), np.float32)

    def encode_document(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([[self.scores[text]] for text in texts], np.float32)


def mine(scores: dict[str, float], **options: object) -> dict[str, list]:
    corpus = Corpus.from_texts(list(reversed(scores)))  # an order that has nothing to do with the scores
    teacher = DenseTeacher(OneDimension(scores), corpus, fingerprint=repr(scores))
    miner = PositiveAwareMiner(
        corpus=corpus, teachers=teacher, positive_column="positive", keep=ALL, **{"filters": (), **options}
    )
    return miner(BATCH)


ALL = ("scores", "ranks", "stats")

METHODS = [
    ("naive top-k", [], "Top()", 4, "abcd"),
    ("top-k shifted by 2", ["SkipTop(2)"], "Top()", 4, "cdef"),
    ("top-k shifted beyond the corpus", ["SkipTop(11)"], "Top()", 4, "l"),
    ("absolute threshold, the candidate at it goes", ["MaxScore(0.5)"], "Top()", 4, "defg"),
    ("margin 1/16: below 0.4375", ["MarginPos(0.0625)"], "Top()", 4, "fghi"),
    ("margin 0: strictly below the positive", ["MarginPos(0)"], "Top()", 4, "defg"),
    ("75% of the positive: below 0.375", ["PercPos(0.75)"], "Top()", 4, "hijk"),
    ("100% of the positive", ["PercPos(1.0)"], "Top()", 4, "defg"),
    ("150% of the positive is as good as naive, but for a", ["PercPos(1.5)"], "Top()", 4, "bcde"),
    ("the lowest of two ceilings", ["PercPos(0.75)", "MaxScore(0.3125)"], "Top()", 4, "jkl"),
    ("ceiling and floor; the candidate at the floor stays", ["PercPos(0.75)", "MinScore(0.25)"], "Top()", 4, "hij"),
    ("top-1 of 1, naive", [], "Top1Sampled(k=1)", 1, "a"),
    ("top-1 of 1, below the ceiling", ["PercPos(0.75)"], "Top1Sampled(k=1)", 1, "h"),
    ("sampling all of k is the top k", ["PercPos(0.75)"], "SampledTopK(k=4)", 4, "hijk"),
    ("ranks count before the ceiling", ["RankWindow(3, 10)", "PercPos(0.75)"], "Top()", 4, "hij"),
    ("a window that the ceiling cuts", ["RankWindow(6, 10)", "PercPos(0.75)"], "Top()", 4, "hij"),
    ("a window above the ceiling is empty", ["RankWindow(0, 5)", "MarginPos(0.0625)"], "Top()", 4, ""),
    ("shifted, then below the ceiling", ["SkipTop(8)", "PercPos(0.75)"], "Top()", 4, "ijkl"),
]


@pytest.mark.parametrize(("filters", "sampler", "n", "expected"), [m[1:] for m in METHODS], ids=[m[0] for m in METHODS])
def test_each_method_takes_the_candidates_worked_out_by_hand(filters, sampler, n, expected):
    mined = mine(SCORES, filters=filters, sampler=sampler, num_negatives=n)
    assert mined["negatives"] == [list(expected)]
    assert mined["negatives_scores"] == [[SCORES[name] for name in expected]]
    assert mined["negatives_ranks"] == [["abcdefghijkl".index(name) for name in expected]]
    assert mined["positive_score"] == [0.5]


def test_the_record_of_the_row_is_the_one_worked_out_by_hand():
    stats = mine(SCORES, filters=["MaxScore(0.5)", "PercPos(0.75)"], num_negatives=4)["negatives_stats"][0]
    counts = {name: stats[name] for name in stats if name.startswith("excluded")}
    assert (stats["reference_score"], stats["ceiling"], stats["ceiling_by"], stats["num_above_ceiling"]) == (
        0.5,
        0.375,
        "PercPos(0.75)",
        7,
    )
    assert {name: count for name, count in counts.items() if count} == {"excluded_positive": 1}


def test_a_negative_positive_lowers_the_ceiling_and_does_not_raise_it():
    """p = -1 and 0.95: the ceiling is -1.05; the plain product p * 0.95 would let -1.04 pass."""
    assert mine({"positive": -1.0, "a": -1.04, "b": -1.06}, filters="PercPos(0.95)")["negatives"] == [["b"]]
