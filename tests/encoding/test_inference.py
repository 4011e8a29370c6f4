"""Linear layers by oneDNN: the same products as torch's to rounding, rows that do not depend on others, and what stays torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_posmine.encoding import inference as module
from hf_posmine.encoding.inference import by_onednn, inference

CPU = torch.device("cpu")
SHAPES = [(5,), (1, 5), (1, 1, 5), (2, 5), (3, 4, 5), (2, 3, 4, 5), (0, 5), (3, 0, 5)]


@pytest.fixture
def forced(monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch lacks oneDNN")
    monkeypatch.setattr(module, "by_onednn", lambda: True)


@pytest.fixture
def calls(monkeypatch, forced):
    """How many linear layers oneDNN computes."""
    seen, product = [], module._onednn
    monkeypatch.setattr(module, "_onednn", lambda *args: (seen.append(args), product(*args))[1])
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_is_that_of_float64(calls, shape, bias):
    generator = torch.Generator().manual_seed(len(shape))
    layer, states = torch.nn.Linear(5, 7, bias=bias), torch.randn(shape, generator=generator)
    with inference(CPU):
        found = layer(states)
    weight, offset = layer.weight.detach().double(), layer.bias.detach().double() if bias else 0
    expected = states.double() @ weight.T + offset
    assert found.shape == expected.shape and len(calls) == (states.numel() > 0)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_views_are_read_as_they_are(calls):
    states, weight = torch.randn(6, 10)[:, ::2], torch.randn(5, 7).T
    with inference(CPU):
        found = torch.nn.functional.linear(states.view(2, 3, 5), weight)
    np.testing.assert_allclose(found.reshape(6, 7), states.double() @ weight.double().T, atol=1e-5)
    assert len(calls) == 1


@pytest.mark.parametrize(("inputs", "outputs"), [(384, 384), (384, 1536), (1536, 384), (33, 1000), (100, 1)])
def test_a_row_does_not_depend_on_how_many_there_are(inputs, outputs):
    if not by_onednn():
        pytest.skip("linear layers are not computed by oneDNN on this processor")
    states, layer = torch.randn(700, inputs), torch.nn.Linear(inputs, outputs)
    with inference(CPU):
        whole = layer(states)
        for rows in (*range(1, 70), 127, 128, 129, 255, 384, 511, 699):
            assert torch.equal(layer(states[rows % 3 : rows % 3 + rows]), whole[rows % 3 : rows % 3 + rows]), rows


def test_other_types_and_other_devices_stay_torchs(calls):
    for dtype in (torch.bfloat16, torch.float64):
        layer, states = torch.nn.Linear(5, 7, dtype=dtype), torch.randn(3, 5, dtype=dtype)
        with inference(CPU):
            assert torch.equal(layer(states), torch.nn.functional.linear(states, layer.weight, layer.bias))
    mixed = torch.randn(3, 5), torch.randn(7, 5, dtype=torch.float64)
    with inference(CPU), pytest.raises(RuntimeError, match="dtype"):
        torch.nn.functional.linear(*mixed)
    with inference(torch.device("meta")):
        torch.nn.Linear(5, 7)(torch.randn(3, 5))
    assert not calls


def test_autocast_is_left_to_torch(calls):
    layer, states = torch.nn.Linear(5, 7), torch.randn(3, 5)
    with inference(CPU), torch.autocast("cpu", torch.bfloat16):
        assert layer(states).dtype == torch.bfloat16
    assert not calls


def test_a_weight_of_a_class_of_its_own_is_left_to_it(calls):
    class Doubled(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            plain = [arg.as_subclass(torch.Tensor) if isinstance(arg, cls) else arg for arg in args]
            return 2 * func(*plain, **(kwargs or {}))

    states, weight = torch.randn(3, 5), torch.randn(7, 5)
    with inference(CPU):
        found = torch.nn.functional.linear(states, weight.as_subclass(Doubled))
    np.testing.assert_allclose(found, 2 * states @ weight.T, atol=1e-5)


def test_gradients_are_those_of_torch_outside(calls):
    layer = torch.nn.Linear(5, 7)
    with inference(CPU):
        assert not layer(torch.randn(3, 5)).requires_grad
    layer(torch.randn(3, 5)).sum().backward()
    assert layer.weight.grad is not None and len(calls) == 1


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
def test_without_the_operator_torch_computes(monkeypatch, error):
    def refuse(*_):
        raise error("no such operator")

    by_onednn.cache_clear()
    monkeypatch.setattr(module, "_onednn", refuse)
    try:
        assert not by_onednn()
        with inference(CPU):
            assert torch.nn.Linear(5, 7)(torch.randn(3, 5)).shape == (3, 7)
    finally:
        by_onednn.cache_clear()


def test_where_both_are_alike_nothing_changes(monkeypatch):
    by_onednn.cache_clear()
    monkeypatch.setattr(module, "least_seconds", lambda action: (action(), 1.0)[1])
    try:
        assert not by_onednn()
    finally:
        by_onednn.cache_clear()


def test_vectors_of_a_model_are_the_same_to_rounding(forced, embedded_model, monkeypatch):
    from hf_posmine.encoding.encode import Encoder

    texts = ["a", "what is the capital of France", "Paris " * 40]
    ours = Encoder(embedded_model).encode(texts, "document")
    monkeypatch.setattr(module, "by_onednn", lambda: False)
    torchs = Encoder(embedded_model).encode(texts, "document")
    assert 0 < np.abs(ours - torchs).max() < 1e-6
