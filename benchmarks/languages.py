"""False negatives of mining across languages: XQuAD in German, Spanish and Chinese as one corpus with parallel ids.

    python -m benchmarks.languages --output docs/benchmarks/languages.json [--questions N]

The page (.md) stands beside the JSON. A question has one labelled positive, in its own or in another language; the same paragraph
in the two other languages answers it as well, and so does a paragraph that the same question is asked about elsewhere. What
share of mined negatives are those hidden positives, by pair of languages? BM25 counts the words and the Chinese characters of a
tokenizer trained on the corpus; the other teacher is the embedded MiniLM.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import machine, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus

DATA = Path(__file__).parents[2] / "shared" / "data" / "xquad"
LANGUAGES = ("de", "es", "zh")
NEGATIVES = 4
METHODS = {"Naive Top-K": (), "PercPos(0.95)": ("PercPos(0.95)",)}
RESAMPLES = 1000
Pairs = dict[tuple[str, str], list[dict[str, str]]]


@dataclass(frozen=True)
class Parallel:
    """A corpus in several languages, and who asks about what.

    Attributes:
        documents: ``id``, ``text``, ``lang`` and ``parallel_id``, which is the same for all translations.
        questions: by language, ``query`` and the ``parallel_id`` of its paragraph.
    """

    documents: list[dict[str, str]]
    questions: dict[str, list[dict[str, str]]]

    @classmethod
    def load(cls, folder: Path, languages: Sequence[str] = LANGUAGES, questions: int | None = None) -> Parallel:
        """From ``folder/<language>/{corpus,queries,qrels}.parquet``, every question or some spread over them."""
        import pyarrow.parquet as pq

        documents, asked = [], {}
        for language in languages:
            corpus, queries, qrels = (
                pq.read_table(folder / language / f"{part}.parquet").to_pylist()
                for part in ("corpus", "queries", "qrels")
            )
            documents += [
                {"id": f"{language}-{d['id']}", "text": d["text"], "lang": language, "parallel_id": str(d["id"])}
                for d in corpus
            ]
            passage = {str(row["query_id"]): str(row["doc_id"]) for row in qrels if row["score"] > 0}
            step = 1 if questions is None else max(1, len(queries) // questions)
            asked[language] = [
                {"query": query["text"], "parallel_id": passage[str(query["id"])]} for query in queries[::step]
            ]
        return cls(documents, asked)

    def pairs(self, language: str, of: str) -> list[dict[str, str]]:
        """Questions in a language with the paragraph in another, or in the same, as their labelled positive."""
        return [
            {"query": row["query"], "positive_id": f"{of}-{row['parallel_id']}", "lang": language}
            for row in self.questions[language]
        ]

    def answers(self, language: str) -> list[set[str]]:
        """For each question the parallel ids of all paragraphs that a question of the same text is labelled with."""
        found: dict[str, set[str]] = {}
        for row in self.questions[language]:
            found.setdefault(row["query"].casefold(), set()).add(row["parallel_id"])
        return [found[row["query"].casefold()] for row in self.questions[language]]


def tokenizer_of(texts: Sequence[str], folder: Path) -> str:
    """A tokenizer of the words and the Chinese characters of texts, saved."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"], vocab_size=50_000, show_progress=False)
    )
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(str(folder))
    return str(folder)


