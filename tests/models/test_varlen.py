"""Attention without padding against one sequence at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BloomConfig

from hf_posmine.core.errors import InputError
from hf_posmine.models import varlen
from hf_posmine.models.bidirectional import bidirectional_encoder
from hf_posmine.models.varlen import VARLEN, varlen_attention, without_padding
from tests.models.conftest import TEXTS, random_encoder, sentencepiece
from tests.models.oracle import softmax

LENGTHS = [3, 1, 5]
BIDIRECTIONAL, CAUSAL = SimpleNamespace(is_causal=False), SimpleNamespace(is_causal=True)


def rows(heads: int, seed: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(1, heads, sum(LENGTHS), 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def borders() -> dict:
    cu = torch.tensor([0, 3, 4, 9], dtype=torch.int32)
    return {"cu_seq_lens_q": cu, "cu_seq_lens_k": cu, "max_length_q": 5, "max_length_k": 5}


def slowly(query, key, value, scale, cap=None, reach=None) -> np.ndarray:
    """``[tokens, heads, d]``, a head and a sequence at a time, in float64."""
    q, k, v = (tensor[0].double().numpy() for tensor in (query, key, value))
    out = np.empty((q.shape[1], q.shape[0], q.shape[2]))
    for head in range(len(q)):
        group = head * len(k) // len(q)
        start = 0
        for length in LENGTHS:
            own = slice(start, start + length)
            scores = q[head, own] @ k[group, own].T * scale
            scores = scores if cap is None else cap * np.tanh(scores / cap)
            away = np.abs(np.arange(length)[:, None] - np.arange(length))
            scores = np.where(away <= (length if reach is None else reach), scores, -np.inf)
            out[own, head] = softmax(scores) @ v[group, own]
            start += length
    return out


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_each_sequence_attends_to_itself_alone(groups, cap, scale):
    query, key, value = rows(4, 0), rows(groups, 1), rows(groups, 2)
    out, weights = varlen_attention(BIDIRECTIONAL, query, key, value, None, scaling=scale, softcap=cap, **borders())
    assert weights is None
    assert out.is_contiguous()
    np.testing.assert_allclose(out[0], slowly(query, key, value, scale or 0.5, cap), rtol=0, atol=1e-6)


def test_a_padded_batch_with_a_soft_cap_hides_its_padding():
    query, key, value = rows(4, 0), rows(2, 1), rows(2, 2)
    mask = torch.tensor([True] * 7 + [False] * 2)[None, None, None]
    options = {"softcap": 1.5, "is_causal": False}
    out, _ = varlen_attention(BIDIRECTIONAL, query, key, value, mask, **options)
    other = key.clone()
    other[:, :, 7:] = 100.0
    assert torch.equal(varlen_attention(BIDIRECTIONAL, query, other, value, mask, **options)[0], out)
    short, _ = varlen_attention(BIDIRECTIONAL, query, key[:, :, :7], value[:, :, :7], None, **options)
    torch.testing.assert_close(out, short, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("layer", "told"), [(CAUSAL, None), (BIDIRECTIONAL, True), (CAUSAL, True)])
def test_a_causal_layer_is_refused(layer, told):
    with pytest.raises(InputError, match=r"posmine_varlen attends in both directions, but SimpleNamespace is causal"):
        varlen_attention(layer, rows(4, 0), rows(2, 1), rows(2, 2), None, is_causal=told, **borders())


def test_what_the_model_says_wins_over_the_layer():
    query, key, value = rows(4, 0), rows(2, 1), rows(2, 2)
    out, _ = varlen_attention(CAUSAL, query, key, value, None, is_causal=False, **borders())
    np.testing.assert_allclose(out[0], slowly(query, key, value, 0.5), rtol=0, atol=1e-6)


def test_dropout_drops_in_training_alone():
    query, key, value = rows(4, 0), rows(2, 1), torch.ones(1, 2, 9, 4)
    for cap in (None, 1.5):
        torch.manual_seed(0)
        out, _ = varlen_attention(BIDIRECTIONAL, query, key, value, None, dropout=0.5, softcap=cap, **borders())
        assert not torch.allclose(out, torch.ones_like(out))
        kept, _ = varlen_attention(BIDIRECTIONAL, query, key, value, None, dropout=0.0, softcap=cap, **borders())
        torch.testing.assert_close(kept, torch.ones_like(kept))


class Written(TorchDispatchMode):
    """Counts the elements of all tensors that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.elements += sum(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))
        return out


