"""Data in, second half: ``Qrels``, the known positives, and the same as rows of a corpus."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Match, Rows, spans
from hf_posmine.data.bad_rows import BadRows
from hf_posmine.data.columns import check_ids, check_text_lists, check_texts, iter_columns
from hf_posmine.data.corpus import Corpus, corpora_folder, whole_part
from hf_posmine.data.texts import KEY, PartWriter, text_keys
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root, staging_folder
from hf_posmine.utils.mapped import Appended, blocks, key_ranges, mapped, npy_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hf_posmine.data.columns import AnyDataset


@dataclass(frozen=True)
class Qrels:
    """Known positives of every query, over the whole dataset: a batch cannot see a sibling in another batch.

    Attributes:
        query_keys: ``[P]``, key of the query of each judgement.
        document_keys: ``[P]``, key of the document's text, or of its id.
        relevant: bool ``[P]``; False is a document of unknown relevance, which is never a candidate either.
        by_id: whether ``document_keys`` are keys of ids.
        documents: the positives' texts, if they came as texts.
        queries: the unique query texts as written, if they are known.
        match: which texts count as the same; must be the corpus's.
        bad_rows: rows that were left out; None if nobody looked for them. No part of the identity.

    >>> qrels = Qrels.from_columns(["q", "q", "r"], ["a b", "c", "A  B"])
    >>> qrels.num_queries, qrels.num_judgements
    (2, 3)
    """

    query_keys: np.ndarray
    document_keys: np.ndarray
    relevant: np.ndarray
    by_id: bool
    documents: Corpus | None = None
    queries: Corpus | None = None
    match: Match = "normalized"
    bad_rows: BadRows | None = field(default=None, compare=False)

    @classmethod
    def from_columns(
        cls,
        queries: Iterable[str],
        positives: Iterable[Any],
        *,
        match: Match = "normalized",
        cache_dir: str | Path | None = None,
    ) -> Qrels:
        """From aligned queries and positives; a positive may be a text or a list of texts."""
        queries, positives = list(queries), list(positives)
        if len(queries) != len(positives):
            raise InputError(f"{len(queries)} queries and {len(positives)} positives; give one (list) per query")
        rows = [(0, {"query": queries, "positive": positives})]
        return cls._build(rows, ("query", "positive", None), match, cache_dir, skip_bad_rows=False)

    @classmethod
    def from_dataset(
        cls,
        dataset: AnyDataset,
        query: str = "query",
        positive: str | None = None,
        positive_id: str | None = None,
        *,
        match: Match = "normalized",
        cache_dir: str | Path | None = None,
        skip_bad_rows: bool = False,
    ) -> Qrels:
        """From the query column and a column of positives: texts or lists of texts, or ids of the corpus.

        Raises:
            ColumnError: empty queries or rows without a positive, with their number, unless ``skip_bad_rows``.
        """
        if (positive is None) == (positive_id is None):
            raise InputError("give positive= (a text column) or positive_id= (an id column), one of the two")
        columns = [query, positive if positive is not None else str(positive_id)]
        rows = iter_columns(dataset, columns)
        return cls._build(rows, (query, positive, positive_id), match, cache_dir, skip_bad_rows=skip_bad_rows)

    @classmethod
    def _build(
        cls,
        batches: Iterable,
        columns: tuple[str, str | None, str | None],
        match: Match,
        cache_dir: str | Path | None,
        *,
        skip_bad_rows: bool,
    ) -> Qrels:
        query, positive, positive_id = columns
        root = corpora_folder(cache_dir)
        column, bad = positive if positive is not None else str(positive_id), BadRows()
        check = check_text_lists if positive is not None else check_ids
        with (
            staging_folder(root) as staging,
            PartWriter(root, "exact") as unique_queries,
            PartWriter(root, match) as unique_documents,
        ):
            query_keys, document_keys = (Appended(Path(staging) / n, KEY) for n in ("queries", "documents"))
            for start, batch in batches:
                good = bad.good(batch[query], batch[column], start)
                texts = list(compress(check_texts(_or_blank(batch[query], good), query, start), good))
                lists = list(compress(check(_or_blank(batch[column], good), column, start), good))
                flat = [member for members in lists for member in members]
                query_keys.add(np.repeat(text_keys(texts, match), [len(members) for members in lists]))
                document_keys.add(text_keys(flat, match if positive is not None else "exact"))
                unique_queries.add(texts)
                if positive is not None:
                    unique_documents.add(flat)
            keys = document_keys.array()
            if not skip_bad_rows or not len(keys):
                bad.require_none(query, column)
            if not len(keys):
                raise InputError("the dataset has no rows; known positives need at least one")
            qrels = cls(
                query_keys.array(),
                keys,
                np.broadcast_to(np.True_, len(keys)),
                positive is None,
                None if positive is None else whole_part(unique_documents.finish()),
                whole_part(unique_queries.finish()),
                match,
                bad,
            )
            return qrels._kept()

    @classmethod
    def from_judgements(
        cls,
        query_ids: Iterable[Any],
        document_ids: Iterable[Any],
        scores: Iterable[float],
        queries: dict[str, str],
        *,
        match: Match = "normalized",
        cache_dir: str | Path | None = None,
    ) -> Qrels:
        """From judged ids: a score above 0 is a positive, below 0 unknown (never a candidate), 0 judged not relevant.

        Args:
            query_ids: id of the query of each judgement.
            document_ids: id of its document in the corpus.
            scores: its relevance.
            queries: query text by query id.
            match: which texts count as the same; must be the corpus's.
            cache_dir: where the query texts are kept, by default :func:`~hf_posmine.utils.files.cache_root`.
        """
        query_ids, document_ids = [str(q) for q in query_ids], [str(d) for d in document_ids]
        grades = np.asarray(list(scores), np.float64)
        unknown = [q for q in query_ids if q not in queries]
        if unknown:
            raise InputError(f"{len(unknown)} judgements name queries that are not there, such as {unknown[0]!r}")
        keep = grades != 0
        keys = text_keys((queries[q] for q in query_ids), match)
        qrels = cls(
            keys[keep],
            text_keys(document_ids, "exact")[keep],
            (grades > 0)[keep],
            True,
            queries=Corpus.from_texts(queries.values(), match="exact", cache_dir=cache_dir),
            match=match,
        )
        return qrels._kept()

    @classmethod
    def from_beir(cls, folder: str | Path, split: str = "train", **kwargs: Any) -> Qrels:
        """The judgements ``qrels/<split>.tsv`` of a BEIR folder."""
        from hf_posmine.data.sources import beir_qrels, beir_queries

        rows = beir_qrels(folder, split)
        return cls.from_judgements(rows["query-id"], rows["corpus-id"], rows["score"], beir_queries(folder), **kwargs)

    @property
    def num_queries(self) -> int:
        """Queries with at least one judgement."""
        return len(np.unique(self.query_keys))

    @property
    def num_judgements(self) -> int:
        """Judgements, as given."""
        return len(self.query_keys)

    @cached_property
    def fingerprint(self) -> str:
        """Content digest."""
        digest = hashlib.sha256(f"{'id' if self.by_id else 'text'} {self.match}".encode())
        if self.documents is not None:
            digest.update(self.documents.fingerprint.encode())
        for array in self._judgements.values():
            for span in blocks(self.num_judgements):
                digest.update(array[span].tobytes())
        return digest.hexdigest()[:32]

    @property
    def _judgements(self) -> dict[str, np.ndarray]:
        """Its arrays by name, in the order of ``ARRAYS``."""
        return {"query_keys": self.query_keys, "document_keys": self.document_keys, "relevant": self.relevant}

    def _kept(self) -> Qrels:
        """The same with arrays that outlast a temporary folder: a copy while they are small, else files."""
        small = self.num_judgements <= SMALL
        arrays: dict[str, Any] = (
            {n: np.array(array) for n, array in self._judgements.items()} if small else _arrays(self._folder())
        )
        return replace(self, **arrays)

    def _folder(self) -> Path:
        """The folder of the arrays, by content; written now unless they are there."""
        return build_once(cache_root() / "qrels" / self.fingerprint, self._write_arrays)

    def _write_arrays(self, folder: Path) -> None:
        for name, array in self._judgements.items():
            with npy_file(folder / f"{name}.npy", array.dtype, array.shape) as file:
                for span in blocks(len(array)):
                    file.write(array[span].tobytes())

    def resolve(self, corpus: Corpus) -> KnownPositives:
        """The judgements as rows of ``corpus``.

        Raises:
            InputError: an id that the corpus lacks, or texts that are matched differently.
        """
        if corpus.match != self.match and not self.by_id:
            raise InputError(
                f"the known positives match texts {self.match!r}, the corpus {corpus.match!r}; use one of them"
            )
        if self.num_judgements <= SMALL:
            return self._resolve(corpus, np.arange(self.num_judgements))
        folder = cache_root() / "known" / json_digest([self.fingerprint, corpus.fingerprint])

        def build(new: Path) -> None:
            KnownPositives.write(new, (self._resolve(corpus, at) for at in key_ranges(self.query_keys)))

        return KnownPositives.opened(build_once(folder, build))

    def _resolve(self, corpus: Corpus, at: Rows) -> KnownPositives:
        """The judgements at some positions."""
        keys = self.document_keys[at]
        rows = corpus.rows_of_id_keys(keys) if self.by_id else corpus.rows_of_keys(keys)
        missing = rows < 0
        if missing.any():
            if self.documents is None:
                raise InputError(
                    f"{missing.sum()} of {len(rows)} judgements name document ids that the corpus lacks; it has "
                    f"{len(corpus)} documents, such as {corpus.ids(np.arange(1)).to_pylist()[0]!r}"
                )
            rows = np.where(missing, OUTSIDE - self.documents.rows_of_keys(keys), rows)
        return KnownPositives.build(self.query_keys[at], rows, self.relevant[at])

    def __getstate__(self) -> dict:
        """The arrays go to disk once, by content, so that a miner that travels to workers stays small."""
        names = ("by_id", "documents", "queries", "match", "bad_rows", "fingerprint")
        small = {name: getattr(self, name) for name in names}
        return {"folder": self._folder(), **small}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(_arrays(state.pop("folder")) | state)


def _or_blank(values: Sequence[Any], good: Sequence[bool]) -> list[Any]:
    """The values, with an empty text in bad rows, so that the others keep their numbers."""
    return [value if fine else "" for value, fine in zip(values, good, strict=True)]


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(checked(folder) / f"{name}.npy", mmap_mode="r") for name in ARRAYS}


ARRAYS = ("query_keys", "document_keys", "relevant")
SMALL = 1 << 16
"""Judgements up to which their arrays stay in memory."""
OUTSIDE = -2
"""Row ``OUTSIDE - j`` stands for row j of ``Qrels.documents``: a known positive outside the corpus."""


@dataclass(frozen=True)
class KnownPositives:
    """Judgements as corpus rows, by query key: one sorted array of keys, and a slice of rows for each.

    Attributes:
        keys: ``[Q]``, sorted and unique.
        offsets: int64 ``[Q + 1]``.
        rows: int64 ``[P]``, corpus rows, or ``OUTSIDE - j``.
        relevant: bool ``[P]``.
    """

    keys: np.ndarray
    offsets: Rows
    rows: Rows
    relevant: np.ndarray

    DTYPES: ClassVar[dict[str, npt.DTypeLike]] = {"keys": KEY, "offsets": np.int64, "rows": np.int64, "relevant": bool}

    @classmethod
    def build(cls, query_keys: np.ndarray, rows: Rows, relevant: np.ndarray) -> KnownPositives:
        """Sort and group judgements, dropping repeated ones."""
        order = np.lexsort((rows, query_keys))
        query_keys, rows, relevant = query_keys[order], rows[order], relevant[order]
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (query_keys[1:] != query_keys[:-1]) | (rows[1:] != rows[:-1])
        query_keys, rows, relevant = query_keys[fresh], rows[fresh], relevant[fresh]
        keys, first = np.unique(query_keys, return_index=True)
        return cls(keys, np.append(first, len(rows)).astype(np.int64), rows, relevant)

    @classmethod
    def write(cls, folder: Path, pieces: Iterable[KnownPositives]) -> None:
        """Write pieces, each of a range of query keys and in the order of the ranges, as one."""
        files = {name: Appended(folder / name, dtype) for name, dtype in cls.DTYPES.items()}
        judgements = 0
        for piece in pieces:
            for name, array in (("keys", piece.keys), ("rows", piece.rows), ("relevant", piece.relevant)):
                files[name].add(array)
            files["offsets"].add(piece.offsets[:-1] + judgements)
            judgements += len(piece.rows)
        files["offsets"].add(np.array([judgements]))
        for file in files.values():
            file.array()

    @classmethod
    def opened(cls, folder: Path) -> KnownPositives:
        """What :meth:`write` wrote, memory-mapped."""
        return cls(**{name: mapped(folder / name, dtype) for name, dtype in cls.DTYPES.items()})

    def of(self, query_keys: np.ndarray) -> tuple[Rows, Rows, np.ndarray]:
        """The judgements of queries: position of the query, document code, and whether it is relevant, each ``[E]``."""
        at = np.minimum(np.searchsorted(self.keys, query_keys), max(0, len(self.keys) - 1))
        found = np.flatnonzero(self.keys[at] == query_keys) if len(self.keys) else at[:0]
        starts = self.offsets[at[found]]
        counts = self.offsets[at[found] + 1] - starts
        entries = spans(starts, counts)
        return np.repeat(found, counts), self.rows[entries], self.relevant[entries]

    def positives_outside(self, candidates: int) -> Rows:
        """Codes of the known positives that are not among the first ``candidates`` rows of the corpus, sorted."""
        return np.unique(self.rows[self.relevant & ((self.rows < 0) | (self.rows >= candidates))])

    @cached_property
    def all_positive_rows(self) -> Rows:
        """Every corpus row that is a known positive of some query, sorted."""
        return np.unique(self.rows[self.relevant & (self.rows >= 0)])
