"""Clean training rows, the same rows in the layouts of several tools, and faults planted in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tests.conftest import real_data

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = (
    "bee river engine violin glacier merchant comet orchard harbour parliament neuron castle volcano loom".split()
)
VERBS = "crosses feeds follows repairs measures paints forgets admires carries divides".split()
OBJECTS = (
    "meadow bridge ledger archive lantern valley machine garden treaty symphony market forest island mirror".split()
)
EXTRAS = (
    "slowly twice in winter with great care before noon after the war near the old wall without any warning".split()
)


def passage(number: int) -> str:
    """A passage of some 45 words, unlike the others."""
    rng = np.random.default_rng(number)
    draw = lambda words: words[rng.integers(len(words))]  # noqa: E731
    named = lambda words: f"{draw(words)}{rng.integers(10_000)}"  # noqa: E731
    sentences = [
        f"the {named(SUBJECTS)} {draw(VERBS)} the {named(OBJECTS)} {draw(EXTRAS)} {draw(EXTRAS)}" for _ in range(5)
    ]
    return ". ".join(sentence.capitalize() for sentence in sentences) + "."


@dataclass(frozen=True)
class MadeRow:
    query: str
    positive: str
    negatives: tuple[str, ...]


def clean_rows(count: int, negatives: int = 3) -> list[MadeRow]:
    """Rows without a fault: every document once."""
    step = negatives + 1
    return [
        MadeRow(
            f"question {n} about {SUBJECTS[n % 14]}",
            passage(step * n),
            tuple(passage(step * n + i) for i in range(1, step)),
        )
        for n in range(count)
    ]


def edited(text: str) -> str:
    """A near copy: two words replaced, one dropped."""
    words = text.split()
    words[4], words[len(words) // 2] = "another", "thing"
    del words[-3]
    return " ".join(words)


@dataclass
class Planted:
    """Rows with faults, and which rows have which."""

    rows: list[MadeRow]
    where: dict[str, set[int]] = field(default_factory=dict)

    def negative(self, kind: str, at: list[int], change, place: int = 0) -> None:
        """Replace a negative of some rows."""
        for n in at:
            row = self.rows[n]
            negatives = list(row.negatives)
            negatives[place] = change(row, n)
            self.rows[n] = replace(row, negatives=tuple(negatives))
        self.where[kind] = set(at)


KINDS = ("same_text", "same_normalized", "near_copy", "duplicate_negative", "empty_text", "labelled_elsewhere")
RATES = dict(zip(KINDS, (0.005, 0.01, 0.05, 0.02, 0.005, 0.01), strict=True))


def plant(rows: list[MadeRow], seed: int = 0, times: float = 1.0) -> Planted:
    """Six kinds of faults, each in rows of its own, at ``times`` their rates."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    at = {}
    for kind in KINDS:
        count = max(1, round(times * RATES[kind] * len(rows)))
        at[kind], order = order[:count], order[count:]
    planted = Planted(list(rows))
    planted.negative("same_text", at["same_text"], lambda row, n: row.positive)
    planted.negative("same_normalized", at["same_normalized"], lambda row, n: "  " + row.positive.upper())
    planted.negative("near_copy", at["near_copy"], lambda row, n: edited(row.positive), place=1)
    planted.negative("duplicate_negative", at["duplicate_negative"], lambda row, n: row.negatives[0], place=1)
    planted.negative("empty_text", at["empty_text"], lambda row, n: " ")
    for n in at["labelled_elsewhere"]:  # another row with the query has the negative as its positive
        planted.rows.append(MadeRow(planted.rows[n].query, planted.rows[n].negatives[2], (passage(10**7 + n),) * 0))
    planted.where["labelled_elsewhere"] = set(at["labelled_elsewhere"])
    return planted


def write_jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def flag_embedding(rows, folder: Path) -> Path:
    return write_jsonl(
        folder / "flag.jsonl", ({"query": r.query, "pos": [r.positive], "neg": list(r.negatives)} for r in rows)
    )


def tevatron(rows, folder: Path) -> Path:
    def record(text: str) -> dict[str, str]:
        return {"docid": str(abs(hash(text))), "title": "", "text": text}

    return write_jsonl(
        folder / "tevatron.jsonl",
        (
            {
                "query_id": str(n),
                "query": r.query,
                "positive_passages": [record(r.positive)],
                "negative_passages": [record(text) for text in r.negatives],
            }
            for n, r in enumerate(rows)
        ),
    )


def n_tuples(rows, folder: Path) -> Path:
    return write_parquet(
        folder / "tuples.parquet",
        (
            {"anchor": r.query, "positive": r.positive}
            | {f"negative_{i + 1}": r.negatives[i] if i < len(r.negatives) else None for i in range(3)}
            for r in rows
        ),
    )


def labelled_lists(rows, folder: Path) -> Path:
    return write_parquet(
        folder / "lists.parquet",
        ({"query": r.query, "docs": [r.positive, *r.negatives], "labels": [1] + [0] * len(r.negatives)} for r in rows),
    )


def mined_rows(rows, folder: Path) -> Path:
    return write_parquet(
        folder / "mined.parquet",
        ({"query": r.query, "positive": r.positive, "negatives": list(r.negatives)} for r in rows),
    )


LAYOUTS = {
    "FlagEmbedding": flag_embedding,
    "Tevatron": tevatron,
    "n-tuples": n_tuples,
    "labelled lists": labelled_lists,
    "mined rows": mined_rows,
}


def real_rows(source: str, count: int = 600) -> list[MadeRow]:
    """Questions with their passage, and the three passages that follow it in the corpus, often of the same article."""
    import pyarrow.parquet as pq

    folder = real_data(source)
    table = lambda name: pq.read_table(folder / f"{name}.parquet").to_pylist()  # noqa: E731
    corpus = table("train_corpus" if source == "squad_v1.1" else "corpus")
    at = {row["id"]: number for number, row in enumerate(corpus)}
    if source == "squad_v1.1":
        judged = table("train_pairs")
        pairs = [(row["query"], row["positive_id"]) for row in judged[:: len(judged) // count]]
    else:
        queries = {row["id"]: row["text"] for row in table("queries")}
        pairs = [(queries[row["query_id"]], row["doc_id"]) for row in table("qrels_train") if row["score"] > 0]
    texts = [row["text"] for row in corpus]
    following = lambda number: tuple(texts[(number + i) % len(texts)] for i in (1, 2, 3))  # noqa: E731
    return [MadeRow(query, texts[at[doc]], following(at[doc])) for query, doc in pairs[:count]]
