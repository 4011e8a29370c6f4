"""The stored vectors of a dense teacher, and those of queries that come later."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.types import PADDING
from hf_posmine.encoding.store import EmbeddingStore, Vectors
from hf_posmine.teachers.window import CutTexts, cut_texts
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.core.types import Floats
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Encoder, Role
    from hf_posmine.teachers.dense_model import DenseModel


class StoredEmbeddings:
    """Vectors of a corpus, and of the queries known beforehand, in a store that any later run shares.

    Args:
        model: encodes what the store lacks.
        corpus: the documents.
        queries: the queries known beforehand.
        store: where vectors are kept.
    """

    def __init__(self, model: DenseModel, corpus: Corpus, queries: Corpus | None, store: EmbeddingStore) -> None:
        self.model, self.corpus, self.queries, self.store = model, corpus, queries, store
        self.cut: CutTexts | None = None

    def count_cut(self) -> None:
        """Count the documents that the model reads the beginning of alone."""
        self.cut = cut_texts(self.model, self.corpus, self.store)

    @cached_property
    def of_documents(self) -> Vectors:
        """Vectors of the corpus, ``[N, d]``, memory-mapped; what is missing is encoded."""
        parts = [self._vectors(part, "document") for part in self.corpus.parts]
        return Vectors(tuple(shard for vectors in parts for shard in vectors.shards))

    @cached_property
    def of_queries(self) -> Vectors | None:
        """Vectors of the queries known beforehand, ``[Q, d]``, memory-mapped; None if there are none."""
        return None if self.queries is None else self._vectors(self.queries.parts[0], "query")

    def parts(self) -> list[tuple[Role, TextPart]]:
        """The texts whose vectors are stored: the corpus, and the queries known beforehand."""
        known: list[tuple[Role, TextPart]] = [] if self.queries is None else [("query", self.queries.parts[0])]
        return [*(("document", part) for part in self.corpus.parts), *known]

    def begin(self, role: Role, part: TextPart) -> int:
        """Make ready to store one of :meth:`parts` by several processes; returns the shards there will be."""
        self.model.check_unchanged(role)
        return self.store.begin(self.model.keys[role], part, self._manifest(role))

    def fill_shard(self, role: Role, part: TextPart, number: int, done: Callable[[int], object]) -> bool:
        """Encode one shard unless it is there, or is damaged; returns whether it did."""
        encode = self._encode_as(role)
        return self.store.fill_shard(self.model.keys[role], part, number, encode, done, repair=True)

    def is_trusted(self, role: Role, part: TextPart, number: int) -> bool:
        """Whether this process has made sure that a shard is there and whole."""
        return self.store.is_trusted(self.model.keys[role], part, number)

    def trust(self, role: Role, part: TextPart) -> None:
        """Take it that all shards were just filled or checked by others."""
        self.store.trust(self.model.keys[role], part)

    def missing(self, role: Role, part: TextPart) -> int:
        """Texts of a part that the store does not hold."""
        return self.store.missing(self.model.keys[role], part)

    def as_stored(self, vectors: Floats) -> Floats:
        """Vectors float32 rounded as the store rounds them."""
        return vectors.astype(self.store.dtype).astype(np.float32)

    def _vectors(self, part: TextPart, role: Role) -> Vectors:
        """The stored vectors of a part, encoding what is missing."""
        key = self.model.keys[role]
        found = self.store.load(key, part)
        if found is not None:
            return found
        self.model.check_unchanged(role)
        with progress_bar(len(part), f"Encoding {role} texts", "text") as bar:
            return self.store.fill(key, part, self._encode_as(role), self._manifest(role), bar.update)

    def _encode_as(self, role: Role) -> CountingEncoder:
        return CountingEncoder(self.model.encoder, role)

    def _manifest(self, role: Role) -> dict[str, Any]:
        """What the manifest of a part tells people."""
        model = self.model
        return {"model": model.name, "commit": model.commit, "role": role, "prompt": model.prompts[role]}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("of_documents", "of_queries")}


class CountingEncoder:
    """Encodes texts of one role, and counts those that are longer than what the model reads.

    Args:
        encoder: the model with its prompts.
        role: of the texts.
    """

    def __init__(self, encoder: Encoder, role: Role) -> None:
        self.encoder, self.role = encoder, role
        self._texts = self._cut = 0

    def __call__(self, texts: Sequence[str], done: Callable[[int], object]) -> Floats:
        """Vectors float32 ``[m, d]``."""
        return self.encoder.encode(texts, self.role, done, self._measured)

    def _measured(self, texts: int, cut: int) -> None:
        self._texts, self._cut = self._texts + texts, self._cut + cut

    def cut_among(self, texts: int) -> int | None:
        """How many texts since the last call are longer; None where others than so many were measured."""
        found = self._cut if self._texts == texts else None
        self._texts = self._cut = 0
        return found


class QueryVectors:
    """Vectors of queries: from the store where they are known, else encoded as they come.

    Args:
        embeddings: the store, and the model for other queries.
    """

    def __init__(self, embeddings: StoredEmbeddings) -> None:
        self.embeddings = embeddings
        self._last: tuple[list[str], Floats] | None = None

    def of(self, queries: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]``."""
        if self._last is None or self._last[0] != queries:  # a batch is scored, then searched: encode it once
            self._last = list(queries), self._embed(queries)
        return self._last[1]

    def _embed(self, queries: Sequence[str]) -> Floats:
        stored, known_texts = self.embeddings, self.embeddings.queries
        rows = np.full(len(queries), PADDING, np.int64) if known_texts is None else known_texts.rows_of_texts(queries)
        unknown = np.flatnonzero(rows < 0)
        fresh = stored.model.encode_unique([queries[i] for i in unknown.tolist()], "query")
        fresh = stored.as_stored(fresh)  # so that a query known beforehand has the same vector
        known_vectors = stored.of_queries
        if known_vectors is None or len(unknown) == len(rows):
            return fresh
        vectors = np.empty((len(queries), known_vectors.dim), np.float32)
        known = np.flatnonzero(rows >= 0)
        vectors[known] = known_vectors[rows[known]]
        known_vectors.release()
        if len(unknown):
            vectors[unknown] = fresh
        return vectors

    def __getstate__(self) -> dict[str, Any]:
        return {"embeddings": self.embeddings, "_last": None}
