"""The model of a dense teacher: loaded once, with its prompts and digests, and loaded again in another process."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.encoding.backends import describe_backend
from hf_posmine.encoding.encode import Encoder, Role, TextFunction, load_again, load_model
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.search.rescore import check_similarity
from hf_posmine.teachers.spellings import Dense

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

    from hf_posmine.core.types import Floats
    from hf_posmine.encoding.backends import Backend, Compute


MOST_TOKENS = 1 << 24
"""A longer maximum length stands for none, as static embeddings and CLIP have."""
SPELLED = ("query_prompt", "document_prompt", "similarity", "compute", "max_length", "truncate_dim")
"""Settings of a model given by name that are part of its spelling."""


@runtime_checkable
class Encodes(Protocol):
    """Any object that turns texts into vectors ``[m, d]``."""

    def encode_query(self, texts: list[str], /) -> Any:
        """Vectors of queries."""

    def encode_document(self, texts: list[str], /) -> Any:
        """Vectors of documents."""


@runtime_checkable
class Renewable(Encodes, Protocol):
    """A model that another process can make again by itself, as that of a service."""

    def anew(self) -> Renewable:
        """The same model for a process that did not inherit it."""


@dataclass(frozen=True)
class ModelSettings:
    """The settings of the model of a dense teacher.

    Attributes:
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        similarity: None takes the model's own.
        device: where to encode.
        revision: of a Hub model.
        compute: precision of the passes.
        backend: what computes the passes.
        fingerprint: stands for the weights of a model that is not a SentenceTransformer.
        max_length: tokens to which a text is cut; None takes the model's own.
        truncate_dim: dimensions kept of a vector; None takes the model's own.
    """

    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str | None = None
    device: str | None = None
    revision: str | None = None
    compute: Compute | None = None
    backend: Backend = "torch"
    fingerprint: str | None = None
    max_length: int | None = None
    truncate_dim: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ModelSettings:
        """From keyword options.

        Raises:
            InputError: an option that does not exist, with those that do.
        """
        known = [entry.name for entry in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(f"a dense teacher has no option {unknown[0]!r}; its model has: {', '.join(known)}")
        return cls(**options)


class DenseModel:
    """A model with its prompts and similarity.

    Args:
        model: a Hub id or folder, ``"embedded"``, a SentenceTransformer, another object with ``encode_query`` and
            ``encode_document``, or a function from texts to vectors.
        settings: its settings.

    Raises:
        InputError: an object that does not encode, or settings that only a model given by name can have.
    """

    def __init__(self, model: Any, settings: ModelSettings) -> None:
        self.settings = settings
        self.model_name = model if isinstance(model, str) else None
        self._renewable = model if isinstance(model, Renewable) else None
        _check_given_by_name(settings, self.model_name)
        loaded = _as_encoder(model) if self.model_name is None else self._load(self.model_name)
        self.similarity = check_similarity(settings.similarity or ModelParts.of(loaded).similarity or "cosine")
        self.encoder = self._encoder(loaded)
        self.keys: dict[Role, str] = {role: self.encoder.digest(role) for role in ("query", "document")}
        self.prompts = dict(self.encoder.prompts)
        self.digest = self.encoder.model_digest
        length = getattr(loaded, "max_seq_length", None)
        self.max_seq_length = length if isinstance(length, int) and length <= MOST_TOKENS else None
        self.name = self.model_name or _name_of(loaded)
        self.commit = commit_of(self.model_name, settings.revision) if self.model_name else live_commit_of(loaded)
        self._computed = {**describe_backend(loaded), **describe_precision(loaded)}

    def _load(self, name: str) -> Any:
        chosen = self.settings
        model = load_model(
            name, device=chosen.device, revision=chosen.revision, compute=chosen.compute, backend=chosen.backend
        )
        if chosen.max_length is not None:
            model.max_seq_length = chosen.max_length
        if chosen.truncate_dim is not None:
            model.truncate_dim = chosen.truncate_dim
        return model

    def _encoder(self, loaded: SentenceTransformer) -> Encoder:
        chosen = self.settings
        return Encoder(
            loaded,
            query_prompt=chosen.query_prompt,
            document_prompt=chosen.document_prompt,
            unit=self.similarity == "cosine",
            fingerprint=chosen.fingerprint,
        )

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded again in a process that did not inherit it."""
        if self._renewable is not None:
            return self._encoder(self._renewable.anew())
        cure = "call miner.prepare() first, save the model and pass its folder, or use num_proc=None"
        return load_again(
            self.model_name, self.name, lambda name: self._encoder(self._load(name)), self.keys["document"], cure
        )

    def move(self, device: str) -> None:
        """Load on this device from now on."""
        self.settings = replace(self.settings, device=device)

    def check_unchanged(self, role: Role) -> None:
        """Refuse a model that was trained or set otherwise since: its vectors would be stored under a wrong key.

        Raises:
            StoreError: its digest is another one.
        """
        if self._encoder(self.encoder.model).digest(role) != self.keys[role]:
            raise StoreError(f"the model {self.name!r} changed since this teacher was made; make the teacher again")

    def encode_unique(self, texts: Sequence[str], role: Role) -> Floats:
        """Vectors float32 ``[m, d]``, each different text encoded once."""
        if not texts:
            return np.empty((0, 0), np.float32)
        order = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return self.encoder.encode(list(order), role)[[order[text] for text in texts]]

    def spelling(self, dtype: str, index: object) -> str | None:
        """How the teacher is spelled, with the commit it was loaded from; None for a model that no name leads to."""
        given = self.settings
        if self.model_name is not None:
            made = {name: vars(given)[name] for name in SPELLED} | {"revision": self.commit or given.revision}
            return repr(Dense(self.model_name, dtype=dtype, index=index, **made))
        if self.commit is None:
            return None
        compute: Any = str(self._computed.get("weights_dtype", "")).removeprefix("torch.")
        live: dict[str, Any] = {
            "query_prompt": self.prompts["query"], "document_prompt": self.prompts["document"],
            "similarity": self.similarity, "revision": self.commit, "max_length": self.max_seq_length,
            "truncate_dim": self._computed.get("truncate_dim"), "compute": None if compute == "float32" else compute or None,
        }  # fmt: skip
        return repr(Dense(self.name, dtype=dtype, index=index, **live))

    def describe(self) -> dict[str, Any]:
        """The model as a record holds it."""
        return {
            "name": self.name, "commit": self.commit, "model_digest": self.digest, "similarity": self.similarity,
            "prompts": self.prompts, "max_seq_length": self.max_seq_length, **self._computed,
        }  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "encoder"}


