"""Judged collections: documents, queries and relevance judgements, from a folder, the Hub, NanoBEIR or MTEB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import check_texts
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.sources import BUILDERS, load_files, read_qrels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ALIASES = {
    "id": ("_id", "id", "doc_id", "query_id"),
    "text": ("text",),
    "query": ("query-id", "query_id", "qid"),
    "document": ("corpus-id", "doc_id", "document_id", "docid"),
}
NANO = (
    "NanoArguAna", "NanoClimateFEVER", "NanoDBPedia", "NanoFEVER", "NanoFiQA2018", "NanoHotpotQA", "NanoMSMARCO",
    "NanoNFCorpus", "NanoNQ", "NanoQuoraRetrieval", "NanoSCIDOCS", "NanoSciFact", "NanoTouche2020",
)  # fmt: skip
"""The sets of NanoBEIR, each ``zeta-alpha-ai/<name>`` on the Hub."""


@dataclass(frozen=True)
class Collection:
    """A judged collection, by ids.

    Documents whose texts are exactly the same are encoded once; each of their ids is still retrieved, since trec_eval
    counts ids.

    Attributes:
        name: what results call it.
        corpus: the documents, whose texts match exactly.
        duplicates: corpus row -> further ids of the same text.
        queries: text by query id.
        qrels: relevance by document id, by query id; above 0 is relevant. Judgements below 0 (unknown) are left out.
    """

    name: str
    corpus: Corpus
    duplicates: Mapping[int, tuple[str, ...]]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(
        cls, name: str, documents: Any, queries: Mapping[str, str], judgements: Iterable[tuple[Any, Any, float]]
    ) -> Collection:
        """From a dataset of documents (columns id, text, perhaps title), queries, and (query, document, score) rows.

        Documents without any text are left out: nothing says what they are, and instruction models refuse them.

        Raises:
            InputError: judged queries without text, no positive at all, or judged ids that the corpus lacks altogether.
            ColumnError: a document or query that is no text.
        """
        title = "title" if "title" in documents.column_names else None
        id_column = find_column(documents, "id")
        text_column = find_column(documents, "text")
        documents = _with_text(documents, [text_column, *([title] if title else [])])
        corpus = Corpus.from_dataset(documents, text_column, id_column, title, match="exact")
        qrels: dict[str, dict[str, int]] = {}
        for query, document, score in judgements:
            if score != int(score):
                raise InputError(f"query {query!r}, document {document!r}: relevance {score} is no whole number")
            if score >= 0:
                qrels.setdefault(str(query), {})[str(document)] = int(score)
        collection = cls(name, corpus, _duplicates(corpus, documents[id_column]), queries, qrels)
        collection._check()
        return collection

    @cached_property
    def scored_queries(self) -> tuple[str, ...]:
        """Ids of the queries with a judged positive, in the order of ``queries``; the others cannot be scored."""
        return tuple(query for query in self.queries if any(score > 0 for score in self.qrels.get(query, {}).values()))

    @cached_property
    def positives(self) -> tuple[tuple[str, str], ...]:
        """Query and document id of every judged positive."""
        return tuple((q, d) for q, judged in self.qrels.items() for d, score in judged.items() if score > 0)

    @cached_property
    def lost_positives(self) -> int:
        """Positives that the corpus lacks; no system can find them, and recall counts them as missed."""
        return int((self.corpus.rows_of_ids([document for _, document in self.positives]) < 0).sum())

    def _check(self) -> None:
        lost = [query for query in self.qrels if query not in self.queries]
        if lost:
            raise InputError(f"{self.name}: {len(lost)} judged queries have no text, such as {lost[0]!r}")
        if not self.scored_queries:
            raise InputError(f"{self.name}: no query has a judged positive (a score above 0); nothing can be scored")
        if self.lost_positives == len(self.positives):
            example = next(iter(self.qrels[self.scored_queries[0]]))
            raise InputError(
                f"{self.name}: the corpus has none of the {len(self.positives)} judged positives, such as {example!r}; are "
                "these its judgements?"
            )


def load_collection(source: str | Path, qrels: str | None = None) -> Collection:
    """A judged collection from wherever ``source`` points.

    Args:
        source: a BEIR folder; a folder with corpus, queries and qrels as parquet, jsonl, csv or tsv files; the name of a
            NanoBEIR set, such as ``NanoNFCorpus``; ``mteb:<task>`` or ``mteb:<task>:<subset>``; or a Hub id with
            configurations corpus, queries and qrels.
        qrels: file, BEIR split or Hub split of the judgements; by default ``test``, or the only one there is.
    """
    text = str(source)
    if text.startswith("mteb:"):
        from hf_posmine.evaluation.mteb_tasks import mteb_collection

        task, _, subset = text.removeprefix("mteb:").partition(":")
        return mteb_collection(task, subset=subset or None, split=qrels)
    if Path(source).is_dir():
        return folder_collection(Path(source), qrels)
    if text.lower().startswith("nano") and "/" not in text:
        known = {name.lower(): name for name in NANO}
        if text.lower() not in known:
            raise InputError(f"no NanoBEIR set {text!r}; there are {', '.join(NANO)}")
        return hub_collection(f"zeta-alpha-ai/{known[text.lower()]}", qrels)
    if Path(source).is_absolute() or text.count("/") != 1:
        raise InputError(
            f"{text!r} is no folder; pass one with corpus, queries and qrels, a Hub id such as 'mteb/scifact', "
            "'NanoNFCorpus' or 'mteb:SciFact'"
        )
    return hub_collection(text, qrels)


def folder_collection(folder: Path, qrels: str | None = None) -> Collection:
    """A collection from a folder: BEIR's layout, or files named corpus, queries and qrels."""
    documents, queries = read_table(folder, "corpus"), read_table(folder, "queries")
    rows = zip(*read_judgements(folder, qrels or _default_qrels(folder)), strict=True)
    return Collection.of(folder.resolve().name, documents, query_texts(queries), rows)


