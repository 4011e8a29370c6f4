"""What the embedder's benchmarks share: texts of given lengths, a random Mistral, and a count of what it computes.

A text is made of words that the tokenizer knows as one token each, so its length is exact and no vocabulary is needed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import MistralConfig, PreTrainedTokenizerFast

    from hf_posmine.models import InstructSentenceTransformer

WORDS = 4000
INSTRUCTION = "Given a question, retrieve passages that answer the question"
MOST = {"query": 192, "document": 512}
LOGNORMAL = {"query": (2.456, 0.321), "document": (4.931, 0.440)}
"""Mean and standard deviation of the logarithm of the lengths of SQuAD 1.1 (train) in MiniLM's tokens."""


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of queries and documents to draw from, without instruction and special tokens, and where they come from."""

    query: np.ndarray
    document: np.ndarray
    source: str

    @classmethod
    def lognormal(cls, count: int = 20_000) -> Lengths:
        """Drawn from :data:`LOGNORMAL`, at least 1."""
        rng = np.random.default_rng(0)
        drawn = {role: np.exp(rng.normal(*LOGNORMAL[role], count)).astype(np.int64) + 1 for role in LOGNORMAL}
        record = "; ".join(f"{role}: lognormal({mu:g}, {sigma:g})" for role, (mu, sigma) in LOGNORMAL.items())
        return cls(**drawn, source=record)

    @classmethod
    def squad(cls, folder: Path, count: int = 4000) -> Lengths:
        """Of questions and passages of SQuAD 1.1, drawn with a fixed seed, in tokens of the embedded MiniLM."""
        import pyarrow.parquet as pq

        from hf_posmine.encoding import load_model

        tokenizer = load_model("embedded", device="cpu").tokenizer
        rng = np.random.default_rng(0)
        counted = {}
        for role, file, column in (("query", "train_pairs", "query"), ("document", "train_corpus", "text")):
            texts = pq.read_table(folder / f"{file}.parquet", columns=[column])[column]
            some = texts.take(rng.choice(len(texts), min(count, len(texts)), replace=False)).to_pylist()
            ids = tokenizer(some, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
            counted[role] = np.array([len(row) for row in ids], np.int64)
        return cls(**counted, source="SQuAD 1.1 train, tokens of all-MiniLM-L6-v2")

    def columns(self, rows: int, negatives: int, seed: int) -> list[list[str]]:
        """A training batch: queries, positives, and ``negatives`` lists of negatives."""
        rng = np.random.default_rng(seed)
        return [texts(rng, rng.choice(self.query, rows))] + [
            texts(rng, rng.choice(self.document, rows)) for _ in range(1 + negatives)
        ]

    def documents(self, count: int, seed: int = 0) -> list[str]:
        """Documents to encode."""
        rng = np.random.default_rng(seed)
        return texts(rng, rng.choice(self.document, count))


def texts(rng: np.random.Generator, lengths: np.ndarray) -> list[str]:
    """Random words, as many as ``lengths`` has."""
    words = iter(rng.integers(0, WORDS, int(lengths.sum())).tolist())
    return [" ".join(f"w{next(words)}" for _ in range(length)) for length in lengths.tolist()]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word, and ``<s>`` in front as Mistral's has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    words = [*special, *INSTRUCTION.replace(",", " ,").split(), ":", *(f"w{number}" for number in range(WORDS))]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Mistral without its weights."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int = WORDS + 96

    def config(self) -> MistralConfig:
        from transformers import MistralConfig

        return MistralConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            max_position_embeddings=4096,
        )

    def model(
        self, attention: str, *, device: str, dtype: str, lora: dict[str, Any] | None = None
    ) -> InstructSentenceTransformer:
        """Random weights made on the device; the same ones for every kind of attention."""
        import torch

        from hf_posmine.models import bidirectional_encoder

        torch.manual_seed(0)
        with torch.device(device):
            return bidirectional_encoder(
                self.config(),
                tokenizer=tokenizer(),
                lora=lora,
                query_instruction=INSTRUCTION,
                max_query_length=MOST["query"],
                max_document_length=MOST["document"],
                dtype=dtype,
                attn_implementation=attention,
                device=device,
            )


def batch(model: InstructSentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    """The features of each column, on the model's device: what the data collator does in training."""
    import torch

    roles = ["query"] + ["document"] * (len(columns) - 1)
    features = [
        model.preprocess(column, prompt=model.prompts[role] or None, task=role)
        for role, column in zip(roles, columns, strict=True)
    ]
    return [{k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in f.items()} for f in features]


def real_lengths(features: dict[str, Any]) -> list[int]:
    """Tokens of each row, padding left out."""
    if "cu_seq_lens_q" in features:
        return features["cu_seq_lens_q"].diff().tolist()
    return features["attention_mask"].sum(dim=1).tolist()


class Computed:
    """Counts the tokens that pass through the backbone while it is entered, and how many of them are padding."""

    def __init__(self, model: InstructSentenceTransformer) -> None:
        self.model, self.all, self.real = model, 0, 0

    def __enter__(self) -> Computed:
        self.hook = self.model[0].register_forward_pre_hook(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _count(self, _: Any, inputs: tuple[dict[str, Any], ...]) -> None:
        self.all += inputs[0]["input_ids"].numel()
        self.real += sum(real_lengths(inputs[0]))

    @property
    def padding(self) -> float:
        """Share of the computed tokens that is padding."""
        return 1 - self.real / self.all
