"""A learned sparse teacher: a SPLADE-like SparseEncoder of sentence-transformers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import Encoder, Role, load_as
from hf_posmine.teachers.encoded_parts import ENCODE_TEXTS, encoded_parts
from hf_posmine.teachers.postings import Postings, pair_score
from hf_posmine.teachers.saved_model import SavedModelTeacher
from hf_posmine.teachers.spellings import Sparse
from hf_posmine.utils.cache import build_once, parts_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    from hf_posmine.core.types import Floats, ScoreKind


class SparseTeacher(SavedModelTeacher):
    """Scores by the dot product of sparse vectors.

    Documents are encoded once, into an inverted index below ``store`` that all runs share. Queries are encoded as they
    come.

    Args:
        model: a Hub id or folder, or a SparseEncoder.
        corpus: the documents.
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        store: folder of the index, by default below :func:`~hf_posmine.utils.files.cache_root`.
        device: where to encode.
        revision: of a Hub model.

    Raises:
        InputError: a model that is not a SparseEncoder, or that compares otherwise than by dot product.
    """

    score_kind: ScoreKind = "dot"
    kind, folder, spelled, cached = "sparse", "sparse", Sparse, ("_index", "_last")

    def _encoder(self, model: str | SparseEncoder | MultiVectorEncoder) -> Encoder:
        from sentence_transformers import SparseEncoder

        if isinstance(model, str):
            model = load_as(SparseEncoder, model, device=self.device, revision=self.revision)
        if not isinstance(model, SparseEncoder):
            raise InputError(f"model={type(model).__name__} is not a SparseEncoder; pass one, a Hub id or a folder")
        if model.similarity_fn_name != "dot":
            raise InputError(
                f"the model compares by {model.similarity_fn_name!r}; a sparse teacher scores by dot product"
            )
        return Encoder(model, **self._options)

    @cached_property
    def max_active_dims(self) -> int | None:
        """The most terms that a text may have; None for all."""
        most: int | None = self.encoder.model.max_active_dims
        return most

    def _decisive(self) -> int | None:
        return self.max_active_dims

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        return {**super().describe(), "similarity": "dot", "max_active_dims": self.max_active_dims}

    def prepare(self) -> None:
        """Encode the corpus, unless its index is stored."""
        _ = self._index

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        return self._index.scores(self._terms(queries, "query"))

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        pairs = zip(self._terms(queries, "query"), self._terms(documents, "document"), strict=True)
        return np.array([pair_score(query, document) for query, document in pairs], np.float32)

    def _terms(self, texts: Sequence[str], role: Role) -> list[dict[int, float]]:
        """Weight by term of each text; the last queries are remembered, because they are scored and then searched."""
        remembered = self.__dict__.setdefault("_last", {}) if role == "query" else {}
        fresh = [text for text in dict.fromkeys(texts) if text not in remembered]
        if fresh and len(remembered) > 8 * ENCODE_TEXTS:
            remembered.clear()
            fresh = list(dict.fromkeys(texts))
        for start in range(0, len(fresh), ENCODE_TEXTS):
            block = fresh[start : start + ENCODE_TEXTS]
            for text, vector in zip(block, self._vectors(block, role), strict=True):
                terms = np.flatnonzero(vector)
                remembered[text] = dict(zip(terms.tolist(), vector[terms].astype(np.float64).tolist(), strict=True))
        return [remembered[text] for text in texts]

    def _vectors(self, texts: Sequence[str], role: Role) -> Floats:
        """Vectors float32 ``[m, V]``, with no more terms each than the model allows."""
        vectors, most = self.encoder.encode(texts, role), self.max_active_dims
        if most is None or most >= vectors.shape[1]:
            return vectors
        least = np.argsort(-vectors, axis=1, kind="stable")[:, most:]
        np.put_along_axis(vectors, least, 0, axis=1)
        return vectors

    @cached_property
    def _index(self) -> Postings:
        folder = self._store / f"{self.keys['document']}-{self.max_active_dims or 'all'}-{self.corpus.fingerprint}"
        return Postings.load(build_once(folder, lambda new: self._build(parts_folder(folder)).save(new)))

    def _build(self, folder: Path) -> Postings:
        parts = list(encoded_parts(folder, self.corpus, self._document_terms))
        counts, terms, weights = (
            np.concatenate([part[name] for part in parts]) for name in ("counts", "terms", "weights")
        )
        documents = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        order = np.argsort(terms, kind="stable")
        size = int(self.encoder.model.get_embedding_dimension())
        starts = np.append(0, np.cumsum(np.bincount(terms, minlength=size))).astype(np.int64)
        return Postings(weights[order], documents[order], starts, len(self.corpus))

    def _document_terms(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Terms of each text, and all terms with their weights, text after text."""
        vectors = self._vectors(texts, "document")
        at, terms = np.nonzero(vectors)
        counts = np.bincount(at, minlength=len(texts))
        return {"counts": counts, "terms": terms.astype(np.int32), "weights": vectors[at, terms]}
