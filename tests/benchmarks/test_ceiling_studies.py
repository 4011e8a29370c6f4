"""The scripts behind docs/theory.md and docs/benchmarks/teacher_noise.md, on made-up scores: against torch and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.batches import measure as measure_batches
from benchmarks.judged_scores import JudgedScores, N, equal_ceiling, mined, unit
from benchmarks.teacher_noise import LEVELS, measure, ndcg, teacher_scores
from benchmarks.theory import TEMPERATURE, losses, one_draw, score_scale


def made_up(seed: int, queries: int = 12, documents: int = 60) -> JudgedScores:
    rng = np.random.default_rng(seed)
    vectors = [unit(rng.standard_normal((count, 8)).astype(np.float32)) for count in (queries, documents)]
    relevant = rng.random((queries, documents)) < 0.08
    relevant[:, :2] = True
    return JudgedScores("made up", *vectors, vectors[0] @ vectors[1].T, relevant, np.zeros(relevant.shape, bool))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([-0.5, 0.0, 0.3, np.inf]))
def test_the_negatives_are_the_best_below_the_ceiling(seed, ceiling):
    data = made_up(seed)
    found = mined(data.scores, data.relevant, np.full(12, ceiling, np.float32))
    for row, scores in enumerate(data.scores.tolist()):
        below = [d for d, score in enumerate(scores) if score < np.float32(ceiling) and not data.relevant[row, d]]
        wanted = sorted(below, key=lambda d: -scores[d])[:N]
        assert [d for d in found[row] if d >= 0] == wanted


def test_the_equal_ceiling_gives_the_wanted_mean():
    data = made_up(1, 200, 400)
    ceiling = equal_ceiling(data.scores, data.relevant, 0.4)
    found = mined(data.scores, data.relevant, np.full(200, ceiling, np.float32))
    assert np.take_along_axis(data.scores, found, axis=1).mean() == pytest.approx(0.4, abs=0.005)


def test_variances_are_those_that_the_scores_were_drawn_with():
    rng = np.random.default_rng(0)
    scores = (rng.normal(0.5, 0.2, (4000, 1)) + rng.normal(0, 0.1, (4000, 30))).astype(np.float32)
    relevant = np.zeros(scores.shape, bool)
    relevant[:, :5] = True
    relevant[::2, 5:9] = True  # unequal groups
    found = score_scale(JudgedScores("", scores, scores, scores, relevant, np.zeros(scores.shape, bool)))
    assert found["variance_between"] == pytest.approx(0.04, rel=0.08)
    assert found["variance_within"] == pytest.approx(0.01, rel=0.05)


def test_loss_and_gradient_are_those_of_torch():
    data = made_up(3)
    visible, negatives = np.arange(12), np.arange(12, 60).reshape(12, 4)
    negatives[0, 2:] = -1
    false = np.zeros((12, 4), bool)
    found = losses(data.queries, data.documents, visible, negatives, false)
    rows, squares = [], []
    for row in range(12):
        query = torch.tensor(data.queries[row].astype(np.float64), requires_grad=True)
        documents = data.documents[[visible[row], *(d for d in negatives[row] if d >= 0)]].astype(np.float64)
        loss = -torch.log_softmax(torch.tensor(documents) @ query / TEMPERATURE, dim=0)[0]
        loss.backward()
        rows.append(loss.item())
        squares.append((query.grad**2).sum().item())
    assert found["loss_mean"] == pytest.approx(np.mean(rows), rel=1e-5)
    assert found["loss_max"] == pytest.approx(np.max(rows), rel=1e-5)
    assert found["gradient_square"] == pytest.approx(np.mean(squares), rel=1e-4)
    assert found["share_of_false_negatives"] == 0
    assert losses(data.queries, data.documents, visible, negatives, ~false)[
        "share_of_false_negatives"
    ] == pytest.approx(1)


def test_the_bound_of_the_relative_ceiling_holds_in_the_teachers_own_space():
    data = made_up(5, 300, 500)
    found = one_draw(data, (data.queries, data.documents), 0)["PercPos(0.95)"]
    assert found["teacher"]["loss_max"] < np.log1p(N)
    assert found["teacher"] == found["words"]


def test_teachers_get_worse_from_level_to_level_and_the_oracle_has_no_false_negatives():
    data = made_up(7, 60, 300)
    quality = [
        ndcg(teacher_scores(data.scores, data.relevant, level, np.random.default_rng(0)), data.relevant)
        for level in LEVELS
    ]
    assert quality[0] == quality[1] == 1
    assert quality[1] > quality[2] > quality[3] > quality[6]
    oracle = measure(data, "oracle", 0)
    assert oracle["PercPos(0.95)"]["rate"] == 0 < oracle["naive"]["rate"]


def test_the_pairs_of_a_batch_are_counted_as_by_hand():
    data = made_up(9, 6, 6)
    ceilings = np.full(6, 0.1, np.float32)
    found = measure_batches([[0, 1, 2], [3, 4, 5]], data.queries, data.documents, ceilings)
    pairs = [(i, j) for batch in ((0, 1, 2), (3, 4, 5)) for i in batch for j in batch if i != j]
    assert found["pairs_above"] == sum(data.scores[i, j] >= ceilings[i] for i, j in pairs)
    assert found["above_ceiling"] == found["pairs_above"] / 12
