"""Distillation, hardness, other directions, a guide and a moving ceiling: each against plain loops or the stock loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hf_posmine.core.errors import ColumnError, InputError, SpecError
from hf_posmine.core.filters import MaxScore, PercPos
from hf_posmine.training.ceilings import BatchCeiling
from hf_posmine.training.collator import RowCollator, text_columns
from hf_posmine.training.contrast import Contrast, ContrastBatch, row_losses
from hf_posmine.training.distillation import Distillation, distilled
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss, move_ceiling
from hf_posmine.training.row_labels import RowIdentity, row_labels


@given(
    rows=st.integers(1, 4), n=st.integers(1, 5), dim=st.sampled_from([0, 8, 9, 16]), scored=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_labels_give_back_what_was_put_in(rows, n, dim, scored, seed):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**62, (rows, 1 + n))
    scores = rng.normal(size=(rows, n)) if scored else None
    vectors = rng.normal(size=(rows, 1 + n, dim)).astype(np.float32) if dim else None
    choices = rng.integers(-1, 2, rows).tolist()
    read = RowIdentity.from_labels(row_labels(choices, keys, scores, vectors), n, in_batch_negatives=True)
    assert read.in_batch.tolist() == [choice != 0 for choice in choices]
    assert np.array_equal(read.query, keys[:, 0]) and np.array_equal(read.documents, keys[:, 1:])
    assert (read.scores is None) == (scores is None) and (read.guide_queries is None) == (vectors is None)
    if scores is not None:
        assert np.array_equal(read.scores, scores)
    if vectors is not None:
        assert np.array_equal(read.guide_queries, vectors[:, 0])
        assert np.array_equal(read.guide_documents, vectors[:, 1:])


def distilled_by_loops(contrast, similarity, scores, temperature, chosen):
    losses = []
    for loss, cosines, given_scores in zip(contrast, similarity, scores, strict=True):
        if any(math.isnan(score) for score in given_scores):
            losses.append(loss)
            continue
        student, teacher = [c / temperature for c in cosines], [s / chosen.temperature for s in given_scores]
        if chosen.objective == "kl":
            p, q = ([math.exp(x) / sum(map(math.exp, xs)) for x in xs] for xs in (teacher, student))
            learnt = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        else:
            gaps = [(student[0] - s) - (teacher[0] - t) for s, t in zip(student[1:], teacher[1:], strict=True)]
            learnt = sum((gap * temperature) ** 2 for gap in gaps) / len(gaps)
        losses.append((1 - chosen.weight) * loss + chosen.weight * learnt)
    return losses


@given(
    seed=st.integers(0, 2**32 - 1), objective=st.sampled_from(["kl", "margin_mse"]),
    weight=st.sampled_from([0.3, 1.0]), temperature=st.sampled_from([0.5, 2.0]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_distillation_is_that_of_plain_loops_and_rows_without_scores_keep_the_contrast(
    seed, objective, weight, temperature
):
    rng = np.random.default_rng(seed)
    contrast, similarity, scores = rng.random(4), rng.uniform(-1, 1, (4, 3)), rng.normal(size=(4, 3))
    scores[2, 1] = np.nan
    chosen = Distillation(objective, temperature, weight)
    leaf = torch.tensor(similarity, requires_grad=True)
    found = distilled(torch.tensor(contrast), leaf, torch.tensor(scores), 0.2, chosen)
    np.testing.assert_allclose(
        found.detach(), distilled_by_loops(contrast, similarity, scores, 0.2, chosen), rtol=1e-9, atol=1e-12
    )
    found.sum().backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[2].any()


def test_a_student_that_scores_as_its_teacher_has_nothing_left_to_learn():
    torch.manual_seed(0)
    columns = [torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    unit = [torch.nn.functional.normalize(c.detach(), dim=-1) for c in columns]
    scores = torch.stack([(unit[0] * document).sum(1) for document in unit[1:]], dim=1).numpy()
    labels = row_labels([1] * 5, np.arange(20).reshape(5, 4), scores)
    for objective in ("kl", "margin_mse"):
        loss = InfoNCELoss(None, temperature=0.05, distillation=Distillation(objective, 0.05))
        value = loss.compute_loss_from_embeddings(columns, labels)
        assert abs(value.item()) < 1e-12
        assert (
            max(torch.autograd.grad(value, columns, allow_unused=True), key=lambda g: g.abs().max()).abs().max() < 1e-9
        )


STOCK = {
    "hard negatives": {"hardness_mode": "hard_negatives", "hardness_strength": 3.0},
    "in-batch negatives": {"hardness_mode": "in_batch_negatives", "hardness_strength": 2.0},
    "all negatives": {"hardness_mode": "all_negatives", "hardness_strength": 1.0},
    "all directions": {"directions": ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")},
    "documents": {"directions": ("query_to_doc", "doc_to_doc")},
}


@pytest.mark.parametrize("case", STOCK)
@pytest.mark.parametrize("n", [1, 3])
def test_hardness_and_directions_are_those_of_the_stock_loss(case, n):
    torch.manual_seed(1)
    ours = [torch.randn(6, 5, dtype=torch.float64, requires_grad=True) for _ in range(1 + n)]
    stock = [c.detach().clone().requires_grad_() for c in ours]
    loss = InfoNCELoss(None, temperature=0.05, **STOCK[case]).compute_loss_from_embeddings(ours, None)
    expected = MultipleNegativesRankingLoss(None, scale=20, **STOCK[case]).compute_loss_from_embeddings(stock, None)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-10)


def test_other_directions_leave_out_equal_texts_and_rows_without_in_batch_negatives():
    torch.manual_seed(2)
    columns = [torch.randn(4, 5) for _ in range(3)]
    # Rows 0 and 1 have one positive, rows 0 and 3 one query, the negative of row 1 is the positive of row 2.
    keys = np.array([[1, 10, 20], [2, 10, 12], [3, 12, 22], [1, 13, 23]])
    contrast = Contrast(1.0, directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"))
    batch = ContrastBatch.of(columns, row_labels([1, 1, 1, 0], keys), contrast)
    losses, _ = row_losses(batch, contrast)
    q, *d = (torch.nn.functional.normalize(c, dim=-1).double().numpy() for c in columns)
    for row, loss in enumerate(losses.tolist()):
        texts, others = set(keys[row, :2]), [j for j in range(4) if row not in (j, 3)]
        queries = [j for j in others if keys[j, 0] not in texts]
        documents = [(j, k) for j in others for k in (0, 1) if keys[j, 1 + k] not in texts]
        in_batch = [(j, k) for j, k in documents if k or keys[j, 0] != keys[row, 0]]
        logits = [q[row] @ d[k][j] for j, k in (*in_batch, (row, 1))] + [q[row] @ q[j] for j in queries]
        logits += [d[0][row] @ q[j] for j in (*queries, row)] + [d[0][row] @ d[k][j] for j, k in documents]
        own = q[row] @ d[0][row]
        assert loss == pytest.approx(math.log(math.exp(own) + sum(map(math.exp, logits))) - own, rel=1e-5)


def test_the_cached_loss_has_the_gradients_of_the_plain_one_with_everything_on():
    torch.manual_seed(3)
    columns = [torch.randn(7, 8, dtype=torch.float64) for _ in range(3)]
    rng = np.random.default_rng(3)
    labels = row_labels([1] * 7, rng.integers(0, 99, (7, 3)), rng.normal(size=(7, 2)), rng.normal(size=(7, 3, 8)))
    options = {
        "false_negatives": "MaxScore(0.3)", "distillation": Distillation("kl", 1.0, 0.4), "hardness_strength": 2.0,
        "hardness_mode": "all_negatives", "directions": ("query_to_doc", "query_to_query", "doc_to_doc"),
    }  # fmt: skip
    plain = [c.clone().requires_grad_() for c in columns]
    InfoNCELoss(None, **options).compute_loss_from_embeddings(plain, labels).backward()
    parts = [[c[:4].clone().requires_grad_(), c[4:].clone().requires_grad_()] for c in columns]
    cached = CachedInfoNCELoss(torch.nn.Sequential(torch.nn.Identity()), mini_batch_size=3, **options)
    cached.calculate_loss(parts, labels, with_backward=True)
    for column, pieces in zip(plain, parts, strict=True):
        torch.testing.assert_close(column.grad, torch.cat([p.grad for p in pieces]), rtol=1e-9, atol=1e-12)


def test_a_guide_decides_which_documents_are_left_out():
    queries, documents = torch.eye(3, 8), torch.eye(3, 8)  # to the student no document is near another row's query
    guide = np.zeros((3, 2, 8), np.float32)
    guide[0, :, 0] = guide[1, :, 1] = guide[2, :, 0] = 1  # to the guide rows 0 and 2 are the same
    labels = row_labels([1] * 3, np.arange(6).reshape(3, 2), vectors=guide)
    loss = InfoNCELoss(None, temperature=1.0, false_negatives="PercPos(0.95)")
    value = loss.compute_loss_from_embeddings([queries.requires_grad_(), documents], labels)
    assert loss.masked_pairs.take()["above_ceiling"] == 2
    wanted = [math.log(math.e + 1) - 1, math.log(math.e + 2) - 1, math.log(math.e + 1) - 1]
    assert value.item() == pytest.approx(np.mean(wanted), rel=1e-6)


def test_a_ceiling_waits_and_moves_linearly():
    ceiling = BatchCeiling(PercPos(0.9), PercPos(1.0), warmup=0.2)
    assert [ceiling.at(progress) for progress in (0.0, 0.19)] == [None, None]
    assert [round(ceiling.at(p).share, 6) for p in (0.2, 0.6, 1.0)] == [0.9, 0.95, 1.0]
    assert BatchCeiling(MaxScore(0.7)).at(0.5) == MaxScore(0.7)
    loss = InfoNCELoss(None, false_negatives=ceiling)
    assert loss.contrast.false_negatives is None
    move_ceiling(loss, 0.6)
    assert loss.contrast.false_negatives.share == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BatchCeiling(PercPos(0.9), MaxScore(0.9)), "same kind"),
        (lambda: BatchCeiling(PercPos(0.9), warmup=1.0), "share of the steps"),
        (lambda: Contrast(directions=("doc_to_doc",)), "query_to_doc"),
        (lambda: Contrast(directions=("query_to_doc", "sideways")), "sideways"),
        (lambda: Contrast(hardness_mode="all_negatives"), "the strength above 0"),
        (lambda: Contrast(hardness_strength=2.0), "give both"),
        (lambda: Distillation("mse"), r"\['kl', 'margin_mse'\]"),
        (lambda: Distillation("kl", 0), "temperature=0"),
        (lambda: Distillation("kl", 1.0, 1.5), r"weight=1\.5"),
        (lambda: Distillation.of({"objective": "kl"}), "needs the temperature"),
        (lambda: Distillation.of({"temperature": 1, "share": 1}), "no option 'share'"),
    ],
)
def test_what_cannot_be_used_is_refused(make, says):
    with pytest.raises((SpecError, InputError), match=says):
        make()


def collate(rows):
    return RowCollator(lambda items, prompt=None, task=None: {"input_ids": torch.zeros(len(items), 1)})(rows)


def test_scores_reach_the_labels_and_are_no_text():
    rows = [
        {"query": "q", "positive": "p", "negative_1": "n", "scores": [0.9, 0.4]},
        {"query": "r", "positive": "s", "negative_1": "t", "scores": None},
    ]
    assert text_columns(list(rows[0])) == ["query", "positive", "negative_1"]
    scores = RowIdentity.from_labels(collate(rows)["label"], 2, in_batch_negatives=True).scores
    assert scores[0].tolist() == [0.9, 0.4] and scores[1].isnan().all()
    with pytest.raises(ColumnError, match="holds 3 scores in row 0 of a batch with 2 documents a row"):
        collate([rows[0] | {"scores": [0.9, 0.4, 0.1]}])
