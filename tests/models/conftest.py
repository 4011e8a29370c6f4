"""Tiny tokenizers of the two styles that decoders have, and random models of every supported family."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

from hf_posmine.models.bidirectional import bidirectional_encoder
from tests.models import oracle

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

INSTRUCTION = "Given a question, retrieve passages that answer it"
WORDS = (
    "Given a question, retrieve passages that answer it who wrote the paper about hard negatives and why "
    "Instruct Query passage for web search what is 42 1234 5 ?? ... ! which near far"
)
TEXTS = ["who wrote it", "why", "the paper about hard negatives and why it is near", "42 ?? naïve façade 中"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def lines() -> list[str]:
    words = WORDS.split()
    return [" ".join(words[i:] + words[:i]) for i in range(len(words))]


def fast(tokenizer: Tokenizer, *, bos: bool = True, eos: bool = False) -> PreTrainedTokenizerFast:
    ends = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    specials = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=ends, special_tokens=specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def byte_level(**ends: bool) -> PreTrainedTokenizerFast:
    """As Llama 3, Qwen and GPT have it: a space belongs to the word behind it, every byte has a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines(), trainer)
    return fast(tokenizer, **ends)


def sentencepiece(**ends: bool) -> PreTrainedTokenizerFast:
    """As Mistral 7B, Llama 2 and Gemma have it: spaces are written ▁, unknown characters are spelled in bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        lines(), trainers.BpeTrainer(vocab_size=250, special_tokens=SPECIAL, show_progress=False)
    )
    state = trained.to_str()
    learned = Tokenizer.from_str(state).get_vocab()
    import json

    merges = [tuple(merge) for merge in json.loads(state)["model"]["merges"]]
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    pieces = [piece for piece in sorted(learned, key=learned.get) if piece not in SPECIAL]
    vocab = {piece: number for number, piece in enumerate([*SPECIAL, *bytes_, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return fast(tokenizer, **ends)


def qwen2_tokenizer() -> Qwen2Tokenizer:
    """The class that builds its normalizer anew when it is loaded, so that what was put there is lost."""
    import json

    model = json.loads(byte_level().backend_tokenizer.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"] | {"<|endoftext|>": len(model["vocab"])},
        merges=[tuple(merge) for merge in model["merges"]],
    )


STYLES = {"byte-level": byte_level, "sentencepiece": sentencepiece}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "mistral": (MistralConfig, {"sliding_window": 4}),
    "llama": (LlamaConfig, {}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
    "gemma": (GemmaConfig, {"head_dim": 8}),
    "gemma2": (Gemma2Config, {"head_dim": 8, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0, "sliding_window": 4}),
    "gemma3_text": (
        Gemma3TextConfig,
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 12,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": (Phi3Config, {}),
    "mixtral": (MixtralConfig, {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4}),
}


def config_of(family: str, tokenizer: PreTrainedTokenizerFast, **changes):
    cls, extra = FAMILIES[family]
    return cls(**{**SHAPE, "vocab_size": len(tokenizer), **extra, **changes})


def random_encoder(family: str = "mistral", tokenizer=None, *, config: dict | None = None, **options):
    """A random embedder of a family, whose norms and biases are random too."""
    tokenizer = sentencepiece() if tokenizer is None else tokenizer
    torch.manual_seed(0)
    settings = {"tokenizer": tokenizer, "query_instruction": INSTRUCTION, "device": "cpu", **options}
    model = bidirectional_encoder(config_of(family, tokenizer, **(config or {})), **settings)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model[0].model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator).to(weight.dtype)
    return model.eval()


def exported(model) -> tuple[dict, dict[str, np.ndarray]]:
    """A backbone's configuration and weights for the oracle."""
    backbone = model[0].model
    return backbone.config.to_dict(), {
        name: value.detach().double().numpy() for name, value in backbone.state_dict().items()
    }


def style_of(tokenizer) -> str:
    return "sentencepiece" if "<0x00>" in tokenizer.get_vocab() else "byte-level"


def tokens_of(tokenizer, prefix: str, text: str) -> tuple[list[int], list[bool]]:
    """Ids of one row, and which of its tokens are pooled, by the oracle's rule."""
    ids = tokenizer(prefix + text)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    special = {tokenizer.convert_ids_to_tokens(i) for i in tokenizer.all_special_ids}
    return ids, oracle.text_tokens(tokens, special, style_of(tokenizer), prefix)


@pytest.fixture(scope="session")
def encoder():
    """A random Mistral with a SentencePiece-style tokenizer; not to be changed."""
    return random_encoder()


@pytest.fixture(params=STYLES)
def style(request) -> str:
    return request.param
