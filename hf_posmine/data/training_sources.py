"""Training data as somebody left it: files, folders, datasets, id tables beside their texts, and judgements with a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import as_splits
from hf_posmine.data.judged_run import beir_run
from hf_posmine.data.layouts import query_columns
from hf_posmine.data.row_layouts import LabelledLists, layout_of
from hf_posmine.data.row_tables import DatasetRows, JsonDocument, table_of_file
from hf_posmine.data.sources import here, is_beir, load_files, load_source
from hf_posmine.data.training_data import IdTexts, TrainingData

if TYPE_CHECKING:
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.row_layouts import NamedColumns
    from hf_posmine.data.row_tables import RowTable

SAMPLE_ROWS = 200
READ_AS_IS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
MINED = ("negatives", "negatives_ids")
TABLES = ("queries", "documents", "scores")
"""Files of a folder in the layout of PyLate and LightOn."""


def open_training_data(
    source: Any,
    *,
    split: str = "train",
    name: str | None = None,
    run: str | Path | None = None,
    corpus: Corpus | None = None,
    columns: NamedColumns | None = None,
) -> TrainingData:
    """Open training data in whatever layout it is.

    Args:
        source: a file, a folder, a Hub id, an address, or a Dataset or DatasetDict.
        split: of judgements, or of a Hub dataset.
        name: configuration of a Hub dataset.
        run: a TREC run whose documents are the negatives, for a BEIR folder.
        corpus: documents by id, for rows that hold ids.
        columns: those that are not to be found by name.

    Raises:
        InputError: nothing readable there, no rows, or a layout that is not known.
    """
    if not isinstance(source, (str, Path)):
        tables: tuple[RowTable, ...] = _splits(source)
        return _of_tables("data", tables, columns, corpus)
    path = here(source)
    if is_beir(path):
        return beir_run(path, split, run)
    if run is not None:
        raise InputError(f"a run belongs to a BEIR folder with corpus, queries and qrels, which {str(source)!r} is not")
    if path.is_file():
        return _of_file(path, columns, corpus)
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        from datasets import load_from_disk

        return _of_tables(path.name, _splits(load_from_disk(str(path))), columns, corpus, path)
    if path.is_dir():
        return _of_folder(path, columns, corpus)
    tables = (DatasetRows(load_source(source, split, name)),)
    return _of_tables(str(source), tables, columns, corpus)


def is_mined(path: Path) -> bool:
    """Whether a file, saved dataset or folder of files has the negatives of mined rows, or their ids."""
    if path.is_file():
        if path.suffix.lower() not in READ_AS_IS:
            return True  # no other layout is read from it
        first = next(table_of_file(path).batches(), [{}])[0]
        return any(name in first and not isinstance(first[name], str) for name in MINED)
    saved = next(iter(sorted(path.rglob("dataset_info.json"))), None)
    if saved is not None:
        return not (json.loads(saved.read_text("utf-8")).get("features") or {}).keys().isdisjoint(MINED)
    files = _row_files(path) if path.is_dir() else []
    return bool(files) and is_mined(files[0])


def _row_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in READ_AS_IS)
    return [file for file in files if not file.name.endswith("provenance.json")]


def _splits(dataset: Any) -> tuple[RowTable, ...]:
    several = isinstance(dataset, Mapping)
    return tuple(DatasetRows(rows, at, several) for at, rows in as_splits(dataset).items())


def _of_tables(
    name: str,
    tables: tuple[RowTable, ...],
    columns: NamedColumns | None,
    corpus: Corpus | None,
    source: Path | None = None,
) -> TrainingData:
    first = next((batch for table in tables for batch in table.batches() if batch), [])
    if not first:
        raise InputError(f"{name} has no rows; there is nothing to audit")
    layout = layout_of(first[:SAMPLE_ROWS], columns)
    by_id = layout.by_id or layout.negatives_by_id
    texts = IdTexts(corpus, negatives_alone=layout.negatives_by_id) if corpus is not None and by_id else None
    return TrainingData(name, tables, layout, texts, source)


def _of_file(path: Path, columns: NamedColumns | None, corpus: Corpus | None) -> TrainingData:
    table = table_of_file(path)
    data = _of_tables(path.name, (table,), columns, corpus, path)
    if corpus is None and isinstance(table, JsonDocument) and isinstance(table.content, dict):
        return _with_nemo_corpus(data, table)
    return data


def _with_nemo_corpus(data: TrainingData, table: JsonDocument) -> TrainingData:
    """The documents of a NeMo file are in the folders that it names."""
    from hf_posmine.data.corpus import Corpus

    named = table.content.get("corpus") or []
    entries = named if isinstance(named, list) else [named]
    folders = [table.file.parent / entry["path"] for entry in entries if "path" in entry]
    files = [file for folder in folders for file in sorted(folder.glob("*.parquet"))]
    if not files:
        return data
    return replace(data, texts=IdTexts(Corpus.from_files(files, match="exact")) if data.layout.by_id else None)


def _of_folder(path: Path, columns: NamedColumns | None, corpus: Corpus | None) -> TrainingData:
    files = _row_files(path)
    if not files:
        raise InputError(f"folder {str(path)!r} holds no training rows; pass one with .parquet, .jsonl or .csv files")
    by_stem = {file.stem: file for file in files}
    if set(TABLES) <= set(by_stem):
        return _of_three(path, by_stem)
    return _of_tables(path.name, tuple(map(table_of_file, files)), columns, corpus, path)


def _of_three(path: Path, files: Mapping[str, Path]) -> TrainingData:
    """PyLate's and LightOn's three tables: a list of document ids with scores per query id."""
    from hf_posmine.data.corpus import Corpus

    def texts(stem: str) -> Corpus:
        rows = load_files(files[stem])
        if stem == "documents":
            return Corpus.from_dataset(rows, match="exact")
        key, text = query_columns(rows.column_names)
        return Corpus.from_dataset(rows, text=text, id=key, match="exact")

    data = _of_tables(path.name, (table_of_file(files["scores"]),), None, None, path)
    layout = data.layout
    if not isinstance(layout, LabelledLists):
        raise InputError(f"{files['scores']} holds no lists of documents with scores; its columns: {layout.describe()}")
    documents, queries = texts("documents"), texts("queries")
    copied = (files["queries"], files["documents"])
    return replace(data, layout=replace(layout, name="PyLate"), texts=IdTexts(documents, queries), copied=copied)