def hub_collection(repository: str, qrels: str | None = None) -> Collection:
    """A collection from a data set with configurations corpus, queries, and qrels (or ``default``, as MTEB has it)."""
    import datasets

    try:
        configurations = datasets.get_dataset_config_names(repository)
        missing = [name for name in ("corpus", "queries") if name not in configurations]
        judged = next((name for name in ("qrels", "default") if name in configurations), None)
        if missing or (judged is None and Path(repository).exists()):
            raise InputError(f"{repository!r} needs configurations corpus, queries and qrels; it has {configurations}")
        place = repository if judged else f"{repository}-qrels"  # BEIR's own repositories keep them apart
        documents, queries = (_hub_split(repository, name, name) for name in ("corpus", "queries"))
        rows = _hub_split(place, judged, qrels)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot load the collection {repository!r}: {str(error).splitlines()[0]}") from error
    return Collection.of(
        Path(repository).name, documents, query_texts(queries), zip(*judgement_columns(rows), strict=True)
    )


def query_texts(queries: Any) -> dict[str, str]:
    """Text by query id of a dataset of queries."""
    text = find_column(queries, "text")
    return dict(zip(map(str, queries[find_column(queries, "id")]), check_texts(queries[text], text), strict=True))


def read_judgements(folder: Path, name: str) -> tuple[list[Any], list[Any], list[float]]:
    """Query ids, document ids and scores of a split or file of judgements."""
    place = folder / "qrels" if (folder / "qrels").is_dir() else folder
    if (place / f"{name}.tsv").is_file():
        judged = read_qrels(place / f"{name}.tsv")
        return judged["query-id"], judged["corpus-id"], judged["score"]
    return judgement_columns(read_table(place, name))


def judgement_columns(rows: Any) -> tuple[list[Any], list[Any], list[float]]:
    """Query ids, document ids and scores of a dataset of judgements; without scores every row is relevant."""
    scores = rows["score"][:] if "score" in rows.column_names else [1.0] * len(rows)
    return rows[find_column(rows, "query")][:], rows[find_column(rows, "document")][:], scores


def read_table(folder: Path, stem: str) -> Any:
    """The dataset ``stem`` of a folder, in whichever format it is there."""
    from hf_posmine.utils.progress import quiet_bars

    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; pass one with corpus, queries and qrels")
    with quiet_bars():
        for suffix in BUILDERS:
            if (folder / f"{stem}{suffix}").is_file():
                return load_files(folder / f"{stem}{suffix}")
    raise InputError(f"{str(folder)!r} has no {stem!r} file; there are {sorted(f.name for f in folder.iterdir())}")


def find_column(rows: Any, what: str) -> str:
    """The column that holds ids, texts, query ids or document ids, under any of its usual names."""
    found = next((name for name in ALIASES[what] if name in rows.column_names), None)
    if found is None:
        raise InputError(f"no {what} column among {rows.column_names}; name it one of {list(ALIASES[what])}")
    return found


def _with_text(documents: Any, columns: list[str]) -> Any:
    """The documents with a text in any of the columns; other kinds of column are left for the corpus to refuse."""
    rows = zip(*(documents[column] for column in columns), strict=True)
    full = [number for number, texts in enumerate(rows) if any(not isinstance(t, str) or t.strip() for t in texts)]
    return documents if len(full) == len(documents) else documents.select(full)


def _duplicates(corpus: Corpus, ids: Any) -> dict[int, tuple[str, ...]]:
    if not corpus.duplicates:
        return {}
    names = list(dict.fromkeys(map(str, ids)))
    rows = corpus.rows_of_ids(names)
    further: dict[int, tuple[str, ...]] = {}
    for name, row, first in zip(names, rows.tolist(), corpus.ids(rows).to_pylist(), strict=True):
        if name != first:
            further[row] = (*further.get(row, ()), name)
    return further


def _default_qrels(folder: Path) -> str:
    if not (folder / "qrels").is_dir():
        return "qrels"
    there = sorted({file.stem for file in (folder / "qrels").iterdir() if file.suffix in BUILDERS})
    if len(there) != 1 and "test" not in there:
        raise InputError(f"{str(folder)!r} has the judgements {there}; say which with qrels=...")
    return "test" if "test" in there else there[0]


def _hub_split(repository: str, configuration: str | None, split: str | None) -> Any:
    """The split asked for, else ``test``, else the only one."""
    import datasets

    there = datasets.get_dataset_split_names(repository, configuration)
    chosen = next((name for name in (split, "test") if name in there), there[0] if len(there) == 1 else None)
    if chosen is None or (split not in (None, configuration) and split not in there):
        raise InputError(
            f"{repository!r}, {configuration}: no split {split!r}; there are {there}, say which with qrels="
        )
    return datasets.load_dataset(repository, configuration, split=chosen)
