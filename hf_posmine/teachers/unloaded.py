"""A dense teacher of which the configuration alone was read: enough to plan a job, without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.encoding.encode import PROMPT_NAMES, model_source
from hf_posmine.encoding.model_role import check_role, read_config, require_file
from hf_posmine.encoding.store import EmbeddingStore, tensors_header
from hf_posmine.search.index_factory import as_index
from hf_posmine.search.rescore import check_similarity
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.dense_model import MOST_TOKENS, commit_of
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import store_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Role
    from hf_posmine.search.rescore import Similarity
    from hf_posmine.teachers.spellings import Dense, TeacherContext

OTHER_WORK = ("auto_map", "num_experts", "num_local_experts", "text_config", "vision_config")
"""Keys of a configuration whose model does other work than two operations for each weight and token."""
MODES = [f"pooling_mode_{name}_tokens" for name in ("cls", "mean", "max", "mean_sqrt_len", "weightedmean")]
MODES.append("pooling_mode_lasttoken")
OUTSIDE = ("embed", "pooler", "lm_head", "cls.")
"""Parts of names of weights that no token is multiplied with."""


@dataclass(frozen=True)
class ModelFacts:
    """A transformer by its files, without the values of its weights.

    Attributes:
        name: as the user calls it.
        commit: of the Hub, None for folders.
        similarity: of its vectors.
        dimensions: of its vectors.
        tokens: that it reads of a text, by role.
        prompts: put before a text, by role.
        hidden: width of its layers.
        layers: how many.
        weights: that a token is multiplied with.
        size: bytes of all weights.
        tokenizer: its file.
    """

    name: str
    commit: str | None
    similarity: Similarity
    dimensions: int
    tokens: Mapping[Role, int]
    prompts: Mapping[Role, str]
    hidden: int
    layers: int
    weights: int
    size: int
    tokenizer: Path

    @classmethod
    def of(cls, spec: Dense) -> ModelFacts | None:
        """The facts of a model whose files are on this machine; None where they do not tell what it computes.

        Raises:
            InputError: a model of another kind.
        """
        source, revision = model_source(spec.model), spec.revision
        check_role("SentenceTransformer", spec.model, source, revision)
        names = ("config", "config_sentence_transformers", "sentence_bert_config", "tokenizer_config")
        config, saved, cut, tokenizer = (read_config(source, f"{name}.json", revision) for name in names)
        try:
            if config.get("is_encoder_decoder") or any(key in config for key in OTHER_WORK):
                return None
            dimensions = _dimensions(require_file(source, "modules.json", revision))
            weights, size = _weights(source, revision)
            limits = (tokenizer.get("model_max_length"), config.get("max_position_embeddings"), MOST_TOKENS)
            usual = spec.max_length or cut.get("max_seq_length") or min(int(limit) for limit in limits if limit)
            given, prompts = {"query": spec.query_prompt, "document": spec.document_prompt}, saved.get("prompts") or {}
            found = {role: (*names, saved.get("default_prompt_name")) for role, names in PROMPT_NAMES.items()}
            theirs = {
                role: next((prompts[name] for name in names if name in prompts), "") for role, names in found.items()
            }
            return cls(
                spec.model,
                commit_of(spec.model, revision),
                check_similarity(spec.similarity or saved.get("similarity_fn_name") or "cosine"),
                min(dimensions, spec.truncate_dim or saved.get("truncate_dim") or dimensions),
                {role: cut.get(f"{role}_length") or usual for role in PROMPT_NAMES},
                {role: theirs[role] if given[role] is None else str(given[role]) for role in theirs},
                int(config["hidden_size"]),
                int(config["num_hidden_layers"]),
                weights,
                size,
                require_file(source, "tokenizer.json", revision),
            )
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def operations(self, texts: Sequence[str], role: Role) -> float:
        """Of a text on average, by the tokens of some."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.tokens[role])
        found = tokenizer.encode_batch([self.prompts[role] + text for text in texts])
        lengths = np.array([len(encoding.ids) for encoding in found], np.float64)
        return float((2 * self.weights * lengths + 4 * self.layers * self.hidden * lengths**2).mean())


def _dimensions(modules: Path) -> int:
    """Dimensions that a transformer, its pooling and dense layers give.

    Raises:
        ValueError: other modules.
    """
    dimensions = 0
    for number, module in enumerate(json.loads(modules.read_text("utf8"))):
        package, _, kind = str(module["type"]).rpartition(".")
        known = ("Pooling", "Dense", "Normalize") if number else ("Transformer",)
        if not package.startswith("sentence_transformers.") or kind not in known or (not number and module["path"]):
            raise ValueError(module["type"])
        if kind not in ("Pooling", "Dense"):
            continue
        config = json.loads((modules.parent / module["path"] / "config.json").read_text("utf8"))
        if kind == "Pooling":
            modes = config.get("pooling_mode", [name for name in config if name in MODES and config[name]])
            width = config.get("embedding_dimension") or config["word_embedding_dimension"]
            dimensions = int(width) * (1 if isinstance(modes, str) else max(1, len(modes)))
        else:
            dimensions = int(config["out_features"])
    return dimensions


def _weights(source: str, revision: str | None) -> tuple[int, int]:
    """Weights that tokens are multiplied with, and bytes of all, by the headers of safetensors files."""
    parts = read_config(source, "model.safetensors.index.json", revision).get("weight_map") or {"": "model.safetensors"}
    used = size = 0
    for name in sorted(set(parts.values())):
        header, _ = tensors_header(require_file(source, name, revision))
        header.pop("__metadata__", None)
        size += max(entry["data_offsets"][1] for entry in header.values())
        products = [name for name in header if not any(part in name for part in OUTSIDE)]
        used += sum(math.prod(shape) for name in products if len(shape := header[name]["shape"]) > 1)
    return used, size


class UnloadedTeacher(DenseTeacher):
    """A dense teacher to plan with: it knows its corpus, its store and its configuration, and scores nothing.

    Args:
        facts: of its model.
        spec: its spelling.
        corpus: the documents.
        context: the queries known beforehand, and the store.
    """

    def __init__(self, facts: ModelFacts, spec: Dense, corpus: Corpus, context: TeacherContext) -> None:
        self.facts, self.corpus, self.queries, self.name = facts, corpus, context.queries, facts.name
        self.approximate, self.device = as_index(spec.index), "cpu"
        self.store = EmbeddingStore(store_root(context.store), dtype=spec.dtype)

    @property
    def similarity(self) -> Similarity:
        """That of its configuration."""
        return self.facts.similarity

    @property
    def fingerprint(self) -> str:
        """Of the configuration: another than the loaded teacher has."""
        return json_digest([self.facts.name, self.facts.commit])

    def parts(self, role: Role) -> list[tuple[TextPart, int]]:
        """The texts of a role, each part with how many of them a model of that name has stored."""
        facts, texts = self.facts, self.corpus if role == "document" else self.queries
        described = {"model": facts.name, "commit": facts.commit, "role": role, "prompt": facts.prompts[role]}
        return [(part, self.store.held(part, described)) for part in (texts.parts if texts else ())]
