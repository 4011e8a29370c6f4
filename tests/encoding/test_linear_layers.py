"""Linear layers by oneDNN: products and gradients of torch's to rounding, rows that do not depend on others, what stays torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

from hf_posmine.encoding import linear_layers as module
from hf_posmine.encoding.linear_layers import by_onednn, inference, quicker_training

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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES[:6], ids=str)
def test_gradients_are_those_of_float64(calls, shape, bias):
    layer, states, weights = torch.nn.Linear(5, 7, bias=bias), torch.randn(shape), torch.randn(7)
    found = [states.clone().requires_grad_(), *layer.parameters()]
    with quicker_training(layer):
        (layer(found[0]) * weights).square().sum().backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in found]
    (torch.nn.functional.linear(*exact) * weights.double()).square().sum().backward()
    assert len(calls) == 3
    for mine, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine.grad, theirs.grad, atol=1e-4)


def test_what_is_frozen_gets_no_gradient(calls):
    layer = torch.nn.Linear(5, 7).requires_grad_(False)
    states = torch.randn(3, 5, requires_grad=True)
    with quicker_training(layer):
        layer(states).sum().backward()
        assert not layer(torch.randn(3, 5)).requires_grad
    assert layer.weight.grad is None and states.grad is not None
    assert len(calls) == 3  # two forward, one for the states


def test_a_backward_pass_may_come_later(calls):
    layer, states = torch.nn.Linear(5, 7), torch.randn(3, 5)
    with quicker_training(layer):
        loss = layer(states).sum()
    loss.backward()
    np.testing.assert_allclose(layer.weight.grad, states.sum(0).expand(7, 5), atol=1e-5)


def test_a_compiled_layer_gives_the_same(forced):
    layer, states = torch.nn.Linear(5, 7), torch.randn(3, 5)
    compiled, expected = torch.compile(layer, backend="eager"), layer(states)
    with inference(CPU):
        np.testing.assert_allclose(compiled(states), expected.detach(), atol=1e-6)


def test_layers_that_run_again_in_a_backward_pass_are_computed_alike(calls):
    layer, states = torch.nn.Linear(5, 7), torch.randn(3, 5, requires_grad=True)
    with quicker_training(layer):
        torch.utils.checkpoint.checkpoint(layer, states, use_reentrant=False).sum().backward()
    assert len(calls) == 4  # forward twice, and both gradients
    np.testing.assert_allclose(layer.weight.grad, states.detach().sum(0).expand(7, 5), atol=1e-5)


def test_a_model_is_afterwards_what_it_was(calls):
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3), torch.nn.Bilinear(2, 2, 2))
    with pytest.raises(ZeroDivisionError), quicker_training(model):
        assert model[1](model[0](torch.randn(3, 5))).shape == (3, 3)
        raise ZeroDivisionError
    assert len(calls) == 2 and not any("forward" in vars(module) for module in model.modules())
    model[0](torch.randn(3, 5))
    assert len(calls) == 2


def test_a_layer_that_somebody_changed_is_left_to_them(calls):
    before, later = torch.nn.Linear(5, 7), torch.nn.Linear(5, 7)
    before.forward = lambda states: states
    with quicker_training(torch.nn.Sequential(before, later)):
        later.forward = before.forward
        assert before(torch.ones(5)).shape == (5,)
    assert later.forward is before.forward and not calls


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
