"""InfoNCE against loops over rows and documents in float64, the stock loss, and the rules of who is a negative."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import MarginPos, MaxScore, MinScore, PercPos, SkipTop
from hf_posmine.training.collator import RowCollator
from hf_posmine.training.contrast import Contrast, ContrastBatch, row_losses
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
from hf_posmine.training.row_labels import row_labels
from tests.support.distributed import text, tiny_model


def oracle(queries, documents, in_batch, query_keys, document_keys, temperature, ceiling_of):
    """Losses, their mean's gradients, and the left-out pairs (row, owner, column) by reason, one number at a time."""
    unit = lambda v: v / math.sqrt(sum(float(x) ** 2 for x in v))  # noqa: E731
    rows, n = documents.shape[:2]
    losses, query_grad, document_grad = [], np.zeros_like(queries), np.zeros_like(documents)
    left_out = {"same_text": [], "same_query": [], "above_ceiling": []}
    for i in range(rows):
        cos = {(j, k): float(unit(queries[i]) @ unit(documents[j, k])) for j in range(rows) for k in range(n)}
        candidates = [(i, k) for k in range(n)]
        for (j, k), score in cos.items():
            if j == i or not in_batch[i]:
                continue
            if document_keys[j, k] in (document_keys[i, 0], query_keys[i]):
                left_out["same_text"].append((i, j, k))
            elif query_keys[j] == query_keys[i] and k == 0:
                left_out["same_query"].append((i, j, k))
            elif ceiling_of is not None and not np.float32(score) < np.float32(ceiling_of(np.float32(cos[i, 0]))):
                left_out["above_ceiling"].append((i, j, k))
            else:
                candidates.append((j, k))
        weight = {c: math.exp((cos[c] - 1) / temperature) for c in candidates}
        total = sum(weight.values())
        losses.append(-math.log(weight[i, 0] / total))
        for c in candidates:
            slope = (weight[c] / total - (c == (i, 0))) / temperature / rows
            q, d = queries[i], documents[c]
            query_grad[i] += slope * (unit(d) - cos[c] * unit(q)) / np.linalg.norm(q)
            document_grad[c] += slope * (unit(q) - cos[c] * unit(d)) / np.linalg.norm(d)
    return losses, query_grad, document_grad, left_out


CEILINGS = [
    (None, None),
    (PercPos(0.95), lambda p: float(p) - abs(float(p)) * (1 - 0.95)),
    (MarginPos(0.05), lambda p: float(p) - 0.05),
    (MaxScore(0.1), lambda p: 0.1),
]


