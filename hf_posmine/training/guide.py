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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Floats


class Guide:
    """The stored vectors of all texts of a blend by a dense teacher, with its own prompts.

    Args:
        teacher: over the documents of the blend, with its queries.
    """

    def __init__(self, teacher: DenseTeacher) -> None:
        self.teacher = teacher

    @classmethod
    def over(cls, spelling: str, datasets: Mapping[str, Dataset]) -> Guide:
        """Encode the texts of training rows, unless the store has them.

        Args:
            spelling: of a dense teacher, such as ``embedded`` or ``Dense("id", query_prompt="query: ")``.
            datasets: rows ``query, positive, negative_1..n`` by name.

        Raises:
            InputError: a teacher of another kind.
        """
        documents = Corpus.from_texts(_texts(datasets, query=False), match="exact")
        queries = Corpus.from_texts(_texts(datasets, query=True), match="exact")
        teacher = make_teacher(spelling, documents, queries=queries)
        if not isinstance(teacher, DenseTeacher):
            raise InputError(
                f"guide={spelling!r} is not a dense teacher; only vectors can be compared within every batch"
            )
        teacher.prepare()
        return cls(teacher)

    def vectors(self, rows: Sequence[Sequence[str]]) -> Floats:
        """Unit vectors float32 ``[B, 1 + n, d]`` of rows of texts, the query first."""
        queries = self.teacher.embed_queries([row[0] for row in rows])
        at = self.teacher.corpus.rows_of_texts([text for row in rows for text in row[1:]])
        documents = self.teacher.embeddings.of_documents[at].reshape(len(rows), -1, queries.shape[1])
        found = np.concatenate([queries[:, None], documents], axis=1)
        return found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def _texts(datasets: Mapping[str, Dataset], *, query: bool) -> Iterator[str]:
    for rows in datasets.values():
        for column in text_columns(rows.column_names):
            if (column == "query") == query:
                for chunk in rows.data.column(column).chunks:
                    yield from chunk.to_pylist()