def cell(
    data: Parallel, corpus: Corpus, teacher: Teacher, pair: tuple[str, str], filters: Sequence[str]
) -> dict[str, Any]:
    """Negatives of a pair of languages, and how many of them are hidden positives, by their language."""
    from datasets import Dataset

    from hf_posmine import PositiveAwareMiner, mine

    rows = Dataset.from_list(data.pairs(*pair))
    miner = PositiveAwareMiner.from_dataset(
        rows, teacher, corpus=corpus, filters=tuple(filters), num_negatives=NEGATIVES, keep=("ids",), language_column="lang",
        exclude_lookalikes=False,
    )  # fmt: skip
    mined = mine(rows, miner)
    of = {document["id"]: document for document in data.documents}
    kinds = {name: np.zeros((len(rows), len(data.questions)), np.int64) for name in ("all", "translation", "elsewhere")}
    languages = list(data.questions)
    for number, (row, ids, answers) in enumerate(zip(rows, mined["negatives_ids"], data.answers(pair[0]), strict=True)):
        own = of[row["positive_id"]]["parallel_id"]
        for name in ids:
            at, passage = languages.index(of[name]["lang"]), of[name]["parallel_id"]
            kinds["all"][number, at] += 1
            kinds["translation"][number, at] += passage == own
            kinds["elsewhere"][number, at] += passage != own and passage in answers
    hidden = kinds["translation"] + kinds["elsewhere"]
    groups = np.unique([row["parallel_id"] for row in data.questions[pair[0]]], return_inverse=True)[1]
    return {
        "query": pair[0], "positive": pair[1], "rows": len(rows), "short_rows": int((kinds["all"].sum(1) < NEGATIVES).sum()),
        "by_language": {
            name: {kind: int(counts[:, at].sum()) for kind, counts in kinds.items()} for at, name in enumerate(languages)
        },
        "hidden": float(hidden.sum() / max(1, kinds["all"].sum())),
        "interval": interval(hidden.sum(1), kinds["all"].sum(1), groups),
        "rows_with_one": float((hidden.sum(1) > 0).mean()),
        "negatives_a_row": float(kinds["all"].sum() / len(rows)),
    }  # fmt: skip


def interval(part: np.ndarray, whole: np.ndarray, groups: np.ndarray) -> list[float]:
    """95 % of the ratio of two sums, with paragraphs drawn anew, since the questions about one hang together."""
    sums = np.array([np.bincount(groups, values) for values in (part, whole)])
    drawn = np.random.default_rng(0).multinomial(sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), RESAMPLES)
    made = drawn @ sums.T
    return [float(value) for value in np.percentile(made[:, 0] / np.maximum(1, made[:, 1]), (2.5, 97.5))]


def accuracy(data: Parallel, corpus: Corpus, teacher: Teacher) -> dict[str, float]:
    """Questions whose paragraph is the first of the passages of a language, by pair of languages."""
    found = {}
    for language, rows in data.questions.items():
        for of in data.questions:
            ids = [document["id"] for document in data.documents if document["lang"] == of]
            places = corpus.rows_of_ids(ids)
            scores = teacher.score([row["query"] for row in rows], np.tile(places, (len(rows), 1)))
            best = [ids[at] for at in scores.argmax(1)]
            found[f"{language} {of}"] = float(
                np.mean([name == f"{of}-{row['parallel_id']}" for name, row in zip(best, rows, strict=True)])
            )
    return found


def measure(data: Parallel, folder: Path) -> dict[str, Any]:
    """Everything of both teachers."""
    from hf_posmine import Corpus, DenseTeacher
    from hf_posmine.teachers import BM25Teacher

    corpus = Corpus.from_dataset(data.documents, keep=["lang", "parallel_id"])
    queries = Corpus.from_texts([row["query"] for rows in data.questions.values() for row in rows], match="exact")
    tokenizer = tokenizer_of([document["text"] for document in data.documents], folder)
    teachers: dict[str, Teacher] = {
        "BM25": BM25Teacher(corpus, tokenizer=tokenizer), "MiniLM": DenseTeacher("embedded", corpus, queries=queries),
    }  # fmt: skip
    made: dict[str, Any] = {}
    for name, teacher in teachers.items():
        cells = {
            method: [cell(data, corpus, teacher, pair, filters) for pair in itertools.product(data.questions, repeat=2)]
            for method, filters in METHODS.items()
        }
        made[name] = {"cells": cells, "first": accuracy(data, corpus, teacher)}
    return made


