"""Train, dev and test by groups, so that no document and no nearly same query is in two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import batched
from hf_posmine.data.near_queries import near_pairs

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from pathlib import Path

    from hf_posmine.core.types import Rows
    from hf_posmine.data.judged_pairs import JudgedPairs

SPLITS = ("train", "dev", "test")
RECORD = "split.json"
"""The file that marks a folder as a split's."""
PAIRS, CANDIDATES = "train/pairs.jsonl", "train/corpus.jsonl"
"""The training pairs, and the documents that neither are nor contain a positive of dev or test."""
WRITTEN_ROWS = 8192


@dataclass(frozen=True)
class SplitSettings:
    """How to split.

    Attributes:
        dev: share of the pairs for dev; 0 for no dev.
        test: share of the pairs for test.
        near: queries whose trigrams have at least this Jaccard similarity stay together.
        seed: random seed.
    """

    dev: float = 0.1
    test: float = 0.2
    near: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dev < 1 or not 0 < self.test < 1 or self.dev + self.test >= 1:
            raise InputError(f"dev={self.dev} and test={self.test}; give shares that leave some of 1 for train")
        if not 0 < self.near <= 1:
            raise InputError(f"near={self.near}; expected a similarity above 0 and at most 1, such as 0.8")


@dataclass(frozen=True, eq=False)
class GroupedSplit:
    """Which pairs are in which split.

    Attributes:
        pairs: what was split.
        units: int64 ``[P]``, number of the group of pairs that stay together.
        split: int64 ``[P]``, position in :data:`SPLITS`.
    """

    pairs: JudgedPairs
    units: Rows
    split: Rows

    @classmethod
    def of(cls, pairs: JudgedPairs, settings: SplitSettings) -> GroupedSplit:
        """Pairs with the same document, group or nearly the same query stay together; these units are drawn by the seed.

        A document is the same with another title, and so is the only document that contains a positive.

        Raises:
            InputError: too few units for the splits, with the sizes and the cure.
        """
        units = _units(pairs, settings.near)
        sizes = np.bincount(units)
        drawn = _draw(sizes, settings)
        lacking = [name for at, name in enumerate(SPLITS) if _share(settings, name) and at not in drawn]
        if lacking:
            raise InputError(
                f"too few groups: {len(sizes):,} groups of pairs have to stay together, the largest with {sizes.max():,} of "
                f"{len(units):,} pairs, and none is left for {' and '.join(lacking)}; split by a finer column, raise its share, "
                "or raise near= if queries of one wording hold the groups together"
            )
        return cls(pairs, units, drawn[units])

    def rows(self, name: str) -> Rows:
        """The pairs of a split, int64."""
        return np.flatnonzero(self.split == SPLITS.index(name))

    def counts(self) -> dict[str, dict[str, int]]:
        """Pairs, queries, documents and groups of each split."""
        return {name: self._counts(self.rows(name)) for name in SPLITS}

    def _counts(self, rows: Rows) -> dict[str, int]:
        return {
            "pairs": len(rows),
            "queries": len({self.pairs.queries[row] for row in rows}),
            "documents": len(np.unique(self.pairs.positives[rows])),
            "groups": len(np.unique(self.units[rows])),
        }

    def write(self, folder: Path, record: dict[str, Any]) -> None:
        """Write a judged collection in BEIR's layout, the training pairs and their candidates, and the record."""
        pairs, corpus = self.pairs, self.pairs.corpus
        for place in ("qrels", "train"):
            (folder / place).mkdir(parents=True)
        every = np.arange(len(corpus), dtype=np.int64)
        held = np.unique(pairs.positives[self.split != 0])
        held = np.union1d(held, np.array([pairs.inside[row] for row in held.tolist() if row in pairs.inside], np.int64))
        _write_documents(folder / "corpus.jsonl", pairs, every)
        _write_documents(folder / CANDIDATES, pairs, np.setdiff1d(every, held))
        numbers = {query: f"q{at}" for at, query in enumerate(dict.fromkeys(pairs.queries))}
        _write_lines(folder / "queries.jsonl", ({"_id": number, "text": query} for query, number in numbers.items()))
        ids, train = corpus.ids(pairs.positives).to_pylist(), self.rows("train")
        texts = corpus.texts(pairs.positives[train]).to_pylist()
        _write_lines(
            folder / PAIRS,
            (
                {"query": pairs.queries[row], "positive": text, "positive_id": ids[row], "group": pairs.groups[row]}
                for row, text in zip(train.tolist(), texts, strict=True)
            ),
        )
        for name in SPLITS:
            judged = dict.fromkeys((numbers[pairs.queries[row]], ids[row]) for row in self.rows(name))
            if judged:
                _write_judgements(folder / "qrels" / f"{name}.tsv", judged)
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf8")


def _units(pairs: JudgedPairs, near: float) -> Rows:
    """The unit of each pair, int64 ``[P]``: connected by document, group, query, and nearly the same query."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    documents = [pairs.inside.get(row, row) for row in pairs.positives.tolist()]
    links = [*_same(documents), *_same(pairs.groups, but=""), *_same(pairs.queries)]
    first = {query: at for at, query in reversed(list(enumerate(pairs.queries)))}
    unique = list(first)
    links += [(first[unique[a]], first[unique[b]]) for a, b in near_pairs(unique, near)]
    count = len(pairs.queries)
    left, right = np.array(links, np.int32).reshape(-1, 2).T  # scipy 1.11 misreads int64
    graph = coo_array((np.ones(len(links), bool), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _same(values: Sequence[Hashable], but: Hashable = None) -> list[tuple[int, int]]:
    """Each position with the first of the same value."""
    first: dict[Hashable, int] = {}
    return [(first[value], at) for at, value in enumerate(values) if value != but and first.setdefault(value, at) != at]


def _draw(sizes: Rows, settings: SplitSettings) -> Rows:
    """The split of each unit, int64 ``[U]``: in random order, test while it fits, then dev, and train takes the rest."""
    room = {name: round(_share(settings, name) * int(sizes.sum())) for name in ("test", "dev")}
    room = {name: max(left, 1) for name, left in room.items() if _share(settings, name)}
    drawn = np.zeros(len(sizes), np.int64)
    for unit in np.random.default_rng(settings.seed).permutation(len(sizes)):
        name = next((name for name, left in room.items() if sizes[unit] <= left), "train")
        drawn[unit] = SPLITS.index(name)
        if name in room:
            room[name] -= int(sizes[unit])
    return drawn


def _share(settings: SplitSettings, name: str) -> float:
    return {"dev": settings.dev, "test": settings.test}.get(name, 1 - settings.dev - settings.test)


def _write_documents(file: Path, pairs: JudgedPairs, rows: Rows) -> None:
    """Documents as BEIR has them; a title is in the text already."""

    def documents() -> Iterable[dict[str, str]]:
        for some in batched(rows.tolist(), WRITTEN_ROWS):
            at = np.array(some, np.int64)
            texts, ids = (values.to_pylist() for values in (pairs.corpus.texts(at), pairs.corpus.ids(at)))
            yield from ({"_id": i, "title": "", "text": text} for i, text in zip(ids, texts, strict=True))

    _write_lines(file, documents())


def _write_lines(file: Path, rows: Iterable[dict[str, str]]) -> None:
    with file.open("w", encoding="utf8", newline="\n") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_judgements(file: Path, judged: Iterable[tuple[str, str]]) -> None:
    lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in judged)]
    file.write_text("\n".join(lines) + "\n", "utf8")
