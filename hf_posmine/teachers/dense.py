"""A dense teacher: a SentenceTransformer, its stored embeddings, and exact search below a ceiling."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.core.types import PADDING, Exclusions, Floats, Ranking, Rows, ScoreKind
from hf_posmine.encoding.backends import describe_backend
from hf_posmine.encoding.encode import Encoder, Role, TextFunction, load_again, load_model
from hf_posmine.encoding.store import EmbeddingStore, Vectors
from hf_posmine.search.approximate import ApproximateIndex
from hf_posmine.search.exact import Engine, ExactIndex
from hf_posmine.search.index_factory import as_index, open_index
from hf_posmine.search.rescore import KINDS, check_similarity, exact_scores
from hf_posmine.teachers.dense_sweep import search_ladder
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import store_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.backends import Backend, Compute
    from hf_posmine.search.recall_report import ApproximateReport
    from hf_posmine.teachers.multi_search import SearchRequest


class DenseTeacher:
    """Scores by the similarity of embeddings, whichever the model declares (semantics 11).

    Documents are encoded once, into a store on disk that any later run shares. So are the queries that are known
    beforehand; others are encoded as they come.

    Args:
        model: a Hub id or folder, ``"embedded"``, or a SentenceTransformer. Any object with ``encode_query`` and
            ``encode_document``, or a function from a list of texts to their vectors, will do if ``fingerprint`` says what it is.
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
        fingerprint: for models that are not SentenceTransformers.
    """

    def __init__(  # noqa: PLR0913 - the teacher's whole recipe, by keyword
        self,
        model: Any,
        corpus: Corpus,
        *,
        queries: Corpus | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        store: str | Path | None = None,
        similarity: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        compute: Compute | None = None,
        backend: Backend = "torch",
        shard_rows: int | None = None,
        engine: Engine = "auto",
        index: Any = None,
        revision: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if queries is not None and (queries.match != "exact" or len(queries.parts) != 1):
            raise InputError(
                "queries= must match texts exactly; use Qrels.queries, or Corpus.from_texts(..., match='exact')"
            )
        self.corpus, self.queries = corpus, queries
        self.device, self.engine, self.revision = device, engine, revision
        self.compute, self.backend = compute, backend
        self.approximate = as_index(index)
        self.approximation: ApproximateReport | None = None
        self._model_name = model if isinstance(model, str) else None
        self._store = EmbeddingStore(
            store_root(store), dtype=dtype, **({} if shard_rows is None else {"shard_rows": shard_rows})
        )
        if compute is not None and self._model_name is None:
            raise InputError(f"compute={compute!r} is for models given by name; convert this one with model.to(...)")
        if backend != "torch" and self._model_name is None:
            raise InputError(f"backend={backend!r} is for models given by name; load this one with that backend")
        loaded = model if self._model_name is None else self._loaded(self._model_name)
        if callable(loaded) and not isinstance(loaded, type) and not hasattr(loaded, "encode_document"):
            loaded = TextFunction(loaded)
        if not callable(getattr(loaded, "encode_document", None)):
            raise InputError(
                f"teacher={type(model).__name__} is no retrieval model; pass a Hub id, a folder or a SentenceTransformer"
            )
        self.similarity = check_similarity(similarity or getattr(loaded, "similarity_fn_name", None) or "cosine")
        self._encoder_options: dict[str, Any] = {
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
            "unit": self.similarity == "cosine",
            "fingerprint": fingerprint,
        }
        self.encoder = Encoder(loaded, **self._encoder_options)
        self.keys: dict[Role, str] = {role: self.encoder.digest(role) for role in ("query", "document")}
        self.prompts = dict(self.encoder.prompts)
        self.model_digest = self.encoder.model_digest
        self._computed = describe_backend(loaded)
        self.max_seq_length = getattr(loaded, "max_seq_length", None)
        self.name = self._model_name or _name_of(loaded)
        self.commit = commit_of(self._model_name, revision) if self._model_name else live_commit_of(loaded)

    @property
    def score_kind(self) -> ScoreKind:
        """What its scores mean."""
        return KINDS[self.similarity]

    @property
    def fingerprint(self) -> str:
        """Content digest of model, prompts, similarity and approximate index; no paths."""
        index = [] if self.approximate is None else [repr(self.approximate)]
        return json_digest([self.similarity, self._store.dtype.name, self.keys, *index])

    def describe(self) -> dict[str, Any]:
        """What a provenance record says of the teacher."""
        said = {
            "kind": "dense",
            "name": self.name,
            "commit": self.commit,
            "model_digest": self.model_digest,
            "similarity": self.similarity,
            "prompts": self.prompts,
            "dtype": self._store.dtype.name,
            "max_seq_length": self.max_seq_length,
            "fingerprint": self.fingerprint,
            **self._computed,
        }
        if self.approximate is not None:
            said["index"] = repr(self.approximate)
        if self.approximation is not None:
            said["approximation"] = self.approximation.to_dict()
        return said

    def prepare(self) -> None:
        """Encode the corpus, and the queries known beforehand, unless the store has them."""
        _ = self.index, self._known_queries

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded again in a process that did not inherit it."""
        cure = "call miner.prepare() first, save the model and pass its folder, or use num_proc=None"
        return load_again(self._model_name, self.name, self._load, self.keys["document"], cure)

    def _load(self, name: str) -> Encoder:
        return Encoder(self._loaded(name), **self._encoder_options)

    def _loaded(self, name: str) -> Any:
        return load_model(name, device=self.device, revision=self.revision, compute=self.compute, backend=self.backend)

    @cached_property
    def index(self) -> ExactIndex | ApproximateIndex:
        """What is searched: the candidates of the corpus."""
        return (
            self.exact
            if self.approximate is None
            else ApproximateIndex(self.exact, open_index(self.approximate, self.exact))
        )

    @cached_property
    def exact(self) -> ExactIndex:
        """Exact search over the candidates of the corpus."""
        return ExactIndex(
            self._corpus_vectors,
            self.similarity,
            num_candidates=self.corpus.num_candidates,
            device=self.search_device,
            engine=self.engine,
        )

    @property
    def search_device(self) -> str:
        """Where documents are searched."""
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _corpus_vectors(self) -> Vectors:
        parts = [self._vectors(part, "document") for part in self.corpus.parts]
        return Vectors(tuple(shard for vectors in parts for shard in vectors.shards))

    @cached_property
    def _known_queries(self) -> Vectors | None:
        return None if self.queries is None else self._vectors(self.queries.parts[0], "query")

    def _vectors(self, part: TextPart, role: Role) -> Vectors:
        """The stored vectors of a part, encoding what is missing."""
        found = self._store.load(self.keys[role], part)
        if found is not None:
            return found
        self._check_unchanged(role)
        with progress_bar(len(part), f"Encoding {role} texts", "text") as bar:
            return self._store.fill(
                self.keys[role], part, lambda t, done: self.encoder.encode(t, role, done), self._says(role), bar.update
            )

    def _says(self, role: Role) -> dict[str, Any]:
        return {"model": self.name, "commit": self.commit, "role": role, "prompt": self.prompts[role]}

    def parts(self) -> list[tuple[Role, TextPart]]:
        """The texts whose vectors are stored: the corpus, and the queries known beforehand."""
        known: list[tuple[Role, TextPart]] = [] if self.queries is None else [("query", self.queries.parts[0])]
        return [*(("document", part) for part in self.corpus.parts), *known]

    def begin(self, role: Role, part: TextPart) -> int:
        """Make ready to store one of :meth:`parts` by several processes; returns the shards there will be."""
        self._check_unchanged(role)
        return self._store.begin(self.keys[role], part, self._says(role))

    def fill_shard(self, role: Role, part: TextPart, number: int, done: Callable[[int], object]) -> bool:
        """Encode one shard unless it is there, or is damaged; returns whether it did."""
        key = self.keys[role]
        return self._store.fill_shard(
            key, part, number, lambda t, done: self.encoder.encode(t, role, done), done, repair=True
        )

    def is_trusted(self, role: Role, part: TextPart, number: int) -> bool:
        """Whether this process has made sure that a shard is there and whole."""
        return self._store.is_trusted(self.keys[role], part, number)

    def trust(self, role: Role, part: TextPart) -> None:
        """Take it that all shards were just filled or checked by others."""
        self._store.trust(self.keys[role], part)

    def _check_unchanged(self, role: Role) -> None:
        """A model that was trained or set otherwise since would fill the store with vectors under a wrong key."""
        if Encoder(self.encoder.model, **self._encoder_options).digest(role) != self.keys[role]:
            raise StoreError(f"the model {self.name!r} changed since this teacher was made; make the teacher again")

    def embed_queries(self, queries: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]``: from the store where they are known, else encoded now."""
        last_queries, last_vectors = self.__dict__.get("_last", (None, None))
        if last_queries != queries:  # a batch is scored and then searched: encode its new queries once
            last_vectors = self._embed_queries(queries)
            self._last = (list(queries), last_vectors)
        return last_vectors

    def _embed_queries(self, queries: Sequence[str]) -> Floats:
        rows = np.full(len(queries), PADDING, np.int64) if self.queries is None else self.queries.rows_of_texts(queries)
        unknown = np.flatnonzero(rows < 0)
        fresh = self._encode_unique([queries[i] for i in unknown.tolist()], "query")
        fresh = fresh.astype(self._store.dtype).astype(np.float32)  # as if it came from the store
        if self._known_queries is None or len(unknown) == len(rows):
            return fresh
        vectors = np.empty((len(queries), self._known_queries.dim), np.float32)
        known = np.flatnonzero(rows >= 0)
        vectors[known] = self._known_queries[rows[known]]
        self._known_queries.release()
        if len(unknown):
            vectors[unknown] = fresh
        return vectors

    def _encode_unique(self, texts: Sequence[str], role: Role) -> Floats:
        if not texts:
            return np.empty((0, 0), np.float32)
        order = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return self.encoder.encode(list(order), role)[[order[text] for text in texts]]

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        return self.index.search(self.embed_queries(queries), k, below=below, exclude=exclude)

    def search_many(self, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions) -> list[Ranking]:
        """Several searches that share one scan; see :func:`~hf_posmine.teachers.dense_sweep.search_ladder`."""
        vectors, index = self.embed_queries(queries), self.index
        if isinstance(index, ApproximateIndex):
            return [
                index.search(vectors[want.rows], want.k, below=want.below, exclude=exclude.take(want.rows))
                for want in wants
            ]
        return search_ladder(index, vectors, wants, exclude)

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``."""
        return self.index.score(self.embed_queries(queries), doc_ids)

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i."""
        vectors = Vectors((self._encode_unique(documents, "document").astype(self._store.dtype),))
        return exact_scores(self.similarity, self.embed_queries(queries), vectors, np.arange(len(documents))[:, None])[
            :, 0
        ]

    def near_documents(self, rows: Rows, bound: float) -> list[Rows]:
        """For each corpus row the candidates whose cosine with it is at least ``bound``, itself included."""
        index = self.index if self.similarity == "cosine" and self.approximate is None else self._cosine_index
        vectors, k = self._corpus_vectors[rows], 16
        while True:
            ranking = index.search(vectors, min(k, self.corpus.num_candidates))
            near = ranking.scores >= bound
            if k >= self.corpus.num_candidates or not near[:, -1].any():
                return [np.sort(ids[hit]) for ids, hit in zip(ranking.doc_ids, near, strict=True)]
            k *= 4

    @cached_property
    def _cosine_index(self) -> ExactIndex:
        if self.similarity == "cosine":
            return self.exact
        return ExactIndex(
            self._corpus_vectors, "cosine", num_candidates=self.corpus.num_candidates, device=self.search_device
        )

    def use_rank(self, rank: int) -> None:
        """Take the GPU of this rank, where ``map(with_rank=True)`` runs one process per GPU and none was chosen."""
        import torch

        if self.device is None and torch.cuda.device_count() > 1:
            self.device = f"cuda:{rank % torch.cuda.device_count()}"

    def __getstate__(self) -> dict[str, Any]:
        heavy = ("encoder", "index", "exact", "_corpus_vectors", "_known_queries", "_cosine_index", "_last")
        state = {name: value for name, value in self.__dict__.items() if name not in heavy}
        return {**state, "_owner": os.getpid()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        owner = state.pop("_owner")
        self.__dict__.update(state)
        if owner != os.getpid() and "torch" in sys.modules:
            # a forked worker inherits OpenMP's lock but not its threads, and would wait for them for ever
            sys.modules["torch"].set_num_threads(1)
        if owner != os.getpid() and "faiss" in sys.modules:
            sys.modules["faiss"].omp_set_num_threads(1)


def _name_of(model: Any) -> str:
    card = getattr(model, "model_card_data", None)
    known = getattr(card, "model_id", None) or getattr(card, "base_model", None)
    return str(known or getattr(model, "__name__", type(model).__name__))


def commit_of(name: str, revision: str | None = None) -> str | None:
    """The Hub commit of a model that was loaded by id, read off the cache; None for folders and the embedded model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).is_dir():
        return None
    for file in ("modules.json", "config.json"):
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def live_commit_of(model: Any) -> str | None:
    """The same of a SentenceTransformer in memory, as far as it still knows where it came from."""
    card = getattr(model, "model_card_data", None)
    name = getattr(card, "base_model", None)
    return commit_of(str(name), getattr(card, "base_model_revision", None)) if name else None
