"""Load datasets from a Hub id, files, a saved dataset, or a judged collection of corpus, queries and qrels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.layouts import judgement_columns, query_columns
from hf_posmine.data.tables import KINDS, kind_of, load_files, stem_of
from hf_posmine.utils.remote import fetched, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset

SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
QRELS = ("query-id", "corpus-id", "score")
__all__ = [
    "beir_corpus", "beir_pairs", "beir_qrels", "beir_queries", "is_beir", "judged_splits", "load_files", "load_source",
    "read_judgements", "read_table",
]  # fmt: skip


def load_source(source: str | Path, split: str = "train", name: str | None = None, *, streaming: bool = False) -> Any:
    """A dataset from wherever ``source`` points: files, a folder saved with ``save_to_disk``, a Hub id, or an address.

    A name with ``*`` that is not a file's is a pattern. In a folder of files, those whose names begin with a split, such as
    ``test.jsonl``, are that split; without such names all are taken. With ``streaming`` an IterableDataset, of which nothing is
    copied into a cache.

    Raises:
        InputError: nothing readable there, with what was tried.
    """
    import datasets

    path = here(source)
    if path.is_file():
        return load_files(path, streaming=streaming)
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        loaded = datasets.load_from_disk(str(path))
        saved = _split_of(loaded, split, source)
        return saved.to_iterable_dataset() if streaming and len(saved) else saved
    if path.is_dir():
        return load_files(_files_of_split(path, split), streaming=streaming)
    if "*" in str(source):
        return load_files(matching(str(source)), streaming=streaming)
    if path.is_absolute() or kind_of(path) or str(source).count("/") > 1:
        raise InputError(f"{str(source)!r} does not exist; pass a file, a folder or a Hub id such as 'user/dataset'")
    return datasets.load_dataset(str(source), name, split=split, streaming=streaming)


def here(source: str | Path) -> Path:
    """The path of a source; of one at an address, such as ``hf://datasets/me/rows/train.jsonl``, that of a copy in the cache."""
    return fetched(str(source)) if is_remote(source) else Path(source)


