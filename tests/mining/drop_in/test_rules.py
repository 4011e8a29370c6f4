"""The bounds, ranks and depths of ``mine_hard_negatives``, each alone."""

from __future__ import annotations

import numpy as np
import pytest

from hf_posmine.core.types import Exclusions
from hf_posmine.data.corpus import Corpus
from hf_posmine.mining.drop_in.rules import AmongSurvivors, ClosedBound, WithinDepth
from hf_posmine.teachers.vectors import VectorTeacher

POSITIVES = np.array([0.5, -0.5, 0.0], np.float32)


@pytest.mark.parametrize(
    ("parameter", "value", "highest"),
    [
        ("absolute_margin", 0.25, [0.25, -0.75, -0.25]),
        ("absolute_margin", -0.25, [0.75, -0.25, 0.25]),
        ("absolute_margin", 0, [0.5, -0.5, 0.0]),
        ("relative_margin", 0.5, [0.25, -0.75, 0.0]),
        ("relative_margin", -0.5, [0.75, -0.25, 0.0]),
        ("max_score", 0, [0.0, 0.0, 0.0]),
        ("max_score", -0.125, [-0.125, -0.125, -0.125]),
    ],
)
def test_the_bound_itself_is_below_the_ceiling_and_the_next_number_is_not(parameter, value, highest):
    ceiling = ClosedBound(parameter, value).ceiling(POSITIVES)
    highest = np.array(highest, np.float32)
    assert (highest < ceiling).all()
    assert (np.nextafter(highest, np.float32(1)) >= ceiling).all()
    assert np.isneginf(ClosedBound(parameter, value).floor(POSITIVES)).all()


def test_min_score_is_a_floor_alone():
    bound = ClosedBound("min_score", -0.25)
    assert bound.floor(POSITIVES).tolist() == [-0.25] * 3
    assert np.isposinf(bound.ceiling(POSITIVES)).all()


def test_the_first_survivors_are_skipped():
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32)
    keep = np.array([[True, False, True, True, True]])
    assert AmongSurvivors(1, 3, random=False).pick(scores, keep, 3, None).tolist() == [[2, 3, -1]]
    assert AmongSurvivors(1, None, random=False).pick(scores, keep, 3, None).tolist() == [[2, 3, 4]]
    assert AmongSurvivors(1, 3, random=False).pool(2) == AmongSurvivors(1, 3, random=True).pool(2) == 3


@pytest.mark.parametrize(("depth", "found"), [(2, [1]), (3, [1, 3]), (4, [1, 3]), (5, [1, 3, 4])])
def test_excluded_documents_count_for_the_depth(depth, found):
    """Documents score 0.9, 0.8, 0.7, ...; 0 and 2 are the positives; 3 ranks third, 2 being above it."""
    scores = np.array([0.95, 0.9, 0.6, 0.8, 0.5])
    vectors = np.stack([scores, np.sqrt(1 - scores**2)], axis=1)
    corpus = Corpus.from_texts(list("abcde"))
    teacher = VectorTeacher(corpus, vectors, ["q"], [[1.0, 0.0]])
    ranking = WithinDepth(teacher, depth).search(["q"], 5, exclude=Exclusions.of([[0, 2]]))
    assert [row for row in ranking.doc_ids[0].tolist() if row >= 0] == found
    assert np.isneginf(ranking.scores[ranking.doc_ids < 0]).all()


def test_documents_above_the_ceiling_count_for_the_depth():
    corpus = Corpus.from_texts(list("abcd"))
    teacher = VectorTeacher(corpus, [[1.0, 0], [0.8, 0.6], [0.6, 0.8], [0, 1.0]], ["q"], [[1.0, 0.0]])
    below = np.array([0.7], np.float32)
    assert WithinDepth(teacher, 3).search(["q"], 2, below=below).doc_ids.tolist() == [[2, -1]]
    assert WithinDepth(teacher, 2).search(["q"], 2, below=below).doc_ids.tolist() == [[-1, -1]]
    assert WithinDepth(teacher, 2).search(["q"], 2, below=below).above.tolist() == [2]