def _check_given_by_name(settings: ModelSettings, name: str | None) -> None:
    if name is not None:
        return
    if settings.compute is not None:
        raise InputError(
            f"compute={settings.compute!r} is for models given by name; convert this one with model.to(...)"
        )
    if settings.backend != "torch":
        raise InputError(f"backend={settings.backend!r} is for models given by name; load this one with that backend")
    for option in ("max_length", "truncate_dim"):
        if vars(settings)[option] is not None:
            raise InputError(f"{option}= is for models given by name; set it on this one")


def _as_encoder(model: object) -> Encodes:
    if isinstance(model, Encodes) and not isinstance(model, type):
        return model
    if callable(model) and not isinstance(model, type):
        return TextFunction(model)
    raise InputError(
        f"teacher={type(model).__name__} is not a retrieval model; pass a Hub id, a folder or a SentenceTransformer"
    )


def describe_precision(model: object) -> dict[str, Any]:
    """Dtype of the weights and dimensions that are kept, where a model has them."""
    dtype, kept = getattr(model, "dtype", None), ModelParts.of(model).truncate_dim
    facts = {"weights_dtype": None if dtype is None else str(dtype), "truncate_dim": kept}
    return {name: value for name, value in facts.items() if value is not None}


def _name_of(model: object) -> str:
    names = ModelParts.of(model).names
    return names[0] if names else str(getattr(model, "__name__", type(model).__name__))


def commit_of(name: str, revision: str | None = None) -> str | None:
    """The Hub commit of a model that was loaded by id, read off the cache; None for folders and the embedded model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).is_dir():
        return None
    for file in ("modules.json", "config.json", "tokenizer.json"):
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def live_commit_of(model: SentenceTransformer) -> str | None:
    """The same of a SentenceTransformer in memory, if its card names the model and revision it was loaded from."""
    name = live_base_of(model)
    return commit_of(name, getattr(model.model_card_data, "base_model_revision", None)) if name else None


def live_base_of(model: object) -> str | None:
    """The Hub id or folder that a SentenceTransformer in memory came from, if its card names it."""
    name = getattr(getattr(model, "model_card_data", None), "base_model", None)
    return str(name) if name else None
