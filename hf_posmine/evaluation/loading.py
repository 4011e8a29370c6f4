"""Judged collections from a folder, the Hub, NanoBEIR or MTEB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.sources import judged_rows, judged_splits, read_judgements
from hf_posmine.data.sources import read_table as read_table  # noqa: PLC0414
from hf_posmine.evaluation.collection import Collection, query_texts

NANO = (
    "NanoArguAna", "NanoClimateFEVER", "NanoDBPedia", "NanoFEVER", "NanoFiQA2018", "NanoHotpotQA", "NanoMSMARCO",
    "NanoNFCorpus", "NanoNQ", "NanoQuoraRetrieval", "NanoSCIDOCS", "NanoSciFact", "NanoTouche2020",
)  # fmt: skip
"""The sets of NanoBEIR, each ``zeta-alpha-ai/<name>`` on the Hub."""


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
            f"{text!r} is not a folder; pass one with corpus, queries and qrels, a Hub id such as 'mteb/scifact', "
            "'NanoNFCorpus' or 'mteb:SciFact'"
        )
    return hub_collection(text, qrels)


def folder_collection(folder: Path, qrels: str | None = None) -> Collection:
    """A collection from a folder: BEIR's layout, or files named corpus, queries and qrels."""
    documents, queries = read_table(folder, "corpus"), read_table(folder, "queries")
    rows = zip(*judgements_of(folder, qrels or _default_qrels(folder)), strict=True)
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
        Path(repository).name,
        documents,
        query_texts(queries),
        zip(*judged_rows(rows, repository).values(), strict=True),
    )


def judgements_of(folder: Path, name: str) -> tuple[list[Any], list[Any], list[float]]:
    """Query ids, document ids and scores of a split or file of judgements."""
    judged = read_judgements(folder, name)
    return judged["query-id"], judged["corpus-id"], judged["score"]


def _default_qrels(folder: Path) -> str:
    there = sorted(judged_splits(folder))
    if len(there) != 1 and "test" not in there:
        raise InputError(f"{str(folder)!r} has the judgements {there}; name one with qrels=...")
    return "test" if "test" in there else there[0]


def _hub_split(repository: str, configuration: str | None, split: str | None) -> Any:
    """The given split, else ``test``, else the only one."""
    import datasets

    there = datasets.get_dataset_split_names(repository, configuration)
    chosen = next((name for name in (split, "test") if name in there), there[0] if len(there) == 1 else None)
    if chosen is None or (split not in (None, configuration) and split not in there):
        raise InputError(
            f"{repository!r}, {configuration}: no split {split!r}; there are {there}, say which with qrels="
        )
    return datasets.load_dataset(repository, configuration, split=chosen)
