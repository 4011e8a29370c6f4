"""A cross-encoder, which reads query and document together: too dear to search with, and the better judge of a few."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.encoding.batches import plan_batches, run_batches
from hf_posmine.encoding.encode import load_as
from hf_posmine.encoding.first_token import first_token_alone
from hf_posmine.encoding.model_digest import is_native, model_digest
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.encoding.tokenized import Pads, TokenizedTexts
from hf_posmine.teachers.dense_model import commit_of
from hf_posmine.teachers.exhaustive import FullScores
from hf_posmine.teachers.spellings import Cross
from hf_posmine.utils.digest import json_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import CrossEncoder

    from hf_posmine.core.types import Floats, Rows, ScoreKind
    from hf_posmine.data.corpus import Corpus

STEP = 16
"""On a CPU pairs are padded to a multiple of so many tokens: passes hold several pairs, and few tokens more."""
FILLED_TOKENS = 256
"""Of one pass on a CPU whose head is not filled up (:mod:`hf_posmine.encoding.first_token`). Few, because such a pass of fewer
pairs is filled up itself: heads multiply one row per pair, and products of other shapes have other last bits."""
STREAM_PAIRS = 50_000
"""Pairs tokenised and sorted by length together; enough that sorting more saves nothing."""


@runtime_checkable
class Predicts(Protocol):
    """A model that scores pairs of texts."""

    def predict(self, pairs: list[tuple[str, str]], /) -> Any:
        """A score for each pair."""


class CrossEncoderTeacher(FullScores):
    """Scores by a ``CrossEncoder`` of sentence-transformers with one label; its own activation decides the scale.

    Meant as the teacher of a ``SecondOpinion``. As a teacher of its own it reads every query with
    every document, which only a small corpus allows.

    Args:
        model: a Hub id or folder, or a CrossEncoder. Any object with ``predict(pairs)`` will do if ``fingerprint``
            identifies it.
        corpus: the documents.
        device: where to compute.
        revision: of a Hub model.
        fingerprint: for models that are not a CrossEncoder.

    Raises:
        InputError: a model that is not a cross-encoder, or has several labels.
    """

    def __init__(
        self,
        model: str | CrossEncoder | Predicts,
        corpus: Corpus,
        *,
        device: str | None = None,
        revision: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.corpus, self.device, self.revision = corpus, device, revision
        self._model_name = model if isinstance(model, str) else None
        self.model = self._load(model) if isinstance(model, str) else model
        self.score_kind: ScoreKind = score_kind_of(self.model)
        self.max_seq_length = getattr(self.model, "max_seq_length", None)
        self.model_digest = fingerprint or self._digest(self.model)
        self.name = self._model_name or type(self.model).__name__
        self.commit = commit_of(self._model_name, revision) if self._model_name else None

    def _load(self, name: str) -> Any:
        from sentence_transformers import CrossEncoder

        return load_as(CrossEncoder, name, device=self.device, revision=self.revision)

    @staticmethod
    def _digest(model: CrossEncoder) -> str:
        return json_digest([model_digest(model), _prompt(model), repr(_activation(model))])

    @cached_property
    def model(self) -> Any:
        """The cross-encoder, loaded again in a process that did not inherit it."""
        if self._model_name is None:
            raise StoreError(
                f"the cross-encoder {self.name!r} was passed as a live model, which does not travel to workers; save it and "
                "pass its folder"
            )
        model = self._load(self._model_name)
        if self._digest(model) != self.model_digest:
            raise StoreError(
                f"the model {self._model_name!r} changed since this teacher was made; make the teacher again"
            )
        return model

    @property
    def fingerprint(self) -> str:
        """Content digest of the model, its prompt and its activation."""
        return json_digest(["cross-encoder", self.model_digest])

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        facts = {"kind": "cross-encoder", "name": self.name, "commit": self.commit, "model_digest": self.model_digest}
        spelling = (
            {}
            if self._model_name is None
            else {"spelling": repr(Cross(self._model_name, self.commit or self.revision))}
        )
        return {**facts, "max_seq_length": self.max_seq_length, **spelling}

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        return self.score(queries, np.tile(np.arange(len(self.corpus)), (len(queries), 1)))

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``; ``-inf`` where the row is -1."""
        rows, columns = np.nonzero(doc_ids >= 0)
        scores = np.full(doc_ids.shape, -np.inf, np.float32)
        texts = self.corpus.texts(doc_ids[rows, columns]).to_pylist()
        scores[rows, columns] = self.score_texts([queries[row] for row in rows.tolist()], texts)
        return scores

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        return score_pairs(self.model, queries, documents)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "model"}


def score_kind_of(model: object) -> ScoreKind:
    """What a cross-encoder's scores mean, by its activation: probabilities after a sigmoid, else logits."""
    return "probability" if type(_activation(model)).__name__ == "Sigmoid" else "logit"