def page(found: dict[str, Any]) -> str:
    """The tables."""
    languages, box, teachers = found["languages"], found["machine"], found["teachers"]
    parts = [
        "# False negatives across languages",
        f"`python -m benchmarks.languages --output docs/benchmarks/languages.json`; {box['cpu']}, {box['cores']} cores; commit "
        f"{box['git_commit']}, source {box['source_digest']}; {box['time']}. {found['seconds']:.0f} s.",
        f"XQuAD in {', '.join(languages)}: {found['documents']} paragraphs in one corpus, {found['questions']:,} questions of each "
        f"language, {NEGATIVES} negatives a row. {INTRODUCTION}",
        "## The labelled positive is in the language of the question",
        READ_OWN,
        _own_language(teachers, languages),
        "## The labelled positive is in any language",
        READ_ANY,
        _any_language(teachers, languages),
        "## What the teachers find",
        READ_FIRST,
        markdown(
            ["teacher", "questions in", *(f"passages in {name}" for name in languages)],
            [[name, own, *(f"{100 * of['first'][f'{own} {other}']:.1f} %" for other in languages)]
             for name, of in teachers.items() for own in languages],
        ),
        found["reading"],
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = (
    "A negative is a hidden positive if it is the same paragraph in another language, by its parallel id, or a paragraph that "
    "the same question is asked about elsewhere. BM25 counts words and Chinese characters by a tokenizer trained on the corpus; "
    "MiniLM is the embedded all-MiniLM-L6-v2, a model of English. Intervals are of 95 %, over paragraphs. With "
    '`exclude_same="parallel_id"` every translation is left out, so its share is 0 by construction.'
)
READ_OWN = (
    "Hidden positives among the negatives of a language, and in brackets how many negatives are in that language: the first number "
    "is what a quota for that language would take in."
)
READ_ANY = (
    "Hidden positives among all negatives of a pair of languages, the share of rows that have at least one, and how many negatives "
    "a row has: a positive that scores low in another language leaves little below its ceiling."
)
READ_FIRST = (
    "Questions whose paragraph scores first among the 240 of a language. Where this is low, a teacher is spared hidden positives "
    "because it does not find them, not because it knows better."
)


def _own_language(teachers: dict[str, Any], languages: Sequence[str]) -> str:
    rows = []
    for name, of in teachers.items():
        for method, cells in of["cells"].items():
            for one in (one for one in cells if one["query"] == one["positive"]):
                rows.append([name, method, one["query"], *(_share(one["by_language"][other]) for other in languages)])
    return markdown(["teacher", "method", "questions in", *(f"negatives in {other}" for other in languages)], rows)


def _share(counts: dict[str, int]) -> str:
    hidden = counts["translation"] + counts["elsewhere"]
    return f"{100 * hidden / counts['all']:.1f} % ({counts['all']:,})" if counts["all"] else "- (0)"


def _any_language(teachers: dict[str, Any], languages: Sequence[str]) -> str:
    rows = []
    for name, of in teachers.items():
        for method, cells in of["cells"].items():
            for own in languages:
                rows.append([name, method, own, *(_rate(one) for one in cells if one["query"] == own)])
    return markdown(["teacher", "method", "questions in", *(f"positive in {other}" for other in languages)], rows)


def _rate(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return (
        f"{100 * one['hidden']:.1f} % ({100 * low:.1f} to {100 * high:.1f}); {100 * one['rows_with_one']:.0f} % of rows; "
        f"{one['negatives_a_row']:.1f} each"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--questions", type=int)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    started, data = time.monotonic(), Parallel.load(DATA, questions=args.questions)
    with tempfile.TemporaryDirectory() as folder:
        teachers = measure(data, Path(folder))
    asked = len(next(iter(data.questions.values())))
    found = {
        "machine": machine(), "languages": list(data.questions), "documents": len(data.documents), "questions": asked,
        "seconds": time.monotonic() - started, "reading": "", "teachers": teachers,
    }  # fmt: skip
    if args.output.exists():
        found["reading"] = json.loads(args.output.read_text()).get("reading", "")  # ours, not the script's
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(page(found))


if __name__ == "__main__":
    main()
