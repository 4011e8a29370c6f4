"""Where datasets come from: a Hub id, files, a saved dataset, or a BEIR folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.digest import file_sha256, json_digest, note_read

if TYPE_CHECKING:
    from collections.abc import Sequence

QRELS = ("query-id", "corpus-id", "score")
BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".arrow": "arrow"}


def load_source(source: str | Path, split: str = "train", name: str | None = None, *, streaming: bool = False) -> Any:
    """A dataset from wherever ``source`` points: files, a folder saved with ``save_to_disk``, or a Hub id.

    With ``streaming`` an IterableDataset, of which nothing is copied into a cache.

    Raises:
        InputError: nothing readable there, with what was tried.
    """
    import datasets

    path = Path(source)
    if path.is_file():
        return load_files(path, streaming=streaming)
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        loaded = datasets.load_from_disk(str(path))
        saved = _split_of(loaded, split, source)
        return saved.to_iterable_dataset() if streaming and len(saved) else saved
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in BUILDERS)
        if not files:
            raise InputError(f"folder {str(path)!r} holds no saved dataset and no {', '.join(BUILDERS)} files")
        return load_files(files, streaming=streaming)
    if path.is_absolute() or path.suffix in BUILDERS or str(source).count("/") > 1:
        raise InputError(f"{str(source)!r} does not exist; pass a file, a folder or a Hub id such as 'user/dataset'")
    return datasets.load_dataset(str(source), name, split=split, streaming=streaming)


def load_files(files: str | Path | Sequence[str | Path], *, streaming: bool = False) -> Any:
    """A Dataset, or a stream, from parquet, json lines, csv, tsv or arrow files of one kind."""
    import datasets

    paths = [Path(f) for f in ([files] if isinstance(files, (str, Path)) else files)]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise InputError(f"no such file: {', '.join(missing)}")
    kinds = {p.suffix.lower() for p in paths}
    if len(kinds) != 1 or not kinds <= set(BUILDERS):
        raise InputError(f"cannot read files of kind {sorted(kinds)} together; use one of {sorted(BUILDERS)}")
    kind = kinds.pop()
    options: dict[str, Any] = {"data_files": [str(p) for p in paths], "split": "train"}
    if kind == ".tsv":
        options["delimiter"] = "\t"
    if streaming:
        return datasets.load_dataset(BUILDERS[kind], streaming=True, **options)
    digests = [file_sha256(path) for path in paths]
    # datasets addresses its cache by names, sizes and times; the digests make it read a file of other content again
    loaded = datasets.load_dataset(BUILDERS[kind], f"sha256-{json_digest(digests)}", **options)
    changed = [str(path) for path, digest in zip(paths, digests, strict=True) if file_sha256(path) != digest]
    if changed:
        raise InputError(f"{changed[0]!r} changed while it was read; run again when nothing writes to it")
    for path, digest in zip(paths, digests, strict=True):
        note_read(path, digest)
    return loaded


def is_beir(source: str | Path) -> bool:
    """Whether the folder is in BEIR's layout: corpus, queries and qrels."""
    path = Path(source)
    return path.is_dir() and (path / "qrels").is_dir() and _beir_file(path, "corpus") is not None


def beir_corpus(folder: str | Path) -> Any:
    """The documents of a BEIR folder, columns ``_id``, ``title``, ``text``."""
    corpus = load_files(_require(Path(folder), "corpus"))
    if "title" not in corpus.column_names:
        corpus = corpus.add_column("title", [""] * len(corpus))
    return corpus


def beir_queries(folder: str | Path) -> dict[str, str]:
    """Query text by query id."""
    queries = load_files(_require(Path(folder), "queries"))
    return dict(zip(map(str, queries["_id"]), queries["text"], strict=True))


def beir_qrels(folder: str | Path, split: str = "train") -> dict[str, list[Any]]:
    """The judgements of a split: lists ``query-id``, ``corpus-id``, ``score``."""
    file = Path(folder) / "qrels" / f"{split}.tsv"
    if not file.is_file():
        there = sorted(f.stem for f in (Path(folder) / "qrels").glob("*.tsv"))
        raise InputError(f"no judgements for split {split!r} in {str(folder)!r}; there are: {there}")
    return read_qrels(file)


def read_qrels(file: str | Path) -> dict[str, list[Any]]:
    """Judgements of a tsv file with a header, ids as they are written ("007" stays "007")."""
    from pyarrow import csv

    options = csv.ConvertOptions(
        column_types=dict.fromkeys(QRELS[:2], "string") | {"score": "float64"}, strings_can_be_null=False
    )
    table = csv.read_csv(
        str(file), parse_options=csv.ParseOptions(delimiter="\t", quote_char=False), convert_options=options
    )
    missing = [name for name in QRELS if name not in table.column_names]
    if missing:
        raise InputError(f"{str(file)!r} has no column {missing[0]!r}; a BEIR qrels file has {list(QRELS)}")
    return {name: table[name].to_pylist() for name in QRELS}


def beir_pairs(folder: str | Path, split: str = "train") -> Any:
    """One row per positive judgement: ``query_id``, ``query``, ``positive_id``."""
    import datasets

    queries, rows = beir_queries(folder), beir_qrels(folder, split)
    kept = [
        (str(q), queries.get(str(q)), str(d))
        for q, d, score in zip(rows["query-id"], rows["corpus-id"], rows["score"], strict=True)
        if score > 0
    ]
    lost = [q for q, text, _ in kept if text is None]
    if lost:
        raise InputError(f"split {split!r} judges {len(lost)} queries that queries.jsonl lacks, such as {lost[0]!r}")
    names = ("query_id", "query", "positive_id")
    return datasets.Dataset.from_dict({name: [row[i] for row in kept] for i, name in enumerate(names)})


def _beir_file(folder: Path, stem: str) -> Path | None:
    return next((folder / f"{stem}{s}" for s in (".jsonl", ".parquet") if (folder / f"{stem}{s}").is_file()), None)


def _require(folder: Path, stem: str) -> Path:
    file = _beir_file(folder, stem)
    if file is None:
        raise InputError(f"{str(folder)!r} is no BEIR folder: it has no {stem}.jsonl or {stem}.parquet")
    return file


def _split_of(loaded: Any, split: str, source: object) -> Any:
    if not hasattr(loaded, "keys"):
        return loaded
    if split not in loaded:
        raise InputError(f"{str(source)!r} has no split {split!r}; it has {list(loaded)}")
    return loaded[split]