def matching(pattern: str) -> list[Path]:
    """The files that a pattern with ``*`` names, sorted.

    Raises:
        InputError: there are none.
    """
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if "*" in part)
    root, rest = Path(*parts[:fixed]), "/".join(parts[fixed:])
    wanted = re.compile(re.escape(rest).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"))
    depth = root.rglob("*") if root.is_dir() else iter(())
    found = sorted(file for file in depth if file.is_file() and wanted.fullmatch(file.relative_to(root).as_posix()))
    if not found:
        raise InputError(f"no file matches {pattern!r}")
    return found


def _files_of_split(folder: Path, split: str) -> list[Path]:
    """The files of a folder, or of its folder ``data``, that are of a split."""
    files = sorted(f for f in [*folder.iterdir(), *(folder / "data").glob("*")] if f.is_file() and kind_of(f))
    if not files:
        raise InputError(f"folder {str(folder)!r} holds no saved dataset and no {', '.join(KINDS)} files")
    by_split = {
        file: next((s for s in SPLITS if stem_of(file).replace("_", "-").split("-")[0] == s), None) for file in files
    }
    if not any(by_split.values()):
        return files
    found = [file for file, its in by_split.items() if its == split]
    if not found:
        there = sorted({its for its in by_split.values() if its})
        raise InputError(f"folder {str(folder)!r} has no files of split {split!r}; it has {there}")
    return found


def is_beir(source: str | Path) -> bool:
    """Whether a folder is a judged collection: corpus, queries and qrels, as files or folders of files."""
    path = Path(source)
    return (
        path.is_dir() and all(table_files(path, stem) for stem in ("corpus", "queries")) and bool(judged_splits(path))
    )


def table_files(folder: Path, stem: str) -> list[Path]:
    """The files of one table of a folder: ``stem.jsonl``, ``stem-00000-of-00002.parquet``, or all of a folder ``stem``."""
    for kind in KINDS:
        if (folder / f"{stem}{kind}").is_file():
            return [folder / f"{stem}{kind}"]
    shards = sorted(file for file in folder.glob("*.parquet") if file.name.startswith(f"{stem}-0"))
    inside = folder / stem
    return shards or (sorted(f for f in inside.iterdir() if kind_of(f)) if inside.is_dir() else [])


def read_table(folder: str | Path, stem: str) -> Any:
    """The dataset ``stem`` of a folder, in whichever format it is there.

    Raises:
        InputError: it is not there, with what is.
    """
    from hf_posmine.utils.progress import quiet_bars

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; pass one with corpus, queries and qrels")
    files = table_files(folder, stem)
    if not files:
        raise InputError(f"{str(folder)!r} has no {stem!r} file; there are {sorted(f.name for f in folder.iterdir())}")
    with quiet_bars():
        return load_files(files)


def judged_splits(folder: str | Path) -> dict[str, Path]:
    """The files of judgements by split: ``qrels/test.tsv``, ``qrels_test.parquet``, or ``qrels.tsv`` as ``qrels``."""
    folder = Path(folder)
    found = {}
    for file in sorted(folder.glob("qrels*")):
        if file.is_file() and kind_of(file):
            found[stem_of(file).removeprefix("qrels").lstrip("_-.") or "qrels"] = file
    if (folder / "qrels").is_dir():
        found |= {stem_of(file): file for file in sorted((folder / "qrels").iterdir()) if kind_of(file)}
    return found


def read_judgements(folder: str | Path, split: str) -> dict[str, list[Any]]:
    """The judgements of a split, or of a file of that name: lists ``query-id``, ``corpus-id``, ``score``.

    Raises:
        InputError: there are none of that name, with those that are there.
    """
    folder = Path(folder)
    there = judged_splits(folder)
    file = there.get(split) or there.get(split.removeprefix("qrels_"))
    if file is None and set(there) == {"qrels"} and split == "train":
        file = there["qrels"]  # one file of judgements is that of every run
    if file is None and table_files(folder, split):
        file = table_files(folder, split)[0]
    if file is None:
        raise InputError(f"no judgements for split {split!r} in {str(folder)!r}; there are: {sorted(there)}")
    return read_qrels(file)


def read_qrels(file: str | Path) -> dict[str, list[Any]]:
    """Judgements of a file with a header, ids as they are written ("007" stays "007").

    Raises:
        InputError: a column that is missing, or a score that is not a number.
    """
    from hf_posmine.utils.progress import quiet_bars

    with quiet_bars():
        return judged_rows(load_files(file), str(file))


def judged_rows(rows: Dataset, where: str) -> dict[str, list[Any]]:
    """Query ids, document ids and scores of a dataset of judgements; without scores every row is relevant."""
    query, document, score = judgement_columns(rows.column_names)
    try:
        scores = [float(value) for value in rows[score]] if score else [1.0] * len(rows)
    except (TypeError, ValueError):
        raise InputError(f"{where}: column {score!r} holds values that are not numbers") from None
    return dict(zip(QRELS, ([str(q) for q in rows[query]], [str(d) for d in rows[document]], scores), strict=True))


def beir_corpus(folder: str | Path) -> Any:
    """The documents of a judged collection."""
    return read_table(folder, "corpus")


def beir_queries(folder: str | Path) -> dict[str, str]:
    """Query text by query id."""
    from hf_posmine.data.columns import check_texts

    queries = read_table(folder, "queries")
    identifier, text = query_columns(queries.column_names)
    return dict(zip(map(str, queries[identifier]), check_texts(queries[text], text), strict=True))


def beir_qrels(folder: str | Path, split: str = "train") -> dict[str, list[Any]]:
    """The judgements of a split: lists ``query-id``, ``corpus-id``, ``score``."""
    return read_judgements(folder, split)


def beir_pairs(folder: str | Path, split: str = "train", keep: Sequence[str] = ()) -> Any:
    """One row per positive judgement: ``query_id``, ``query``, ``positive_id``, and ``keep`` of the table of queries."""
    import datasets

    queries, rows = beir_queries(folder), beir_qrels(folder, split)
    kept = [
        (str(q), queries.get(str(q)), str(d))
        for q, d, score in zip(rows["query-id"], rows["corpus-id"], rows["score"], strict=True)
        if score > 0
    ]
    lost = [q for q, text, _ in kept if text is None]
    if lost:
        raise InputError(f"split {split!r} judges {len(lost)} queries without a text, such as {lost[0]!r}")
    names = ("query_id", "query", "positive_id")
    table = read_table(folder, "queries")
    identifier, _ = query_columns(table.column_names)
    more = {
        name: dict(zip(map(str, table[identifier]), table[name], strict=True))
        for name in keep
        if name in table.column_names and name not in names
    }
    columns = {name: [row[i] for row in kept] for i, name in enumerate(names)}
    return datasets.Dataset.from_dict(columns | {name: [of[row[0]] for row in kept] for name, of in more.items()})


def _split_of(loaded: AnyDataset, split: str, source: object) -> Any:
    if not hasattr(loaded, "keys"):
        return loaded
    if split not in loaded:
        raise InputError(f"{str(source)!r} has no split {split!r}; it has {list(loaded)}")
    return loaded[split]
