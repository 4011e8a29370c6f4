"""Tiny tokenizers of the two styles that decoders have, and random models of every supported family."""

from __future__ import annotations

import json
import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaTokenizer,
    LlamaConfig,
    LlamaTokenizer,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

from hf_posmine.models.bidirectional import bidirectional_encoder
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.models import oracle

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

INSTRUCTION = "Given a question, retrieve passages that answer it"
WORDS = (
    "Given a question, retrieve passages that answer it who wrote the paper about hard negatives and why "
    "Instruct: Query: passage: it: for web search what is 42 1234 5 ?? ... ! which near far"
)
TEXTS = ["who wrote it", "why", "the paper about hard negatives and why it is near", "42 ?? naïve façade 中"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def lines() -> list[str]:
    words = WORDS.split()
    return [" ".join(words[i:] + words[:i]) for i in range(len(words))]


def fast(tokenizer: Tokenizer, *, bos: bool = True, eos: bool = False) -> PreTrainedTokenizerFast:
    ends = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    pair = f"{ends} {ends.replace('$A', '$B')}"
    specials = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=ends, pair=pair, special_tokens=specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def learned_by(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def byte_level(words: tuple[str, ...] = (), **ends: bool) -> PreTrainedTokenizerFast:
    """As Llama 3, Qwen and GPT have it: a space belongs to the word behind it, every byte has a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*lines(), *words], trainer)
    return fast(tokenizer, **ends)


def sentencepiece(**ends: bool) -> PreTrainedTokenizerFast:
    """As Mistral 7B, Llama 2 and Gemma have it: spaces are written ▁, unknown characters are spelled in bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        lines(), trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False)
    )
    learned, merges = learned_by(trained)
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


def rebuilt(cls: type) -> PreTrainedTokenizerFast:
    """A class that builds its tokenizer anew when it is loaded, so that a normalizer that was put there is lost."""
    made = byte_level() if cls is Qwen2Tokenizer else sentencepiece()
    vocab, merges = learned_by(made.backend_tokenizer)
    if cls is Qwen2Tokenizer:
        return cls(vocab=vocab | {"<|endoftext|>": len(vocab)}, merges=merges)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return cls(vocab=vocab, merges=merges, **names)


REBUILT = {"qwen2": Qwen2Tokenizer, "llama": LlamaTokenizer, "gemma": GemmaTokenizer}
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
    "gemma2": (
        Gemma2Config,
        {"head_dim": 8, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0, "sliding_window": 4},
    ),
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


def exported(model) -> tuple[dict, dict[str, oracle.Array]]:
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
    ends = tokenizer("x")["input_ids"]
    tokens = [None] * (ends[0] == tokenizer.bos_token_id) + tokens[ends[0] == tokenizer.bos_token_id :]
    if ends[-1] == tokenizer.eos_token_id:
        tokens[-1] = None
    space_in_front = tokenizer.tokenize("x")[0].startswith("▁")
    return ids, oracle.text_tokens(tokens, style_of(tokenizer), prefix, space_in_front=space_in_front)


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def encoder():
    """A random Mistral with a SentencePiece-style tokenizer; not to be changed."""
    return random_encoder()


@pytest.fixture(params=STYLES)
def style(request) -> str:
    return request.param