def test_a_training_step_costs_in_proportion_to_the_sequences():
    """A backward pass that wrote the whole batch for each sequence would cost the square of their number."""

    def cost(sequences: int) -> int:
        tensors = [torch.randn(1, 2, 5 * sequences, 4, requires_grad=True) for _ in range(3)]
        cu = torch.arange(0, 5 * sequences + 1, 5, dtype=torch.int32)
        with Written() as written:
            out, _ = varlen_attention(BIDIRECTIONAL, *tensors, None, cu_seq_lens_q=cu, max_length_q=5)
            out.sum().backward()
        return written.elements

    assert cost(64) < 5 * cost(16)


class OnCuda(torch.Tensor):
    """A tensor of the CPU that counts as one of CUDA: the kernel runs there only, and a stand-in takes its place."""

    is_cuda = True


def on_cuda(*tensors):
    return [tensor.as_subclass(OnCuda) for tensor in tensors]


@pytest.fixture
def kernel(monkeypatch):
    """Install a stand-in for torch's kernel with chosen parameters; gives what it was called with."""
    given = {}

    def compute(q, k, v, borders, longest, options):
        given.update(q=q.shape, k=k.shape, borders=borders.tolist(), longest=longest, dtype=q.dtype, **options)
        batch = (tensor.float().transpose(0, 1)[None] for tensor in (q, k, v))
        return torch.from_numpy(
            slowly(*batch, options.get("scale", 0.5), reach=options.get("window_size", (None,))[0])
        ).to(q.dtype)

    def new(q, k, v, cu_q, cu_k, longest_q, longest_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):
        options = {"scale": scale or 0.5, "enable_gqa": enable_gqa}
        return compute(
            q, k, v, cu_q, longest_q, options | ({"window_size": window_size} if window_size != (-1, -1) else {})
        )

    def old(q, k, v, cu_q, cu_k, longest_q, longest_k, is_causal=False):
        assert q.shape[1] == k.shape[1] and not is_causal
        return compute(q, k, v, cu_q, longest_q, {})

    def install(which):
        varlen.kernel_options.cache_clear()
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", {"new": new, "old": old}[which])
        return given

    yield install
    varlen.kernel_options.cache_clear()


def halves(*tensors):
    return [tensor.to(torch.bfloat16) for tensor in tensors]


