"""A chunked corpus from SQuAD: passages cut into overlapping windows of words, as corpora for retrieval are.

A question is answered by every window of its passage that holds the answer. One of them is its labelled positive; the
others are false negatives that are known, so that a miner's can be counted and a student's answers judged in full.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core import InputError
from hf_posmine.data import load_files
from hf_posmine.utils import build_once, quiet_bars

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCES = {"train": "train", "dev": "validation"}
"""SQuAD's parts by their names here and on the Hub."""


@dataclass(frozen=True)
class Part:
    """Whole articles, which no other part shares.

    Attributes:
        name: of its folder.
        source: ``train`` or ``dev`` of SQuAD.
        articles: how many; each part takes the next of its source's shuffled articles.
        questions: at most so many of them, drawn.
    """

    name: str
    source: str
    articles: int
    questions: int


@dataclass(frozen=True)
class WindowSettings:
    """How the corpus is cut.

    Attributes:
        parts: what is written.
        words: of a window.
        stride: words from one window to the next; an answer stands in about ``words / stride`` windows.
        seed: of the articles, the questions, and the labelled window of each.
    """

    parts: tuple[Part, ...]
    words: int = 24
    stride: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.words:
            raise InputError(f"windows: stride={self.stride}, words={self.words}; give 1 <= stride <= words")
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise InputError(f"windows: parts {names}; give at least one, each with its own name")
        for part in self.parts:
            if part.source not in SOURCES or part.articles < 1 or part.questions < 1:
                raise InputError(f"windows: {part}; the source is one of {list(SOURCES)}, the counts are at least 1")


@dataclass(frozen=True)
class Question:
    """A question of a passage."""

    text: str
    passage: str
    title: str
    answer: str


def cut(text: str, words: int, stride: int) -> list[str]:
    """Overlapping windows of a text's words; the last one ends with the text.

    >>> cut("a b c d e f", words=4, stride=2)
    ['a b c d', 'c d e f']
    >>> cut("a b c", words=4, stride=2)
    ['a b c']
    """
    parts = text.split()
    last = max(0, len(parts) - words)
    return [" ".join(parts[at : at + words]) for at in (*range(0, last, stride), last)]


def write_windows(settings: WindowSettings, sources: Sequence[str], folder: Path) -> None:
    """Write each part as a judged collection: corpus, queries, qrels, and ``visible``, the one labelled positive.

    Args:
        settings: how.
        sources: SQuAD's places, tried in turn: a folder with ``train_pairs.parquet`` and so on, or a Hub id.
        folder: what is written is taken again if it is the same.

    Raises:
        InputError: SQuAD is in none of the places, or the folder holds other windows.
    """
    wanted = json.loads(json.dumps(asdict(settings)))
    if folder.is_dir() and json.loads((folder / "windows.json").read_text()) != wanted:
        raise InputError(f"{str(folder)!r} holds windows that were cut in another way; choose another output folder")

    def write(new: Path) -> None:
        used: dict[str, int] = {}
        for part in settings.parts:
            questions = read_squad(sources, part.source)
            chosen = _articles(questions, settings.seed)[used.get(part.source, 0) :][: part.articles]
            if len(chosen) < part.articles:
                raise InputError(f"windows: part {part.name!r} wants {part.articles} articles, {len(chosen)} are left")
            used[part.source] = used.get(part.source, 0) + part.articles
            _write(new / part.name, part, [q for q in questions if q.title in set(chosen)], settings)
        (new / "windows.json").write_text(json.dumps(wanted, indent=1) + "\n")

    with quiet_bars():
        build_once(folder, write)


def read_squad(sources: Sequence[str], part: str) -> list[Question]:
    """All questions of a part of SQuAD, in its order.

    Raises:
        InputError: it is in none of the places.
    """
    import datasets

    for source in sources:
        folder = Path(source)
        if (folder / f"{part}_pairs.parquet").is_file():
            return list(_local(folder, part))
        if source.count("/") == 1 and not source.startswith((".", "/")):
            try:
                return list(_hub(datasets.load_dataset(source, split=SOURCES[part])))
            except (OSError, ValueError) as error:
                raise InputError(f"cannot load {source!r}: {str(error).splitlines()[0]}") from error
    raise InputError(
        f"windows: SQuAD is in none of {list(sources)}; give a folder with {part}_pairs.parquet, or a Hub id"
    )


def _local(folder: Path, part: str) -> Iterator[Question]:
    passages = load_files(folder / f"{part}_corpus.parquet")
    texts = dict(zip(passages["id"], passages["text"], strict=True))
    rows = load_files(folder / f"{part}_pairs.parquet")
    for query, passage, title, answers in zip(
        *(rows[name] for name in ("query", "positive_id", "title", "answers")), strict=True
    ):
        yield Question(query, texts[passage], title, answers[0])


def _hub(rows: Any) -> Iterator[Question]:
    names = ("question", "context", "title", "answers")
    for query, passage, title, answers in zip(*(rows[name] for name in names), strict=True):
        yield Question(query, passage, title, answers["text"][0])


def _articles(questions: Sequence[Question], seed: int) -> list[str]:
    titles = sorted({question.title for question in questions})
    np.random.default_rng(seed).shuffle(titles)
    return titles


def _write(folder: Path, part: Part, questions: Sequence[Question], settings: WindowSettings) -> None:
    from datasets import Dataset

    texts = list(dict.fromkeys(question.passage for question in questions))
    numbers = {text: number for number, text in enumerate(texts)}
    windows = [cut(text, settings.words, settings.stride) for text in texts]
    judged = [(question, _holding(windows[numbers[question.passage]], question)) for question in questions]
    judged = [(question, found) for question, found in judged if found]
    rng = np.random.default_rng([settings.seed, *part.name.encode()])
    kept = np.sort(rng.choice(len(judged), min(part.questions, len(judged)), replace=False)).tolist()

    ids, queries, relevant, visible = [], [], [], []
    for at in kept:
        question, found = judged[at]
        names = [f"{numbers[question.passage]}-{window}" for window in found]
        ids.append(f"q{at}")
        queries.append(" ".join(question.text.split()))
        relevant += [(f"q{at}", name) for name in names]
        visible.append((f"q{at}", names[rng.integers(len(names))]))
    documents = [(f"{number}-{at}", text) for number, cuts in enumerate(windows) for at, text in enumerate(cuts)]
    tables = {
        "corpus": {"id": [i for i, _ in documents], "text": [text for _, text in documents]},
        "queries": {"id": ids, "text": queries},
        "qrels": _judgements(relevant),
        "visible": _judgements(visible),
    }
    folder.mkdir()
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(folder / f"{name}.parquet")


def _holding(windows: Sequence[str], question: Question) -> list[int]:
    """The windows that hold the answer; none if it stands in several places of the passage, so that nobody knows which."""
    answer = " ".join(question.answer.split())
    if " ".join(question.passage.split()).count(answer) != 1:
        return []
    return [at for at, window in enumerate(windows) if answer in window]


def _judgements(pairs: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    return {"query_id": [q for q, _ in pairs], "doc_id": [d for _, d in pairs], "score": [1] * len(pairs)}
