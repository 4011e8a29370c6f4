"""The embedder at work: equal gradients however they are computed, the trainer, half precision, workers, and mining."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

from hf_posmine import PositiveAwareMiner
from hf_posmine.core.filters import PercPos
from hf_posmine.training.collator import RowCollator
from tests.models.conftest import INSTRUCTION, TEXTS, random_encoder

QUERIES = [
    ("why", "who wrote"),
    (INSTRUCTION, "what is near"),
    ("", "42 ??"),
    "why",
    ("near", "far"),
    ("it", "a question"),
]
DOCUMENTS = [
    "the paper about hard negatives and why it is near",
    "passages that answer it",
    "42",
    "who wrote it ... retrieve the paper that answer what 1234 is for",
    "naïve façade",
    "negatives",
]
NEGATIVES = DOCUMENTS[3:] + DOCUMENTS[:3]


def gradients(model, loss) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step over rows with instructions of their own."""
    model.train()
    features = [
        model.preprocess(QUERIES, task="query"),
        model.preprocess(DOCUMENTS, task="document"),
        model.preprocess(NEGATIVES, task="document"),
    ]
    value = loss(features, labels=None)
    value.backward()
    return value.item(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def cached(**options):
    return lambda model: CachedMultipleNegativesRankingLoss(model, **options)


WAYS = {
    "cached": cached(mini_batch_size=2),
    "cached by tokens": cached(mini_batch_num_tokens=40),
}


@pytest.fixture(scope="module")
def plain():
    model = random_encoder()
    return gradients(model, MultipleNegativesRankingLoss(model))


def checkpoint(model):
    backbone = model[0].model
    if hasattr(backbone, "activation_checkpointing_enable"):
        backbone.activation_checkpointing_enable({"use_reentrant": False})
    else:  # its name in older releases of transformers
        backbone.gradient_checkpointing_enable({"use_reentrant": False})


@pytest.mark.parametrize("attention", ["sdpa", "posmine_varlen"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("way", ["plain", *WAYS])
def test_loss_and_gradients_are_equal_however_they_are_computed(plain, way, checkpointing, attention):
    model = random_encoder(attn_implementation=attention)
    if checkpointing:
        checkpoint(model)
    loss, found = gradients(model, WAYS.get(way, MultipleNegativesRankingLoss)(model))
    assert loss == pytest.approx(plain[0], rel=1e-4)
    assert set(found) == set(plain[1])
    for name, exact in plain[1].items():
        assert (found[name] - exact).norm() <= 1e-4 * exact.norm(), name


def test_instructions_change_the_gradients(plain):
    """So that the equality above is not one of models that drop them."""
    model = random_encoder()
    model.train()
    texts = [text if isinstance(text, str) else text[1] for text in QUERIES]
    features = [model.preprocess(rows) for rows in (texts, DOCUMENTS, NEGATIVES)]
    assert MultipleNegativesRankingLoss(model)(features, labels=None).item() != pytest.approx(plain[0], rel=1e-3)


class Seen:
    """A model's preprocess that remembers how many tokens of each row are left out of the mean."""

    def __init__(self, model, monkeypatch) -> None:
        self.left_out: list[tuple[str | None, list[int]]] = []
        original = type(model[0]).preprocess

        def preprocess(module, inputs, prompt=None, **kwargs):
            features = original(module, inputs, prompt, **kwargs)
            mask = features.get("instruction_mask")
            self.left_out.append((prompt, [0] * len(inputs) if mask is None else mask.sum(1).tolist()))
            return features

        monkeypatch.setattr(type(model[0]), "preprocess", preprocess)


def arguments(folder, **options) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        str(folder),
        per_device_train_batch_size=2,
        max_steps=2,
        learning_rate=1e-2,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )


def test_the_trainer_leaves_out_the_prompts_of_each_data_set(tmp_path, monkeypatch):
    model = random_encoder()
    seen = Seen(model, monkeypatch)
    pairs = Dataset.from_dict({"anchor": TEXTS, "positive": TEXTS[::-1]})
    before = model[0].model.layers[0].mlp.up_proj.weight.detach().clone()
    SentenceTransformerTrainer(
        model=model,
        args=arguments(tmp_path, prompts={"one": {"anchor": "why: "}, "two": {"anchor": f"{INSTRUCTION}: "}}),
        train_dataset={"one": pairs, "two": pairs},
        loss=CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
    ).train()
    lengths = {"why: ": {3}, f"{INSTRUCTION}: ": {9}, None: {0}}
    assert {prompt for prompt, _ in seen.left_out} >= {None}
    assert len({prompt for prompt, _ in seen.left_out}) > 1
    for prompt, counts in seen.left_out:
        assert set(counts) == lengths[prompt]
    assert not torch.equal(before, model[0].model.layers[0].mlp.up_proj.weight)


def test_the_trainer_takes_a_column_of_instructions(tmp_path, monkeypatch):
    model = random_encoder()
    instructions = ["why", "", "", INSTRUCTION]
    rows = Dataset.from_dict({"query": TEXTS, "positive": TEXTS[::-1], "query_instruction": instructions})
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(tmp_path),
        train_dataset=rows,
        data_collator=RowCollator(model.preprocess),
        loss=MultipleNegativesRankingLoss(model),
    )
    seen = Seen(model, monkeypatch)
    trainer.train()
    assert sorted(count for _, counts in seen.left_out for count in counts) == [0] * 6 + [3, 9]
    model.save(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text("utf8")
    assert "<code>query_instruction</code>" in card
    assert "tokens" in card


def test_adapters_are_float32_on_a_bfloat16_base_and_train(tmp_path):
    model = random_encoder(dtype="bfloat16", lora={"r": 4, "lora_dropout": 0.0})
    weights = dict(model.named_parameters())
    adapters = {name: weight.detach().clone() for name, weight in weights.items() if "lora_" in name}
    base = {name: weight.detach().clone() for name, weight in weights.items() if "lora_" not in name}
    assert len(adapters) == 2 * 2 * 7  # down and up, two layers, seven linear maps
    assert {weight.dtype for weight in adapters.values()} == {torch.float32}
    assert {weight.dtype for weight in base.values()} == {torch.bfloat16}
    checkpoint(model)
    SentenceTransformerTrainer(
        model=model,
        args=arguments(tmp_path),
        train_dataset=Dataset.from_dict({"anchor": TEXTS, "positive": TEXTS[::-1]}),
        loss=MultipleNegativesRankingLoss(model),
    ).train()
    assert all(not torch.equal(weights[name], start) for name, start in adapters.items())
    assert all(torch.equal(weights[name], start) for name, start in base.items())


def test_matryoshka_loss_and_truncation():
    model = random_encoder()
    loss = MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model, mini_batch_size=2), [32, 8])
    value, found = gradients(model, loss)
    single = random_encoder()
    full, _ = gradients(single, MultipleNegativesRankingLoss(single))
    assert value > full
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    whole = model.encode_query(TEXTS)
    assert np.array_equal(model.encode_query(TEXTS, truncate_dim=8), whole[:, :8])
    model.truncate_dim = 8
    np.testing.assert_allclose(model.encode_by_tokens(TEXTS, "query"), whole[:, :8], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_half_precision_keeps_the_direction(encoder, dtype, least):
    half = random_encoder(dtype=dtype)
    assert half[0].model.dtype == getattr(torch, dtype)
    vectors = half.encode_query(QUERIES).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (vectors * encoder.encode_query(QUERIES)).sum(axis=1).min() >= least


def test_it_compiles_without_a_break_in_the_graph(encoder):
    features = encoder.preprocess(QUERIES)
    compiled = torch.compile(lambda given: encoder(given)["sentence_embedding"], backend="eager", fullgraph=True)
    with torch.inference_mode():
        found = compiled(dict(features))
        assert (found - encoder(dict(features))["sentence_embedding"]).abs().max() < 1e-6


def test_a_worker_process_gives_the_same_vectors(encoder):
    vectors = encoder.encode_query(
        QUERIES, device=["cpu"], chunk_size=3
    )  # a list of devices starts a pool of processes
    np.testing.assert_allclose(vectors, encoder.encode_query(QUERIES), rtol=0, atol=1e-6)


def test_a_prompt_by_text_and_by_name_is_the_stored_one(encoder):
    """As MTEB calls it: ``encode(sentences, prompt=...)``."""
    vectors = encoder.encode_query(TEXTS)
    prompt = encoder.prompts["query"]
    assert np.array_equal(encoder.encode(TEXTS, prompt=prompt, batch_size=32, convert_to_tensor=False), vectors)
    assert np.array_equal(encoder.encode(TEXTS, prompt_name="query"), vectors)
    assert np.array_equal(encoder.encode([(INSTRUCTION, text) for text in TEXTS]), vectors)
    tensor = encoder.encode(TEXTS, prompt=prompt, convert_to_tensor=True)
    assert np.array_equal(tensor.numpy(), vectors)


@pytest.mark.parametrize("attention", ["sdpa", "posmine_varlen"])
@pytest.mark.parametrize("tokens", [None, 8, 10_000])
def test_batches_by_tokens_give_the_same_vectors(attention, tokens):
    model = random_encoder(attn_implementation=attention)
    found = model.encode_by_tokens(QUERIES, "query", tokens=tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.encode_query(QUERIES), rtol=0, atol=1e-6)
    documents = model.encode_by_tokens(DOCUMENTS, tokens=tokens)
    np.testing.assert_allclose(documents, model.encode_document(DOCUMENTS), rtol=0, atol=1e-6)


def test_it_mines_with_instructions_on_the_query_side(fresh_home):
    model = random_encoder(document_prompt="passage: ")
    queries = ["who wrote it", "why", "what is near", "a question", "42 ??", "far and near"]
    pairs = Dataset.from_dict({"query": queries, "positive": DOCUMENTS})
    filters, share = [PercPos(0.95)], 0.95
    miner = PositiveAwareMiner.from_dataset(pairs, teacher=model, filters=filters, num_negatives=2, keep=("scores",))
    mined = pairs.map(miner, batched=True, batch_size=4)

    q = unit(model.encode([(INSTRUCTION, query) for query in queries]))
    d = unit(model.encode_document(DOCUMENTS))
    assert np.abs(q - unit(model.encode_document(queries))).max() > 0.05
    exact = q @ d.T
    for row, (negatives, scores) in enumerate(zip(mined["negatives"], mined["negatives_scores"], strict=True)):
        below = exact[row, row] - abs(exact[row, row]) * (1 - share)
        allowed = [c for c in np.argsort(-exact[row]) if c != row and exact[row, c] < below][:2]
        assert negatives == [DOCUMENTS[c] for c in allowed], row
        np.testing.assert_allclose(scores, exact[row, allowed], rtol=0, atol=1e-6)
    assert any(mined["negatives"])


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
