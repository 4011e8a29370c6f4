"""A frozen guide: a teacher that decides which documents of a batch are false negatives (GISTEmbed, arXiv 2402.16829).

GISTEmbed embeds every batch a second time. Here the texts of the blend are encoded once, into the store that mining shares,
and a batch looks its vectors up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.corpus import Corpus
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.factory import make_teacher
from hf_posmine.training.collator import text_columns
from hf_posmine.training.convert.images import with_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Floats, Rows

READ_ROWS = 8192


class Guide:
    """The stored vectors of all texts of a blend by a dense teacher, with its own prompts.

    Args:
        teacher: over the documents of the blend, with its queries.
    """

    def __init__(self, teacher: DenseTeacher) -> None:
        self.teacher = teacher

    @classmethod
    def over(cls, spelling: str, datasets: Mapping[str, Dataset], images: Corpus | None = None) -> Guide:
        """Encode the texts of training rows, unless the store has them.

        Args:
            spelling: of a dense teacher, such as ``embedded`` or ``Dense("id", query_prompt="query: ")``.
            datasets: rows ``query, positive, negative_1..n`` by name.
            images: what the names of images open.

        Raises:
            InputError: a teacher of another kind.
        """
        documents = Corpus.from_texts(_texts(datasets, images, query=False), match="exact")
        queries = Corpus.from_texts(_texts(datasets, images, query=True), match="exact")
        teacher = make_teacher(spelling, documents, queries=queries)
        if not isinstance(teacher, DenseTeacher):
            raise InputError(
                f"guide={spelling!r} is not a dense teacher; only vectors can be compared within every batch"
            )
        teacher.prepare()
        return cls(teacher)

    def vectors(self, rows: Sequence[Sequence[str]]) -> Floats:
        """Unit vectors float32 ``[B, 1 + n, d]`` of rows of texts, the query first."""
        queries = _unit(self.teacher.embed_queries([row[0] for row in rows]))
        at = self.teacher.corpus.rows_of_texts([text for row in rows for text in row[1:]])
        return np.concatenate(
            [queries[:, None], self.document_vectors(at).reshape(len(rows), -1, queries.shape[1])], axis=1
        )

    def rows_of(self, dataset: Dataset) -> tuple[Rows, Rows]:
        """Which of the queries int64 ``[N]`` and documents int64 ``[N, 1 + n]`` the texts of a data set are."""
        query, *columns = text_columns(dataset.column_names)
        known = self.teacher.embeddings.queries
        if known is None:
            raise InputError("the guide has no queries; make it with Guide.over")
        documents = [self.teacher.corpus.rows_of_texts(_column(dataset, column)) for column in columns]
        return known.rows_of_texts(_column(dataset, query)), np.stack(documents, axis=1)

    def query_vectors(self, rows: Rows) -> Floats:
        """Unit vectors float32 ``[m, d]`` of some of the queries."""
        found = self.teacher.embeddings.of_queries
        return _unit(np.empty((0, 0), np.float32) if found is None else found[rows])

    def document_vectors(self, rows: Rows) -> Floats:
        """Unit vectors float32 ``[m, d]`` of some of the documents."""
        return _unit(self.teacher.embeddings.of_documents[rows])


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def _column(rows: Dataset, column: str) -> Iterator[str]:
    """The texts of a column as they are trained on, which is another order than that of the table beneath a selection."""
    for table in rows.select_columns([column]).with_format("arrow").iter(READ_ROWS):
        yield from table[column].to_pylist()


def _texts(datasets: Mapping[str, Dataset], images: Corpus | None, *, query: bool) -> Iterator[str]:
    for rows in datasets.values():
        for number, column in enumerate(text_columns(rows.column_names)):
            if (number == 0) == query:
                for chunk in rows.data.column(column).chunks:
                    yield from with_images(chunk.to_pylist(), images)