def _activation(model: object) -> object:
    return getattr(model, "activation_fn", None)


def score_pairs(model: CrossEncoder | Predicts, queries: Sequence[str], documents: Sequence[str]) -> Floats:
    """Scores float32 ``[m]`` of query i with document i, each different pair once, in one stream over all queries.

    A call per query pads every query's batch to its longest candidate and leaves most batches half full. Here, on a CPU,
    pairs of nearly one token length go together, padded to the multiple of 16 that this length always is, so a score depends
    on its pair alone, to the bit. What nobody reads of the last layer is not computed (:mod:`hf_posmine.encoding.first_token`).

    Args:
        model: a CrossEncoder with one label, or an object with ``predict(pairs)``.
        queries: m texts.
        documents: m texts.

    Raises:
        InputError: texts of different numbers, several scores per pair, or a score that is not finite.
    """
    if len(queries) != len(documents):
        raise InputError(f"{len(queries)} queries and {len(documents)} documents; give one document per query")
    pairs = list(zip(queries, documents, strict=True))
    unique = list(dict.fromkeys(pairs))
    if not isinstance(model, Predicts):
        raise InputError(f"{type(model).__name__} is not a cross-encoder; pass a CrossEncoder of sentence-transformers")
    blocks = [_block(model, unique[at : at + STREAM_PAIRS]) for at in range(0, len(unique), STREAM_PAIRS)]
    made = np.concatenate([np.empty(0, np.float32), *blocks])
    bad = np.flatnonzero(~np.isfinite(made))
    if len(bad):
        query, document = unique[bad[0]]
        raise InputError(f"the cross-encoder gives no finite score to {query[:40]!r} with {document[:40]!r}")
    number = {pair: at for at, pair in enumerate(unique)}
    return made[np.array([number[pair] for pair in pairs], np.int64)]


def _block(model: CrossEncoder | Predicts, pairs: list[tuple[str, str]]) -> Floats:
    made = _in_batches(model, pairs) if is_native(model) else np.asarray(model.predict(pairs), np.float32)
    if made.shape != (len(pairs),):
        raise InputError(f"the cross-encoder gives scores of shape {made.shape} for {len(pairs)} pairs; use one label")
    return made


def _in_batches(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> Floats:
    on_cpu = str(model.device).startswith("cpu")
    scores = np.empty(len(pairs), np.float32)
    model.eval()
    tokenized = _tokenized(model, pairs)
    lengths = np.array([len(q) + len(d) for q, d in pairs], np.int64) if tokenized is None else tokenized.lengths
    wide = -(-lengths // STEP) * STEP if on_cpu else lengths
    with first_token_alone(model) as cut:
        tokens = FILLED_TOKENS if on_cpu and not cut else None

        def read(rows: Rows) -> dict[str, Any]:
            longest = int(wide[rows[0]])
            if tokens is not None:
                rows = np.resize(rows, max(1, tokens // longest))
            if tokenized is None:
                return model.preprocess([pairs[i] for i in rows.tolist()], prompt=_prompt(model))  # type: ignore[no-any-return]
            return tokenized.features(rows, longest)

        # A pass without any padding has no mask, and other last bits: so pairs that need none go together.
        kinds = (
            [np.flatnonzero((wide > lengths) == padded) for padded in (True, False)]
            if on_cpu
            else [np.arange(len(pairs))]
        )
        batches = (at[rows] for at in kinds for rows in plan_batches(wide[at], on_cpu=on_cpu, tokens=tokens))
        run = run_batches(batches, read, lambda features: _forward(model, features), side_by_side=on_cpu)
        for rows, values in run:
            if values.ndim != 1:
                return values
            scores[rows] = values[: len(rows)]
    return scores


def _tokenized(model: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> TokenizedTexts | None:
    """The pairs as token ids; None where batches have to be made from the texts."""
    tokenizer = ModelParts.of(model).tokenizer
    if not pairs or not isinstance(tokenizer, Pads):
        return None
    return TokenizedTexts.of(pairs, lambda batch: model.preprocess(batch, prompt=_prompt(model)), tokenizer)


def _prompt(model: object) -> str | None:
    """The prompt that ``predict`` would use."""
    parts = ModelParts.of(model)
    return None if parts.default_prompt_name is None else parts.prompts.get(parts.default_prompt_name)


def _forward(model: CrossEncoder, features: dict[str, Any]) -> Floats:
    import torch

    from hf_posmine.encoding.linear_layers import inference

    with inference(model.device):
        features = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
        scores = model.activation_fn(model(features)["scores"].float())
        scores = scores.squeeze(-1) if model.num_labels == 1 and scores.ndim > 1 else scores
        made: Floats = scores.cpu().numpy()
        return made
