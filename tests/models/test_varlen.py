"""Attention without padding against one sequence at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
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


def slowly(query, key, value, scale, cap=None) -> np.ndarray:
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


def test_the_kernel_gets_tokens_first_and_shares_heads(monkeypatch):
    """Torch's kernel runs on CUDA only; here a stand-in checks what it is given."""
    given = {}

    def kernel(q, k, v, cu_q, cu_k, longest_q, longest_k, *, scale, enable_gqa):
        given.update(q=q.shape, k=k.shape, cu=cu_q.tolist(), longest=(longest_q, longest_k), gqa=enable_gqa)
        assert torch.equal(cu_q, cu_k)
        batch = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
        return torch.from_numpy(slowly(*batch, scale)).to(q.dtype)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    monkeypatch.setattr(varlen, "_kernel_takes", lambda *_: True)
    query, key, value = rows(4, 0), rows(2, 1), rows(2, 2)
    out, _ = varlen_attention(BIDIRECTIONAL, query, key, value, None, scaling=0.5, **borders())
    assert given == {"q": (9, 4, 4), "k": (9, 2, 4), "cu": [0, 3, 4, 9], "longest": (5, 5), "gqa": True}
    assert out.shape == (1, 9, 4, 4)
    np.testing.assert_allclose(out[0], slowly(query, key, value, 0.5), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("cuda", "dtype", "dropout", "cap", "takes"),
    [
        (True, torch.bfloat16, 0.0, None, True),
        (True, torch.float16, 0.0, None, True),
        (True, torch.float32, 0.0, None, False),
        (False, torch.bfloat16, 0.0, None, False),
        (True, torch.bfloat16, 0.1, None, False),
        (True, torch.bfloat16, 0.0, 50.0, False),
    ],
)
def test_the_kernel_takes_what_it_can(cuda, dtype, dropout, cap, takes):
    assert varlen._kernel_takes(SimpleNamespace(is_cuda=cuda, dtype=dtype), dropout, cap) is takes


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
