"""A dense teacher: a SentenceTransformer, its stored embeddings, and exact search below a ceiling."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.store import EMBEDDING_SHARD_ROWS, EmbeddingStore, Vectors
from hf_posmine.search.approximate import ApproximateIndex
from hf_posmine.search.compiling import compiling
from hf_posmine.search.exact import Engine, ExactIndex
from hf_posmine.search.index_factory import as_index, open_index
from hf_posmine.search.rescore import KINDS, Similarity, exact_scores
from hf_posmine.teachers.dense_model import DenseModel, ModelSettings
from hf_posmine.teachers.dense_sweep import search_ladder
from hf_posmine.teachers.stored_embeddings import QueryVectors, StoredEmbeddings
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import store_root
from hf_posmine.utils.threads import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows, ScoreKind, SearchRequest
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.search.recall_report import ApproximateReport
    from hf_posmine.teachers.window import CutTexts


class DenseTeacher:
    """Scores by the similarity of embeddings, whichever the model declares (semantics 11).

    Documents are encoded once, into a store on disk that any later run shares. So are the queries that are known
    beforehand; others are encoded as they come.

    Args:
        model: a Hub id or folder, ``"embedded"``, or a SentenceTransformer. Any object with ``encode_query`` and
            ``encode_document``, or a function from a list of texts to their vectors, will do if ``fingerprint`` identifies it.
        corpus: the documents.
        queries: query texts to encode beforehand.
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        store: folder of the embeddings, by default below :func:`~hf_posmine.utils.files.store_root`.
        similarity: cosine, dot, euclidean or manhattan; None takes the model's.
        device: where to encode and to search, by default CUDA if there is any.
        dtype: of stored embeddings, float32 or float16.
        compute: to compute in: ``"bfloat16"`` or ``"float16"`` is faster and moves scores by about 1e-3, which changes some
            lists; None is as the model was saved. Only for models given by name.
        backend: ``"openvino"`` computes the same vectors to about 3e-7 on a CPU in less than half of torch's time (extra
            ``openvino``); with ``compute="bfloat16"`` faster still. Only for models given by name.
        shard_rows: rows of a store's shard, which is what a kill can lose.
        engine: see :class:`~hf_posmine.search.exact.ExactIndex`.
        index: search approximately, for corpora where exact search is too dear: a factory string of FAISS such as
            ``"IVF4096,SQ8"``, an :class:`~hf_posmine.search.specs.Approximate` or a :class:`~hf_posmine.search.specs.Lance`.
        revision: of a Hub model.
        max_length: tokens to which texts are cut, by default the model's own. Only for models given by name, as
            ``truncate_dim``, the dimensions kept of each vector.
        fingerprint: for models that are not SentenceTransformers.
    """

    def __init__(
        self,
        model: Any,
        corpus: Corpus,
        *,
        queries: Corpus | None = None,
        store: str | Path | None = None,
        dtype: str = "float32",
        shard_rows: int | None = None,
        engine: Engine = "auto",
        index: object = None,
        **settings: Any,
    ) -> None:
        if queries is not None and (queries.match != "exact" or len(queries.parts) != 1):
            raise InputError("queries= must match texts exactly; use Qrels.queries, or a Corpus with match='exact'")
        self.corpus, self.engine, self.approximate = corpus, engine, as_index(index)
        self.approximation: ApproximateReport | None = None
        self.device: str | None = settings.get("device")
        rows = EMBEDDING_SHARD_ROWS if shard_rows is None else shard_rows
        stored = EmbeddingStore(store_root(store), dtype=dtype, shard_rows=rows)
        self.model = DenseModel(model, ModelSettings.of(settings))
        self.embeddings = StoredEmbeddings(self.model, corpus, queries, stored)
        self.query_vectors = QueryVectors(self.embeddings)
        self.name = self.model.name

    @property
    def similarity(self) -> Similarity:
        """Cosine, dot, euclidean or manhattan."""
        return self.model.similarity

    @property
    def score_kind(self) -> ScoreKind:
        """The scale of its scores."""
        return KINDS[self.similarity]

    @property
    def fingerprint(self) -> str:
        """Content digest of model, prompts, similarity and approximate index; no paths."""
        index = [] if self.approximate is None else [repr(self.approximate)]
        return json_digest([self.similarity, self.embeddings.store.dtype.name, self.model.keys, *index])

    def describe(self) -> dict[str, Any]:
        """The teacher as a record holds it."""
        facts = {"kind": "dense", **self.model.describe(), "name": self.name, "dtype": self.embeddings.store.dtype.name}
        if self.approximate is not None:
            facts["index"] = repr(self.approximate)
        if self.approximation is not None:
            facts["approximation"] = self.approximation.to_dict()
        spelling = self.model.spelling(facts["dtype"], self.approximate)
        if spelling is not None:
            facts["spelling"] = spelling
        if self.embeddings.cut is not None:
            facts["cut_texts"] = self.embeddings.cut.cut
        return facts | {"fingerprint": self.fingerprint}

    def prepare(self) -> None:
        """Encode the corpus, and the queries known beforehand, unless the store has them."""
        known = self.embeddings.queries
        with compiling((0 if known is None else len(known)) * self.corpus.num_candidates):
            _ = self.index, self.embeddings.of_queries
        self.embeddings.count_cut()

    def cut_texts(self) -> CutTexts | None:
        """The documents that are longer than what the model reads, once they were counted."""
        return self.embeddings.cut

    def stored_shards(self) -> StoredEmbeddings:
        """The shards of its corpus and of the queries known beforehand."""
        return self.embeddings

    @cached_property
    def index(self) -> ExactIndex | ApproximateIndex:
        """The index that is searched: the candidates of the corpus."""
        if self.approximate is None:
            return self.exact
        return ApproximateIndex(self.exact, open_index(self.approximate, self.exact))

    @cached_property
    def exact(self) -> ExactIndex:
        """Exact search over the candidates of the corpus."""
        return self._exact_by(self.similarity, self.engine)

    @cached_property
    def _by_cosine(self) -> ExactIndex:
        return self.exact if self.similarity == "cosine" else self._exact_by("cosine", "auto")

    def _exact_by(self, similarity: Similarity, engine: Engine) -> ExactIndex:
        vectors, count = self.embeddings.of_documents, self.corpus.num_candidates
        return ExactIndex(vectors, similarity, num_candidates=count, device=self.search_device, engine=engine)

    @property
    def search_device(self) -> str:
        """The device on which documents are searched."""
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def use_rank(self, rank: int) -> None:
        """Take the GPU of this rank, where ``map(with_rank=True)`` runs one process per GPU and none was chosen."""
        import torch

        if self.device is None and torch.cuda.device_count() > 1:
            self.device = f"cuda:{rank % torch.cuda.device_count()}"
            self.model.move(self.device)

    def embed_queries(self, queries: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]``: from the store where they are known, else encoded now."""
        return self.query_vectors.of(queries)

    def embed_documents(self, documents: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]`` of texts outside the corpus, encoded now and rounded as the store rounds them."""
        return self.embeddings.as_stored(self.model.encode_unique(documents, "document"))

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        return self.index.search(self.embed_queries(queries), k, below=below, exclude=exclude)

    def search_many(self, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions) -> list[Ranking]:
        """Several searches that share one scan; see :func:`~hf_posmine.teachers.dense_sweep.search_ladder`."""
        vectors, index = self.embed_queries(queries), self.index
        if not isinstance(index, ApproximateIndex):
            return search_ladder(index, vectors, wants, exclude)
        return [index.search(vectors[w.rows], w.k, below=w.below, exclude=exclude.take(w.rows)) for w in wants]

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``."""
        return self.index.score(self.embed_queries(queries), doc_ids)

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        made, rows = Vectors((self.embed_documents(documents),)), np.arange(len(documents))[:, None]
        return exact_scores(self.similarity, self.embed_queries(queries), made, rows)[:, 0]

    def near_documents(self, rows: Rows, bound: float) -> list[Rows]:
        """For each corpus row the candidates whose cosine with it is at least ``bound``, itself included."""
        index = self.index if self.similarity == "cosine" and self.approximate is None else self._by_cosine
        return near_rows(index, self.embeddings.of_documents[rows], bound, self.corpus.num_candidates)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: v for name, v in self.__dict__.items() if name not in ("index", "exact", "_by_cosine")}
        return {**state, "_owner": os.getpid()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        owner = state.pop("_owner")
        self.__dict__.update(state)
        if owner != os.getpid():
            use_one_thread()


def near_rows(index: ExactIndex | ApproximateIndex, vectors: Floats, bound: float, num_candidates: int) -> list[Rows]:
    """Documents that score at least ``bound`` with each vector float32 ``[m, d]``, searched as deep as that takes."""
    k = 16
    while True:
        ranking = index.search(vectors, min(k, num_candidates))
        near = ranking.scores >= bound
        if k >= num_candidates or not near[:, -1].any():
            return [np.sort(ids[hit]) for ids, hit in zip(ranking.doc_ids, near, strict=True)]
        k *= 4
