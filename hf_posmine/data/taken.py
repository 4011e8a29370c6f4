"""The line about the data of a run that every command prints and records."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hf_posmine.data.corpus import Corpus


def taken_line(
    query: str, positive: str, documents: str, columns: str | None = None, found: tuple[int, int] | None = None
) -> str:
    """Where queries, positives and documents come from.

    Args:
        query: column or number of the queries.
        positive: column of the positives, or where they come from.
        documents: how many there are.
        columns: of the corpus; None where it has none.
        found: positives that are in the corpus, and all of them; None where they are the corpus.

    >>> taken_line("question", "answer", "2,067 documents", "by doc_id (title + body)", (398, 400))
    'query: question · positive: answer · corpus: 2,067 documents by doc_id (title + body) · positives in corpus: 398 of 400'
    """
    parts = [f"query: {query}", f"positive: {positive}", " ".join(filter(None, [f"corpus: {documents}", columns]))]
    if found is not None and found[1]:
        parts.append(f"positives in corpus: {found[0]:,} of {found[1]:,}")
    return " · ".join(parts)


def judged_line(queries: int, positives: Iterable[str], corpus: Corpus) -> str:
    """The line about a judged collection; ``positives`` are the document ids of all positive judgements."""
    rows = corpus.rows_of_ids(list(positives))
    inside = int(((rows >= 0) & (rows < corpus.num_candidates)).sum())
    columns = None if corpus.columns is None else str(corpus.columns)
    documents = f"{corpus.num_candidates:,} documents"
    return taken_line(f"{queries:,} by id", "by judgements", documents, columns, (inside, len(rows)))
