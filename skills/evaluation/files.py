"""The files that every task starts with, small and the same each time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ANIMALS = "otter heron badger lynx marten beaver osprey hare salmon viper falcon weasel".split()
DOES = "builds guards crosses repairs".split()
PLACES = "harbour meadow quarry orchard".split()
PAIRS, SPARE = 24, 36
GERMAN = [
    ("Wer baut den Damm", "Der Biber baut den Damm am Fluss."),
    ("Wer fängt Fische", "Der Reiher fängt Fische im See."),
]


def document(number: int) -> str:
    """A sentence that some others resemble."""
    animal, does, place = ANIMALS[number % 12], DOES[number % 4], PLACES[number // 12 % 4]
    return f"The {animal} of house {number} {does} the old {place} before winter number {number // 3}."


def question(number: int) -> str:
    """Whose answer is the document of the same number."""
    return f"which {ANIMALS[number % 12]} {DOES[number % 4]} the old {PLACES[number // 12 % 4]} from house {number}"


def write_files(folder: Path) -> None:
    """All of them."""
    documents = [document(n) for n in range(PAIRS + SPARE)]
    ids = [f"d{n}" for n in range(len(documents))]
    pairs = [{"query": question(n), "positive": documents[n]} for n in range(PAIRS)]
    _lines(folder / "pairs.jsonl", pairs)
    _lines(
        folder / "odd.jsonl",
        ({"ask": p["query"], "reply": p["positive"], "source": f"s{n // 4}"} for n, p in enumerate(pairs)),
    )
    _lines(folder / "german.jsonl", ({"query": query, "positive": text} for query, text in GERMAN))
    _lines(folder / "corpus.jsonl", ({"_id": i, "text": text} for i, text in zip(ids, documents, strict=True)))
    rows = [
        {"query": p["query"], "pos": [p["positive"]], "neg": [documents[24 + n], documents[25 + n], documents[26 + n]]}
        for n, p in enumerate(pairs)
    ]
    _lines(folder / "clean.jsonl", rows)
    for n in (3, 11):
        rows[n]["neg"][1] = rows[n]["pos"][0]
    rows[7]["neg"][0] = f"  {rows[7]['pos'][0].upper()}"
    rows[15]["neg"][2] = rows[15]["neg"][1]
    _lines(folder / "flag.jsonl", rows)
    names = ("anchor", "positive", "negative_1", "negative_2", "negative_3")
    _lines(folder / "tuples.jsonl", (dict(zip(names, (r["query"], *r["pos"], *r["neg"]), strict=True)) for r in rows))
    _lines(folder / "lists.jsonl", (
        {"query": r["query"], "docs": [*r["pos"], *r["neg"]], "labels": [1, 0, 0, 0]} for r in rows
    ))  # fmt: skip
    _vectors(folder, documents, [p["query"] for p in pairs])
    _collection(folder / "beir", dict(zip(ids, documents, strict=True)))


def _vectors(folder: Path, documents: list[str], queries: list[str]) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(documents), 16)).astype(np.float32)
    for name, values, texts in (
        ("vectors", vectors, documents),
        ("query_vectors", vectors[: len(queries)] + 0.1, queries),
    ):
        np.save(folder / f"{name}.npy", values)
        (folder / f"{name}.json").write_text(json.dumps(texts))


def _collection(folder: Path, documents: dict[str, str]) -> None:
    (folder / "qrels").mkdir(parents=True)
    _lines(folder / "corpus.jsonl", ({"_id": i, "title": "", "text": text} for i, text in documents.items()))
    _lines(folder / "queries.jsonl", ({"_id": f"q{n}", "text": question(n)} for n in range(PAIRS)))
    for split, numbers in (("train", range(4, PAIRS)), ("test", range(4))):
        rows = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")


def _lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
