"""Near rows of a data set by a teacher's stored vectors: which should share a batch, and which never may.

Row j is near row i where the query of i finds the positive of j among its best documents below its ceiling: the search of
mining, over the positives of the set. Such a positive is a hard in-batch negative that the ceiling does not take for a
false one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xxhash

from hf_posmine.core.check import whole
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.core.types import Exclusions
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.rescore import exact_scores
from hf_posmine.training.ceilings import check_ceiling
from hf_posmine.training.collator import positive_columns
from hf_posmine.training.guide import Guide
from hf_posmine.training.neighbour_batches import NearRows, NeighbourBatches
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from datasets import Dataset

    from hf_posmine.core.types import Filter, Rows

AboveCeiling = Literal["apart", "masked"]
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Neighbours:
    """Batches of near rows, as the key ``neighbours`` of a recipe.

    Attributes:
        teacher: a dense teacher, such as ``embedded``; its vectors are stored, and compared by cosine.
        ceiling: a filter with a ceiling, such as ``PercPos(0.95)``: a row's neighbours are searched below it, and a document
            at or above it is never a negative of the row.
        k: neighbours of a row; with 0 the ceiling holds in random batches.
        above: rows of which one is above the ceiling of the other stay ``apart``, or are only ``masked`` in the loss. Rows
            that are kept apart are masked, too, where the last ones of an epoch fit no batch.

    Raises:
        InputError: a value out of range, or one that has no effect.
    """

    teacher: str
    ceiling: str | None = None
    k: int = 16
    above: AboveCeiling = "apart"

    def __post_init__(self) -> None:
        whole("neighbours: k", self.k, least=0)
        if self.above not in get_args(AboveCeiling):
            raise InputError(f"neighbours: above={self.above!r}; choose one of {list(get_args(AboveCeiling))}")
        if self.filter is not None:
            check_ceiling(self.filter)
        elif self.k == 0 or self.above != "apart":
            given = "k=0" if self.k == 0 else f"above={self.above}"
            raise InputError(f"neighbours: {given} has no effect without a ceiling; give ceiling: PercPos(0.95)")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Neighbours:
        """From the mapping of a recipe.

        Raises:
            InputError: an option that does not exist, or no teacher.
        """
        known = [entry.name for entry in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(f"neighbours has no option {unknown[0]!r}; it has: {', '.join(known)}")
        if not isinstance(options.get("teacher"), str):
            raise InputError("neighbours needs the dense teacher that compares the rows, such as {teacher: embedded}")
        return cls(**options)

    @property
    def filter(self) -> Filter | None:
        """The ceiling as a filter."""
        return None if self.ceiling is None else as_filters(self.ceiling)[0]

    def __call__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> NeighbourBatches:
        """The batches of a data set, for ``batch_sampler=`` of a trainer of sentence-transformers; the query comes first."""
        how = (dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        return NeighbourBatches(*how, near=self.within(dataset))

    def within(self, dataset: Dataset, guide: Guide | None = None) -> NearRows:
        """The near rows of a data set, found once for the same texts and teacher.

        Args:
            dataset: columns ``query, positive, negative_1..n``.
            guide: with the vectors of its texts; by default they are encoded, unless the store has them.
        """
        guide = Guide.over(self.teacher, {"": dataset}) if guide is None else guide
        queries, documents = guide.rows_of(dataset)
        search = _NearSearch(
            guide, queries, documents, len(positive_columns(dataset.column_names)), self.filter, self.k
        )
        folder = build_once(search.folder, search.write)
        near, ceilings, above = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("near", "ceilings", "above")
        )
        if self.above == "masked":
            ceilings, above = np.full(len(near), np.inf, np.float32), np.zeros(len(near))
        return NearRows(guide, queries, documents, search.positives, near, ceilings, above)


@dataclass(frozen=True)
class _NearSearch:
    """The search for the neighbours of all rows."""

    guide: Guide
    queries: Rows
    documents: Rows
    positives: int
    filter: Filter | None
    k: int

    @property
    def folder(self) -> Path:
        """Named by all that decides what is found."""
        teacher, known = self.guide.teacher, self.guide.teacher.embeddings.queries
        rows = xxhash.xxh3_128_hexdigest(np.concatenate([self.queries[:, None], self.documents], axis=1).tobytes())
        what = [teacher.fingerprint, teacher.corpus.fingerprint, None if known is None else known.fingerprint, rows]
        return cache_root() / "neighbours" / json_digest([*what, self.positives, repr(self.filter), self.k])

    def write(self, folder: Path) -> None:
        """Search all rows, and write ``near``, ``ceilings`` and ``above``."""
        count, others = len(self.queries), self._others
        near, ceilings = np.full((count, self.k), -1, np.int64), np.full(count, np.inf, np.float32)
        above = np.zeros(count)
        with progress_bar(count, "Searching neighbours", "row") as bar:
            for start in range(0, count, BLOCK_ROWS):
                rows = slice(start, start + BLOCK_ROWS)
                vectors, own = self.guide.query_vectors(self.queries[rows]), self.documents[rows, : self.positives]
                if self.filter is not None:
                    lowest = exact_scores("cosine", vectors, self._index.vectors, own).min(axis=1)
                    ceilings[rows] = self.filter.ceiling(lowest)
                found = self._index.search(
                    vectors, max(1, self.k), below=ceilings[rows], exclude=Exclusions.of(list(own), others)
                )
                near[rows], above[rows] = (
                    found.doc_ids[:, : self.k],
                    found.above / (len(self._index.vectors) - len(others)),
                )
                bar.update(len(own))
        np.save(folder / "near.npy", near)
        np.save(folder / "ceilings.npy", ceilings)
        np.save(folder / "above.npy", above)

    @cached_property
    def _index(self) -> ExactIndex:
        teacher = self.guide.teacher
        return ExactIndex(teacher.embeddings.of_documents, "cosine", device=teacher.search_device)

    @cached_property
    def _others(self) -> Rows:
        """The documents that are not the positive of any row."""
        return np.setdiff1d(np.arange(len(self._index.vectors)), self.documents[:, : self.positives])
