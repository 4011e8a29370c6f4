"""A late-interaction teacher over token or patch vectors that somebody else computed: no model at all."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xxhash

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import spans
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.teachers.exhaustive import as_texts
from hf_posmine.teachers.maxsim import KINDS, MaxSimScores
from hf_posmine.teachers.vectors import aligned
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.mapped import blocks, release_pages
from hf_posmine.utils.remote import fetched, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from hf_posmine.core.types import Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.encoding.encode import Role
    from hf_posmine.teachers.spellings import VectorFiles

Ragged: TypeAlias = "tuple[npt.ArrayLike, npt.ArrayLike]"
"""Vectors of all members, one after the other, and how many each has."""
ARRAYS = ("documents", "document_counts", "queries", "query_counts")


class MultiVectorTeacher(MaxSimScores):
    """Scores given vectors of tokens or patches by MaxSim, exactly as :class:`~hf_posmine.teachers.LateInteractionTeacher` does.

    Args:
        corpus: the documents.
        documents: vectors float16 or float32 ``[T, d]`` of all documents, one after the other, and how many each has, int64
            ``[N]``, at least 1. Memory maps will do.
        queries: the queries, texts or images.
        query_vectors: their vectors ``[S, d]``, and how many each has, int64 ``[Q]``.
        ids: ids of the corpus, one per document, in any order; by default the order is that of the corpus.
        similarity: ``maxsim`` or ``meanmaxsim``.
        name: what the output calls the teacher.

    Raises:
        InputError: shapes that disagree, vectors that are not finite, or a document without vectors.

    >>> from hf_posmine import Corpus
    >>> pages = Corpus.from_texts(["x", "y"])
    >>> teacher = MultiVectorTeacher(pages, ([[1, 0], [0, 1], [0.5, 0.5]], [1, 2]), ["q"], ([[0, 1], [1, 0]], [2]))
    >>> teacher.score(["q"], np.array([[0, 1]])).tolist()
    [[1.0, 1.5]]
    """

    def __init__(
        self,
        corpus: Corpus,
        documents: Ragged,
        queries: Sequence[str],
        query_vectors: Ragged,
        *,
        ids: Sequence[str] | None = None,
        similarity: str = "maxsim",
        name: str = "multi-vectors",
    ) -> None:
        self.corpus, self.name = corpus, name
        self.spec: VectorFiles | None = None
        self._folder: Path | None = None
        self._use(queries, ids, similarity, dict(zip(ARRAYS, (*documents, *query_vectors), strict=True)))

    @classmethod
    def load(cls, spec: VectorFiles, corpus: Corpus) -> MultiVectorTeacher:
        """From a folder, in which the arrays stay.

        It holds ``documents.npy``, ``document_counts.npy``, ``queries.npy``, ``query_counts.npy``, ``query_texts.json`` and,
        unless documents are in the order of the corpus, ``ids.json``.

        Raises:
            InputError: a file that is missing.
        """
        place = fetched(spec.path) if is_remote(spec.path) else Path(spec.path).expanduser()
        teacher = cls.__new__(cls)
        teacher.corpus, teacher.name, teacher.spec = corpus, Path(spec.path).stem, spec
        teacher._open(place, spec.similarity)
        return teacher

    def _open(self, folder: Path, similarity: str) -> None:
        self._folder = folder
        try:
            queries = json.loads((folder / "query_texts.json").read_text("utf8"))
            given = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        except FileNotFoundError as error:
            raise InputError(f"a store of multi-vectors needs {error.filename!r}; there is no such file") from None
        ids = folder / "ids.json"
        self._use(queries, json.loads(ids.read_text("utf8")) if ids.is_file() else None, similarity, given)

    def _use(self, queries: Sequence[str], ids: Sequence[str] | None, similarity: str, given: dict[str, Any]) -> None:
        if similarity not in KINDS:
            raise InputError(f"similarity={similarity!r}; multi-vectors have one of {list(KINDS)}")
        self._similarity, self._queries = similarity, as_texts(queries, "queries")
        self._ids = None if ids is None else list(map(str, ids))
        self._arrays = {name: np.asanyarray(values) for name, values in given.items()}
        self._document_tokens = self._parted("document", "documents", len(self.corpus) if ids is None else len(ids))
        self._query_tokens = self._parted("query", "queries", len(self._queries))
        widths = {self._arrays[name].shape[1] for name in ("documents", "queries")}
        if len(widths) > 1:
            raise InputError(f"vectors of documents and queries have {sorted(widths)} dimensions; use one model")
        if self._ids is not None:  # of several files of one image, the first counts
            self._places = aligned(self.corpus, np.arange(len(self._ids))[::-1], self._ids[::-1])

    def _parted(self, role: str, name: str, members: int) -> tuple[np.ndarray, Rows]:
        """The vectors of documents or queries, and the bounds of each."""
        vectors, counts = self._arrays[name], self._arrays[f"{role}_counts"].astype(np.int64)
        if vectors.ndim != 2 or counts.shape != (members,) or (counts < 1).any() or counts.sum() != len(vectors):  # noqa: PLR2004
            raise InputError(
                f"{name}: {members:,} of them, counts {counts.shape} with the sum {int(counts.sum()):,}, and vectors "
                f"{vectors.shape}; give each at least one vector, one after the other"
            )
        for span in blocks(len(vectors)):
            if not np.isfinite(vectors[span]).all():
                raise InputError(f"{name}: a vector among numbers {span.start} to {span.stop} is not finite")
            release_pages(vectors)
        return vectors, np.append(0, np.cumsum(counts))

    @property
    def similarity(self) -> str:
        """``maxsim`` or ``meanmaxsim``."""
        return self._similarity

    @property
    def _tokens(self) -> tuple[np.ndarray, Rows]:
        return self._document_tokens

    @cached_property
    def _query_rows(self) -> KeyIndex:
        return KeyIndex.build(text_keys(self._queries, "exact"))

    def _encode(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, Rows]:
        """The given vectors of queries, and their bounds.

        Raises:
            InputError: a query, or a document outside the corpus, that came without vectors.
        """
        rows = self._query_rows.rows(text_keys(texts, "exact")) if role == "query" else np.full(len(texts), -1)
        lost = np.flatnonzero(rows < 0)
        if len(lost):
            what = f"{'queries' if role == 'query' else 'positives are not in the corpus and'} have no vectors"
            raise InputError(f"{len(lost)} {what}, such as {texts[lost[0]][:60]!r}; give {self.name} theirs")
        tokens, bounds = self._query_tokens
        counts = np.diff(bounds)[rows]
        return tokens[spans(bounds[rows], counts)].astype(np.float64), np.append(0, np.cumsum(counts))

    @cached_property
    def fingerprint(self) -> str:
        """Content digest of vectors, queries, ids and similarity."""
        digest = xxhash.xxh3_128()
        for array in self._arrays.values():
            digest.update(f"{array.dtype} {array.shape}".encode())
            for span in blocks(len(array)):
                digest.update(np.ascontiguousarray(array[span]).tobytes())
                release_pages(array)
        return json_digest([self.similarity, self._queries, self._ids, digest.hexdigest()])

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        spelt = {} if self.spec is None else {"spelling": repr(self.spec)}
        return {"kind": "multi-vectors", "similarity": self.similarity, **spelt}

    def __getstate__(self) -> dict[str, Any]:
        """The arrays stay in their folder, or go to the cache once, by content; whoever unpickles maps them."""
        folder = self._folder or build_once(cache_root() / "multi-vectors" / self.fingerprint, self._write)
        own = {"corpus": self.corpus, "name": self.name, "spec": self.spec, "fingerprint": self.fingerprint}
        return {**own, "folder": folder, "similarity": self.similarity}

    def _write(self, folder: Path) -> None:
        for name, array in self._arrays.items():
            np.save(folder / f"{name}.npy", array)
        (folder / "query_texts.json").write_text(json.dumps(self._queries), "utf8")
        if self._ids is not None:
            (folder / "ids.json").write_text(json.dumps(self._ids), "utf8")

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: value for name, value in state.items() if name not in ("folder", "similarity")}
        self.__dict__.update(own)
        self._open(state["folder"], state["similarity"])