def labels_of(in_batch, query_keys, document_keys) -> torch.Tensor:
    return row_labels(in_batch.tolist(), np.concatenate([query_keys[:, None], document_keys], axis=1))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 6),
    n=st.integers(1, 4),
    keys=st.sampled_from([4, 1000]),
    mode=st.sampled_from(["on", "off", "mixed"]),
    which=st.integers(0, len(CEILINGS) - 1),
)
def test_loss_gradients_and_counts_are_those_of_plain_loops(seed, rows, n, keys, mode, which):
    rng = np.random.default_rng(seed)
    n = n if mode == "on" else n + 1
    queries, documents = rng.standard_normal((rows, 3)), rng.standard_normal((rows, n, 3))
    query_keys, document_keys = rng.integers(0, keys, rows), rng.integers(0, keys, (rows, n))
    in_batch = {"on": np.ones(rows, int), "off": np.zeros(rows, int), "mixed": rng.integers(0, 2, rows)}[mode]
    filter_, ceiling_of = CEILINGS[which]

    columns = [torch.tensor(c, requires_grad=True) for c in (queries, *documents.swapaxes(0, 1))]
    contrast = Contrast(temperature=0.2, false_negatives=filter_)
    batch = ContrastBatch.of(columns, labels_of(in_batch, query_keys, document_keys), contrast)
    losses, counts = row_losses(batch, contrast)
    losses.mean().backward()

    wanted, query_grad, document_grad, left_out = oracle(
        queries, documents, in_batch, query_keys, document_keys, 0.2, ceiling_of
    )
    np.testing.assert_allclose(losses.detach(), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(columns[0].grad, query_grad, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(torch.stack([c.grad for c in columns[1:]], 1), document_grad, rtol=1e-7, atol=1e-10)
    assert counts.tolist() == [in_batch.sum() * (rows - 1) * n, *map(len, left_out.values())]


@pytest.mark.parametrize("n", [1, 3])
def test_without_labels_and_ceiling_it_is_the_stock_loss(n):
    torch.manual_seed(1)
    ours = [torch.randn(7, 5, requires_grad=True) for _ in range(1 + n)]
    stock = [c.detach().clone().requires_grad_() for c in ours]
    loss = InfoNCELoss(None, temperature=0.05).compute_loss_from_embeddings(ours, None)
    expected = MultipleNegativesRankingLoss(None, scale=20).compute_loss_from_embeddings(stock, None)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_with_in_batch_negatives_off_a_row_does_not_see_the_others():
    torch.manual_seed(2)
    columns = [torch.randn(5, 8) for _ in range(3)]
    changed = [c.clone() for c in columns]
    for c in changed:
        c[1:] = torch.randn(4, 8)
    contrast = Contrast(in_batch_negatives=False)
    before, after = (row_losses(ContrastBatch.of(c, None, contrast), contrast)[0] for c in (columns, changed))
    assert before[0] == after[0]
    assert (before[1:] != after[1:]).all()


def test_the_ceiling_leaves_out_exactly_the_other_rows_documents_that_are_not_strictly_below_it():
    # Row 0 asks (1, 0). Documents of the others lie at cosine 0 (at the ceiling), just below, above; its own negative
    # is above the ceiling and stays: it was mined under the teacher's.
    step = 1e-3
    documents = torch.tensor(
        [[[1.0, 0.2], [1.0, 0.1]], [[0.0, 1.0], [-step, 1.0]], [[step, 1.0], [-1.0, 0.5]]], requires_grad=True
    )
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
    contrast = Contrast(temperature=1, false_negatives=MaxScore(0.0))
    losses, _ = row_losses(ContrastBatch.of([queries, documents[:, 0], documents[:, 1]], None, contrast), contrast)
    (reached,) = torch.autograd.grad(losses[0], documents)
    assert (reached != 0).any(-1).tolist() == [[True, True], [False, True], [False, True]]
    cos = torch.nn.functional.normalize(documents.detach(), dim=-1)[..., 0]
    kept = torch.stack([cos[0, 0], cos[0, 1], cos[1, 1], cos[2, 1]])
    torch.testing.assert_close(losses[0].detach(), torch.logsumexp(kept, 0) - cos[0, 0])


def test_a_row_whose_in_batch_pairs_are_all_left_out_has_loss_zero_and_no_gradient():
    columns = [torch.randn(3, 4, requires_grad=True) for _ in range(2)]
    labels = labels_of(np.ones(3, int), np.full(3, 7), np.full((3, 1), 9))
    loss = InfoNCELoss(None).compute_loss_from_embeddings(columns, labels)
    loss.backward()
    assert loss.item() == 0
    assert not columns[0].grad.any()


def test_rows_without_a_flag_do_what_the_loss_says():
    columns = [torch.randn(4, 6) for _ in range(3)]
    unsaid = labels_of(np.full(4, -1), np.arange(4), np.arange(4, 12).reshape(4, 2))
    for switch in (True, False):
        loss = InfoNCELoss(None, in_batch_negatives=switch)
        said = unsaid.clone()
        said[:, 0] = int(switch)
        without = loss.compute_loss_from_embeddings(columns, None)
        assert loss.compute_loss_from_embeddings(columns, unsaid) == without
        assert loss.compute_loss_from_embeddings(columns, said) == without


def test_bfloat16_autocast_does_not_coarsen_the_similarities():
    columns = [torch.randn(4, 64) for _ in range(3)]
    loss = InfoNCELoss(None)
    exact = loss.compute_loss_from_embeddings(columns, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.compute_loss_from_embeddings(columns, None) == exact


def test_left_out_pairs_are_counted_until_they_are_taken_and_not_in_evaluation():
    loss = InfoNCELoss(None, false_negatives="MaxScore(-1)")
    columns = [torch.eye(3), torch.eye(3), torch.eye(3)]
    labels = labels_of(np.ones(3, int), np.array([1, 1, 2]), np.array([[3, 4], [5, 6], [3, 7]]))
    with torch.no_grad():
        loss.compute_loss_from_embeddings(columns, labels)
    assert loss.masked_pairs.take()["pairs"] == 0
    for _ in range(2):
        loss.compute_loss_from_embeddings(columns, labels)
    # positives of rows 0 and 2 are the same text; rows 0 and 1 ask the same; the rest is not below -1
    assert loss.masked_pairs.take() == {"pairs": 24, "same_text": 4, "same_query": 4, "above_ceiling": 16}
    assert loss.masked_pairs.take()["pairs"] == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model(tmp_path_factory.mktemp("tiny"))), device="cpu").train().double()


def features_of(model, flags):
    rng = np.random.default_rng(3)
    rows = [{c: text(rng) for c in ("query", "positive", "negative_1", "negative_2")} for _ in flags]
    rows[3]["positive"] = rows[0]["positive"]
    rows = [row | {"in_batch_negatives": flag} for row, flag in zip(rows, flags, strict=True)]
    batch = RowCollator(model.preprocess)(rows)
    columns = ["query", "positive", "negative_1", "negative_2"]
    return [{k: batch[f"{c}_{k}"] for k in ("input_ids", "attention_mask")} for c in columns], batch["label"]


def loss_and_gradients(model, loss, features, labels):
    model.zero_grad()
    value = loss(features, labels)
    value.backward()
    return value.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("flags", [[True] * 7, [False] * 7, [True, False] * 3 + [True]], ids=["on", "off", "mixed"])
@pytest.mark.parametrize("mini_batch", [{"mini_batch_size": 3}, {"mini_batch_size": 2, "mini_batch_num_tokens": 20}])
@pytest.mark.parametrize("dims", [None, [16, 8]], ids=["whole", "matryoshka"])
def test_the_cached_loss_is_the_plain_one(model, flags, mini_batch, dims):
    features, labels = features_of(model, flags)
    common = {"temperature": 0.1, "false_negatives": "PercPos(1.0)"}
    plain, cached = InfoNCELoss(model, **common), CachedInfoNCELoss(model, **common, **mini_batch)
    wrap = (lambda loss: MatryoshkaLoss(model, loss, dims)) if dims else (lambda loss: loss)
    value, gradients = loss_and_gradients(model, wrap(plain), features, labels)
    wrapped = wrap(cached)
    other, others = loss_and_gradients(model, wrapped, features, labels)
    torch.testing.assert_close(other, value, rtol=1e-9, atol=0)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-7, atol=1e-9)
    assert cached.masked_pairs.take() == plain.masked_pairs.take()
    with torch.no_grad():
        torch.testing.assert_close(wrapped(features, labels), value, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("filter_", "says"),
    [
        (SkipTop(3), "no ceiling"),
        (MinScore(0.1), "no ceiling"),
        ("PercPos(95)", "did you mean 0.95"),
        ("MaxScore(70)", "did you mean 0.7"),
        ("Hardest(3)", "unknown filter"),
    ],
)
def test_only_filters_with_a_ceiling_mask(filter_, says):
    with pytest.raises(SpecError, match=says):
        InfoNCELoss(None, false_negatives=filter_)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
