"""A late-interaction teacher: a ColBERT-like MultiVectorEncoder of sentence-transformers, scored by MaxSim."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import Encoder, Role, load_as
from hf_posmine.teachers.encoded_parts import encoded_parts
from hf_posmine.teachers.saved_model import SavedModelTeacher
from hf_posmine.teachers.spellings import Late
from hf_posmine.utils.cache import build_once, parts_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    from hf_posmine.core.types import Floats, Rows, ScoreKind

BLOCK_SIMILARITIES = 1 << 23
"""Similarities of query tokens with document tokens held at a time (64 MB)."""
KINDS: dict[str, ScoreKind] = {"maxsim": "dot", "meanmaxsim": "cosine"}


class LateInteractionTeacher(SavedModelTeacher):
    """Scores by MaxSim: for each token of the query the best similarity with a token of the document, summed.

    The vectors of all tokens of the documents are stored once, below ``store``. Scores are summed in float64 and rounded
    once, so they do not depend on blocks (semantics 7). Every query meets every token: fit for corpora of tens of thousands
    of documents on a CPU; beyond that make a run elsewhere and use it with ``RunTeacher``.

    Args:
        model: a Hub id or folder, or a MultiVectorEncoder.
        corpus: the documents.
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        store: folder of the token vectors, by default below :func:`~hf_posmine.utils.files.cache_root`.
        device: where to encode.
        revision: of a Hub model.
    """

    kind, folder, spelled, cached = "late interaction", "tokens", Late, ("_tokens",)

    def _encoder(self, model: str | SparseEncoder | MultiVectorEncoder) -> Encoder:
        from sentence_transformers import MultiVectorEncoder

        if isinstance(model, str):
            model = load_as(MultiVectorEncoder, model, device=self.device, revision=self.revision)
        if not isinstance(model, MultiVectorEncoder):
            raise InputError(
                f"model={type(model).__name__} is not a MultiVectorEncoder; pass one, a Hub id or a folder"
            )
        return Encoder(model, **self._options)

    @cached_property
    def similarity(self) -> str:
        """``maxsim`` or ``meanmaxsim``."""
        return str(self.encoder.model.similarity_fn_name)

    @property
    def score_kind(self) -> ScoreKind:
        """A sum of cosines for MaxSim, a mean of them for MeanMaxSim."""
        return KINDS[self.similarity]

    def _decisive(self) -> str:
        return self.similarity

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        return {**super().describe(), "similarity": self.similarity}

    def prepare(self) -> None:
        """Encode the corpus, unless its token vectors are stored."""
        _ = self._tokens

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        tokens, starts = self._tokens
        query_tokens, bounds = self._encode(queries, "query")
        out = np.empty((len(queries), len(self.corpus)), np.float32)
        for first, last in _document_blocks(starts, BLOCK_SIMILARITIES // max(1, len(query_tokens))):
            block = np.asarray(tokens[starts[first] : starts[last]], np.float64)
            out[:, first:last] = self._maxsim(query_tokens, bounds, block, starts[first:last] - starts[first])
        return out

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``, each pair alone."""
        tokens, starts = self._tokens
        query_tokens, bounds = self._encode(queries, "query")
        out = np.full(doc_ids.shape, -np.inf, np.float32)
        for row, column in np.argwhere(doc_ids >= 0).tolist():
            mine, document = query_tokens[bounds[row] : bounds[row + 1]], doc_ids[row, column]
            theirs = np.asarray(tokens[starts[document] : starts[document + 1]], np.float64)
            out[row, column] = self._maxsim(mine, np.array([0, len(mine)]), theirs, np.array([0]))[0, 0]
        return out

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        query_tokens, bounds = self._encode(queries, "query")
        theirs, starts = self._encode(documents, "document")
        out = np.empty(len(queries), np.float32)
        for row in range(len(queries)):
            mine, document = query_tokens[bounds[row] : bounds[row + 1]], theirs[starts[row] : starts[row + 1]]
            out[row] = self._maxsim(mine, np.array([0, len(mine)]), document, np.array([0]))[0, 0]
        return out

    def _maxsim(self, query_tokens: np.ndarray, bounds: Rows, tokens: np.ndarray, starts: Rows) -> Floats:
        """Scores float32 ``[B, n]`` from float64 token vectors; ``bounds`` ``[B + 1]`` and ``starts`` ``[n]`` part them."""
        best = np.maximum.reduceat(query_tokens @ tokens.T, starts, axis=1)
        scores = np.add.reduceat(best, bounds[:-1], axis=0)
        if self.similarity == "meanmaxsim":
            scores /= np.diff(bounds)[:, None]
        return scores.astype(np.float32)

    def _encode(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, Rows]:
        """Token vectors float64 ``[T, d]`` of texts, and where each text's begin and end, int64 ``[m + 1]``."""
        order = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        model = self.encoder.model
        method = model.encode_query if role == "query" else model.encode_document
        found = method(
            list(order), prompt=self.prompts[role] or None, convert_to_numpy=True, show_progress_bar=False,
            batch_size=1 if self.encoder.on_cpu else 64,  # alone, so that no neighbour's padding moves the last bits
        )  # fmt: skip
        vectors = [v.astype(np.float64) if len(v) else np.zeros((1, v.shape[1])) for v in found]
        mine = [vectors[order[text]] for text in texts]
        return np.concatenate(mine), np.cumsum([0, *map(len, mine)])

    @cached_property
    def _tokens(self) -> tuple[np.ndarray, Rows]:
        """Token vectors float32 ``[T, d]`` of all documents, memory-mapped, and their bounds int64 ``[N + 1]``."""
        folder = self._store / f"{self.keys['document']}-{self.corpus.fingerprint}"
        build_once(folder, lambda new: self._write(new, parts_folder(folder)))
        starts = np.load(folder / "starts.npy")
        return np.memmap(folder / "tokens.f32", np.float32, "r").reshape(starts[-1], -1), starts

    def _write(self, folder: Path, parts: Path) -> None:
        counts = [np.zeros(1, np.int64)]
        with (folder / "tokens.f32").open("wb") as file:
            for part in encoded_parts(parts, self.corpus, self._document_tokens):
                file.write(part["tokens"].tobytes())
                counts.append(part["counts"])
        np.save(folder / "starts.npy", np.cumsum(np.concatenate(counts)))

    def _document_tokens(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Tokens of each text, and the vectors of all tokens, text after text."""
        tokens, bounds = self._encode(texts, "document")
        return {"counts": np.diff(bounds), "tokens": tokens.astype(np.float32)}


def _document_blocks(starts: Rows, tokens: int) -> Iterator[tuple[int, int]]:
    """First and last document of blocks of at most so many tokens, but at least one document."""
    first = 0
    while first < len(starts) - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + tokens, side="right")) - 1)
        yield first, last
        first = last
