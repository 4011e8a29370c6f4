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
    found, causal = computed(family["eager"], inputs, prompt), expected(family["eager"], rows, causal=True)
    for (states, _), (wrong, _) in zip(found, causal, strict=True):
        assert np.abs(states - wrong).max() > 0.1
    assert max(np.abs(mine[1] - wrong[1]).max() for mine, wrong in zip(found, causal, strict=True)) > 0.1


def test_the_causal_oracle_is_the_causal_decoder(family):
    """So that the distance above is that of causality, and not of a mistake in the oracle's mask."""
    model = family["eager"]
    rows, inputs, prompt = ROWS["none"]
    model[0].config.is_causal = True
    try:
        for (states, _), (wrong, _) in zip(
            computed(model, inputs, prompt), expected(model, rows, causal=True), strict=True
        ):
            np.testing.assert_allclose(states, wrong, rtol=0, atol=1e-5)
    finally:
        model[0].config.is_causal = False


def states_of(model, ids: list[list[int]]) -> torch.Tensor:
    """States ``[T, d]`` of the first of the rows, in one padded batch."""
    longest = max(map(len, ids))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    padded = torch.tensor([row + [5] * (longest - len(row)) for row in ids])
    with torch.inference_mode():
        output = model[0].model(input_ids=padded, attention_mask=mask).last_hidden_state
    return output[0, : len(ids[0])]


def test_the_last_token_moves_the_first_state(family):
    for model in family.values():
        first, second = states_of(model, [[1, 300, 301, 302]]), states_of(model, [[1, 300, 301, 303]])
        assert (first[0] - second[0]).abs().max() > 1e-2


def test_neighbours_and_padding_do_not_matter(family):
    for model in family.values():
        alone = states_of(model, [[1, 300, 301, 302]])
        torch.testing.assert_close(
            states_of(model, [[1, 300, 301, 302], [1, *range(300, 320)]]), alone, rtol=0, atol=1e-5
        )
        alone = [model.encode_query([text])[0] for text in TEXTS]
        np.testing.assert_allclose(model.encode_query(TEXTS), alone, rtol=0, atol=1e-6)


def test_permuted_rows_give_permuted_vectors(family):
    rows, order = [("why", TEXTS[0]), TEXTS[1], ("", TEXTS[2]), (INSTRUCTION, TEXTS[3])], [2, 0, 3, 1]
    for model in family.values():
        with torch.inference_mode():
            vectors = model(model.preprocess(rows))["sentence_embedding"]
            permuted = model(model.preprocess([rows[i] for i in order]))["sentence_embedding"]
        torch.testing.assert_close(permuted, vectors[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_token_is_pooled_on_request(side):
    model = random_encoder(pooling="lasttoken")
    model.tokenizer.padding_side = side
    rows, inputs, prompt = ROWS["per row"]
    for (_, vector), (states, _) in zip(computed(model, inputs, prompt), expected(model, rows), strict=True):
        np.testing.assert_allclose(vector, oracle.masked_mean(states[-1:], [True]), rtol=0, atol=1e-5)


def test_instructions_are_pooled_on_request():
    model = random_encoder()
    model.set_pooling_include_prompt(True)
    rows, inputs, prompt = ROWS["per row"]
    for (_, vector), (states, _) in zip(computed(model, inputs, prompt), expected(model, rows), strict=True):
        np.testing.assert_allclose(vector, oracle.masked_mean(states, [True] * len(states)), rtol=0, atol=1e-5)
