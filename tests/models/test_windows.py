"""Families whose stock model is bidirectional already stay as they are; decoders lose their direction and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    EuroBertConfig,
    Gemma3TextConfig,
    ModernBertConfig,
    NomicBertConfig,
    RobertaConfig,
)

from hf_posmine.models.bidirectional import bidirectional_encoder
from hf_posmine.models.transformer import attends_both_ways
from tests.models.conftest import FAMILIES, SHAPE, config_of, random_encoder, sentencepiece

LONG = "why the paper about hard negatives and why it is near who wrote it 42 what is far for web search"
ENCODERS = {
    "bert": (BertConfig, {}),
    "roberta": (RobertaConfig, {}),
    "distilbert": (DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "nomic_bert": (NomicBertConfig, {}),
    "eurobert": (EuroBertConfig, {}),
    "modernbert": (ModernBertConfig, {"local_attention": 8, "global_attn_every_n_layers": 2, "num_hidden_layers": 4}),
    "gemma3 made bidirectional by its authors": (
        Gemma3TextConfig,
        {**FAMILIES["gemma3_text"][1], "use_bidirectional_attention": True},
    ),
}


def made(family: str, attention: str):
    """The embedder of a random encoder, its stock configuration, and the tokenizer."""
    tokenizer = sentencepiece()
    cls, extra = ENCODERS[family]
    config = cls(**{**SHAPE, "vocab_size": len(tokenizer), **extra})
    torch.manual_seed(0)
    options = {"tokenizer": tokenizer, "attn_implementation": attention, "device": "cpu", "pooling": "mean"}
    return bidirectional_encoder(config, **options).eval(), config


@pytest.mark.parametrize("attention", ["sdpa", "posmine_varlen"])
@pytest.mark.parametrize("family", ENCODERS)
def test_it_equals_the_stock_model_where_that_was_bidirectional(family, attention, tmp_path):
    """Beyond the window too: the text has more than twice as many tokens as a window reaches."""
    try:
        model, config = made(family, attention)
    except ValueError as error:  # some encoders compute their attention by themselves
        if attention == "sdpa" or "computes its attention by itself" not in str(error):
            raise
        pytest.skip(str(error))
    assert attends_both_ways(config) and model.bidirectional
    model[0].model.save_pretrained(tmp_path)
    stock = AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids = torch.tensor([model.tokenizer(LONG)["input_ids"]])
    assert ids.shape[1] > 16
    with torch.inference_mode():
        expected = stock(ids).last_hidden_state[0].numpy()
        found = model(model.preprocess([LONG, "why"]))["token_embeddings"]
    np.testing.assert_allclose(found[0][: ids.shape[1]], expected, rtol=0, atol=1e-5)


def test_local_layers_of_a_decoder_stay_local():
    """A token moves the states that its window reaches through both layers, and no state behind."""
    model = random_encoder("gemma3_text", config={"layer_types": ["sliding_attention"] * 2})
    ids = torch.tensor([list(range(300, 340))])
    changed = ids.clone()
    changed[0, 20] = 5
    with torch.inference_mode():
        one, other = (model[0].model(given).last_hidden_state[0] for given in (ids, changed))
    moved = (one - other).abs().amax(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == list(range(20 - 8, 20 + 9))  # a window of 4 to each side, twice


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_types_are_kept(family):
    config = config_of(family, sentencepiece())
    before = config.to_dict().get("layer_types")
    assert not attends_both_ways(config)
    assert random_encoder(family)[0].config.to_dict().get("layer_types") == before
