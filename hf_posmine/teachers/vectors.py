"""A teacher over vectors that somebody else computed: no model at all."""

from __future__ import annotations

import hashlib
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, LeftOutVectorsWarning
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.search.compiling import compiling
from hf_posmine.search.exact import Engine, ExactIndex
from hf_posmine.search.rescore import KINDS, check_similarity
from hf_posmine.teachers.exhaustive import as_texts
from hf_posmine.teachers.vector_files import document_vectors, query_vectors
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import blocks, release_pages
from hf_posmine.utils.remote import fetched, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows, ScoreKind
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.spellings import VectorFiles


class VectorTeacher:
    """Scores by the similarity of given vectors, exactly as :class:`~hf_posmine.teachers.dense.DenseTeacher` does.

    Args:
        corpus: the documents.
        vectors: float32 ``[N, d]``, one per document, aligned with the corpus or with ``ids``. A memory map will do.
        queries: the query texts that have a vector.
        query_vectors: float32 ``[Q, d]``, aligned with ``queries``.
        ids: ids of the corpus, one per row of ``vectors``, in any order and number as long as each document has one.
        similarity: cosine, dot, euclidean or manhattan.
        name: what the output calls the teacher.
        engine: see :class:`~hf_posmine.search.exact.ExactIndex`.

    Raises:
        InputError: shapes that disagree, vectors that are not finite, a document without a vector.

    >>> from hf_posmine import Corpus
    >>> corpus = Corpus.from_texts(["x", "y"])
    >>> teacher = VectorTeacher(corpus, np.eye(2), ["q"], [[0.6, 0.8]])
    >>> teacher.search(["q"], 1).doc_ids.tolist()
    [[1]]
    """

    def __init__(
        self,
        corpus: Corpus,
        vectors: npt.ArrayLike,
        queries: Sequence[str],
        query_vectors: npt.ArrayLike,
        *,
        ids: Sequence[str] | None = None,
        similarity: str = "cosine",
        name: str = "vectors",
        engine: Engine = "auto",
    ) -> None:
        self.corpus, self.name, self.engine = corpus, name, engine
        self.similarity = check_similarity(similarity)
        self._query_keys = text_keys(as_texts(queries, "queries"), "exact")
        documents = _matrix(vectors, len(corpus) if ids is None else len(ids), "documents")
        of_queries = _matrix(query_vectors, len(self._query_keys), "queries")
        if documents.shape[1] != of_queries.shape[1]:
            raise InputError(
                f"documents have vectors of {documents.shape[1]} dimensions, queries of {of_queries.shape[1]}; use one model "
                "for both"
            )
        self._arrays = {
            "documents": documents if ids is None else aligned(corpus, documents, ids),
            "queries": of_queries,
        }
        self.spec: VectorFiles | None = None
        self.account: str | None = None
        self._last: tuple[list[str], Floats] | None = None

    @classmethod
    def load(cls, spec: VectorFiles, corpus: Corpus, *, engine: Engine = "auto") -> VectorTeacher:
        """From files, as ``Vectors("docs.parquet", queries="queries.parquet")`` names them, or from one folder or file of all.

        Each of the two is a .parquet, .arrow, .feather, .jsonl, .npy or .safetensors file, a Lance or saved dataset, or a Hub id;
        see :class:`~hf_posmine.teachers.vector_sources.VectorSource`. Vectors of documents that the corpus lacks are left out,
        with a warning and a line in the record. Documents are known by id or text, else by their order, and
        queries by their text. Without ``queries``, a folder holds ``documents.npy`` ``[N, d]``, ``queries.npy`` ``[Q, d]`` and
        ``query_texts.json``, and ``ids.json`` unless documents are in the order of the corpus; a ``.npz`` file holds arrays of
        these names.

        Raises:
            InputError: no such folder or file, or something missing in it.
        """
        if spec.queries is not None:
            documents, account = document_vectors(spec.path, spec.column, corpus)
            if account.left_out:
                warnings.warn(str(account), LeftOutVectorsWarning, stacklevel=2)
            texts, of_queries = query_vectors(spec.queries, spec.column)
            teacher = cls(
                corpus,
                documents,
                texts,
                of_queries,
                engine=engine,
                similarity=spec.similarity,
                name=Path(spec.path).stem,
            )
            teacher.spec, teacher.account = spec, str(account)
            return teacher
        place = fetched(spec.path) if is_remote(spec.path) else Path(spec.path).expanduser()
        given = read_vectors(place)
        teacher = cls(
            corpus, given["documents"], given["query_texts"], given["queries"], ids=given.get("ids"), engine=engine,
            similarity=spec.similarity, name=Path(spec.path).stem,
        )  # fmt: skip
        teacher.spec = spec
        return teacher

    @property
    def score_kind(self) -> ScoreKind:
        """What its scores mean."""
        return KINDS[self.similarity]

    @cached_property
    def fingerprint(self) -> str:
        """Content digest of vectors, query texts and similarity."""
        digest = hashlib.sha256(self.similarity.encode())
        for array in (self._query_keys, self._arrays["documents"], self._arrays["queries"]):
            digest.update(f"{array.shape}".encode())
            for start in range(0, len(array), 4096):
                digest.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
        return digest.hexdigest()[:32]

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        facts = {"kind": "vectors", "similarity": self.similarity, "dimensions": int(self._arrays["queries"].shape[1])}
        given = {"spelling": None if self.spec is None else repr(self.spec), "vectors": self.account}
        return facts | {name: value for name, value in given.items() if value is not None}

    @cached_property
    def index(self) -> ExactIndex:
        """Exact search over the candidates of the corpus."""
        candidates = self.corpus.num_candidates
        return ExactIndex(self._arrays["documents"], self.similarity, num_candidates=candidates, engine=self.engine)

    def prepare(self) -> None:
        """Compile the loops of the search, if it is large."""
        with compiling(len(self._query_keys) * self.corpus.num_candidates):
            _ = self.index

    def embed_queries(self, queries: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]`` of queries.

        Raises:
            InputError: a query that came without a vector.
        """
        if self._last is not None and self._last[0] == queries:  # a batch is scored, then searched
            return self._last[1]
        rows = self._query_rows.rows(text_keys(queries, "exact"))
        lost = np.flatnonzero(rows < 0)
        if len(lost):
            raise InputError(
                f"{len(lost)} queries have no vector, such as {queries[lost[0]][:60]!r}; give VectorTeacher theirs"
            )
        self._last = list(queries), np.asarray(self._arrays["queries"][rows], np.float32)
        return self._last[1]

    @cached_property
    def _query_rows(self) -> KeyIndex:
        return KeyIndex.build(self._query_keys)

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        return self.index.search(self.embed_queries(queries), k, below=below, exclude=exclude)

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``."""
        return self.index.score(self.embed_queries(queries), doc_ids)

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Refused: there is no model that could embed a text outside the corpus."""
        return self.embed_documents(documents)

    def embed_documents(self, documents: Sequence[str]) -> Floats:
        """Refused likewise."""
        raise InputError(
            f"a positive is not in the corpus ({documents[0][:60]!r}) and VectorTeacher has no vector for it; make the "
            "corpus with corpus.union(positives, candidates=False) and give their vectors too"
        )

    def __getstate__(self) -> dict[str, Any]:
        """The arrays go to disk once, by content, and are memory-mapped by whoever unpickles."""
        folder = build_once(cache_root() / "vectors" / self.fingerprint, self._write)
        state = {"corpus": self.corpus, "name": self.name, "engine": self.engine, "similarity": self.similarity}
        own = {"spec": self.spec, "account": self.account, "fingerprint": self.fingerprint}
        return {**state, **own, "folder": folder}

    def _write(self, folder: Path) -> None:
        np.save(folder / "query_keys.npy", self._query_keys)
        for name, array in self._arrays.items():
            np.save(folder / f"{name}.npy", array)

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = checked(state.pop("folder"))
        self._query_keys = np.load(folder / "query_keys.npy")
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("documents", "queries")}
        self.__dict__.update(state, _last=None)


def read_vectors(path: Path) -> dict[str, Any]:
    """Vectors, query texts and ids of a folder or a ``.npz`` file; see :meth:`VectorTeacher.load`.

    Raises:
        InputError: no such folder or file, or something missing in it.
    """
    if path.is_dir():
        found: dict[str, Any] = {
            name: np.load(path / f"{name}.npy", mmap_mode="r")
            for name in ("documents", "queries")
            if (path / f"{name}.npy").is_file()
        }
        texts = [name for name in ("query_texts", "ids") if (path / f"{name}.json").is_file()]
        found |= {name: json.loads((path / f"{name}.json").read_text("utf-8")) for name in texts}
    elif path.is_file() and path.suffix == ".npz":
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        found |= {name: [str(value) for value in found[name]] for name in ("query_texts", "ids") if name in found}
    else:
        more = "; for other files name those of the queries, too: queries='...'" if path.is_file() else ""
        raise InputError(f"Vectors({str(path)!r}): there is no such folder, and no such .npz file{more}")
    missing = [name for name in ("documents", "queries", "query_texts") if name not in found]
    if missing:
        raise InputError(f"Vectors({str(path)!r}) has no {missing[0]!r}; it needs documents, queries and query_texts")
    return found


def _matrix(values: npt.ArrayLike, rows: int, what: str) -> np.ndarray:
    array = values if isinstance(values, np.ndarray) and values.dtype == np.float32 else np.asarray(values, np.float32)
    if array.ndim != 2 or len(array) != rows:  # noqa: PLR2004 - [rows, dimensions]
        raise InputError(f"vectors of {what} have shape {array.shape}; expected [{rows}, dimensions], one row each")
    bad = [np.flatnonzero(~np.isfinite(array[span]).all(axis=1)) + span.start for span in blocks(len(array))]
    release_pages(array)
    if any(map(len, bad)):
        at = np.concatenate(bad)
        raise InputError(f"{len(at)} vectors of {what} are not finite, first row {at[0]}")
    return array


def aligned(corpus: Corpus, vectors: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Vectors in the order of the corpus."""
    rows = corpus.required_rows([str(i) for i in ids], "ids")
    where = np.full(len(corpus), -1, np.int64)
    where[rows] = np.arange(len(rows))
    lost = np.flatnonzero(where < 0)
    if len(lost):
        raise InputError(f"{len(lost)} documents have no vector, such as {corpus.describe(int(lost[0]))}; give all")
    return vectors[where]