def test_a_temperature_must_be_above_zero(temperature):
    with pytest.raises(SpecError, match="temperature"):
        InfoNCELoss(None, temperature=temperature)


@pytest.mark.parametrize(
    ("switch", "rows", "columns"), [(True, 4, 1), (True, 1, 2), (False, 4, 2)], ids=["no document", "alone", "off"]
)
def test_a_row_with_nothing_to_contrast_is_an_error(switch, rows, columns):
    loss = InfoNCELoss(None, in_batch_negatives=switch)
    with pytest.raises(InputError, match=r"document column|nothing to be contrasted"):
        loss.compute_loss_from_embeddings([torch.randn(rows, 4)] * columns, None)


@pytest.mark.parametrize("labels", [torch.ones(4), torch.ones(4, 3), torch.ones(4, 5, dtype=torch.int64)])
def test_labels_of_another_kind_are_an_error(labels):
    with pytest.raises(InputError, match="RowCollator"):
        InfoNCELoss(None).compute_loss_from_embeddings([torch.randn(4, 4)] * 2, labels)


def test_the_card_gets_the_settings(model):
    config = CachedInfoNCELoss(model, false_negatives="MarginPos(0.05)", mini_batch_size=8).get_config_dict()
    assert config["false_negatives"] == "MarginPos(0.05)"
    assert (config["temperature"], config["mini_batch_size"], config["in_batch_negatives"]) == (0.02, 8, True)