@pytest.mark.parametrize("which", ["new", "old"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_kernel_gets_tokens_first_and_what_its_release_takes(kernel, which, scale):
    """An older torch has neither a scale nor shared heads: the queries are scaled and the keys repeated."""
    given = kernel(which)
    tensors = halves(rows(4, 0), rows(2, 1), rows(2, 2))
    tensors = [torch.nn.functional.pad(tensor, (0, 4)) for tensor in tensors]  # heads of 8, the second half zero
    scale = scale or 0.5
    out, _ = varlen_attention(BIDIRECTIONAL, *on_cuda(*tensors), None, scaling=scale, **borders())
    assert given["q"] == (9, 4, 8) and given["k"] == (9, 2 if which == "new" else 4, 8)
    assert given["borders"] == [0, 3, 4, 9] and given["longest"] == 5
    if which == "new":
        assert given["enable_gqa"] and given["scale"] == scale
        np.testing.assert_allclose(out[0].float(), slowly(*tensors, scale), rtol=0, atol=0.02)


def test_float32_under_autocast_reaches_the_kernel(kernel, monkeypatch):
    given = kernel("new")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)
    tensors = [torch.nn.functional.pad(rows(heads, seed), (0, 4)) for heads, seed in ((4, 0), (2, 1), (2, 2))]
    out, _ = varlen_attention(BIDIRECTIONAL, *on_cuda(*tensors), None, scaling=0.5, **borders())
    assert given["dtype"] == out.dtype == torch.bfloat16
    np.testing.assert_allclose(out[0].float(), slowly(*tensors, 0.5), rtol=0, atol=0.02)


def test_a_window_reaches_the_kernel(kernel):
    given = kernel("new")
    tensors = halves(*(torch.nn.functional.pad(rows(4, seed), (0, 4)) for seed in range(3)))
    varlen_attention(BIDIRECTIONAL, *on_cuda(*tensors), 1, scaling=0.5, **borders())
    assert given["window_size"] == (1, 1)


@pytest.mark.parametrize(
    ("dtype", "width", "options", "reason"),
    [
        (torch.float32, 8, {}, "takes half precision, not torch.float32"),
        (torch.bfloat16, 8, {"dropout": 1e-9}, "attention_dropout is 1e-09"),
        (torch.bfloat16, 8, {"softcap": 1.5}, "has no soft cap"),
        (torch.bfloat16, 4, {}, "multiples of 8 up to 256, not 4"),
    ],
)
@pytest.mark.parametrize("reach", [None, 1])
def test_what_the_kernel_cannot_do_is_padded_with_one_warning(kernel, recwarn, dtype, width, options, reason, reach):
    given = kernel("new")
    varlen.warn_once.cache_clear()
    tensors = [torch.nn.functional.pad(rows(heads, heads), (0, width - 4)).to(dtype) for heads in (4, 2, 1)]
    tensors[2] = tensors[2].repeat(1, 2, 1, 1)
    for _ in range(2):
        out, _ = varlen_attention(BIDIRECTIONAL, *on_cuda(*tensors), reach, scaling=0.5, **options, **borders())
    assert not given
    exact = slowly(*tensors, 0.5, options.get("softcap"), reach=reach)
    np.testing.assert_allclose(out[0].float(), exact, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.03)
    (warning,) = [str(w.message) for w in recwarn if "pads on the GPU" in str(w.message)]
    assert reason in warning


def test_a_torch_without_the_kernel_is_noticed_when_the_model_is_loaded(monkeypatch, recwarn):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(varlen, "kernel_options", frozenset)
    varlen.warn_once.cache_clear()
    varlen.check_kernel()
    (warning,) = [str(w.message) for w in recwarn if "pads on the GPU" in str(w.message)]
    assert "has no variable-length kernel" in warning


def test_the_real_kernel_takes_what_is_passed():
    """Whatever torch is installed: a renamed parameter would fall back to padding in silence."""
    assert {"scale", "enable_gqa", "window_size"} <= varlen.kernel_options()


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_a_window_hides_what_is_further_away(reach, cap):
    query, key, value = rows(4, 0), rows(2, 1), rows(2, 2)
    out, _ = varlen_attention(BIDIRECTIONAL, query, key, value, reach, scaling=0.5, softcap=cap, **borders())
    np.testing.assert_allclose(out[0], slowly(query, key, value, 0.5, cap, reach=reach), rtol=0, atol=1e-6)


def test_padding_is_taken_out_of_every_tensor_by_token():
    features = {
        "input_ids": torch.tensor([[7, 8, 0], [0, 0, 9], [4, 5, 6]]),
        "attention_mask": torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1]]),
        "instruction_mask": torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0]]),
        "modality": "text",
        "weight": torch.tensor([1.0, 2.0, 3.0]),
    }
    flat = without_padding(features)
    assert flat["input_ids"].tolist() == [[7, 8, 9, 4, 5, 6]]
    assert flat["instruction_mask"].tolist() == [[1, 0, 0, 1, 1, 0]]
    assert flat["position_ids"].tolist() == [[0, 1, 0, 0, 1, 2]]
    assert flat["seq_idx"].tolist() == [[0, 0, 1, 2, 2, 2]]
    assert flat["cu_seq_lens_q"].tolist() == flat["cu_seq_lens_k"].tolist() == [0, 2, 3, 6]
    assert flat["cu_seq_lens_q"].dtype == flat["seq_idx"].dtype == torch.int32
    assert flat["max_length_q"] == flat["max_length_k"] == 3
    assert flat["weight"].tolist() == [1, 2, 3]
    assert flat["modality"] == "text"
    assert "attention_mask" not in flat
    assert "attention_mask" in features


def test_no_padding_reaches_the_backbone():
    model = random_encoder(attn_implementation=VARLEN)
    features = model.preprocess(TEXTS, prompt="why: ")
    lengths = [len(model.tokenizer(f"why: {text}")["input_ids"]) for text in TEXTS]
    assert len(set(lengths)) > 1
    assert features["input_ids"].shape == (1, sum(lengths))


def test_it_pads_where_it_is_told_to():
    model = random_encoder(attn_implementation=VARLEN)
    vectors = model.encode_query(TEXTS)
    model[0].unpad_inputs = False
    assert model.preprocess(TEXTS)["input_ids"].shape[0] == len(TEXTS)
    np.testing.assert_allclose(model.encode_query(TEXTS), vectors, rtol=0, atol=1e-6)


def test_a_backbone_with_an_attention_of_its_own_is_refused():
    tokenizer = sentencepiece()
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_head=4, n_layer=2)
    with pytest.raises(InputError, match=r"BloomModel computes its attention by itself.*choose 'sdpa' or 'eager'"):
        bidirectional_encoder(config, tokenizer=tokenizer, attn_implementation=VARLEN, device="cpu")
