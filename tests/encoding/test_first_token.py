"""The last layer of a cross-encoder for first tokens alone, against the whole layer, and models that need the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_posmine.encoding.first_token import ROWS, first_token_alone
from hf_posmine.teachers.cross_encoder import score_pairs
from tests.support import tiny
from tests.support.tiny import WORDS


@pytest.fixture
def model(tmp_path_factory):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(tiny.cross(tmp_path_factory.mktemp("cross") / "model")), device="cpu")


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(4)
    return [tuple(" ".join(rng.choice(WORDS, size=rng.integers(1, 20))) for _ in range(2)) for _ in range(60)]


def whole(model, pairs) -> np.ndarray:
    return np.array([model.predict([pair], show_progress_bar=False)[0] for pair in pairs])


def seen(model) -> list[int]:
    """How many states each feed-forward block is given, while it is filled by passes."""
    counts = []
    for layer in model[0].auto_model.bert.encoder.layer:
        layer.intermediate.register_forward_pre_hook(lambda _, states: counts.append(states[0].shape[:2].numel()))
    return counts


def test_scores_are_those_of_the_whole_layer_and_not_of_its_other_tokens(model, pairs):
    expected = whole(model, pairs)
    with first_token_alone(model) as cut:
        assert cut
    counts = seen(model)
    np.testing.assert_allclose(score_pairs(model, *zip(*pairs, strict=True)), expected, atol=1e-6)
    assert np.std(expected) > 0.01
    layers = len(model[0].auto_model.bert.encoder.layer)
    assert layers > 1
    assert set(counts[layers - 1 :: layers]) == {ROWS} and max(counts[::layers]) > 4 * ROWS
    model.predict(pairs[:1], show_progress_bar=False)  # the user's own passes are as before
    assert counts[-1] == counts[-layers]


def test_a_score_depends_on_its_pair_alone_to_the_bit(model, pairs):
    together = score_pairs(model, *zip(*pairs, strict=True))
    for number in (0, 7, 31):
        assert score_pairs(model, [pairs[number][0]], [pairs[number][1]])[0] == together[number]


def test_a_head_that_reads_every_token_gets_every_token(model, pairs):
    model[0].auto_model.bert.pooler.forward = lambda states: states[:, :2].mean(dim=1)
    with first_token_alone(model) as cut:
        assert not cut
    np.testing.assert_allclose(score_pairs(model, *zip(*pairs, strict=True)), whole(model, pairs), atol=1e-6)


def test_layers_that_come_later_are_noticed(model, pairs):
    encoder = model[0].auto_model.bert.encoder
    encoder.layer = encoder.layer[:1]
    with first_token_alone(model) as cut:
        assert cut
    encoder.layer.append(type(encoder.layer[0])(model[0].auto_model.config).eval())
    np.testing.assert_allclose(score_pairs(model, *zip(*pairs, strict=True)), whole(model, pairs), atol=1e-6)


def test_half_precision_and_other_models_run_as_they_do(model):
    with first_token_alone(torch.nn.Sequential(torch.nn.Linear(2, 2))) as cut:
        assert not cut
    with first_token_alone(model.to(torch.bfloat16)) as cut:
        assert not cut
