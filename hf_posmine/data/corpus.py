"""Data in: ``Corpus``, the unique documents."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import PADDING, Match, Rows
from hf_posmine.data import aliases
from hf_posmine.data.bad_rows import faults_of
from hf_posmine.data.bodies import BodyKeys, KeyRows
from hf_posmine.data.columns import (
    SelectableColumns,
    as_dataset,
    batched,
    check_ids,
    check_text_lists,
    check_texts,
    iter_columns,
    splits_of,
    with_images,
)
from hf_posmine.data.images import AT_ONCE, NamedImage, named_image, named_images, side_by_side
from hf_posmine.data.kept import MOST_SHARING, DocumentValues, ValueKeys
from hf_posmine.data.layouts import CorpusColumns, corpus_columns, source_column
from hf_posmine.data.texts import FORMS, KEY, KeyIndex, TextPart, text_keys, write_part
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hf_posmine.data.columns import AnyDataset


@dataclass(frozen=True)
class Corpus:
    """Unique documents with ids, on disk, in a fixed order: row r is the same document everywhere.

    Two documents whose texts are the same after normalisation (NFKC, case, white space) are one row, and both ids
    lead to it, so excluding a document always excludes its exact duplicates (semantics 1). An image goes by its name, a text
    (:mod:`hf_posmine.data.images`), so two files of the same pixels are one row as well.

    Attributes:
        parts: the texts, each part addressed by its own content, so a union shares its parts' embeddings.
        num_candidates: rows from here on are known documents (positives) that are never candidates.
        match: which texts count as the same.
        aliases: ids of documents that a union found under another id.
        bodies: texts without their titles, where there are titles.
        columns: where the texts and ids were read; None for texts that came without columns. No part of the identity.
        kept: further columns of the source, by which documents belong together. No part of the identity.

    >>> corpus = Corpus.from_texts(["Paris is in France.", "paris is  in france.", "Rome is in Italy."], ids="abc")
    >>> len(corpus), corpus.rows_of_ids(["a", "b", "c", "x"]).tolist()
    (2, [0, 0, 1, -1])
    """

    parts: tuple[TextPart, ...]
    num_candidates: int
    match: Match = "normalized"
    aliases: IdAliases | None = None
    bodies: KeyRows | None = field(default=None, compare=False)
    columns: CorpusColumns | None = field(default=None, compare=False)
    kept: Mapping[str, DocumentValues] = field(default_factory=dict, compare=False)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        ids: Iterable[Any] | None = None,
        *,
        match: Match = "normalized",
        cache_dir: str | Path | None = None,
    ) -> Corpus:
        """A corpus of texts (a list, a column, an Arrow array), with ids or with row numbers as ids.

        Raises:
            ColumnError: a value that is not a text, with its row.
            InputError: no documents, ids of another number, or one id for two documents.
        """
        return cls._write(_pairs(texts, ids), match, cache_dir)

    @classmethod
    def from_images(
        cls, images: Iterable[Any], ids: Iterable[Any] | None = None, *, cache_dir: str | Path | None = None
    ) -> Corpus:
        """A corpus of images: of Pillow, encoded bytes, paths, or values of ``datasets.Image()``; ids as for texts.

        Raises:
            ColumnError: an image that cannot be opened, with its row.
        """
        named = (n for block in batched(images, AT_ONCE) for n in side_by_side(named_image, block))
        return cls._write(_pairs(named, ids), "normalized", cache_dir)

    @classmethod
    def from_dataset(
        cls,
        dataset: AnyDataset,
        text: str | None = None,
        id: str | None = None,
        title: str | None = None,
        image: str | None = None,
        *,
        keep: Sequence[str] = (),
        match: Match = "normalized",
        cache_dir: str | Path | None = None,
    ) -> Corpus:
        """A corpus from a column of texts (or lists of texts) of a Dataset, IterableDataset or DatasetDict.

        Columns that are not given are found by their usual names, see :data:`~hf_posmine.data.aliases.TEXT_NAMES`.

        Args:
            dataset: any Hugging Face dataset, in memory, on disk or streaming; a DataFrame or a list of dicts.
            text: column of the texts, or of images. Who names it gets no title that is not named, too.
            id: column of the ids; "" takes row numbers although there is one.
            title: column put before the text with a space, as BEIR does; "" takes none although there is one.
            keep: further columns to keep for ``exclude_same=`` and the like: texts, whole numbers or lists of them. A column of
                source documents is kept where its name says so, see :data:`~hf_posmine.data.aliases.SOURCE_NAMES`.
            image: column of images; with ``text`` the two are one document.
            match: which texts count as the same.
            cache_dir: where the corpus is kept, by default :func:`~hf_posmine.utils.files.cache_root`.
        """
        dataset = as_dataset(dataset)
        columns, root = corpus_columns(dataset, text, id, title, image), corpora_folder(cache_dir)
        dataset = with_images(dataset, columns.image) if columns.image else dataset
        source = source_column(dataset, columns)
        keep = list(dict.fromkeys([*keep, *([] if source is None else [source])]))
        with BodyKeys(root, match) as keys, ValueKeys(root, match, keep) as values:
            bodies = keys if columns.title is not None else None
            corpus = cls._write(_documents(dataset, columns, bodies, values), match, cache_dir)
            return dataclasses.replace(
                corpus, columns=columns, bodies=None if bodies is None else bodies.rows_in(corpus.rows_of_keys),
                kept=values.kept(corpus.rows_of_keys),
            )  # fmt: skip

    def with_columns_of(self, dataset: AnyDataset, text: str, keep: Sequence[str]) -> Corpus:
        """This corpus with columns of rows whose column ``text`` holds documents, as texts or lists of texts."""
        with ValueKeys(self.parts[0].path.parent, self.match, keep) as values:
            for start, batch in iter_columns(dataset, list(dict.fromkeys([text, *keep]))):
                good = faults_of(["q"] * len(batch[text]), batch[text])
                texts = [value if fault is None else "" for value, fault in zip(batch[text], good, strict=True)]
                values.add(check_text_lists(texts, text, start), batch, start)
            return dataclasses.replace(self, kept={**self.kept, **values.kept(self.rows_of_keys)})

    def values_of(self, column: str, argument: str) -> DocumentValues:
        """The values of a kept column.

        Raises:
            InputError: it was not kept, naming the argument that wants it.
        """
        if column not in self.kept:
            has = f", only {sorted(self.kept)}" if self.kept else ""
            raise InputError(
                f"{argument}={column!r}: the corpus keeps no such column{has}; make it with "
                f"Corpus.from_dataset(..., keep=[{column!r}])"
            )
        return self.kept[column]

    @property
    def source_column(self) -> str | None:
        """The kept column that names the source document of chunks: by its name, and shared by several documents."""
        most = min(self.num_candidates, MOST_SHARING)
        shared = [name for name, values in self.kept.items() if 1 < values.largest[1] < most]
        return aliases.first_named(shared, aliases.SOURCE_NAMES)

    @classmethod
    def of(cls, documents: Any, *, keep: Sequence[str] = (), match: Match | None = None) -> Corpus:
        """A corpus from whatever holds documents.

        Args:
            documents: a Corpus, texts or images (a list, a column, an Arrow array), a dataset, a DataFrame or a list of dicts
                with a column of texts or images, or a file, folder or Hub id (:func:`~hf_posmine.data.sources.load_source`).
            keep: as in :meth:`from_dataset`, where there are columns.
            match: which texts count as the same; None takes that of the Corpus, else ``"normalized"``.

        Raises:
            InputError: something else, or a source that cannot be read.
        """
        from hf_posmine.data.sources import is_beir, load_source

        if isinstance(documents, Corpus):
            if match not in (None, documents.match):
                raise InputError(f"match={match!r}, and the corpus matches texts {documents.match!r}; make it so")
            return documents
        how: dict[str, Any] = {"keep": keep, "match": match or "normalized"}
        if isinstance(documents, (str, Path)):
            return (
                cls.from_beir(documents, **how)
                if is_beir(documents)
                else cls.from_dataset(load_source(documents), **how)
            )
        documents = as_dataset(documents)
        if isinstance(next(iter(splits_of(documents)), None), SelectableColumns):
            return cls.from_dataset(documents, **how)
        if isinstance(documents, Iterable) and not isinstance(documents, (bytes, Mapping, set, frozenset)):
            return cls.from_texts(documents, match=how["match"])
        raise InputError(
            f"corpus={type(documents).__name__}; pass a Corpus, a list of texts, a dataset, a DataFrame or a path"
        )

    @classmethod
    def from_files(cls, files: str | Path | Sequence[str | Path], text: str | None = None, **kwargs: Any) -> Corpus:
        """A corpus from parquet, jsonl or csv files; arguments as :meth:`from_dataset`."""
        from hf_posmine.data.sources import load_files

        return cls.from_dataset(load_files(files), text=text, **kwargs)

    @classmethod
    def from_beir(cls, folder: str | Path, **kwargs: Any) -> Corpus:
        """The corpus of a judged collection, such as a BEIR folder: title and text joined by a space, with their ids."""
        from hf_posmine.data.sources import beir_corpus

        return cls.from_dataset(beir_corpus(folder), **kwargs)

    @classmethod
    def _write(
        cls, batches: Iterable[tuple[Sequence[str], Sequence[str] | None]], match: Match, cache_dir: str | Path | None
    ) -> Corpus:
        if match not in FORMS:
            raise InputError(f"match={match!r}; choose one of {list(FORMS)}")
        part = write_part(batches, corpora_folder(cache_dir), match)
        if not len(part):
            raise InputError("the corpus has no documents; pass at least one text")
        _check_ids(part)
        return whole_part(part)

    def union(self, other: Corpus | Iterable[str], *, candidates: bool = True) -> Corpus:
        """This corpus and the documents of ``other`` that it lacks; rows of this corpus keep their numbers.

        Args:
            other: a corpus, or texts.
            candidates: False adds them as known documents that are scored but never become negatives.

        Raises:
            InputError: an id that names different documents in the two.
        """
        if candidates and self.num_candidates < len(self):
            raise InputError("add candidates before documents that are not candidates; swap the two unions")
        batches = other._batches() if isinstance(other, Corpus) else _pairs(other, None)
        root = self.parts[0].path.parent
        part = write_part(batches, root, self.match, [p.by_text for p in self.parts])
        parts = (*self.parts, part) if len(part) else self.parts
        total = sum(map(len, parts))
        union = Corpus(
            parts, total if candidates else self.num_candidates, self.match, self.aliases, self.bodies, self.columns, self.kept
        )  # fmt: skip
        if isinstance(other, Corpus) and other.kept:
            union = dataclasses.replace(union, kept=union._kept_with(other))
        return union._with_ids_of(other, root) if isinstance(other, Corpus) and other.has_ids else union

    def _kept_with(self, other: Corpus) -> dict[str, DocumentValues]:
        """The kept columns of both; a column that only the other one keeps says nothing of these documents, and is left out."""
        keys = text_keys((text for texts, _ in other._batches() for text in texts), self.match)
        rows = self.rows_of_keys(keys)
        return {
            name: values.joined(other.kept[name], rows) if name in other.kept else values
            for name, values in self.kept.items()
        }

    def _with_ids_of(self, other: Corpus, root: Path) -> Corpus:
        """Let every id of ``other`` lead to its document here, also where the text was already there."""
        id_keys, rows_there = other._all_ids()
        text_of_row, _ = other.row_keys()
        if other.match != self.match:
            text_of_row = text_keys((t for texts, _ in other._batches() for t in texts), self.match)
        rows, known = self.rows_of_keys(text_of_row[rows_there]), self.rows_of_id_keys(id_keys)
        clash = np.flatnonzero((known >= 0) & (known != rows))
        if len(clash):
            at = int(clash[0])
            pair = np.array([known[at], rows[at]], np.int64)
            raise _two_documents(id_keys[at], self.ids(pair).to_pylist(), self.texts(pair).to_pylist())
        new = known < 0
        if not new.any():
            return self
        before = KeyIndex.build(id_keys[:0]) if self.aliases is None else self.aliases.index
        index = KeyIndex.build(np.append(before.keys, id_keys[new]), np.append(before.values, rows[new]))
        return dataclasses.replace(self, aliases=IdAliases.write(index, root))

    def _all_ids(self) -> tuple[np.ndarray, Rows]:
        """Keys of all ids, and the rows they lead to."""
        found = [(p.by_id.keys, p.by_id.values + start) for start, p in zip(self.starts, self.parts, strict=False)]
        found += [] if self.aliases is None else [(self.aliases.index.keys, self.aliases.index.values)]
        return np.concatenate([keys for keys, _ in found]), np.concatenate([rows for _, rows in found])

    def row_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """The key of each row's text, and of its id (empty without one), ``[N]`` each."""
        texts, ids = np.empty(len(self), KEY), np.zeros(len(self), KEY)
        for start, part in zip(self.starts, self.parts, strict=False):
            texts[start + np.asarray(part.by_text.values)] = part.by_text.keys
            ids[start + np.asarray(part.by_id.values)] = part.by_id.keys
        return texts, ids

    @property
    def has_ids(self) -> bool:
        """Whether documents came with ids; else the row numbers are the ids."""
        return any(p.info["has_ids"] for p in self.parts)

    def _batches(self) -> Iterator[tuple[list[str], list[str] | None]]:
        for rows in batched(range(len(self)), 8192):
            at = np.array(rows, np.int64)
            yield self.items(at), self.ids(at).to_pylist() if self.has_ids else None

    def __repr__(self) -> str:
        more = len(self) - self.num_candidates
        known = f" and {more:,} known positives that are never candidates" if more else ""
        return f"Corpus({self.num_candidates:,} documents{known}; texts match {self.match})"

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Rows:
        """First row of each part, and the number of rows; int64 ``[parts + 1]``."""
        return np.cumsum([0, *map(len, self.parts)]).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Content digest: equal for equal documents in equal order, wherever they are stored."""
        lines = [self.match, str(self.num_candidates), *(p.digest for p in self.parts)]
        lines += [] if self.aliases is None else [self.aliases.path.name]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]

    @property
    def duplicates(self) -> int:
        """Source documents that were dropped because their text was already there."""
        return sum(p.info["duplicates"] for p in self.parts)

    def rows_of_texts(self, texts: Iterable[str]) -> Rows:
        """The row of each text, int64, -1 where the corpus lacks it."""
        return self.rows_of_keys(text_keys(texts, self.match))

    def rows_of_keys(self, keys: np.ndarray) -> Rows:
        """The row of each :func:`~hf_posmine.data.texts.text_keys` key, int64, -1 where unknown."""
        return self._lookup([p.by_text for p in self.parts], keys)

    def rows_of_ids(self, ids: Iterable[Any]) -> Rows:
        """The row of each id, int64, -1 where unknown."""
        return self.rows_of_id_keys(text_keys((str(i) for i in ids), self.match if self._named_by_images else "exact"))

    def required_rows(self, ids: Sequence[str], column: str) -> Rows:
        """The row of each id of a dataset's column, int64.

        Raises:
            InputError: an id that the corpus lacks, naming the column.
        """
        rows = self.rows_of_ids(ids)
        if (rows < 0).any():
            lost = ids[int(np.flatnonzero(rows < 0)[0])]
            raise InputError(f"column {column!r}: the corpus has no document with id {lost!r}")
        return rows

    def rows_of_id_keys(self, keys: np.ndarray) -> Rows:
        """The row of each id key, int64, -1 where unknown."""
        named = self.rows_of_keys(keys) if self._named_by_images else np.full(len(keys), PADDING, np.int64)
        if not self.has_ids and self.duplicates:
            if self._named_by_images:
                return named
            raise InputError(
                f"the corpus has no ids, and {self.duplicates} duplicates were dropped, so its row numbers are not those of "
                "the source; give ids with id=..."
            )
        rows = self._lookup([p.by_id for p in self.parts], keys)
        rows = np.where(rows < 0, self._row_ids.rows(keys), rows)
        rows = np.where(named < 0, rows, named)
        return rows if self.aliases is None else np.where(rows < 0, self.aliases.index.rows(keys), rows)

    @cached_property
    def _row_ids(self) -> KeyIndex:
        """The ids of documents that came without: their row numbers."""
        without = [
            np.arange(a, b)
            for a, b, p in zip(self.starts[:-1], self.starts[1:], self.parts, strict=True)
            if not p.info["has_ids"]
        ]
        rows = np.concatenate([np.empty(0, np.int64), *without])
        return KeyIndex.build(text_keys(self._row_ids_of(rows).to_pylist(), "exact"), rows)

    def _row_ids_of(self, rows: Rows) -> pa.Array:
        """The ids of documents that came without one; they must not look like ids that others came with."""
        numbers = pa.array(rows).cast(pa.string())
        return pc.binary_join_element_wise("row-", numbers, "") if self.has_ids else numbers

    def _lookup(self, indexes: Sequence[KeyIndex], keys: np.ndarray) -> Rows:
        rows = np.full(len(keys), PADDING, np.int64)
        for start, index in zip(self.starts, indexes, strict=False):
            found = index.rows(keys)
            rows = np.where((rows < 0) & (found >= 0), found + start, rows)
        return rows

    def texts(self, rows: Rows) -> pa.Array:
        """The texts of rows int64 ``[m]``, an Arrow array of strings; of images the names."""
        return self._take("text", rows)

    @property
    def num_images(self) -> int:
        """Documents that are images, with or without a text."""
        return sum(part.num_images for part in self.parts)

    def items(self, rows: Rows) -> list[str]:
        """The documents of rows int64 ``[m]`` for a model: texts, and images that can be opened."""
        found = self.texts(rows).to_pylist()
        for start, part in zip(self.starts, self.parts, strict=False):
            at = np.flatnonzero((rows >= start) & (rows < start + len(part))) if part.num_images else rows[:0]
            for n, item in zip(at.tolist(), part.items(rows[at] - start), strict=True):
                found[n] = item
        return found

    def ids(self, rows: Rows) -> pa.Array:
        """The ids of rows int64 ``[m]``; the row number without ids, ``row-<number>`` where only others have ids.

        Where documents without ids are images, the ids are their names, which mean the same in any corpus.
        """
        return self._take("text" if self._named_by_images else "id", rows)

    @property
    def _named_by_images(self) -> bool:
        return not self.has_ids and self.num_images > 0

    def _take(self, column: Any, rows: Rows) -> pa.Array:
        if len(self.parts) == 1 and (column == "text" or self.has_ids):
            return self.parts[0].take(column, rows)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        pieces, order = [], np.argsort(which, kind="stable")
        for number in np.unique(which):
            mine, part = rows[which == number], self.parts[number]
            if column == "id" and not part.info["has_ids"]:
                pieces.append(self._row_ids_of(mine))
            else:
                pieces.append(part.take(column, mine - self.starts[number]))
        taken = pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())
        return taken.take(pa.array(np.argsort(order, kind="stable")))

    def describe(self, row: int) -> str:
        """A document as an error message shows it."""
        text = self.texts(np.array([row])).to_pylist()[0]
        return f"document {self.ids(np.array([row])).to_pylist()[0]!r} ({text[:40]!r}...)"

    def __getstate__(self) -> dict:
        names = ("parts", "num_candidates", "match", "aliases", "bodies", "columns", "kept")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class IdAliases:
    """Further ids of a corpus, on disk by content: key of an id -> row."""

    path: Path

    @classmethod
    def write(cls, index: KeyIndex, root: Path) -> IdAliases:
        """Store a lookup below ``root``."""
        digest = hashlib.sha256(index.keys.tobytes() + index.values.tobytes()).hexdigest()[:32]

        def build(folder: Path) -> None:
            np.save(folder / "keys.npy", index.keys)
            np.save(folder / "rows.npy", index.values)

        return cls(build_once(root / f"aliases-{digest}", build))

    @cached_property
    def index(self) -> KeyIndex:
        """The lookup, memory-mapped."""
        return KeyIndex(*(np.load(checked(self.path) / f"{name}.npy", mmap_mode="r") for name in ("keys", "rows")))

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        object.__setattr__(self, "path", state["path"])


def _pairs(texts: Iterable[str], ids: Iterable[Any] | None) -> Iterator[tuple[list[str], list[str] | None]]:
    if isinstance(texts, str):
        raise InputError(f"expected several texts, got one string {texts[:40]!r}; put it in a list")
    texts = texts.to_pylist() if isinstance(texts, (pa.Array, pa.ChunkedArray)) else texts
    if ids is None:
        for number, block in enumerate(batched(texts, 8192)):
            yield check_texts(named_images(block), "texts", number * 8192), None
        return
    ids = ids.to_pylist() if isinstance(ids, (pa.Array, pa.ChunkedArray)) else ids
    if isinstance(texts, Sized) and isinstance(ids, Sized) and len(texts) != len(ids):
        raise InputError(f"{len(texts)} texts and {len(ids)} ids; give one id per text")
    missing = object()
    both = itertools.zip_longest(texts, ids, fillvalue=missing)
    for number, block in enumerate(batched(both, 8192)):
        if any(text is missing or id_ is missing for text, id_ in block):
            raise InputError("texts and ids differ in number; give one id per text")
        start = number * 8192
        yield (
            check_texts(named_images(t for t, _ in block), "texts", start),
            _check_id_values((i for _, i in block), "ids", start),
        )


def _documents(
    dataset: AnyDataset, columns: CorpusColumns, bodies: BodyKeys | None, values: ValueKeys
) -> Iterator[tuple[list[str], list[str] | None]]:
    """Batches of texts after their titles, and of ids."""
    text, id_, title = columns.text, columns.id, columns.title
    image = None if columns.image == text else columns.image
    read = dict.fromkeys(c for c in (text, id_, title, image, *values.columns) if c is not None)
    for start, batch in iter_columns(dataset, list(read)):
        if columns.image is not None:  # of a stream without types, paths or bytes
            batch = {**batch, columns.image: side_by_side(_as_image, batch[columns.image])}
        if id_ is None and title is None and image is None:
            lists = check_text_lists(batch[text], text, start)
            values.add(lists, batch, start)
            yield [t for row in lists for t in row], None
            continue
        texts = check_texts((t or "" for t in batch[text]) if image else batch[text], text, start)
        if title is not None:
            titles = check_texts((t or "" for t in batch[title]), title, start)
            whole = [f"{head} {body}".strip() for head, body in zip(titles, texts, strict=True)]
            if bodies is not None:
                bodies.add(texts, whole)
            texts = whole
        if image is not None:
            both = enumerate(zip(batch[image], texts, strict=True), start)
            texts = [_illustrated(one, text_, image, row) for row, (one, text_) in both]
        values.add([[whole] for whole in texts], batch, start)
        yield texts, None if id_ is None else _check_id_values(batch[id_], id_, start)


def _as_image(value: object) -> object:
    return named_image(value) if isinstance(value, (str, bytes)) else value


def _illustrated(image: object, text: str, column: str, row: int) -> str:
    """An image and its text as one document; the text alone where there is no image."""
    if image is None:
        return text
    (named,) = check_texts([image], column, row)
    return named.with_text(text) if isinstance(named, NamedImage) else named


def _check_id_values(values: Iterable[Any], column: str, start: int) -> list[str]:
    return [members[0] for members in check_ids(values, column, start)]


def _check_ids(part: TextPart) -> None:
    """One id must not name two different documents."""
    keys = part.by_id.keys
    again = np.flatnonzero((keys[1:] == keys[:-1]) & (np.asarray(part.by_id.values[1:]) != part.by_id.values[:-1]))
    if len(again):
        rows = np.array([part.by_id.values[again[0]], part.by_id.values[again[0] + 1]], np.int64)
        raise _two_documents(keys[again[0]], part.take("id", rows).to_pylist(), part.take("text", rows).to_pylist())


def _two_documents(key: int, ids: list[str], texts: list[str]) -> InputError:
    named = [i for i, k in zip(ids, text_keys(ids, "exact"), strict=True) if k == key]
    name = f"the id {named[0]!r}" if named else "one id"
    return InputError(
        f"{name} names two different documents, {texts[0][:40]!r}... and {texts[1][:40]!r}...; make the ids unique, or take row "
        "numbers (id='') if it names the document that both are chunks of"
    )


def whole_part(part: TextPart) -> Corpus:
    """The corpus that is one part."""
    return Corpus((part,), len(part), part.info["match"])


def corpora_folder(cache_dir: str | Path | None) -> Path:
    """The folder of the parts of corpora."""
    return (Path(cache_dir) if cache_dir else cache_root()) / "corpora"
