"""Mined datasets for the tests of the report: small ones by hand, and random ones whose numbers mean nothing."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from hf_posmine.mining.columns import STATS
from hf_posmine.report import MinedRows

LIST = List(Value("string"))
STAT_FEATURES = {field.name: Value({"float": "float32"}.get(str(field.type), str(field.type))) for field in STATS}
WORDS = "red green blue cat dog bird sky sea tree stone house river lamp cup door key".split()


def by_hand() -> Dataset:
    """Five rows, each with something to find."""
    rows = {
        "query": ["capital of France", "largest planet", "who wrote Faust", "longest river", "capital of France"],
        "positive": [
            "Paris is the capital of France.", "Jupiter is the largest planet of the solar system by far.",
            "Goethe wrote Faust.", "The Nile is the longest river.", "The capital of France is called Paris.",
        ],
        "answers": [["Paris"], ["Jupiter"], ["Goethe"], ["Nile", "no"], ["Paris"]],
        "negatives": [
            ["Lyon lies on the Rhone.", "The capital of France is called Paris."],  # the second is labelled in the last row
            ["Jupiter is the largest planet of the solar system, by far!", "Mars is red."],  # nearly the positive
            ["Faust is a play.", "Mars is red."],
            ["Mars is red."],  # short
            ["Lyon lies on the Rhone.", "Mars is red."],
        ],
        "positive_score": [0.8, 0.75, 0.5, 0.25, 0.5],
        "negatives_scores": [[0.7, 0.6], [0.7, 0.25], [0.475, 0.125], [0.2], [0.375, 0.25]],
        "negatives_ids": [["lyon", "paris"], ["jup", "mars"], ["play", "mars"], ["mars"], ["lyon", "mars"]],
        "negatives_ranks": [[0, 3], [1, 2], [0, 1], [7], [0, 1]],
        "negatives_stats": [
            stats(0.76), stats(0.7125, above=1), stats(0.475001), stats(0.2375, above=2000), stats(0.475),
        ],
    }  # fmt: skip
    features = Features({
        "query": Value("string"), "positive": Value("string"), "answers": LIST, "negatives": LIST,
        "positive_score": Value("float32"), "negatives_scores": List(Value("float32")), "negatives_ids": LIST,
        "negatives_ranks": List(Value("int64")), "negatives_stats": STAT_FEATURES,
    })  # fmt: skip
    return Dataset.from_dict(rows, features=features)


def stats(ceiling: float, above: int = 0) -> dict[str, Any]:
    """The stats of a row."""
    held = dict.fromkeys(STATS.names, 0) | {
        "reference_score": ceiling,
        "ceiling": ceiling,
        "ceiling_by": "PercPos(0.95)",
    }
    return held | {"num_above_ceiling": above, "excluded_positive": 1}


def at_random(rows: int, seed: int = 0, most: int = 4) -> Dataset:
    """Rows with up to ``most`` negatives of a small vocabulary, so that texts repeat; some scores are missing."""
    rng = np.random.default_rng(seed)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS, words))

    counts = rng.integers(0, most + 1, rows).tolist()
    lists = [[text(2) for _ in range(count)] for count in counts]
    scores = [[None if rng.random() < 0.1 else float(np.float32(rng.random())) for _ in held] for held in lists]
    made = {
        "query": [text(2) for _ in range(rows)],
        "positive": [text(2) for _ in range(rows)],
        "answers": [[text(1)] for _ in range(rows)],
        "negatives": lists,
        "positive_score": [float(np.float32(rng.random())) for _ in range(rows)],
        "negatives_scores": scores,
        "negatives_ranks": [rng.integers(-1, 40, len(held)).tolist() for held in lists],
    }
    types = {
        "positive_score": Value("float32"),
        "negatives_scores": List(Value("float32")),
        "negatives_ranks": List(Value("int64")),
    }
    types |= dict.fromkeys(("query", "positive"), Value("string")) | dict.fromkeys(("answers", "negatives"), LIST)
    return Dataset.from_dict(made, features=Features({name: types[name] for name in made}))


def mined(dataset: Any, **options: Any) -> MinedRows:
    """The rows of a report."""
    return MinedRows.of(dataset, **options)


def unpacked(html: str, name: str) -> str:
    """A packed part of a page, read without the code that packed it."""
    held = re.search(rf'<script type="text/plain" id="{name}">([A-Za-z0-9+/=]*)</script>', html)
    assert held is not None
    return zlib.decompress(base64.b64decode(held.group(1))).decode()


def table(html: str) -> tuple[dict[str, Any], list[str]]:
    """The columns and the texts of a page's table."""
    texts = [text for line in unpacked(html, "texts").rstrip("\n").split("\n") for text in json.loads(line)]
    return json.loads(unpacked(html, "columns")), texts


def rows_of(html: str) -> list[dict[str, Any]]:
    """The rows of a page's table, one by one."""
    columns, texts = table(html)
    starts = dict.fromkeys(("negatives", "positives", "other"), 0)
    rows = []
    for at, number in enumerate(columns["row"]):
        row: dict[str, Any] = {"row": number, "query": texts[columns["query"][at]]}
        for name in starts:
            if name in columns:
                end = starts[name] + columns[name]["counts"][at]
                row[name] = [texts[i] for i in columns[name]["values"][starts[name] : end]]
                if name == "negatives":
                    row |= {c: columns[c][starts[name] : end] for c in ("scores", "ranks", "ids") if c in columns}
                starts[name] = end
        rows.append(row)
    return rows
