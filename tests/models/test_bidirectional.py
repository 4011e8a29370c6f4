"""From a decoder to the embedder: what is set, which traps are taken away, and what is refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from peft import LoraConfig
from sentence_transformers.sentence_transformer.modules import Normalize
from tokenizers import Tokenizer, models
from transformers import MambaConfig, MistralForCausalLM, PreTrainedTokenizerFast

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.encoding.attention import check_bidirectional
from hf_posmine.models.bidirectional import bidirectional_encoder, prepare_tokenizer
from hf_posmine.models.pooling import InstructionPooling
from hf_posmine.models.transformer import InstructionTransformer
from tests.models.conftest import INSTRUCTION, TEXTS, byte_level, config_of, random_encoder, sentencepiece


def test_what_is_built(encoder):
    transformer, pooling, normalize = encoder
    assert isinstance(transformer, InstructionTransformer)
    assert isinstance(pooling, InstructionPooling)
    assert isinstance(normalize, Normalize)
    assert (pooling.pooling_mode, pooling.include_prompt) == ("mean", False)
    assert encoder.prompts == {"query": f"{INSTRUCTION}: ", "document": ""}
    assert encoder.similarity_fn_name == "cosine"
    assert encoder.bidirectional
    assert (encoder.max_seq_length, transformer.query_length, transformer.document_length) == (512, 192, 512)
    assert (transformer.config.is_causal, transformer.config.use_cache) == (False, False)
    assert encoder.tokenizer.padding_side == "right"


def test_a_window_of_all_layers_is_opened_and_local_layers_and_rotary_bases_are_kept():
    mistral, gemma = random_encoder()[0].config, random_encoder("gemma3_text")[0].config
    assert mistral.sliding_window is None
    assert gemma.sliding_window == 4
    assert gemma.layer_types == ["sliding_attention", "full_attention"]
    bases = {name: rope["rope_theta"] for name, rope in gemma.rope_parameters.items()}
    assert bases == {"sliding_attention": 10_000.0, "full_attention": 1_000_000.0}


def test_vectors_may_keep_their_length(encoder):
    raw = random_encoder(normalize=False)
    vectors = raw.encode(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(vectors / lengths, encoder.encode(TEXTS), rtol=0, atol=1e-6)


def test_another_template_joins_instruction_and_text(encoder):
    other = random_encoder(instruction_template="Instruct: {instruction}\nQuery: {text}")
    assert other.prompts["query"] == f"Instruct: {INSTRUCTION}\nQuery: "
    assert np.array_equal(other.encode([("why", "near")]), encoder.encode(["near"], prompt="Instruct: why\nQuery: "))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A causal language model as it lies on the Hub, its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = sentencepiece()
    torch.manual_seed(3)
    MistralForCausalLM(config_of("mistral", tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_decoder_comes_from_a_folder_or_the_hub(decoder, hub):
    from huggingface_hub import HfApi

    vectors = bidirectional_encoder(decoder, device="cpu").encode(TEXTS)
    assert np.array_equal(bidirectional_encoder(str(decoder), device="cpu").encode(TEXTS), vectors)
    HfApi().create_repo("alice/decoder")
    first = HfApi().upload_folder(repo_id="alice/decoder", folder_path=str(decoder)).oid
    HfApi().delete_file("config.json", "alice/decoder")
    assert np.array_equal(bidirectional_encoder("alice/decoder", revision=first, device="cpu").encode(TEXTS), vectors)


def test_its_tokenizer_may_lie_elsewhere(decoder, tmp_path):
    vectors = bidirectional_encoder(decoder, device="cpu").encode(TEXTS)
    decoder_alone = tmp_path / "decoder"
    MistralForCausalLM.from_pretrained(decoder).save_pretrained(decoder_alone)
    for tokenizer in (decoder, str(decoder), sentencepiece()):
        model = bidirectional_encoder(decoder_alone, tokenizer=tokenizer, device="cpu")
        assert np.array_equal(model.encode(TEXTS), vectors)


def test_a_configuration_needs_a_tokenizer():
    with pytest.raises(InputError, match=r"a configuration brings no tokenizer; pass tokenizer="):
        bidirectional_encoder(config_of("mistral", sentencepiece()))


def test_a_missing_pad_token_is_the_unknown_or_the_end():
    for name, specials in (("<unk>", {"unk_token": "<unk>", "eos_token": "</s>"}), ("</s>", {"eos_token": "</s>"})):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=sentencepiece().backend_tokenizer, **specials)
        model = random_encoder(tokenizer=tokenizer, config={"pad_token_id": None})
        assert model.tokenizer.pad_token == name
        assert model[0].config.pad_token_id == model.tokenizer.pad_token_id
        alone = [model.encode_query([text])[0] for text in TEXTS]
        np.testing.assert_allclose(model.encode_query(TEXTS), alone, rtol=0, atol=1e-6)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused():
    with pytest.raises(InputError, match=r"has no pad, unknown or end token to pad with; set pad_token"):
        prepare_tokenizer(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())))


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(
        InputError, match=r"Slow gives no character offsets.*pass tokenizer= with one from a tokenizer\.json"
    ):
        prepare_tokenizer(Slow())


def test_a_tokenizer_is_prepared_once():
    tokenizer = prepare_tokenizer(byte_level())
    once = tokenizer.backend_tokenizer.to_str()
    assert prepare_tokenizer(tokenizer).backend_tokenizer.to_str() == once
    assert tokenizer.tokenize("why \n") == tokenizer.tokenize("why")
    assert tokenizer.tokenize("  why") != tokenizer.tokenize("why")


def test_a_chat_template_is_dropped():
    tokenizer = sentencepiece()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} yes {% endfor %}"
    model = random_encoder(tokenizer=tokenizer)
    assert model.tokenizer.chat_template is None
    assert model.modalities == ["text"]
    assert model.preprocess(["why"], prompt="why: ")["instruction_mask"].tolist() == [[1, 1, 1, 0]]


def test_a_backbone_that_stays_causal_is_refused():
    tokenizer = sentencepiece()
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=4)
    with pytest.raises(InputError, match=r"MambaModel stays causal although config\.is_causal is False"):
        bidirectional_encoder(config, tokenizer=tokenizer, device="cpu")


@pytest.mark.parametrize("training", [False, True])
def test_the_proof_finds_a_causal_decoder_and_leaves_it_in_its_mode(training):
    model = random_encoder().train(training)
    check_bidirectional(model)
    assert model[0].model.training is training
    assert model.bidirectional
    model[0].config.is_causal = True
    assert not model.bidirectional
    with pytest.raises(InputError, match=r"MistralModel stays causal.*attn_implementation='sdpa'"):
        check_bidirectional(model)


def test_a_backbone_that_reads_its_padding_is_refused(monkeypatch):
    model = random_encoder()
    forward = model[0].model.forward
    monkeypatch.setattr(model[0].model, "forward", lambda input_ids, attention_mask: forward(input_ids=input_ids))
    with pytest.raises(InputError, match=r"MistralModel attends to its padding with.*try 'eager'"):
        check_bidirectional(model)


def test_another_pooling_is_refused():
    with pytest.raises(InputError, match=r"pooling='max' must be 'mean' \(the paper\) or 'lasttoken'"):
        random_encoder(pooling="max")


def test_a_mode_that_cannot_leave_tokens_out_is_refused_with_instructions():
    model = random_encoder()
    model[1] = InstructionPooling(32, "max", include_prompt=False)
    with pytest.raises(InputError, match=r"not of pooling_mode='max'; use 'mean', or include_prompt=True"):
        model.encode_query(TEXTS)
    assert np.isfinite(model.encode_document(TEXTS)).all()


@pytest.mark.parametrize(
    "lora", [{}, {"r": 4}, LoraConfig(r=4, target_modules=["q_proj"], task_type="FEATURE_EXTRACTION")]
)
def test_adapters_come_from_a_config_or_its_arguments(lora):
    model = random_encoder(lora=lora)
    found = model[0].model.peft_config["default"]
    if isinstance(lora, dict):
        assert (found.r, found.lora_alpha) == (lora.get("r", 16), 32)
    maps = {name.split(".lora_A")[0].rsplit(".", 1)[1] for name, _ in model.named_parameters() if ".lora_A" in name}
    seven = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert maps == (seven if isinstance(lora, dict) else {"q_proj"})
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trained)


def test_merged_adapters_leave_a_plain_backbone_with_the_same_vectors():
    model = random_encoder(lora={"r": 4})
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    vectors, plain = model.encode(TEXTS), random_encoder().encode(TEXTS)
    assert np.abs(vectors - plain).max() > 1e-2
    assert model.merge_adapters() is model
    np.testing.assert_allclose(model.encode(TEXTS), vectors, rtol=0, atol=1e-5)
    assert not any("lora" in name for name in model.state_dict())
    with pytest.raises(InputError, match="the model has no adapters to merge"):
        model.merge_adapters()


def test_adapters_of_a_quantised_base_are_not_merged():
    model = random_encoder(lora={"r": 4})
    model[0].model.quantization_method = "bitsandbytes"
    with pytest.raises(InputError, match="load the base in bfloat16, then merge"):
        model.merge_adapters()


def test_without_peft_the_cure_is_named(monkeypatch):
    model, find = random_encoder(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    from hf_posmine.models.bidirectional import add_lora

    with pytest.raises(MissingExtraError, match=r"pip install 'hf-posmine\[train\]'"):
        add_lora(model, {})
