"""Hidden states and vectors of every family against numpy float64, whatever computes attention and wherever padding is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models import oracle
from tests.models.conftest import FAMILIES, INSTRUCTION, TEXTS, exported, random_encoder, sentencepiece, tokens_of

PREFIX = f"{INSTRUCTION}: "
ROWS = {
    "one prompt": ([(PREFIX, text) for text in TEXTS], TEXTS, PREFIX),
    "per row": (
        [("why: ", TEXTS[0]), (PREFIX, TEXTS[1]), ("", TEXTS[2]), ("passage? ", TEXTS[3])],
        [("why", TEXTS[0]), {"instruction": INSTRUCTION, "text": TEXTS[1]}, ("", TEXTS[2]), TEXTS[3]],
        "passage? ",
    ),
    "none": ([("", text) for text in TEXTS], TEXTS, None),
}
ATTENTION = ("eager", "sdpa", "posmine_varlen")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Name, tokenizer, and the same random weights under each way to compute attention."""
    tokenizer = sentencepiece()
    found = {}
    for attention in ATTENTION:
        if (request.param, attention) != ("gemma2", "sdpa"):  # transformers has none: sdpa knows no soft cap
            found[attention] = random_encoder(request.param, tokenizer, attn_implementation=attention)
    return found


def expected(model, rows, *, causal=False):
    """States and vector of each row, by the oracle."""
    config, weights = exported(model)
    found = []
    for prefix, text in rows:
        ids, keep = tokens_of(model.tokenizer, prefix, text)
        states = oracle.hidden_states(config, weights, ids, causal=causal)
        found.append((states, oracle.masked_mean(states, keep)))
    return found


def computed(model, inputs, prompt):
    """States and vector of each row, by the model."""
    with torch.inference_mode():
        features = model(model.preprocess(inputs, prompt=prompt))
    states, vectors = features["token_embeddings"], features["sentence_embedding"].numpy()
    if "cu_seq_lens_q" in features:
        rows = states[0].split(features["cu_seq_lens_q"].diff().tolist())
    else:
        rows = [row[mask.bool()] for row, mask in zip(states, features["attention_mask"], strict=True)]
    return [(row.numpy(), vector) for row, vector in zip(rows, vectors, strict=True)]


@pytest.mark.parametrize("which", ROWS)
def test_states_and_vectors_are_the_oracles(family, which):
    rows, inputs, prompt = ROWS[which]
    wanted = expected(family["eager"], rows)
    for attention, model in family.items():
        assert model[0].config._attn_implementation == attention
        for side in ("right", "left"):
            model.tokenizer.padding_side = side
            for (states, vector), (exact_states, exact_vector) in zip(
                computed(model, inputs, prompt), wanted, strict=True
            ):
                np.testing.assert_allclose(states, exact_states, rtol=0, atol=1e-5)
                np.testing.assert_allclose(vector, exact_vector, rtol=0, atol=1e-5)
        model.tokenizer.padding_side = "right"


def test_a_causal_decoder_is_far_from_it(family):
    rows, inputs, prompt = ROWS["one prompt"]
    for (states, vector), (wrong_states, wrong) in zip(
        computed(family["eager"], inputs, prompt), expected(family["eager"], rows, causal=True), strict=True
    ):
        assert np.abs(states - wrong_states).max() > 0.1
        assert np.linalg.norm(vector - wrong) > 0.1


def test_the_causal_oracle_is_the_causal_decoder(family):
    """So that the distance above is that of causality, and not of a mistake in the oracle's mask."""
    model = family["eager"]
    rows, inputs, prompt = ROWS["none"]
    model[0].config.is_causal = True
    try:
        for (states, _), (wrong, _) in zip(computed(model, inputs, prompt), expected(model, rows, causal=True), strict=True):
            np.testing.assert_allclose(states, wrong, rtol=0, atol=1e-5)
    finally:
        model[0].config.is_causal = False
