"""Models of random weights over a vocabulary of a few words, saved as sentence-transformers saves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "red green blue cat dog bird sky sea tree stone house river a of in nothing common".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def _backbone(folder: Path, cls: str) -> str:
    """A BERT of two layers with its tokenizer, as a folder."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(str(folder))
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.6,
    )  # fmt: skip
    torch.manual_seed(0)
    getattr(transformers, cls)(config).save_pretrained(folder)
    return str(folder)


def static(folder: Path) -> Path:
    """A SentenceTransformer that averages random embeddings of words."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    if not folder.exists():
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        weights = np.random.default_rng(0).standard_normal((len(VOCABULARY), 16)).astype(np.float32)
        module = StaticEmbedding(tokenizer, embedding_weights=weights)
        SentenceTransformer(modules=[module], device="cpu").save(str(folder))
    return folder


def sparse(folder: Path) -> Path:
    """A SPLADE-like SparseEncoder."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    if not folder.is_dir():
        transformer = MLMTransformer(_backbone(folder.with_name("sparse-backbone"), "BertForMaskedLM"))
        SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu").save(str(folder))
    return folder


def late(folder: Path, similarity: str = "maxsim") -> Path:
    """A ColBERT-like MultiVectorEncoder."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    if not folder.is_dir():
        transformer = Transformer(_backbone(folder.with_name("late-backbone"), "BertModel"))
        modules = [transformer, MultiVectorMask(), Normalize()]
        MultiVectorEncoder(modules=modules, device="cpu", similarity_fn_name=similarity).save(str(folder))
    return folder


def late_pages(folder: Path) -> Path:
    """A ColPali-like MultiVectorEncoder, which reads images and texts."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    if not folder.is_dir():
        transformer = Transformer(str(vision_language(folder.with_name("pages-backbone"))))
        MultiVectorEncoder(modules=[transformer, MultiVectorMask(), Normalize()], device="cpu").save(str(folder))
    return folder


def cross(folder: Path) -> Path:
    """A CrossEncoder with one label."""
    import torch
    from sentence_transformers import CrossEncoder

    if not folder.is_dir():
        backbone = _backbone(folder.with_name("cross-backbone"), "BertForSequenceClassification")
        torch.manual_seed(1)
        model = CrossEncoder(backbone, num_labels=1, device="cpu", model_kwargs={"ignore_mismatched_sizes": True})
        model.save_pretrained(str(folder))
    return folder


def _byte_vocabulary(*special: str) -> dict[str, int]:
    """Every byte as CLIP's tokenizer spells it, inside and at the end of a word, without merges."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters), *special])}


def clip(folder: Path) -> Path:
    """A CLIP of two layers each, with its processor by Pillow, as transformers saves it."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    if not folder.is_dir():
        vocabulary = _byte_vocabulary("<|startoftext|>", "<|endoftext|>")
        begin, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
        layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        texts = {"vocab_size": len(vocabulary), "bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
        torch.manual_seed(0)
        images = {"image_size": 32, "patch_size": 8}
        config = CLIPConfig(text_config=layers | texts, vision_config=layers | images, projection_dim=16)
        CLIPModel(config).save_pretrained(folder)
        crop = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        CLIPProcessor(crop, CLIPTokenizer(vocab=vocabulary, merges=[])).save_pretrained(folder)
    return folder


CHAT = (
    "{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}</s>"
)


def vision_language(folder: Path) -> Path:
    """A LLaVA of two layers each, which reads images, texts and both at once, with its processor by Pillow."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaModel,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    if not folder.is_dir():
        special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        tokens = [*special.values(), "<image>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
        bytewise = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
        bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, **special, additional_special_tokens=["<image>"])
        layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**layers, image_size=32, patch_size=8),
            text_config=LlamaConfig(
                **layers, num_key_value_heads=2, vocab_size=len(tokens), max_position_embeddings=256
            ),
            image_token_index=tokens.index("<image>"), image_seq_length=16,
        )  # fmt: skip
        torch.manual_seed(0)
        LlavaModel(config).save_pretrained(folder)
        crop = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        LlavaProcessor(
            crop, tokenizer, patch_size=8, vision_feature_select_strategy="default", chat_template=CHAT,
            image_token="<image>", num_additional_image_tokens=1,
        ).save_pretrained(folder)  # fmt: skip
    return folder
