"""Operations against torch's own count, memory against the weights themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, BertConfig

from hf_posmine.core.errors import InputError
from hf_posmine.models.bidirectional import bidirectional_encoder
from hf_posmine.models.cost import ModelShape
from hf_posmine.utils.node import Node
from tests.models.conftest import config_of, random_encoder, sentencepiece

ROWS, LENGTH = 3, 24
BERT = BertConfig(
    vocab_size=50, hidden_size=32, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    attn_implementation="eager",
)  # fmt: skip


def counted(model, backward):
    """Operations of products as torch dispatches them; eager attention is made of plain products."""
    with FlopCounterMode(display=False) as counter:
        states = model(input_ids=torch.zeros((ROWS, LENGTH), dtype=torch.int64)).last_hidden_state
        if backward:
            states.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["mistral", "qwen3", "gemma2", "phi3"])
def test_operations_of_decoders_are_those_that_torch_counts(family):
    """Without rotary embedding, whose product is of one position by half a head."""
    model = random_encoder(family, attn_implementation="eager")[0].model.train()
    shape, lengths = ModelShape.of(model, model.config, 4), np.full(ROWS, LENGTH)
    rotary = counted(model, backward=False) - shape.forward(lengths)
    assert 0 <= rotary < 0.02 * shape.forward(lengths)
    assert counted(model, backward=True) - rotary == shape.step(lengths)


def test_a_pooler_is_not_counted_for_every_token():
    model = AutoModel.from_config(BERT).train()
    shape, lengths = ModelShape.of(model, BERT, 4), np.full(ROWS, LENGTH)
    assert counted(model, backward=False) - 2 * ROWS * 32 * 32 == shape.forward(lengths)


def test_gradient_checkpointing_repeats_the_forward_pass():
    model = AutoModel.from_config(BERT).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shape, lengths = ModelShape.of(model, BERT, 4), np.full(ROWS, LENGTH)
    pooler = 2 * ROWS * 32 * 32  # its output is not used, so it has no backward pass
    assert counted(model, backward=True) - pooler == pytest.approx(shape.step(lengths, repeats=1), rel=0.03)


@pytest.mark.parametrize("rank", [None, 4])
def test_a_configuration_alone_has_the_shape_of_the_model(rank):
    tokenizer = sentencepiece()
    lora = None if rank is None else {"r": rank, "target_modules": "all-linear"}
    model = bidirectional_encoder(config_of("mistral", tokenizer), tokenizer=tokenizer, lora=lora, dtype="bfloat16")
    whole = ModelShape.of(model, model[0].config, 2)
    assert ModelShape.of_config(model[0].config, lora_rank=rank) == whole
    weights = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    assert whole.training_bytes() == sum(size * (4 if trained else 1) for size, trained in weights)
    assert whole.encoding_bytes(0) == sum(size for size, _ in weights)


def test_texts_of_several_lengths_are_those_of_each():
    shape = ModelShape.of_config(BERT)
    lengths = [3, 50, 7]
    assert shape.forward(np.array(lengths)) == sum(shape.forward(np.array([length])) for length in lengths)
    assert shape.step(np.array(lengths), repeats=2) == pytest.approx(
        sum(shape.step(np.array([length])) + 2 * shape.forward(np.array([length])) for length in lengths)
    )


def test_hours_are_operations_by_what_is_reached_of_the_peak():
    assert Node.parse("8xA100@0.5").hours(8 * 156e12 * 3600) == pytest.approx(1)
    assert Node.parse("2x100").hours(2 * 40e12 * 7200) == pytest.approx(2)
    assert str(Node.parse("1xh200")) == "1 H200 of 989 TFLOP/s, 40 % of it used"
    assert Node.parse("1xH100").time(989e12 * 0.4 * 90).startswith("about 1.5 min on 1 H100")


@pytest.mark.parametrize(
    "text", ["A100", "8 A100", "0xA100", "8xV9", "8xA100@2", "8x", "8xA100@", "-1xA100", "8x0", "8xA100@.0"]
)
def test_other_spellings_are_refused(text):
    with pytest.raises(InputError, match="node="):
        Node.parse(text)
